//! A [`RequestRecord`] as one bounded line of JSON.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::ser::Formatter;

use super::redaction::redact;
use crate::request::RequestRecord;

/// The line's fields in the order in which they are written.
#[derive(Serialize)]
struct Line<'a> {
    remote_ip: IpAddr,
    ts: String,
    host: Option<&'a str>,
    method: Cow<'a, str>,
    uri: Cow<'a, str>,
    proto: &'static str,
    status: u16,
    request_size: u64,
    size: u64,
    /// Seconds.
    duration: f64,
    upstream_duration: Option<f64>,
    user_agent: Option<Cow<'a, str>>,
    reason: Option<&'static str>,
}

/// Gives back the memory of overlong fields, so that a full queue of the longest targets stays small.
///
/// What is kept is still longer than what a line shows.
pub(super) fn bound(record: &mut RequestRecord) {
    for (field, limit) in [(&mut record.target, TARGET_KEPT), (&mut record.method, METHOD_BYTES * 2)] {
        if field.len() > limit {
            *field = cut(field, limit).into_owned();
        }
    }
    if let Some(agent) = record.user_agent.as_mut().filter(|agent| agent.len() > USER_AGENT_BYTES * 2) {
        *agent = cut(agent, USER_AGENT_BYTES * 2).into_owned();
    }
}

/// Appends the record's line, line feed included, to `batch`.
pub(super) fn append(record: &RequestRecord, hide: bool, batch: &mut Vec<u8>) {
    let target = if hide { Cow::Owned(redact(&record.target)) } else { Cow::Borrowed(record.target.as_str()) };
    let line = Line {
        remote_ip: record.remote.to_canonical(),
        ts: timestamp(record.started),
        host: record.host.as_deref(),
        method: cut(&record.method, METHOD_BYTES),
        uri: cut(&target, URI_BYTES),
        proto: record.protocol.as_str(),
        status: record.status,
        request_size: record.request_body_bytes,
        size: record.response_body_bytes,
        duration: seconds(record.duration),
        upstream_duration: record.upstream_duration.map(seconds),
        user_agent: record.user_agent.as_deref().map(|agent| cut(agent, USER_AGENT_BYTES)),
        reason: record.reason,
    };
    let start = batch.len();
    let mut json = serde_json::Serializer::with_formatter(&mut *batch, TerminalSafe);
    match line.serialize(&mut json) {
        Ok(()) => batch.push(b'\n'),
        // Writing plain fields to memory does not fail; half a line would be worse than none.
        Err(_) => batch.truncate(start),
    }
}

/// Compact JSON that also escapes what a terminal or a log viewer might act upon.
///
/// serde_json escapes the C0 controls itself; DEL, the C1 controls, line separators and marks that
/// turn the reading direction are left to us.
struct TerminalSafe;

impl Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // Each piece holds at most one such character, its last.
        for piece in fragment.split_inclusive(is_acted_upon) {
            let plain = piece.trim_end_matches(is_acted_upon);
            writer.write_all(plain.as_bytes())?;
            if let Some(char) = piece.chars().next_back().filter(|char| is_acted_upon(*char)) {
                write!(writer, "\\u{:04x}", u32::from(char))?;
            }
        }
        Ok(())
    }
}

fn is_acted_upon(char: char) -> bool {
    char.is_control() || matches!(char, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn cut(text: &str, limit_bytes: usize) -> Cow<'_, str> {
    if text.len() <= limit_bytes {
        return Cow::Borrowed(text);
    }
    let mut shortened = text[..text.floor_char_boundary(limit_bytes)].to_owned();
    shortened.reserve_exact('…'.len_utf8());
    shortened.push('…');
    Cow::Owned(shortened)
}

/// RFC 3339 in UTC with milliseconds; times that it cannot express are moved to its nearest end.
fn timestamp(time: SystemTime) -> String {
    let time = time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST_SECOND);
    humantime::format_rfc3339_millis(time).to_string()
}

fn seconds(duration: Duration) -> f64 {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// Bytes of a target that wait in the queue. Redaction shortens, so this is more than is shown.
const TARGET_KEPT: usize = 4096;
const URI_BYTES: usize = 1024;
const USER_AGENT_BYTES: usize = 256;
const METHOD_BYTES: usize = 32;

/// The end of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);
