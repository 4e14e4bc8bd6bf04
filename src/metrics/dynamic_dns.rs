//! What dynamic DNS counts, by name as configured.

use std::time::Duration;

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::{Families, counter_vec, gauge_vec, int_gauge_vec};

/// Handles to the metrics of dynamic DNS. A name that is no longer configured leaves nothing behind.
#[derive(Debug)]
pub struct DynamicDnsMetrics {
    updates: IntCounterVec,
    last_success: GaugeVec,
    failing: IntGaugeVec,
}

impl DynamicDnsMetrics {
    pub(super) fn new(r: &Families) -> Self {
        Self {
            updates: counter_vec(r, "dynamic_dns_updates_total", "Addresses sent to providers.", &["name", "outcome"]),
            last_success: gauge_vec(
                r,
                "dynamic_dns_last_success_timestamp_seconds",
                "When a name's addresses were last set, or found to be right.",
                &["name"],
            ),
            failing: int_gauge_vec(r, "dynamic_dns_failing", "Whether the provider refuses (1) or not (0).", &["name"]),
        }
    }

    /// A name is cared for from now on.
    pub fn follow(&self, name: &str) {
        for outcome in OUTCOMES {
            self.updates.with_label_values(&[name, outcome]);
        }
        self.failing.with_label_values(&[name]).set(0);
    }

    /// A name is no longer configured.
    pub fn forget(&self, name: &str) {
        // What is not there need not be removed.
        for outcome in OUTCOMES {
            let _ = self.updates.remove_label_values(&[name, outcome]);
        }
        let _ = self.last_success.remove_label_values(&[name]);
        let _ = self.failing.remove_label_values(&[name]);
    }

    /// The provider has set addresses; `now` since the Unix epoch.
    pub fn updated(&self, name: &str, now: Duration) {
        self.updates.with_label_values(&[name, OUTCOMES[0]]).inc();
        self.failing.with_label_values(&[name]).set(0);
        self.found_right(name, now);
    }

    /// The provider has refused, or could not be reached.
    pub fn failed(&self, name: &str) {
        self.updates.with_label_values(&[name, OUTCOMES[1]]).inc();
        self.failing.with_label_values(&[name]).set(1);
    }

    /// The zone's servers answer with the home's addresses; `now` since the Unix epoch.
    pub fn found_right(&self, name: &str, now: Duration) {
        self.last_success.with_label_values(&[name]).set(now.as_secs_f64());
    }
}

const OUTCOMES: [&str; 2] = ["success", "failure"];
