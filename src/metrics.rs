//! Every metric: its name, help and labels, over a registry of our own.
//!
//! Labels come from closed sets only: reasons, outcomes, classes of requests and of status, and host names *as
//! configured*. Nothing a stranger sends ever becomes a label. A host that is configured no more takes its series along.

mod acme;
mod dynamic_dns;
mod events;
mod families;
mod front_door;
mod guard;
mod hosts;
mod totals;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

pub use acme::{AcmeMetrics, CertificateState};
pub use dynamic_dns::DynamicDnsMetrics;
pub use events::EventMetrics;
use families::{
    Families, counter, counter_vec, float_gauge, gauge, gauge_vec, histogram, histogram_vec, int_gauge_vec,
};
pub use families::{Family, Kind};
pub use front_door::{Connections, FrontDoorMetrics, Handshake};
pub use guard::{Fill, GuardMetrics, InForce, LoginOutcome};
use hosts::HostMetrics;
pub use totals::{Buckets, Totals};

use crate::denial::Denial;
use crate::request::RequestRecord;

/// Handles to all metrics; cheap to share behind one `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
    hosts: HostMetrics,
    requests_in_flight: IntGauge,
    gate_duration: Histogram,
    denials: IntCounterVec,
    /// Connections, handshakes and WebSockets.
    pub front_door: FrontDoorMetrics,
    upstream_failures: IntCounterVec,
    upstream_up: IntGaugeVec,
    upstream_distrusts: IntGaugeVec,
    /// Requests tried a second time on another upstream connection.
    pub upstream_retries: IntCounter,
    config_generation: IntGauge,
    config_reload_success: IntGauge,
    config_reload_timestamp: Gauge,
    config_reloads: IntCounterVec,
    certificate_not_before: GaugeVec,
    certificate_not_after: GaugeVec,
    certificate_errors: IntGauge,
    /// What dynamic DNS counts.
    pub dynamic_dns: DynamicDnsMetrics,
    /// What the guard counts.
    pub guard: GuardMetrics,
    /// What the operator is told.
    pub events: EventMetrics,
    state_write_errors: IntCounterVec,
    /// Certificates that the gate asks for.
    pub acme: AcmeMetrics,
    /// Access log lines dropped because the disk was slower than the traffic.
    pub access_log_dropped: IntCounter,
}

/// How an upstream fares, as far as metrics tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHealth {
    /// Nobody has asked it yet.
    Unknown,
    Up,
    Down,
    /// It answers, and refuses whatever the gate forwards.
    Distrusts,
}

/// A file in the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFile {
    Bans,
    Devices,
}

impl StateFile {
    const ALL: [Self; 2] = [Self::Bans, Self::Devices];

    fn as_str(self) -> &'static str {
        match self {
            Self::Bans => "bans",
            Self::Devices => "devices",
        }
    }
}

/// One host's certificate, in seconds of the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub struct CertificateLife<'a> {
    pub host: &'a str,
    pub not_before: f64,
    pub not_after: f64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes a registry with every metric in it.
    pub fn new() -> Self {
        let r = Families::default();
        #[cfg(target_os = "linux")]
        r.register(
            |name| if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge },
            prometheus::process_collector::ProcessCollector::for_self(),
        );
        let build = int_gauge_vec(&r, "build_info", "Always 1; the version that runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            hosts: HostMetrics::new(&r),
            requests_in_flight: gauge(&r, "requests_in_flight", "Requests being answered now, WebSockets left out."),
            gate_duration: histogram(
                &r,
                "gate_duration_seconds",
                "What the gate itself added to a forwarded request.",
                &GATE_SECONDS,
            ),
            denials: counter_vec(&r, "denials_total", "Requests and connections the gate turned away.", &["reason"]),
            front_door: FrontDoorMetrics::new(&r),
            upstream_failures: counter_vec(
                &r,
                "upstream_failures_total",
                "Requests the upstream did not answer.",
                &["host", "cause"],
            ),
            upstream_up: int_gauge_vec(&r, "upstream_up", "Whether the upstream answers (1) or not (0).", &["host"]),
            upstream_distrusts: int_gauge_vec(
                &r,
                "upstream_distrusts_gate",
                "Whether Home Assistant answers 400 because the gate is not among its trusted proxies.",
                &["host"],
            ),
            upstream_retries: counter(&r, "upstream_retries_total", "Requests tried on another connection."),
            config_generation: gauge(&r, "config_generation", "The generation of the configuration in use."),
            config_reload_success: gauge(&r, "config_last_reload_successful", "Whether the last reload was accepted."),
            config_reload_timestamp: float_gauge(
                &r,
                "config_last_reload_success_timestamp_seconds",
                "When a configuration was last accepted.",
            ),
            config_reloads: counter_vec(&r, "config_reloads_total", "Reloads, by outcome.", &["outcome"]),
            certificate_not_before: gauge_vec(
                &r,
                "tls_certificate_not_before_timestamp_seconds",
                "When the life of the certificate in use began.",
                &["host"],
            ),
            certificate_not_after: gauge_vec(
                &r,
                "tls_certificate_not_after_timestamp_seconds",
                "When the certificate in use expires.",
                &["host"],
            ),
            certificate_errors: gauge(&r, "tls_certificate_errors", "Certificates whose newest files are unusable."),
            dynamic_dns: DynamicDnsMetrics::new(&r),
            guard: GuardMetrics::new(&r),
            events: EventMetrics::new(&r),
            state_write_errors: counter_vec(
                &r,
                "state_write_errors_total",
                "Writes to the state directory that failed, each tried again.",
                &["file"],
            ),
            acme: AcmeMetrics::new(&r),
            access_log_dropped: counter(&r, "access_log_dropped_total", "Access log lines dropped."),
            families: r.known.take(),
            registry: r.registry,
        };
        metrics.begin_at_zero();
        metrics
    }

    /// What has not happened yet is 0, not absent: a rate sees the first time too.
    fn begin_at_zero(&self) {
        for denial in Denial::ALL {
            self.denials.with_label_values(&[denial.reason()]);
        }
        for outcome in [ACCEPTED, REFUSED] {
            self.config_reloads.with_label_values(&[outcome]);
        }
        for file in StateFile::ALL {
            self.state_write_errors.with_label_values(&[file.as_str()]);
        }
    }

    /// What `/metrics` serves.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything that `/metrics` may serve, whether there is a sample of it yet or not.
    pub fn families(&self) -> &[Family] {
        &self.families
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

    /// A request is being answered until the guard object is dropped.
    pub fn request_begins(&self) -> Open {
        Open::new(&self.requests_in_flight)
    }

    /// Counts one finished request. Requests for hosts that are not configured share the label `none`.
    pub fn finished(&self, record: &RequestRecord) {
        self.hosts.finished(record);
        if let Some(own) = record.gate_duration {
            self.gate_duration.observe(own.as_secs_f64());
        }
    }

    /// A request of `host` goes out on a connection to the upstream, fresh or used before.
    pub fn upstream_connected(&self, host: &str, reused: bool) {
        self.hosts.connected(host, reused);
    }

    /// Counts one request that the upstream of `host` did not answer.
    pub fn upstream_failed(&self, host: &str, cause: &'static str) {
        self.upstream_failures.with_label_values(&[host, cause]).inc();
    }

    /// The causes for which the upstream of `host` may not answer begin at 0.
    pub fn upstream_may_fail(&self, host: &str, causes: impl Iterator<Item = &'static str>) {
        causes.for_each(|cause| drop(self.upstream_failures.with_label_values(&[host, cause])));
    }

    /// Says how the upstream of `host` fares; of one that nobody has asked, nothing.
    pub fn upstream_health(&self, host: &str, health: UpstreamHealth) {
        if health == UpstreamHealth::Unknown {
            // They may not have been there, which is as good.
            let _ = self.upstream_up.remove_label_values(&[host]);
            let _ = self.upstream_distrusts.remove_label_values(&[host]);
            return;
        }
        self.upstream_up.with_label_values(&[host]).set((health == UpstreamHealth::Up).into());
        self.upstream_distrusts.with_label_values(&[host]).set((health == UpstreamHealth::Distrusts).into());
    }

    /// An accepted configuration went into force.
    pub fn reload_accepted(&self, generation: u64, now: Duration) {
        self.config_generation.set(generation.try_into().unwrap_or(i64::MAX));
        self.config_reload_success.set(1);
        self.config_reload_timestamp.set(now.as_secs_f64());
        self.config_reloads.with_label_values(&[ACCEPTED]).inc();
    }

    /// A configuration was refused; the old one goes on.
    pub fn reload_refused(&self) {
        self.config_reload_success.set(0);
        self.config_reloads.with_label_values(&[REFUSED]).inc();
    }

    /// Replaces what is known of the certificates.
    pub fn certificates<'a>(&self, lives: impl Iterator<Item = CertificateLife<'a>>, errors: usize) {
        let mut hosts = Vec::new();
        for CertificateLife { host, not_before, not_after } in lives {
            self.certificate_not_before.with_label_values(&[host]).set(not_before);
            self.certificate_not_after.with_label_values(&[host]).set(not_after);
            hosts.push(host);
        }
        // Set before others go: a scrape in between finds all that are in force.
        retain_hosts(&self.certificate_not_before, |host| hosts.contains(&host));
        retain_hosts(&self.certificate_not_after, |host| hosts.contains(&host));
        self.certificate_errors.set(errors.try_into().unwrap_or(i64::MAX));
    }

    /// These are the hosts from now on; the others' series end.
    pub fn configured(&self, hosts: impl Iterator<Item = Arc<str>>) {
        let is_configured = self.hosts.configured(hosts);
        let keep = |host: &str| is_configured.contains_key(host);
        retain_hosts(&self.upstream_failures, keep);
        retain_hosts(&self.upstream_up, keep);
        retain_hosts(&self.upstream_distrusts, keep);
        self.guard.retain_hosts(keep);
    }

    /// So many writes of a file in the state directory have failed since the start.
    pub fn state_write_errors(&self, file: StateFile, total: u64) {
        follow(&self.state_write_errors.with_label_values(&[file.as_str()]), total);
    }

    /// One more write of a file in the state directory has failed.
    pub fn state_write_failed(&self, file: StateFile) {
        self.state_write_errors.with_label_values(&[file.as_str()]).inc();
    }
}

const ACCEPTED: &str = "accepted";
const REFUSED: &str = "refused";

/// 1 ms to 60 s, about two buckets a doubling where people feel the difference.
const SECONDS: [f64; 15] = [0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
/// 50 µs to 1 s.
const GATE_SECONDS: [f64; 13] =
    [0.00005, 0.0001, 0.0002, 0.0004, 0.0008, 0.0015, 0.003, 0.006, 0.0125, 0.025, 0.1, 0.3, 1.0];
/// 1 KiB to 1 GiB.
const BYTES: [f64; 7] = [1024.0, 16_384.0, 131_072.0, 1_048_576.0, 16_777_216.0, 134_217_728.0, 1_073_741_824.0];

/// Counts something as open until it is dropped.
#[derive(Debug)]
pub struct Open(IntGauge);

impl Open {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Ends the series of all hosts but those to keep, and the one of those who asked for none.
fn retain_hosts<T: MetricVecBuilder>(family: &MetricVec<T>, keep: impl Fn(&str) -> bool) {
    for metric in family.collect().iter().flat_map(|family| family.get_metric()) {
        let labels: HashMap<_, _> = metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
        if labels.get("host").is_some_and(|host| *host != hosts::NONE && !keep(host)) {
            // It can only be gone already.
            let _ = family.remove(&labels);
        }
    }
}

/// Has a counter say what is counted elsewhere, and never goes back.
fn follow(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
