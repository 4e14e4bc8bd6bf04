//! Waiting until a TXT record is seen where an authority looks for it: at the zone's own servers, all of them, since
//! nobody knows which one it asks.

use std::fmt;
use std::time::Duration;

use domain::base::Rtype;
use domain::base::iana::Rcode;
use domain::rdata::Txt;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::error::{self, DnsError};
use super::resolver::{self, LookupError, Resolver, Server, Zone};
use super::transport::{DnsMessage, DnsName, NoAnswer};

/// How long to wait, and how often to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub timeout: Duration,
    /// Between the first two looks; grows by half each time.
    pub first: Duration,
    pub longest: Duration,
}

/// What one of the zone's servers shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Its name and its address.
    server: String,
    shows: Shows,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shows {
    /// TXT records; none is the rule before the record is there.
    Values(Vec<String>),
    Failure(Rcode),
    /// Not to be reached from here.
    Nothing(String),
}

/// Where things stand after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Everywhere,
    NotYet,
}

/// Returns once all servers of the zone show `value` at `record`.
pub(super) async fn wait(resolver: &Resolver, record: &DnsName, value: &str, pace: Pace) -> Result<(), DnsError> {
    let end = Instant::now() + pace.timeout;
    let (mut zone, mut pause) = (None, pace.first);
    loop {
        let last = match look(resolver, &mut zone, record).await {
            Ok(sightings) if verdict(&sightings, value) == Verdict::Everywhere => return Ok(()),
            Ok(sightings) => DnsError::NotSeen {
                record: record.to_string(),
                expected: value.to_owned(),
                within: pace.timeout,
                seen: sightings.iter().map(Sighting::to_string).collect::<Vec<_>>().join("; "),
            },
            Err(reason) => DnsError::Lookup { name: record.to_string(), reason },
        };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(last);
        }
        sleep(pause.min(left)).await;
        pause = (pause * 3 / 2).min(pace.longest);
    }
}

/// Asks all servers of the zone, which is looked up once.
async fn look(resolver: &Resolver, zone: &mut Option<Zone>, record: &DnsName) -> Result<Vec<Sighting>, LookupError> {
    let zone = match zone {
        Some(zone) => zone,
        None => zone.insert(resolver.zone(record).await?),
    };
    let sighting = async |server: &Server| Sighting {
        server: format!("{} ({})", server.name, server.address.ip()),
        shows: shows(resolver.ask_server(server, record, Rtype::TXT).await),
    };
    Ok(join_all(zone.servers.iter().map(sighting)).await)
}

fn shows(answer: Result<DnsMessage, NoAnswer>) -> Shows {
    match answer {
        Ok(answer) if resolver::is_answer(&answer) => Shows::Values(values(&answer)),
        Ok(answer) => Shows::Failure(answer.header().rcode()),
        Err(error) => Shows::Nothing(error.to_string()),
    }
}

fn values(answer: &DnsMessage) -> Vec<String> {
    let Ok(records) = answer.answer() else { return Vec::new() };
    let texts = records.limit_to_in::<Txt<_>>().flatten().map(|record| record.data().text::<Vec<u8>>());
    texts.map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
}

/// A server that cannot be reached from here counts for nothing, as long as another one shows the record: a home without
/// IPv6 reaches no server by it, and one of nine may be down for days. One that answers otherwise does count.
fn verdict(sightings: &[Sighting], value: &str) -> Verdict {
    let mut reached = sightings.iter().filter(|sighting| !matches!(sighting.shows, Shows::Nothing(_))).peekable();
    let any = reached.peek().is_some();
    let all = reached.all(|sighting| match &sighting.shows {
        Shows::Values(values) => values.iter().any(|shown| shown == value),
        Shows::Failure(_) | Shows::Nothing(_) => false,
    });
    if any && all { Verdict::Everywhere } else { Verdict::NotYet }
}

impl fmt::Display for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.server)?;
        match &self.shows {
            Shows::Values(values) if values.is_empty() => f.write_str("shows none"),
            Shows::Values(values) => {
                let shown: Vec<_> = values.iter().take(MAX_SHOWN).map(|value| error::quoted(value)).collect();
                write!(f, "shows {}", shown.join(" and "))
            }
            Shows::Failure(code) => write!(f, "answers with {}", resolver::words(*code)),
            Shows::Nothing(reason) => write!(f, "cannot be reached: {reason}"),
        }
    }
}

/// Values of one server that an error quotes.
const MAX_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::fixtures::broken_answer;

    fn sightings(shows: &[Shows]) -> Vec<Sighting> {
        shows.iter().map(|shows| Sighting { server: "ns1 (192.0.2.1)".to_owned(), shows: shows.clone() }).collect()
    }

    #[test]
    fn all_that_are_reached_must_show_it_and_one_must_be_reached() {
        let values = |values: &[&str]| Shows::Values(values.iter().map(|value| (*value).to_owned()).collect());
        let (here, other, none) = (values(&["other", "mine"]), values(&["Mine", "mine "]), values(&[]));
        let (away, failing) = (Shows::Nothing("no route".to_owned()), Shows::Failure(Rcode::REFUSED));
        for (shows, expected) in [
            (&[][..], Verdict::NotYet),
            (&[away.clone(), away.clone()], Verdict::NotYet),
            (&[here.clone(), here.clone()], Verdict::Everywhere),
            (&[away.clone(), here.clone()], Verdict::Everywhere),
            (&[here.clone(), none], Verdict::NotYet),
            (&[here.clone(), other], Verdict::NotYet),
            (&[here, failing], Verdict::NotYet),
        ] {
            assert_eq!(verdict(&sightings(shows), "mine"), expected, "{shows:?}");
        }
    }

    #[test]
    fn a_strangers_text_stays_on_one_line_and_short() {
        let shows = Shows::Values(vec!["a\n\u{1b}[31m".to_owned(), "x".repeat(5000), String::new(), "4th".to_owned()]);
        let shown = sightings(&[shows])[0].to_string();
        assert!(shown.starts_with(r#"ns1 (192.0.2.1) shows "a\n\u{1b}[31m" and "xxx"#), "{shown}");
        assert!(shown.ends_with("… and \"\"") && shown.len() < 300, "{shown}");
    }

    proptest! {
        #[test]
        fn a_broken_answer_is_read_without_harm(answer in broken_answer()) {
            values(&answer);
        }
    }
}
