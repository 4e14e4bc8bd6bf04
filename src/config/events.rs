//! The `events` section: who is told what happens at the gate.

use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
use super::read::Section;
use super::values::{self, Zero};

/// One who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDestination {
    /// As the operator calls it: letters, digits, `-` and `_`; at most 40 of them.
    pub name: String,
    /// May hold a webhook's id: whoever knows it may speak in the gate's name.
    pub url: Secret,
    pub format: EventFormat,
    /// Sent as `Authorization: Bearer`.
    pub token: Option<Secret>,
    /// The authorities in this PEM file instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// None twice.
    pub tell: Vec<Topic>,
    /// What happens within it goes into one message.
    pub batch: Duration,
    /// Between two messages.
    pub min_interval: Duration,
}

/// What a message looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFormat {
    /// JSON for an automation that a webhook triggers.
    HomeAssistant,
    /// Plain text, with a title, a priority and tags beside it.
    Ntfy,
    /// JSON for programs.
    Json,
}

/// What can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    Bans,
    Devices,
    Logins,
    Certificates,
    Reloads,
    Upstreams,
}

/// Reads the section: destinations, by names of the operator's choice.
pub(super) fn destinations(section: Section<'_>) -> Vec<EventDestination> {
    let mut destinations = Vec::new();
    for (index, (name, key, section)) in section.named_sections().into_iter().enumerate() {
        let (reader, path) = (section.reader(), section.own_path().to_owned());
        if !is_name(name) {
            let message = format!("a name has letters, digits, `-` and `_`, and at most {MOST_NAME} of them");
            reader.problem(key.id, &path, message);
        }
        if index == MOST_DESTINATIONS {
            reader.problem(key.id, &path, format!("more than {MOST_DESTINATIONS} destinations"));
        }
        destinations.extend(destination(name, section));
    }
    destinations
}

fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MOST_NAME).contains(&text.len()) && text.bytes().all(is_plain)
}

fn destination(name: &str, mut section: Section<'_>) -> Option<EventDestination> {
    let url = url(&mut section);
    let format = section.required("format", values::choice(&FORMATS));
    let token = section.secret("token");
    let file_token = section.secret_file("token_file");
    if section.has("token") && section.has("token_file") {
        section.conflict("token_file", &[], "`token` and `token_file` exclude each other: keep one");
    }
    let ca_file = section.path("ca_file");
    let tell = section.list("tell", values::choice(&TOPICS));
    let tell = tell.map_or(TOPICS.map(|(_, topic)| topic).to_vec(), |listed| {
        let mut topics: Vec<Topic> = Vec::new();
        for (node, topic) in listed {
            if topics.contains(&topic) {
                section.reader().problem(node.id, &section.path_of("tell"), "this word is there twice");
            }
            topics.push(topic);
        }
        topics
    });
    if tell.is_empty() {
        section.conflict("tell", &["tell"], "an empty list tells nothing: remove the destination instead");
    }
    let batch = section.read("batch", values::span(TICK..=HOUR, Zero::Refused)).unwrap_or(BATCH);
    let min_interval = section.read("min_interval", values::span(SECOND..=DAY, Zero::Refused)).unwrap_or(MIN_INTERVAL);
    section.finish();
    let token = token.or(file_token);
    Some(EventDestination {
        name: name.to_owned(),
        url: url?,
        format: format?,
        token,
        ca_file,
        tell,
        batch,
        min_interval,
    })
}

/// Reads the URL as the secret that it may be: neither message nor snippet shows it.
fn url(section: &mut Section<'_>) -> Option<Secret> {
    if let Some((_, value)) = section.take("url") {
        section.reader().mask(value);
    }
    if !section.has("url") {
        section.missing("url");
    }
    let url = section.secret("url")?;
    if is_url(url.expose()) {
        return Some(url);
    }
    section.conflict("url", &[], "expected a URL that begins with http:// or https://, without user, password and `#`");
    None
}

fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
        && !text.contains('#')
}

const FORMATS: [(&str, EventFormat); 3] =
    [("home_assistant", EventFormat::HomeAssistant), ("ntfy", EventFormat::Ntfy), ("json", EventFormat::Json)];
const TOPICS: [(&str, Topic); 6] = [
    ("bans", Topic::Bans),
    ("devices", Topic::Devices),
    ("logins", Topic::Logins),
    ("certificates", Topic::Certificates),
    ("reloads", Topic::Reloads),
    ("upstreams", Topic::Upstreams),
];
/// Names are labels of metrics: a few, and short.
const MOST_DESTINATIONS: usize = 16;
const MOST_NAME: usize = 40;
const BATCH: Duration = Duration::from_secs(2);
const MIN_INTERVAL: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
