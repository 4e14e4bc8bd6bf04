//! What is counted of each host's requests. Handles are looked up by label once per host, not once per request.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::{BYTES, Families, SECONDS, counter_vec, histogram_vec, retain_hosts};
use crate::config::RequestClass;
use crate::request::RequestRecord;

/// The label of requests that are for no configured host.
pub(super) const NONE: &str = "none";
/// The label of requests that ended before anybody knew their class.
const OTHER: &str = "other";

const CLASSES: usize = RequestClass::ALL.len() + 1;

/// The families, and each configured host's part of them.
#[derive(Debug)]
pub(super) struct HostMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    upstream_duration: HistogramVec,
    request_size: HistogramVec,
    response_size: HistogramVec,
    upstream_connections: IntCounterVec,
    by_name: ArcSwap<ByName>,
    none: Series,
}

pub(super) type ByName = HashMap<Arc<str>, Arc<Series>>;

/// One host's handles, each made when it is first needed: a host that nobody asks for has no series.
#[derive(Debug, Default)]
pub(super) struct Series {
    requests: [[OnceLock<IntCounter>; Code::ALL.len()]; CLASSES],
    duration: OnceLock<Histogram>,
    upstream_duration: OnceLock<Histogram>,
    request_size: OnceLock<Histogram>,
    response_size: OnceLock<Histogram>,
    fresh_connections: OnceLock<IntCounter>,
    reused_connections: OnceLock<IntCounter>,
}

impl HostMetrics {
    pub fn new(r: &Families) -> Self {
        Self {
            requests: counter_vec(r, "requests_total", "Finished requests.", &["host", "class", "code"]),
            duration: histogram_vec(
                r,
                "request_duration_seconds",
                "From the head of a request to the last byte of its answer.",
                &SECONDS,
            ),
            upstream_duration: histogram_vec(
                r,
                "upstream_response_duration_seconds",
                "Until the head of the upstream's answer.",
                &SECONDS,
            ),
            request_size: histogram_vec(r, "request_size_bytes", "Body bytes received.", &BYTES),
            response_size: histogram_vec(r, "response_size_bytes", "Body bytes sent.", &BYTES),
            upstream_connections: counter_vec(
                r,
                "upstream_connections_total",
                "Connections to the upstream that requests went out on, fresh ones and ones from the pool.",
                &["host", "reused"],
            ),
            by_name: ArcSwap::default(),
            none: Series::default(),
        }
    }

    /// By host, class and code.
    pub fn requests(&self) -> &IntCounterVec {
        &self.requests
    }

    /// Until the head of the upstream's answer, by host.
    pub fn upstream_duration(&self) -> &HistogramVec {
        &self.upstream_duration
    }

    pub fn finished(&self, record: &RequestRecord) {
        let Some(host) = record.host.as_deref() else { return self.count(&self.none, NONE, record) };
        match self.by_name.load().get(host) {
            Some(series) => self.count(series, host, record),
            // It was configured when the request began.
            None => self.count(&self.none, NONE, record),
        }
    }

    fn count(&self, series: &Series, host: &str, record: &RequestRecord) {
        let code = Code::of(record.status);
        let (class, word) = record.class.map_or((0, OTHER), |class| (class as usize + 1, class.as_str()));
        let requests = series.requests[class][code as usize]
            .get_or_init(|| self.requests.with_label_values(&[host, word, code.as_str()]));
        requests.inc();
        observe(&series.duration, &self.duration, host, record.duration.as_secs_f64());
        if let Some(upstream) = record.upstream_duration {
            observe(&series.upstream_duration, &self.upstream_duration, host, upstream.as_secs_f64());
        }
        observe(&series.request_size, &self.request_size, host, record.request_body_bytes as f64);
        observe(&series.response_size, &self.response_size, host, record.response_body_bytes as f64);
    }

    pub fn connected(&self, host: &str, reused: bool) {
        let by_name = self.by_name.load();
        let Some(series) = by_name.get(host) else { return };
        let (handle, word) =
            if reused { (&series.reused_connections, "yes") } else { (&series.fresh_connections, "no") };
        handle.get_or_init(|| self.upstream_connections.with_label_values(&[host, word])).inc();
    }

    /// These are the hosts from now on; the others' series end.
    pub fn configured(&self, hosts: impl Iterator<Item = Arc<str>>) -> Arc<ByName> {
        let before = self.by_name.load();
        let now: ByName = hosts.map(|host| (host.clone(), before.get(&host).cloned().unwrap_or_default())).collect();
        let now = Arc::new(now);
        self.by_name.store(now.clone());
        let keep = |host: &str| now.contains_key(host);
        retain_hosts(&self.requests, keep);
        for histogram in [&self.duration, &self.upstream_duration, &self.request_size, &self.response_size] {
            retain_hosts(histogram, keep);
        }
        retain_hosts(&self.upstream_connections, keep);
        now
    }
}

fn observe(handle: &OnceLock<Histogram>, family: &HistogramVec, host: &str, value: f64) {
    handle.get_or_init(|| family.with_label_values(&[host])).observe(value);
}

/// A status by its first digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// The client left before there was any.
    Aborted,
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl Code {
    const ALL: [Self; 6] =
        [Self::Aborted, Self::Informational, Self::Success, Self::Redirection, Self::ClientError, Self::ServerError];

    fn of(status: u16) -> Self {
        match status {
            0 => Self::Aborted,
            1..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_and_code_has_a_place_of_its_own() {
        for (at, class) in RequestClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, at);
        }
        for (at, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, at);
        }
        for (status, word) in [(0, "aborted"), (101, "1xx"), (299, "2xx"), (300, "3xx"), (499, "4xx"), (500, "5xx")] {
            assert_eq!(Code::of(status).as_str(), word);
        }
    }
}
