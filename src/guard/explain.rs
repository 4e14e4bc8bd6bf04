//! What the gate knows of one client, for an operator who asks why.

use std::sync::Arc;
use std::time::Duration;

use super::rate_limit::{BucketKey, Limit};
use super::table::{Lapse, Table};
use super::{Guard, Policy, Who};
use crate::client::{ClientAddr, ClientKey};
use crate::clock::Moment;
use crate::config::{self, RequestClass};
use crate::denial::Denial;
use crate::metrics::Fill;

/// Why a client was refused last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRefusal {
    pub denial: Denial,
    /// The kind of request, where it was known.
    pub class: Option<RequestClass>,
    /// The host as configured.
    pub host: Arc<str>,
    pub at: Moment,
}

impl Lapse for LastRefusal {
    fn lapses(&self) -> Moment {
        self.at + KEPT
    }
}

const KEPT: Duration = Duration::from_secs(24 * 3600);
const REFUSALS: usize = 8192;

/// The last refusal of each client, for a day. Bounded: 8,192 clients.
pub(super) struct Refusals(Table<ClientKey, LastRefusal>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Table::new(REFUSALS))
    }
}

impl Refusals {
    pub fn remember(&self, client: ClientKey, refusal: LastRefusal, now: Moment) {
        let kept = refusal.clone();
        self.0.update(client, now, || kept, |last| *last = refusal);
    }

    pub fn sweep(&self, now: Moment) {
        self.0.sweep(now);
    }

    pub fn fill(&self) -> Fill {
        self.0.fill()
    }
}

/// How one client stands.
#[derive(Debug, Clone)]
pub struct Standing {
    pub key: ClientKey,
    pub never_banned: bool,
    /// A session was proven from this address, and its device is still known.
    pub is_home: bool,
    pub failures: usize,
    pub attempts_in_flight: usize,
    /// How long the client has to wait before it may try again.
    pub login_wait: Option<Duration>,
    pub last_refusal: Option<LastRefusal>,
}

impl Guard {
    /// What is known of a client.
    pub fn standing(&self, client: ClientAddr, config: &config::Guard) -> Standing {
        let now = self.now();
        let key = client.key();
        let (failures, attempts_in_flight) = self.ledger.standing(Who::Client(key), &config.login, now);
        Standing {
            key,
            never_banned: self.is_never_banned(client, config),
            is_home: self.devices.is_anyones_home(key, config.known_device_lifetime, now),
            failures,
            attempts_in_flight,
            login_wait: self.ledger.wait_of(Who::Client(key), &config.login, now),
            last_refusal: self.refusals.0.peek(&key, LastRefusal::clone),
        }
    }

    /// Requests of a class that a client may send now.
    pub fn requests_left(&self, client: ClientAddr, class: RequestClass, policy: &Policy) -> Option<u32> {
        let rate_limit = policy.rate_limits.of(class)?;
        let limit = Limit::new(rate_limit.rate.count, rate_limit.rate.per, rate_limit.burst);
        let key = BucketKey::new(Who::Client(client.key()), class, policy);
        Some(self.buckets.peek(&key, |bucket| bucket.left(limit, self.now())).unwrap_or(rate_limit.burst))
    }
}
