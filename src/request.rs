//! A request as rules see it, and what is remembered of it when it is over.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::config::RequestClass;

/// One finished request, as the access log and the metrics see it.
///
/// `target` is raw and may hold secrets in its query: only the access log's redaction may print it.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    pub started: SystemTime,
    /// The verified client address.
    pub remote: IpAddr,
    /// The configured host that the request was for; `None` if it was for none of them.
    pub host: Option<std::sync::Arc<str>>,
    /// What kind of request it was; `None` if it ended before anybody knew.
    pub class: Option<RequestClass>,
    /// Empty if the head could not be parsed.
    pub method: String,
    /// Path and query as sent; empty if the head could not be parsed.
    pub target: String,
    pub protocol: Protocol,
    /// The status sent to the client; 0 if the client left before any was sent.
    pub status: u16,
    pub request_body_bytes: u64,
    pub response_body_bytes: u64,
    pub duration: Duration,
    /// From the request's last routing decision to the head of the upstream's answer.
    pub upstream_duration: Option<Duration>,
    /// What the gate itself has added, if the request was answered from behind: until it was sent on, and from the head
    /// of the answer until that was passed on, without what others were waited for.
    pub gate_duration: Option<Duration>,
    pub user_agent: Option<String>,
    /// Why the gate itself refused or failed the request, a word from a closed set.
    pub reason: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http10,
    Http11,
    Http2,
    WebSocket,
}

impl Protocol {
    /// As written in the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
            Self::WebSocket => "websocket",
        }
    }
}

/// Origin-form, absolute-form, or `*` for OPTIONS, in the bytes of RFC 3986 and those that browsers send all the same.
///
/// No wider than what the `http` crate parses: a target that passed here and failed there would be refused without a
/// record.
pub fn is_target(target: &[u8], method: &[u8]) -> bool {
    let query = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(query);
    let clean = path.iter().all(|b| is_target_byte(*b) || matches!(b, b'"'))
        && query.iter().all(|b| is_target_byte(*b) || matches!(b, b'?' | b'`'));
    let form = target.starts_with(b"/")
        || target.starts_with(b"http://")
        || target.starts_with(b"https://")
        || (target == b"*" && method == b"OPTIONS");
    clean && form
}

fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/[]@!$&'()*+,;=%{}|^".contains(&byte)
}
