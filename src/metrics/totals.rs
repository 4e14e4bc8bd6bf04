//! What has been counted until now, over all hosts: for the history of the last hour, which takes differences.

use prometheus::IntCounterVec;
use prometheus::core::Collector;
use prometheus::proto::Metric;

use super::Metrics;
use crate::denial::Denial;

/// Sums of counters since the start, and gauges as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// Answered with 1xx, 2xx or 3xx.
    pub fine: f64,
    /// Answered with 4xx, by the gate or behind it.
    pub client_errors: f64,
    /// Answered with 5xx.
    pub server_errors: f64,
    /// The client left before it had an answer.
    pub aborted: f64,
    /// In the order of [`Denial::ALL`].
    pub denials: Vec<u64>,
    pub failed_logins: f64,
    /// Until the head of the upstream's answer.
    pub latency: Buckets,
    /// What the gate itself added.
    pub own: Buckets,
    pub websockets_open: u32,
    pub upstreams: u32,
    pub upstreams_up: u32,
    pub known_devices: u64,
    pub throttled_accounts: u64,
}

/// A histogram: upper bounds in seconds, each with all observations up to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets(pub Vec<(f64, u64)>);

impl Metrics {
    /// Adds up what is needed for one sample. Its cost grows with the number of configured hosts, not with traffic.
    pub fn totals(&self) -> Totals {
        let code = |code: &str| sum(self.hosts.requests(), |metric| has(metric, "code", code));
        let up: Vec<_> = metrics(&self.upstream_up).iter().map(|metric| metric.get_gauge().get_value() > 0.0).collect();
        let (known_devices, throttled_accounts) = self.guard.standing();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Totals {
            fine: code("1xx") + code("2xx") + code("3xx"),
            client_errors: code("4xx"),
            server_errors: code("5xx"),
            aborted: code("aborted"),
            denials: Denial::ALL.iter().map(|denial| self.denials(*denial)).collect(),
            failed_logins: self.guard.failed_logins(),
            latency: buckets(self.hosts.upstream_duration()),
            own: buckets(&self.gate_duration),
            websockets_open: self.front_door.websockets_open().try_into().unwrap_or(u32::MAX),
            upstreams: count(up.len()),
            upstreams_up: count(up.iter().filter(|up| **up).count()),
            known_devices,
            throttled_accounts,
        }
    }
}

/// Adds up a family's series, or those of them that are wanted.
pub(super) fn sum(family: &IntCounterVec, is_wanted: impl Fn(&Metric) -> bool) -> f64 {
    metrics(family).into_iter().filter(is_wanted).map(|metric| metric.get_counter().get_value()).sum()
}

pub(super) fn has(metric: &Metric, label: &str, value: &str) -> bool {
    metric.get_label().iter().any(|pair| pair.name() == label && pair.value() == value)
}

fn buckets(family: &impl Collector) -> Buckets {
    let mut all: Vec<(f64, u64)> = Vec::new();
    for metric in metrics(family) {
        let histogram = metric.get_histogram();
        let bounds = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        for (at, (bound, count)) in bounds.chain([(f64::INFINITY, histogram.get_sample_count())]).enumerate() {
            match all.get_mut(at) {
                Some((_, sum)) => *sum += count,
                None => all.push((bound, count)),
            }
        }
    }
    Buckets(all)
}

fn metrics(family: &impl Collector) -> Vec<Metric> {
    family.collect().into_iter().flat_map(|mut family| family.take_metric()).collect()
}
