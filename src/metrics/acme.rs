//! What is counted of certificates that the gate asks for itself; labels are names as configured.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::{Families, counter_vec, gauge_vec, int_gauge_vec};

/// Handles to the metrics of ACME.
#[derive(Debug)]
pub struct AcmeMetrics {
    orders: IntCounterVec,
    last_success: GaugeVec,
    next_attempt: GaugeVec,
    failing: IntGaugeVec,
    /// Whose gauges there are.
    known: Mutex<HashSet<String>>,
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
            known: Mutex::default(),
        }
    }

    /// An attempt has ended.
    pub fn order(&self, certificate: &str, is_success: bool) {
        let outcome = if is_success { "success" } else { "failure" };
        self.orders.with_label_values(&[certificate, outcome]).inc();
    }

    /// Replaces what is known; certificates that are no longer wanted are forgotten. A scrape meanwhile finds all others.
    pub fn certificates(&self, states: impl Iterator<Item = CertificateState>) {
        let mut known = self.known.lock();
        let mut gone = std::mem::take(&mut *known);
        for state in states {
            let name = [state.certificate.as_str()];
            self.failing.with_label_values(&name).set(state.failures.into());
            for (gauge, at) in [(&self.last_success, state.last_success), (&self.next_attempt, state.next_attempt)] {
                match at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
                    Some(since) => gauge.with_label_values(&name).set(since.as_secs_f64()),
                    // An error says that there is none.
                    None => drop(gauge.remove_label_values(&name)),
                }
            }
            // Both outcomes are there before the first attempt, so that a rate can be told.
            for outcome in ["success", "failure"] {
                self.orders.with_label_values(&[&state.certificate, outcome]);
            }
            gone.remove(&state.certificate);
            known.insert(state.certificate);
        }
        for name in &gone {
            drop(self.failing.remove_label_values(&[name]));
            drop(self.last_success.remove_label_values(&[name]));
            drop(self.next_attempt.remove_label_values(&[name]));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_gone_is_forgotten_and_the_rest_stays() {
        let families = Families::default();
        let metrics = AcmeMetrics::new(&families);
        let state = |name: &str, at: Option<u64>| CertificateState {
            certificate: name.to_owned(),
            last_success: at.map(|at| UNIX_EPOCH + Duration::from_secs(at)),
            next_attempt: None,
            failures: 1,
        };
        let seen = || {
            let mut seen = Vec::new();
            for family in families.registry.gather().iter().filter(|family| !family.name().ends_with("orders_total")) {
                seen.extend(family.get_metric().iter().map(|metric| metric.get_label()[0].value().to_owned()));
            }
            seen.sort_unstable();
            seen
        };
        metrics.certificates([state("a", Some(5)), state("b", None)].into_iter());
        assert_eq!(seen(), ["a", "a", "b"]);
        metrics.certificates([state("a", None)].into_iter());
        assert_eq!(seen(), ["a"]);
    }
}
