//! What is told to the operator: kinds are a closed set, destinations are named by the configuration.

use prometheus::{IntCounter, IntCounterVec};

use super::{Families, counter, counter_vec};

/// Handles to the metrics of events.
#[derive(Debug)]
pub struct EventMetrics {
    events: IntCounterVec,
    messages: IntCounterVec,
    dropped: IntCounter,
}

impl EventMetrics {
    pub(super) fn new(r: &Families) -> Self {
        Self {
            events: counter_vec(r, "events_total", "What the operator may be told, by kind.", &["kind"]),
            messages: counter_vec(
                r,
                "event_messages_total",
                "Messages to those who are told, by how each try ended.",
                &["destination", "outcome"],
            ),
            dropped: counter(r, "events_dropped_total", "Events that somebody wanted to hear of and did not."),
        }
    }

    /// Something has happened.
    pub fn happened(&self, kind: &'static str) {
        self.events.with_label_values(&[kind]).inc();
    }

    /// A try to deliver a message has ended: `sent`, `retried`, `refused` or `given_up`.
    pub fn message(&self, destination: &str, outcome: &'static str) {
        self.messages.with_label_values(&[destination, outcome]).inc();
    }

    /// So many events are lost.
    pub fn dropped(&self, events: u64) {
        self.dropped.inc_by(events);
    }
}
