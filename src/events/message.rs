//! Many events as one message: what fits is told one by one, what does not is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::event::{Event, Urgency, cut, stamp};

/// An event and when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub at: SystemTime,
    pub event: Event,
}

impl Serialize for Told {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Whole<'a> {
            at: String,
            #[serde(flatten)]
            event: &'a Event,
            message: String,
        }
        Whole { at: stamp(self.at), event: &self.event, message: self.event.sentence() }.serialize(serializer)
    }
}

/// What has happened since the last message. Holds at most 50 events, however many there are.
#[derive(Debug, Default)]
pub struct Batch {
    told: Vec<Arc<Told>>,
    /// How many there are of each kind, in the order of their first.
    counts: Vec<(Arc<Told>, u64)>,
    last: Option<SystemTime>,
}

/// What is sent at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub title: String,
    /// A sentence, or a list of them.
    pub text: String,
    /// The kind of all its events, or `several`.
    pub kind: &'static str,
    pub urgency: Urgency,
    pub tag: &'static str,
    /// In the order in which they happened.
    pub events: Vec<Arc<Told>>,
    /// How many more there are of each kind.
    pub omitted: BTreeMap<&'static str, u64>,
}

impl Batch {
    pub fn add(&mut self, told: Arc<Told>) {
        self.last = Some(told.at);
        match self.counts.iter_mut().find(|(first, _)| first.event.kind() == told.event.kind()) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((told.clone(), 1)),
        }
        if self.told.len() < MOST_EVENTS {
            self.told.push(told);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Makes one message of everything.
    pub fn into_message(self) -> Message {
        let lines: Vec<String> = self.counts.iter().flat_map(|(first, count)| self.lines(first, *count)).collect();
        let text = match lines.as_slice() {
            [only] => only.clone(),
            lines => lines.iter().map(|line| format!("- {line}")).collect::<Vec<_>>().join("\n"),
        };
        let listed = |kind| self.told.iter().filter(|told| told.event.kind() == kind).count() as u64;
        let omitted = self.counts.iter().filter_map(|(first, count)| {
            let kind = first.event.kind();
            count.checked_sub(listed(kind)).filter(|more| *more > 0).map(|more| (kind, more))
        });
        let (title, loudest) = (self.title(), self.loudest());
        Message {
            title,
            text: cut(&text, MOST_TEXT),
            kind: if let [(first, _)] = self.counts.as_slice() { first.event.kind() } else { "several" },
            urgency: loudest.map_or(Urgency::Normal, Event::urgency),
            tag: loudest.map_or("white_check_mark", Event::tag),
            omitted: omitted.collect(),
            events: self.told,
        }
    }

    fn loudest(&self) -> Option<&Event> {
        let events = self.counts.iter().map(|(first, _)| &first.event);
        // The first of those that are equally loud.
        events.rev().max_by_key(|event| event.urgency())
    }

    fn title(&self) -> String {
        let mut parts: Vec<String> = self.counts.iter().map(|(first, count)| first.event.counted(*count)).collect();
        if parts.len() > MOST_IN_TITLE {
            parts.truncate(MOST_IN_TITLE);
            parts.push("more".to_owned());
        }
        format!("Hearthgate: {}", parts.join(", "))
    }

    /// What is said of one kind.
    fn lines(&self, first: &Told, count: u64) -> Vec<String> {
        let of_kind = || self.told.iter().filter(|told| told.event.kind() == first.event.kind());
        // All of a few; of many the number, and some of them.
        if count <= MOST_LINES && of_kind().count() as u64 == count {
            return of_kind().map(|told| told.event.sentence()).collect();
        }
        let span = self.last.and_then(|last| last.duration_since(first.at).ok()).unwrap_or_default();
        let span = Duration::from_secs(span.as_secs());
        let within =
            if span.is_zero() { String::new() } else { format!(" within {}", humantime::format_duration(span)) };
        let some: Vec<String> = of_kind().take(MOST_EXAMPLES).map(|told| told.event.subject()).collect();
        let such_as = if some.is_empty() { String::new() } else { format!(", such as {}", some.join(", ")) };
        vec![format!("{}{within}{such_as}", first.event.counted(count))]
    }
}

impl Message {
    /// How many events it tells of.
    pub fn count(&self) -> u64 {
        self.events.len() as u64 + self.omitted.values().sum::<u64>()
    }
}

/// Events that one message holds one by one.
pub const MOST_EVENTS: usize = 50;
/// Sentences about one kind.
const MOST_LINES: u64 = 5;
const MOST_EXAMPLES: usize = 3;
const MOST_IN_TITLE: usize = 3;
/// ntfy makes a file of what is longer than 4096 bytes.
const MOST_TEXT: usize = 3500;

#[cfg(test)]
mod tests;
