//! How a metric is made, and what is known of all that were.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// What a family of metrics is called, and what sort it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    pub name: String,
    pub kind: Kind,
    /// Without `le`, which every histogram has.
    pub labels: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// As Prometheus and the documentation name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A registry that remembers what was put into it: families without a sample are not to be seen in any other way.
#[derive(Debug, Default)]
pub(super) struct Families {
    pub registry: Registry,
    pub known: RefCell<Vec<Family>>,
}

impl Families {
    pub fn register<C: Collector + 'static>(&self, kind: impl Fn(&str) -> Kind, collector: C) {
        for description in collector.desc() {
            let (name, labels) = (description.fq_name.clone(), description.variable_labels.clone());
            self.known.borrow_mut().push(Family { kind: kind(&name), name, labels });
        }
        self.registry.register(Box::new(collector)).expect("each name in this file is used once");
    }

    fn made<C: Collector + Clone + 'static>(&self, kind: Kind, collector: prometheus::Result<C>) -> C {
        let collector = collector.expect("the names and labels in this file are valid");
        self.register(|_| kind, collector.clone());
        collector
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("hearthgate_{name}"), help)
}

pub(super) fn counter(r: &Families, name: &str, help: &str) -> IntCounter {
    r.made(Kind::Counter, IntCounter::with_opts(opts(name, help)))
}

pub(super) fn counter_vec(r: &Families, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    r.made(Kind::Counter, IntCounterVec::new(opts(name, help), labels))
}

pub(super) fn gauge(r: &Families, name: &str, help: &str) -> IntGauge {
    r.made(Kind::Gauge, IntGauge::with_opts(opts(name, help)))
}

pub(super) fn float_gauge(r: &Families, name: &str, help: &str) -> Gauge {
    r.made(Kind::Gauge, Gauge::with_opts(opts(name, help)))
}

pub(super) fn int_gauge_vec(r: &Families, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    r.made(Kind::Gauge, IntGaugeVec::new(opts(name, help), labels))
}

pub(super) fn gauge_vec(r: &Families, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    r.made(Kind::Gauge, GaugeVec::new(opts(name, help), labels))
}

pub(super) fn histogram(r: &Families, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    r.made(Kind::Histogram, Histogram::with_opts(buckets_of(name, help, buckets)))
}

pub(super) fn histogram_vec(r: &Families, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    r.made(Kind::Histogram, HistogramVec::new(buckets_of(name, help, buckets), &["host"]))
}

fn buckets_of(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts { common_opts: opts(name, help), buckets: buckets.to_vec() }
}
