//! What the guard counts: verdicts by host and reason, never by address.

use std::iter::Sum;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Families, counter, counter_vec, follow, gauge, int_gauge_vec, retain_hosts, totals};
use crate::denial::Denial;

/// Handles to the guard's metrics.
#[derive(Debug)]
pub struct GuardMetrics {
    refusals: IntCounterVec,
    dry_run: IntCounterVec,
    login_attempts: IntCounterVec,
    bans: IntCounterVec,
    bans_active: IntGauge,
    bans_expired: IntCounter,
    /// Bans lifted by the operator.
    pub bans_lifted: IntCounter,
    banned_homes: IntGauge,
    devices: IntGauge,
    credentials: IntGauge,
    throttled_accounts: IntGauge,
    clients_hidden: IntGauge,
    entries: IntGaugeVec,
    capacity: IntGaugeVec,
    evictions: IntCounterVec,
}

/// How an attempt to prove a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginOutcome {
    Succeeded,
    /// A wrong guess.
    Failed,
    /// What was good once, and is no more.
    Revoked,
    /// The application has not said.
    Unjudged,
    /// The client left before it could be said.
    Abandoned,
    /// It had to wait: the application has not heard of it.
    Refused,
}

impl LoginOutcome {
    const ALL: [Self; 6] =
        [Self::Succeeded, Self::Failed, Self::Revoked, Self::Unjudged, Self::Abandoned, Self::Refused];

    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Revoked => "revoked",
            Self::Unjudged => "unjudged",
            Self::Abandoned => "abandoned",
            Self::Refused => "refused",
        }
    }
}

/// What is in force at one moment.
#[derive(Debug, Clone, Copy)]
pub struct InForce {
    pub bans: usize,
    /// Bans that have ended by themselves so far.
    pub bans_expired: u64,
    /// Addresses of known devices that are under a ban.
    pub banned_homes: usize,
    pub devices: usize,
    pub credentials: usize,
    pub throttled_accounts: usize,
    /// Nearly all clients show one private address.
    pub clients_hidden: bool,
}

/// How full a bounded store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    pub entries: usize,
    pub capacity: usize,
    /// Entries forgotten too early, because it was full.
    pub evictions: u64,
}

impl Sum for Fill {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            entries: sum.entries + part.entries,
            capacity: sum.capacity + part.capacity,
            evictions: sum.evictions + part.evictions,
        })
    }
}

impl GuardMetrics {
    pub(super) fn new(r: &Families) -> Self {
        let host_and_reason = ["host", "reason"];
        Self {
            refusals: counter_vec(r, "guard_refusals_total", "What the guard refused.", &host_and_reason),
            dry_run: counter_vec(r, "guard_dry_run_total", "What a dry_run kept from being refused.", &host_and_reason),
            login_attempts: counter_vec(r, "login_attempts_total", "Attempts to log in.", &["kind", "outcome"]),
            bans: counter_vec(r, "bans_total", "Bans that began, by cause.", &["cause"]),
            bans_active: gauge(r, "bans_active", "Bans in force."),
            bans_expired: counter(r, "bans_expired_total", "Bans that have ended by themselves."),
            bans_lifted: counter(r, "bans_lifted_total", "Bans lifted by the operator."),
            banned_homes: gauge(r, "banned_homes", "Addresses of known devices that are under a ban."),
            devices: gauge(r, "known_devices", "Devices that have proven a session and are remembered."),
            credentials: gauge(r, "known_credentials", "Credentials that were accepted and are remembered."),
            throttled_accounts: gauge(r, "throttled_accounts", "Accounts on which strangers have to wait."),
            clients_hidden: gauge(
                r,
                "clients_hidden",
                "Whether nearly all clients show one private address, as behind a router that hides them.",
            ),
            entries: int_gauge_vec(r, "guard_entries", "Entries of the guard's stores.", &["store"]),
            capacity: int_gauge_vec(r, "guard_capacity", "The most entries each store can have.", &["store"]),
            evictions: counter_vec(
                r,
                "guard_evictions_total",
                "Entries that a full store forgot too early.",
                &["store"],
            ),
        }
    }

    /// What may happen begins at 0, not absent: a rate sees the first time too. The words are from closed sets.
    pub fn begin_at_zero<const K: usize, const C: usize>(
        &self,
        attempt_kinds: [&'static str; K],
        ban_causes: [&'static str; C],
    ) {
        for kind in attempt_kinds {
            for outcome in LoginOutcome::ALL {
                self.login_attempts.with_label_values(&[kind, outcome.as_str()]);
            }
        }
        for cause in ban_causes {
            self.bans.with_label_values(&[cause]);
        }
    }

    pub(super) fn retain_hosts(&self, keep: impl Fn(&str) -> bool) {
        retain_hosts(&self.refusals, &keep);
        retain_hosts(&self.dry_run, &keep);
    }

    /// Something was refused at `host`.
    pub fn refused(&self, host: &str, denial: Denial) {
        self.refusals.with_label_values(&[host, denial.reason()]).inc();
    }

    /// Something would have been refused at `host`, were it not for a dry run.
    pub fn would_refuse(&self, host: &str, denial: Denial) {
        self.dry_run.with_label_values(&[host, denial.reason()]).inc();
    }

    /// An attempt to prove a session has ended.
    pub fn login_attempt(&self, kind: &'static str, outcome: LoginOutcome) {
        self.login_attempts.with_label_values(&[kind, outcome.as_str()]).inc();
    }

    /// Attempts that the application has refused, of all kinds.
    pub(super) fn failed_logins(&self) -> f64 {
        totals::sum(&self.login_attempts, |metric| totals::has(metric, "outcome", LoginOutcome::Failed.as_str()))
    }

    /// Known devices and throttled accounts, as of the last sweep.
    pub(super) fn standing(&self) -> (u64, u64) {
        let count = |gauge: &IntGauge| gauge.get().try_into().unwrap_or_default();
        (count(&self.devices), count(&self.throttled_accounts))
    }

    /// A network was banned.
    pub fn banned(&self, cause: &'static str) {
        self.bans.with_label_values(&[cause]).inc();
    }

    /// How full one of the guard's stores is.
    pub fn store(&self, store: &'static str, fill: Fill) {
        set(&self.entries.with_label_values(&[store]), fill.entries);
        set(&self.capacity.with_label_values(&[store]), fill.capacity);
        follow(&self.evictions.with_label_values(&[store]), fill.evictions);
    }

    /// Brings the gauges up to date.
    pub fn in_force(&self, now: InForce) {
        set(&self.bans_active, now.bans);
        follow(&self.bans_expired, now.bans_expired);
        set(&self.banned_homes, now.banned_homes);
        set(&self.devices, now.devices);
        set(&self.credentials, now.credentials);
        set(&self.throttled_accounts, now.throttled_accounts);
        self.clients_hidden.set(now.clients_hidden.into());
    }
}

fn set(gauge: &IntGauge, count: usize) {
    gauge.set(count.try_into().unwrap_or(i64::MAX));
}
