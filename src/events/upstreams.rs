//! Which upstreams are down for long enough to be worth a message.

use std::collections::HashMap;
use std::time::Duration;

use super::event::{Event, Why};
use crate::clock::Moment;

/// How one host's upstream fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fare {
    Up,
    /// Why, for the operator.
    Down(String),
    /// Nobody has asked yet.
    Unknown,
}

/// What was told of the upstreams of the configured hosts.
#[derive(Debug, Default)]
pub struct Upstreams {
    down: HashMap<String, Down>,
}

#[derive(Debug, Clone, Copy)]
struct Down {
    since: Moment,
    is_told: bool,
}

impl Upstreams {
    /// Compares with the last look, and says what is news. Hosts that are gone are forgotten.
    pub fn look(&mut self, fares: Vec<(String, Fare)>, now: Moment) -> Vec<Event> {
        let mut before = std::mem::take(&mut self.down);
        let mut news = Vec::new();
        for (host, fare) in fares {
            match (fare, before.remove(&host)) {
                (Fare::Up, Some(Down { is_told: true, .. })) => news.push(Event::UpstreamUp { host }),
                (Fare::Up | Fare::Unknown, _) => {}
                (Fare::Down(why), known) => {
                    let mut down = known.unwrap_or(Down { since: now, is_told: false });
                    if !down.is_told && now.since(down.since) >= DOWN_FOR {
                        down.is_told = true;
                        news.push(Event::UpstreamDown { host: host.clone(), why: Why::new(&why) });
                    }
                    self.down.insert(host, down);
                }
            }
        }
        news
    }
}

/// Longer than most restarts of Home Assistant.
const DOWN_FOR: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    #[test]
    fn a_restart_is_no_news_and_an_outage_is_told_once() {
        let mut upstreams = Upstreams::default();
        let mut look = |fare: Fare, seconds| {
            let news = upstreams.look(vec![("ha".to_owned(), fare)], at(seconds));
            news.iter().map(Event::kind).collect::<Vec<_>>()
        };
        let down = || Fare::Down("refused".to_owned());
        assert!(look(Fare::Unknown, 0).is_empty());
        assert!(look(down(), 5).is_empty());
        assert!(look(down(), 94).is_empty());
        assert!(look(Fare::Up, 94).is_empty(), "nobody has heard that it was down");
        assert!(look(down(), 100).is_empty());
        assert_eq!(look(down(), 190), ["upstream_down"]);
        assert!(look(down(), 1000).is_empty());
        assert_eq!(look(Fare::Up, 1001), ["upstream_up"]);
        assert!(look(Fare::Up, 1002).is_empty());
    }

    #[test]
    fn hosts_that_are_gone_are_forgotten() {
        let mut upstreams = Upstreams::default();
        let down = || vec![("ha".to_owned(), Fare::Down("refused".to_owned()))];
        upstreams.look(down(), at(0));
        upstreams.look(vec![], at(80));
        assert!(upstreams.look(down(), at(90)).is_empty());
        assert!(upstreams.down.len() == 1);
    }
}
