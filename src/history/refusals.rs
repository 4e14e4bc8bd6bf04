//! Who was turned away lately: the newest 64, for the operator alone.
//!
//! A flood does not reach the list's lock. Of each second the first [`PER_SECOND`] refusals are kept and the others only
//! counted, which costs them two atomic operations.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::config::RequestClass;
use crate::denial::Denial;
use crate::request::RequestRecord;

/// How many are kept.
pub const KEPT: usize = 64;
/// Of one second.
const PER_SECOND: u64 = 8;

/// A request that the gate refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub at: SystemTime,
    pub client: IpAddr,
    /// As configured; `None` if it was for no host of ours.
    pub host: Option<Arc<str>>,
    /// The kind of request, where it was known.
    pub class: Option<RequestClass>,
    /// A word from a closed set: of a denial, or of a WebSocket's login that had to wait.
    pub reason: &'static str,
}

/// The newest refusals.
#[derive(Debug, Default)]
pub struct Refusals {
    newest: Mutex<VecDeque<Refused>>,
    /// The second it is about, and how many of it came: `second << 16 | count`.
    of_second: AtomicU64,
    passed_over: AtomicU64,
}

impl Refusals {
    /// Takes note of a request, if it was refused.
    pub fn note(&self, record: &RequestRecord) {
        let Some(reason) = record.reason.filter(|reason| is_refusal(reason)) else { return };
        let at = record.started.checked_add(record.duration).unwrap_or(record.started);
        if !self.has_room(at.duration_since(UNIX_EPOCH).unwrap_or_default()) {
            self.passed_over.fetch_add(1, Relaxed);
            return;
        }
        let client = record.remote.to_canonical();
        let mut newest = self.newest.lock();
        newest.truncate(KEPT - 1);
        newest.push_front(Refused { at, client, host: record.host.clone(), class: record.class, reason });
    }

    /// The newest first.
    pub fn newest(&self) -> Vec<Refused> {
        self.newest.lock().iter().cloned().collect()
    }

    /// How many came too fast to be kept.
    pub fn passed_over(&self) -> u64 {
        self.passed_over.load(Relaxed)
    }

    fn has_room(&self, at: Duration) -> bool {
        let second = at.as_secs() & SECONDS;
        let counted = self.of_second.fetch_update(Relaxed, Relaxed, |before| match before >> COUNT_BITS == second {
            true if before & COUNT >= PER_SECOND => None,
            true => Some(before + 1),
            false => Some((second << COUNT_BITS) | 1),
        });
        counted.is_ok()
    }
}

const COUNT_BITS: u32 = 16;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const SECONDS: u64 = u64::MAX >> COUNT_BITS;

/// A record's reason may also say how a WebSocket ended, or what failed behind the gate.
fn is_refusal(reason: &str) -> bool {
    reason == REFUSED_FOR_NOW || Denial::ALL.iter().any(|denial| denial.reason() == reason)
}

/// A login over a WebSocket that had to wait.
const REFUSED_FOR_NOW: &str = "refused_for_now";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Protocol;

    fn record(second: u64, last: u8, reason: Option<&'static str>) -> RequestRecord {
        RequestRecord {
            started: UNIX_EPOCH + Duration::from_secs(second),
            remote: IpAddr::from([192, 0, 2, last]),
            host: Some("ha.test".into()),
            class: Some(RequestClass::Page),
            method: String::new(),
            target: "/secret".into(),
            protocol: Protocol::Http11,
            status: 429,
            request_body_bytes: 0,
            response_body_bytes: 0,
            duration: Duration::from_millis(1),
            upstream_duration: None,
            gate_duration: None,
            user_agent: None,
            reason,
        }
    }

    fn clients(refusals: &Refusals) -> Vec<u8> {
        let last = |refused: &Refused| match refused.client {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        refusals.newest().iter().map(last).collect()
    }

    #[test]
    fn only_refusals_are_kept_the_newest_first() {
        let refusals = Refusals::default();
        for (at, reason) in
            [Some("rate_limit"), None, Some("client"), Some("dns"), Some("banned"), Some(REFUSED_FOR_NOW)]
                .into_iter()
                .enumerate()
        {
            refusals.note(&record(at as u64, at as u8, reason));
        }
        assert_eq!(clients(&refusals), [5, 4, 0]);
    }

    #[test]
    fn a_flood_is_sampled_and_counted() {
        let refusals = Refusals::default();
        for second in 1..=2 {
            for last in 0..100 {
                refusals.note(&record(second, last, Some("rate_limit")));
            }
        }
        assert_eq!(clients(&refusals), [7, 6, 5, 4, 3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(refusals.passed_over(), 2 * 92);
    }

    #[test]
    fn no_more_than_64_are_kept() {
        let refusals = Refusals::default();
        for second in 0..200 {
            refusals.note(&record(second, second as u8, Some("method")));
        }
        assert_eq!(refusals.newest().len(), KEPT);
        assert_eq!(clients(&refusals)[0], 199);
    }
}
