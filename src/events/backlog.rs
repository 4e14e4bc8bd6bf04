//! When the next message goes to one destination, and what becomes of one that did not arrive.

use std::sync::Arc;
use std::time::Duration;

use super::message::{Batch, Message, Told};
use crate::clock::Moment;

/// How often somebody wants to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// What happens within it goes into one message.
    pub batch: Duration,
    /// Between the beginnings of two tries.
    pub min_interval: Duration,
}

/// What waits for one destination: a message in hand, and what has happened since it was made. Nothing overtakes: a message
/// is made when the one before it has arrived or is lost.
#[derive(Debug, Default)]
pub struct Backlog {
    batch: Batch,
    /// When the first of the batch came.
    since: Moment,
    in_hand: Option<InHand>,
    /// When the last try began.
    tried: Option<Moment>,
}

#[derive(Debug)]
struct InHand {
    message: Arc<Message>,
    failures: usize,
    /// When it may be tried again; `None` while it is under way.
    again: Option<Moment>,
}

/// What becomes of a message that did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Again {
        after: Duration,
    },
    /// So many events are lost.
    GivenUp {
        events: u64,
    },
}

impl Backlog {
    pub fn add(&mut self, told: Arc<Told>, now: Moment) {
        if self.batch.is_empty() {
            self.since = now;
        }
        self.batch.add(told);
    }

    /// When to [`take`](Self::take) the next message; `None` if there is none, or one is under way.
    pub fn due(&self, pace: Pace) -> Option<Moment> {
        let ready = match &self.in_hand {
            Some(in_hand) => in_hand.again?,
            None if self.batch.is_empty() => return None,
            None => self.since + pace.batch,
        };
        Some(self.tried.map_or(ready, |tried| ready.max(tried + pace.min_interval)))
    }

    /// The next message, which is under way from now on; `None` if there is none, or one is under way.
    pub fn take(&mut self, now: Moment) -> Option<Arc<Message>> {
        let in_hand = match self.in_hand.take() {
            Some(in_hand) => in_hand,
            None if self.batch.is_empty() => return None,
            None => {
                let message = Arc::new(std::mem::take(&mut self.batch).into_message());
                InHand { message, failures: 0, again: Some(now) }
            }
        };
        let message = in_hand.again.is_some().then(|| in_hand.message.clone());
        if message.is_some() {
            self.tried = Some(now);
        }
        self.in_hand = Some(InHand { again: None, ..in_hand });
        message
    }

    /// The message under way has arrived; how often it had failed before.
    pub fn arrived(&mut self) -> usize {
        self.in_hand.take().map_or(0, |in_hand| in_hand.failures)
    }

    /// The message under way has not arrived.
    pub fn failed(&mut self, now: Moment) -> Fate {
        let Some(mut in_hand) = self.in_hand.take() else { return Fate::GivenUp { events: 0 } };
        let Some(after) = BACK_OFF.get(in_hand.failures) else {
            return Fate::GivenUp { events: in_hand.message.count() };
        };
        in_hand.failures += 1;
        in_hand.again = Some(now + *after);
        self.in_hand = Some(in_hand);
        Fate::Again { after: *after }
    }

    /// The message under way will never arrive: how many events are lost.
    pub fn refused(&mut self) -> u64 {
        self.in_hand.take().map_or(0, |in_hand| in_hand.message.count())
    }
}

/// Before each further try: ten minutes in all, in which Home Assistant restarts and updates itself.
const BACK_OFF: [Duration; 5] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(180),
    Duration::from_secs(320),
];

#[cfg(test)]
mod tests;
