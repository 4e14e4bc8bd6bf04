//! What the guard counts: verdicts by host and reason, never by address.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{counter, counter_vec, gauge, int_gauge_vec, totals};
use crate::denial::Denial;

/// Handles to the guard's metrics.
#[derive(Debug)]
pub struct GuardMetrics {
    refusals: IntCounterVec,
    dry_run: IntCounterVec,
    login_attempts: IntCounterVec,
    bans: IntCounterVec,
    bans_active: IntGauge,
    bans_expired: IntGauge,
    /// Bans lifted by the operator.
    pub bans_lifted: IntCounter,
    credentials: IntGauge,
    throttled_accounts: IntGauge,
    entries: IntGaugeVec,
    evictions: IntGaugeVec,
    /// Writes of the file of bans that failed, each tried again.
    pub store_errors: IntGauge,
}

/// What is in force at one moment.
#[derive(Debug, Clone, Copy)]
pub struct InForce {
    pub bans: usize,
    /// Bans that have ended by themselves so far.
    pub bans_expired: u64,
    pub credentials: usize,
    pub throttled_accounts: usize,
}

impl GuardMetrics {
    pub(super) fn new(r: &Registry) -> Self {
        let host_and_reason = ["host", "reason"];
        Self {
            refusals: counter_vec(r, "guard_refusals_total", "What the guard refused.", &host_and_reason),
            dry_run: counter_vec(r, "guard_dry_run_total", "What a dry_run kept from being refused.", &host_and_reason),
            login_attempts: counter_vec(r, "login_attempts_total", "Attempts to log in.", &["kind", "outcome"]),
            bans: counter_vec(r, "bans_total", "Bans, by cause.", &["cause"]),
            bans_active: gauge(r, "bans_active", "Bans in force."),
            bans_expired: gauge(r, "bans_expired", "Bans that have ended by themselves since the start."),
            bans_lifted: counter(r, "bans_lifted_total", "Bans lifted by the operator."),
            credentials: gauge(r, "known_credentials", "Credentials that were accepted and are remembered."),
            throttled_accounts: gauge(r, "throttled_accounts", "Accounts on which strangers have to wait."),
            entries: int_gauge_vec(r, "guard_entries", "Entries of the guard's stores.", &["store"]),
            evictions: int_gauge_vec(r, "guard_evictions", "Entries that a full store forgot too early.", &["store"]),
            store_errors: gauge(r, "bans_store_errors", "Writes of the file of bans that failed since the start."),
        }
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
    pub fn login_attempt(&self, kind: &'static str, outcome: &'static str) {
        self.login_attempts.with_label_values(&[kind, outcome]).inc();
    }

    /// Attempts that the application has refused, of all kinds.
    pub(super) fn failed_logins(&self) -> f64 {
        totals::sum(&self.login_attempts, |metric| totals::has(metric, "outcome", "failed"))
    }

    /// Known credentials and throttled accounts, as of the last sweep.
    pub(super) fn standing(&self) -> (u64, u64) {
        let count = |gauge: &IntGauge| gauge.get().try_into().unwrap_or_default();
        (count(&self.credentials), count(&self.throttled_accounts))
    }

    /// A network was banned.
    pub fn banned(&self, cause: &'static str) {
        self.bans.with_label_values(&[cause]).inc();
    }

    /// How full one of the guard's stores is.
    pub fn store(&self, store: &'static str, entries: usize, evictions: u64) {
        self.entries.with_label_values(&[store]).set(entries.try_into().unwrap_or(i64::MAX));
        self.evictions.with_label_values(&[store]).set(evictions.try_into().unwrap_or(i64::MAX));
    }

    /// Brings the gauges up to date.
    pub fn in_force(&self, now: InForce) {
        let set = |gauge: &IntGauge, count: usize| gauge.set(count.try_into().unwrap_or(i64::MAX));
        set(&self.bans_active, now.bans);
        self.bans_expired.set(now.bans_expired.try_into().unwrap_or(i64::MAX));
        set(&self.credentials, now.credentials);
        set(&self.throttled_accounts, now.throttled_accounts);
    }
}
