//! Logins under way: whose they are, and the address that Home Assistant has seen them begin with.
//!
//! Home Assistant refuses a login whose client address changes half-way (`IP address changed`), which IPv6 privacy
//! addresses do (RFC 8981). Towards it a login keeps the address it began with, as long as the client stays the same.

use std::time::Duration;

use super::table::{Lapse, Table};
use crate::client::ClientAddr;
use crate::clock::Moment;
use crate::metrics::Fill;

/// What is known of one login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The address it began with.
    pub began: ClientAddr,
    /// A short fingerprint of the account whose password was right.
    pub account: Option<u64>,
    /// It has come to the second factor.
    pub at_second_factor: bool,
    lapses: Moment,
}

impl Lapse for Flow {
    fn lapses(&self) -> Moment {
        self.lapses
    }
}

/// Home Assistant keeps a login without a limit in time; people do not.
const KEPT: Duration = Duration::from_secs(3600);
const FLOWS: usize = 16_384;

/// By a short fingerprint of the flow's id. Bounded: 16,384 logins, 2 MiB.
#[derive(Debug)]
pub struct Flows(Table<u64, Flow>);

impl Default for Flows {
    fn default() -> Self {
        Self(Table::new(FLOWS))
    }
}

impl Flows {
    /// Home Assistant has begun a login for this client.
    pub fn began(&self, id: u64, client: ClientAddr, now: Moment) {
        let flow = Flow { began: client, account: None, at_second_factor: false, lapses: now + KEPT };
        self.0.update(id, now, || flow, |_| ());
    }

    pub fn find(&self, id: u64) -> Option<Flow> {
        self.0.peek(&id, |flow| *flow)
    }

    /// The password was right for this account; a second factor is asked for. The first account stays: what follows is
    /// tried on it, whatever else it says.
    pub fn at_second_factor(&self, id: u64, account: Option<u64>) {
        self.0.change(&id, |flow| {
            flow.account = flow.account.or(account);
            flow.at_second_factor = true;
        });
    }

    /// The login is over.
    pub fn ended(&self, id: u64) {
        self.0.remove(&id);
    }

    /// The address by which Home Assistant is to know this client for this login.
    pub fn address_for(&self, id: u64, client: ClientAddr) -> ClientAddr {
        self.find(id).map(|flow| flow.began).filter(|began| began.key() == client.key()).unwrap_or(client)
    }

    pub fn sweep(&self, now: Moment) {
        self.0.sweep(now);
    }

    /// How many logins are under way, of how many.
    pub fn fill(&self) -> Fill {
        self.0.fill()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> ClientAddr {
        ClientAddr::new(text.parse().unwrap())
    }

    #[test]
    fn a_login_keeps_its_address_within_its_64_and_nowhere_else() {
        let flows = Flows::default();
        flows.began(1, client("2001:db8:0:1::a"), Moment::START);
        assert_eq!(flows.address_for(1, client("2001:db8:0:1::b")), client("2001:db8:0:1::a"));
        assert_eq!(flows.address_for(1, client("2001:db8:0:2::b")), client("2001:db8:0:2::b"));
        assert_eq!(flows.address_for(2, client("2001:db8:0:1::b")), client("2001:db8:0:1::b"));
        flows.began(1, client("2001:db8:0:1::c"), Moment::START);
        assert_eq!(flows.address_for(1, client("2001:db8:0:1::b")), client("2001:db8:0:1::a"), "the first one counts");
        flows.ended(1);
        assert_eq!(flows.address_for(1, client("2001:db8:0:1::b")), client("2001:db8:0:1::b"));
    }
}
