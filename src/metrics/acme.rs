//! What is counted of certificates that the gate asks for itself; labels are names as configured.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::{Families, counter_vec, gauge_vec, int_gauge_vec};

/// Handles to the metrics of ACME.
#[derive(Debug)]
pub struct AcmeMetrics {
    orders: IntCounterVec,
    last_success: GaugeVec,
    next_attempt: GaugeVec,
    failing: IntGaugeVec,
}

/// One certificate at one moment.
#[derive(Debug, Clone)]
pub struct CertificateState {
    /// Its first name.
    pub certificate: String,
    pub last_success: Option<SystemTime>,
    pub next_attempt: Option<SystemTime>,
    /// Failed attempts since the last that did not fail.
    pub failures: u32,
}

impl AcmeMetrics {
    pub(super) fn new(r: &Families) -> Self {
        let certificate = ["certificate"];
        Self {
            orders: counter_vec(
                r,
                "acme_orders_total",
                "Attempts to have a certificate, by outcome.",
                &["certificate", "outcome"],
            ),
            last_success: gauge_vec(
                r,
                "acme_last_success_timestamp_seconds",
                "When a certificate was last had.",
                &certificate,
            ),
            next_attempt: gauge_vec(
                r,
                "acme_next_attempt_timestamp_seconds",
                "When a certificate is asked for next.",
                &certificate,
            ),
            failing: int_gauge_vec(
                r,
                "acme_failing",
                "Failed attempts since the last that did not fail.",
                &certificate,
            ),
        }
    }

    /// An attempt has ended.
    pub fn order(&self, certificate: &str, is_success: bool) {
        let outcome = if is_success { "success" } else { "failure" };
        self.orders.with_label_values(&[certificate, outcome]).inc();
    }

    /// Replaces what is known; certificates that are no longer wanted are forgotten.
    pub fn certificates(&self, states: impl Iterator<Item = CertificateState>) {
        self.last_success.reset();
        self.next_attempt.reset();
        self.failing.reset();
        for state in states {
            let name = [state.certificate.as_str()];
            self.failing.with_label_values(&name).set(state.failures.into());
            for (gauge, at) in [(&self.last_success, state.last_success), (&self.next_attempt, state.next_attempt)] {
                if let Some(since) = at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
                    gauge.with_label_values(&name).set(since.as_secs_f64());
                }
            }
            // Both outcomes are there before the first attempt, so that a rate can be told.
            for outcome in ["success", "failure"] {
                self.orders.with_label_values(&[&state.certificate, outcome]);
            }
        }
    }
}
