//! What was told of each host's certificate: trouble once a day, and once that it is over.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::event::{Event, Why};
use crate::clock::Moment;

/// Hosts whose certificates are in trouble. At most 4096.
#[derive(Debug, Default)]
pub struct Certificates {
    troubled: HashMap<String, HashMap<&'static str, Moment>>,
}

impl Certificates {
    /// A certificate could not be had or renewed; `None` if that was told within a day.
    pub fn failed(&mut self, host: &str, why: &str, now: Moment) -> Option<Event> {
        self.trouble(host, Event::CertificateFailed { host: host.to_owned(), why: Why::new(why) }, now)
    }

    pub fn expires_soon(&mut self, host: &str, not_after: SystemTime, now: Moment) -> Option<Event> {
        self.trouble(host, Event::CertificateExpiresSoon { host: host.to_owned(), not_after }, now)
    }

    pub fn expired(&mut self, host: &str, not_after: SystemTime, now: Moment) -> Option<Event> {
        self.trouble(host, Event::CertificateExpired { host: host.to_owned(), not_after }, now)
    }

    /// A new certificate is served; `None` if nobody has heard of any trouble.
    pub fn renewed(&mut self, host: &str, not_after: SystemTime) -> Option<Event> {
        let was_troubled = self.troubled.remove(host).is_some();
        was_troubled.then(|| Event::CertificateRecovered { host: host.to_owned(), not_after })
    }

    fn trouble(&mut self, host: &str, event: Event, now: Moment) -> Option<Event> {
        if self.troubled.len() >= MOST && !self.troubled.contains_key(host) {
            // The hosts are the operator's own: only those that are long gone can be so many.
            self.troubled.clear();
        }
        let told = self.troubled.entry(host.to_owned()).or_default();
        let is_news = told.get(event.kind()).is_none_or(|at| now.since(*at) >= DAY);
        is_news.then(|| {
            told.insert(event.kind(), now);
            event
        })
    }
}

const MOST: usize = 4096;
/// A little less, since what comes once a day comes a little early at times.
const DAY: Duration = Duration::from_secs(23 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_a_day_and_its_end_once() {
        let (mut certificates, hour) = (Certificates::default(), Duration::from_secs(3600));
        let at = |hours: u32| Moment::START + hour * hours;
        let end = SystemTime::UNIX_EPOCH;
        let kind = |event: Option<Event>| event.map(|event| event.kind());
        assert_eq!(certificates.renewed("a", end), None, "an ordinary renewal");
        assert_eq!(kind(certificates.failed("a", "rate limited", at(0))), Some("certificate_failed"));
        assert_eq!(certificates.failed("a", "rate limited", at(1)), None);
        assert_eq!(kind(certificates.failed("b", "rate limited", at(1))), Some("certificate_failed"));
        assert_eq!(kind(certificates.expires_soon("a", end, at(1))), Some("certificate_expires_soon"));
        assert_eq!(kind(certificates.failed("a", "rate limited", at(24))), Some("certificate_failed"));
        assert_eq!(kind(certificates.expired("a", end, at(24))), Some("certificate_expired"));
        assert_eq!(kind(certificates.renewed("a", end)), Some("certificate_recovered"));
        assert_eq!(certificates.renewed("a", end), None);
        assert_eq!(kind(certificates.failed("a", "rate limited", at(25))), Some("certificate_failed"));
    }

    #[test]
    fn hosts_of_the_past_take_no_room() {
        let mut certificates = Certificates::default();
        for host in 0..10_000 {
            certificates.failed(&host.to_string(), "x", Moment::START);
        }
        assert!(certificates.troubled.len() <= MOST);
    }
}
