//! Every metric: its name, help and labels, over a registry of our own.
//!
//! Labels come from closed sets only: reasons, outcomes, classes of status, and host names *as configured*. Nothing a
//! stranger sends ever becomes a label.

mod acme;
mod guard;
mod totals;

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

pub use acme::{AcmeMetrics, CertificateState};
pub use guard::{GuardMetrics, InForce};
pub use totals::{Buckets, Totals};

use crate::denial::Denial;
use crate::request::RequestRecord;

/// Handles to all metrics; cheap to share behind one `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    upstream_duration: HistogramVec,
    response_bytes: IntCounterVec,
    request_bytes: IntCounterVec,
    denials: IntCounterVec,
    /// Client connections open now, by listener (`https`, `http`).
    pub connections_open: IntGaugeVec,
    /// Client connections accepted, by listener.
    pub connections: IntCounterVec,
    /// Finished TLS handshakes, by protocol version.
    pub handshakes: IntCounterVec,
    /// Accept calls that failed, for instance for want of file descriptors.
    pub accept_errors: IntCounter,
    /// WebSockets open now.
    pub websockets_open: IntGauge,
    /// WebSockets closed, by cause.
    pub websockets_closed: IntCounterVec,
    /// WebSocket bytes relayed, by direction (`up`, `down`).
    pub websocket_bytes: IntCounterVec,
    upstream_failures: IntCounterVec,
    upstream_up: IntGaugeVec,
    /// Requests tried a second time on another upstream connection.
    pub upstream_retries: IntCounter,
    config_generation: IntGauge,
    config_reload_success: IntGauge,
    config_reload_timestamp: GaugeVec,
    config_reloads: IntCounterVec,
    certificate_not_after: GaugeVec,
    certificate_errors: IntGauge,
    /// What the guard counts.
    pub guard: GuardMetrics,
    /// Certificates that the gate asks for.
    pub acme: AcmeMetrics,
    /// Access log lines dropped because the disk was slower than the traffic.
    pub access_log_dropped: IntCounter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes a registry with every metric in it.
    pub fn new() -> Self {
        let r = Registry::new();
        #[cfg(target_os = "linux")]
        register(&r, prometheus::process_collector::ProcessCollector::for_self());
        let build = int_gauge_vec(&r, "build_info", "Always 1; the version that runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            requests: counter_vec(&r, "requests_total", "Finished requests.", &["host", "code"]),
            request_duration: histogram(&r, "request_duration_seconds", "From head to last byte of the answer."),
            upstream_duration: histogram(&r, "upstream_response_seconds", "Until the head of the upstream's answer."),
            response_bytes: counter_vec(&r, "response_body_bytes_total", "Body bytes sent.", &["host"]),
            request_bytes: counter_vec(&r, "request_body_bytes_total", "Body bytes received.", &["host"]),
            denials: counter_vec(&r, "denials_total", "Requests and connections the gate turned away.", &["reason"]),
            connections_open: int_gauge_vec(&r, "connections_open", "Client connections open now.", &["listener"]),
            connections: counter_vec(&r, "connections_total", "Client connections accepted.", &["listener"]),
            handshakes: counter_vec(&r, "tls_handshakes_total", "Finished TLS handshakes.", &["version", "resumed"]),
            accept_errors: counter(&r, "accept_errors_total", "Accept calls that failed."),
            websockets_open: gauge(&r, "websockets_open", "WebSockets open now."),
            websockets_closed: counter_vec(&r, "websockets_closed_total", "WebSockets closed.", &["cause"]),
            websocket_bytes: counter_vec(&r, "websocket_bytes_total", "WebSocket bytes relayed.", &["direction"]),
            upstream_failures: counter_vec(
                &r,
                "upstream_failures_total",
                "Requests the upstream did not answer.",
                &["host", "cause"],
            ),
            upstream_up: int_gauge_vec(&r, "upstream_up", "Whether the upstream answers (1) or not (0).", &["host"]),
            upstream_retries: counter(&r, "upstream_retries_total", "Requests tried on another connection."),
            config_generation: gauge(&r, "config_generation", "The generation of the configuration in use."),
            config_reload_success: gauge(&r, "config_last_reload_successful", "Whether the last reload was accepted."),
            config_reload_timestamp: gauge_vec(
                &r,
                "config_last_reload_success_timestamp_seconds",
                "When a configuration was last accepted.",
                &[],
            ),
            config_reloads: counter_vec(&r, "config_reloads_total", "Reloads, by outcome.", &["outcome"]),
            certificate_not_after: gauge_vec(
                &r,
                "tls_certificate_not_after_timestamp_seconds",
                "When the certificate in use expires.",
                &["host"],
            ),
            certificate_errors: gauge(&r, "tls_certificate_errors", "Certificates whose newest files are unusable."),
            guard: GuardMetrics::new(&r),
            acme: AcmeMetrics::new(&r),
            access_log_dropped: counter(&r, "access_log_dropped_total", "Access log lines dropped."),
            registry: r,
        };
        for denial in Denial::ALL {
            metrics.denials.with_label_values(&[denial.reason()]);
        }
        metrics
    }

    /// What `/metrics` serves.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts one refusal.
    pub fn denied(&self, denial: Denial) {
        self.denials.with_label_values(&[denial.reason()]).inc();
    }

    /// How often the gate has turned someone away for this reason.
    pub fn denials(&self, denial: Denial) -> u64 {
        self.denials.with_label_values(&[denial.reason()]).get()
    }

    /// How often the gate has turned someone away, by reason; those that never happened are left out.
    pub fn denial_counts(&self) -> BTreeMap<String, u64> {
        let counts = Denial::ALL.iter().map(|denial| (denial.reason().to_owned(), self.denials(*denial)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Counts one finished request. Requests for hosts that are not configured share the label `none`.
    pub fn finished(&self, record: &RequestRecord) {
        let host = record.host.as_deref().unwrap_or("none");
        self.requests.with_label_values(&[host, code_class(record.status)]).inc();
        self.request_duration.with_label_values(&[host]).observe(record.duration.as_secs_f64());
        if let Some(upstream) = record.upstream_duration {
            self.upstream_duration.with_label_values(&[host]).observe(upstream.as_secs_f64());
        }
        self.response_bytes.with_label_values(&[host]).inc_by(record.response_body_bytes);
        self.request_bytes.with_label_values(&[host]).inc_by(record.request_body_bytes);
    }

    /// Counts one request that the upstream of `host` did not answer.
    pub fn upstream_failed(&self, host: &str, cause: &'static str) {
        self.upstream_failures.with_label_values(&[host, cause]).inc();
    }

    /// Says whether the upstream of `host` answers.
    pub fn upstream_health(&self, host: &str, up: bool) {
        self.upstream_up.with_label_values(&[host]).set(up.into());
    }

    /// An accepted configuration went into force.
    pub fn reload_accepted(&self, generation: u64, now: Duration) {
        self.config_generation.set(generation.try_into().unwrap_or(i64::MAX));
        self.config_reload_success.set(1);
        self.config_reload_timestamp.with_label_values::<&str>(&[]).set(now.as_secs_f64());
        self.config_reloads.with_label_values(&["accepted"]).inc();
    }

    /// A configuration was refused; the old one goes on.
    pub fn reload_refused(&self) {
        self.config_reload_success.set(0);
        self.config_reloads.with_label_values(&["refused"]).inc();
    }

    /// Replaces what is known of the certificates: host and expiry as seconds of the Unix epoch.
    pub fn certificates<'a>(&self, expiries: impl Iterator<Item = (&'a str, f64)>, errors: usize) {
        self.certificate_not_after.reset();
        for (host, not_after) in expiries {
            self.certificate_not_after.with_label_values(&[host]).set(not_after);
        }
        self.certificate_errors.set(errors.try_into().unwrap_or(i64::MAX));
    }

    /// Forgets hosts that are no longer configured.
    pub fn retain_hosts(&self) {
        self.upstream_up.reset();
    }
}

fn code_class(status: u16) -> &'static str {
    match status {
        0 => "aborted",
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// 1 ms to 60 s, about two buckets a doubling where people feel the difference.
const SECONDS: [f64; 15] = [0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("hearthgate_{name}"), help)
}

fn register<C: Collector + 'static>(registry: &Registry, collector: C) {
    registry.register(Box::new(collector)).expect("each name in this file is used once");
}

fn made<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("the names and labels in this file are valid");
    register(registry, collector.clone());
    collector
}

fn counter(r: &Registry, name: &str, help: &str) -> IntCounter {
    made(r, IntCounter::with_opts(opts(name, help)))
}

fn counter_vec(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    made(r, IntCounterVec::new(opts(name, help), labels))
}

fn gauge(r: &Registry, name: &str, help: &str) -> IntGauge {
    made(r, IntGauge::with_opts(opts(name, help)))
}

fn int_gauge_vec(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    made(r, IntGaugeVec::new(opts(name, help), labels))
}

fn gauge_vec(r: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    made(r, GaugeVec::new(opts(name, help), labels))
}

fn histogram(r: &Registry, name: &str, help: &str) -> HistogramVec {
    let options = HistogramOpts { common_opts: opts(name, help), buckets: SECONDS.to_vec() };
    made(r, HistogramVec::new(options, &["host"]))
}
