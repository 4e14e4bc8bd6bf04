//! Notices a router that hides its clients: when nearly every connection shows one private address, limits and bans
//! would take the whole world for one client.
//!
//! A majority vote (Boyer and Moore) over each round of connections names a candidate in constant memory; the next round
//! counts it.

use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::client::ClientAddr;
use crate::clock::Moment;

/// Connections that make a round.
const ROUND: u32 = 500;
/// How many of them show the one address, in hundredths.
const NEARLY_ALL: u32 = 95;
/// A round is no shorter: one device that loads a page is no household.
const LEAST: Duration = Duration::from_secs(600);

/// Counts connections by address, as far as one address goes.
#[derive(Debug, Default)]
pub struct Hidden(Mutex<Vote>);

#[derive(Debug, Default)]
struct Vote {
    begun: Moment,
    /// Connections of this round.
    all: u32,
    /// Of them, those of last round's candidate.
    of_suspect: u32,
    suspect: Option<ClientAddr>,
    candidate: Option<ClientAddr>,
    lead: u32,
    found: Option<ClientAddr>,
}

impl Hidden {
    /// Takes note of a connection; the address behind which everybody seems to hide, when that is news.
    pub fn connected(&self, client: ClientAddr, now: Moment) -> Option<ClientAddr> {
        let mut vote = self.0.lock();
        vote.count(client);
        if vote.all < ROUND || now.since(vote.begun) < LEAST { None } else { vote.end_round(now) }
    }

    /// The address behind which everybody seems to hide.
    pub fn behind(&self) -> Option<ClientAddr> {
        self.0.lock().found
    }
}

impl Vote {
    fn count(&mut self, client: ClientAddr) {
        self.all = self.all.saturating_add(1);
        self.of_suspect += u32::from(self.suspect == Some(client));
        match self.candidate {
            Some(candidate) if candidate == client => self.lead = self.lead.saturating_add(1),
            Some(_) if self.lead > 0 => self.lead -= 1,
            _ => (self.candidate, self.lead) = (Some(client), 1),
        }
    }

    fn end_round(&mut self, now: Moment) -> Option<ClientAddr> {
        let is_nearly_all = u64::from(self.of_suspect) * 100 >= u64::from(self.all) * u64::from(NEARLY_ALL);
        let found = self.suspect.filter(|suspect| is_nearly_all && is_private(suspect.ip()));
        let is_news = found.is_some() && found != self.found;
        *self = Self { begun: now, suspect: self.candidate, found, ..Self::default() };
        found.filter(|_| is_news)
    }
}

/// What a router could put in place of its clients' addresses; whoever connects from this machine is no router.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ClientAddr {
        ClientAddr::new(text.parse().unwrap())
    }

    /// A thousand connections over an hour, every `nth` from somewhere else.
    fn found(address: &str, nth: u32) -> Option<ClientAddr> {
        let hidden = Hidden::default();
        let mut news = Vec::new();
        for n in 0..2000 {
            let from = if n % nth == 0 { client(&format!("203.0.113.{}", n % 200)) } else { client(address) };
            news.extend(hidden.connected(from, Moment::START + Duration::from_secs(3) * n));
        }
        assert!(news.len() <= 1, "said once");
        assert_eq!(news.first().copied(), hidden.behind());
        hidden.behind()
    }

    #[test]
    fn one_private_address_that_everybody_shows_is_noticed() {
        assert_eq!(found("192.168.1.1", 50), Some(client("192.168.1.1")));
        assert_eq!(found("fd00::1", 50), Some(client("fd00::1")));
    }

    #[test]
    fn a_busy_tablet_a_public_address_and_this_machine_are_not() {
        assert_eq!(found("192.168.1.7", 10), None);
        assert_eq!(found("198.51.100.7", 50), None);
        assert_eq!(found("127.0.0.1", 50), None);
    }
}
