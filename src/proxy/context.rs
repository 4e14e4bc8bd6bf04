//! What a request carries through its phases, and the record that is written when it ends, however it ends.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header;
use pingora_proxy::Session;

use super::guarded::Passed;
use super::inspect::Accepted;
use super::verdict::Watch;
use crate::access_log::AccessLog;
use crate::client::ClientAddr;
use crate::denial::Denial;
use crate::exchange::Exchange;
use crate::metrics::{Metrics, Open};
use crate::request::{Protocol, RequestRecord};
use crate::snapshot::Snapshot;

/// The context of one request.
pub struct RequestContext {
    pub snapshot: Arc<Snapshot>,
    pub stage: Stage,
    record: RecordGuard,
}

/// How far a request has come; each stage holds what is known from then on.
pub enum Stage {
    /// Nothing has been looked at.
    Arrived,
    /// It is known on which connection it came.
    Identified(Arc<Exchange>),
    /// It may be forwarded.
    Accepted(Box<Forwarding>),
}

/// A request on its way.
pub struct Forwarding {
    pub exchange: Arc<Exchange>,
    pub accepted: Accepted,
    /// The address by which the upstream is to know the client.
    pub client: ClientAddr,
    /// What is to be seen of the answer.
    pub(super) watch: Watch,
    /// Upstream addresses tried so far.
    pub attempts: usize,
    /// When the current attempt began.
    pub sent: Option<Instant>,
    /// Body bytes that have passed.
    pub body_bytes: u64,
}

impl RequestContext {
    pub fn new(snapshot: Arc<Snapshot>, metrics: Arc<Metrics>, access_log: AccessLog) -> Self {
        Self { snapshot, stage: Stage::Arrived, record: RecordGuard::new(metrics, access_log) }
    }

    /// Takes note of the connection and of what the access log will say.
    pub fn identify(&mut self, session: &Session, exchange: Arc<Exchange>) {
        self.record.arrived(session, &exchange);
        exchange.progress.set_taken();
        self.stage = Stage::Identified(exchange);
    }

    /// The request may go on.
    pub(super) fn accept(&mut self, accepted: Accepted, passed: Passed) {
        let Stage::Identified(exchange) = &self.stage else { return };
        let exchange = exchange.clone();
        let Passed { client, watch, waited } = passed;
        self.record.own_time.waited = waited;
        let forwarding = Forwarding { exchange, accepted, client, watch, attempts: 0, sent: None, body_bytes: 0 };
        self.stage = Stage::Accepted(Box::new(forwarding));
    }

    pub fn exchange(&self) -> Option<&Arc<Exchange>> {
        match &self.stage {
            Stage::Arrived => None,
            Stage::Identified(exchange) => Some(exchange),
            Stage::Accepted(forwarding) => Some(&forwarding.exchange),
        }
    }

    pub fn forwarding(&mut self) -> Option<&mut Forwarding> {
        match &mut self.stage {
            Stage::Accepted(forwarding) => Some(forwarding),
            Stage::Arrived | Stage::Identified(_) => None,
        }
    }

    /// The gate refuses the request; the first reason stays, whatever else goes wrong with it.
    pub fn denied(&mut self, denial: Denial) {
        self.record.denial.get_or_insert(denial);
    }

    /// The request failed behind the gate; `cause` is from a closed set.
    pub fn failed(&mut self, cause: &'static str) {
        self.record.failure = Some(cause);
    }

    /// The request goes to an upstream, perhaps not for the first time.
    pub fn sent(&mut self) {
        self.record.sent();
        if let Some(forwarding) = self.forwarding() {
            forwarding.attempts += 1;
            forwarding.sent = Some(Instant::now());
        }
    }

    /// The head of the upstream's answer has been passed on; for so long the upstream was waited for meanwhile.
    pub fn passed_on(&mut self, waited: Duration) {
        self.record.passed_on(waited);
    }

    /// The head of the upstream's answer is there.
    pub fn upstream_answered(&mut self) {
        if let Stage::Accepted(forwarding) = &self.stage
            && let Some(sent) = forwarding.sent
        {
            self.record.upstream_duration.get_or_insert(sent.elapsed());
            self.record.own_time.answered.get_or_insert_with(Instant::now);
        }
    }

    /// The request is over: one record feeds metrics and access log.
    pub fn finish(&mut self, session: &Session) {
        self.record.status = session.response_written().map_or(0, |response| response.status.as_u16());
        self.record.response_body_bytes = session.body_bytes_sent() as u64;
        self.record.request_body_bytes = session.body_bytes_read() as u64;
        self.record.write();
    }
}

/// What the gate itself adds to a request, as it goes through its phases.
#[derive(Default)]
struct OwnTime {
    /// For so long others were waited for before the request was sent on.
    waited: Duration,
    /// From the head until it was first sent on.
    before: Option<Duration>,
    /// When the head of the answer came.
    answered: Option<Instant>,
    /// Both ways, once the head of the answer has been passed on.
    total: Option<Duration>,
}

/// Writes its record once: at the end of the request, or when the request is dropped half-way.
struct RecordGuard {
    metrics: Arc<Metrics>,
    access_log: AccessLog,
    begun: Instant,
    started: SystemTime,
    exchange: Option<Arc<Exchange>>,
    method: String,
    target: String,
    protocol: Protocol,
    user_agent: Option<String>,
    status: u16,
    request_body_bytes: u64,
    response_body_bytes: u64,
    upstream_duration: Option<Duration>,
    own_time: OwnTime,
    open: Option<Open>,
    denial: Option<Denial>,
    failure: Option<&'static str>,
    written: bool,
}

impl RecordGuard {
    fn new(metrics: Arc<Metrics>, access_log: AccessLog) -> Self {
        Self {
            metrics,
            access_log,
            begun: Instant::now(),
            started: SystemTime::now(),
            exchange: None,
            method: String::new(),
            target: String::new(),
            protocol: Protocol::Http11,
            user_agent: None,
            status: 0,
            request_body_bytes: 0,
            response_body_bytes: 0,
            upstream_duration: None,
            own_time: OwnTime::default(),
            open: None,
            denial: None,
            failure: None,
            written: false,
        }
    }

    fn arrived(&mut self, session: &Session, exchange: &Arc<Exchange>) {
        let request = session.req_header();
        self.exchange = Some(exchange.clone());
        self.open = Some(self.metrics.request_begins());
        self.method = request.method.to_string();
        self.target = String::from_utf8_lossy(request.raw_path()).into_owned();
        self.protocol = match request.version {
            http::Version::HTTP_2 => Protocol::Http2,
            http::Version::HTTP_10 => Protocol::Http10,
            _ => Protocol::Http11,
        };
        let user_agent = request.headers.get(header::USER_AGENT);
        self.user_agent = user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    }

    fn sent(&mut self) {
        let waited = self.own_time.waited;
        self.own_time.before.get_or_insert_with(|| self.begun.elapsed().saturating_sub(waited));
    }

    fn passed_on(&mut self, waited: Duration) {
        let OwnTime { before: Some(before), answered: Some(answered), .. } = self.own_time else { return };
        self.own_time.total.get_or_insert_with(|| before + answered.elapsed().saturating_sub(waited));
    }

    /// The status that the client was sent, or will be by the front door, which has cut an HTTP/1 request short.
    fn status_for(&self, denial: Option<Denial>) -> u16 {
        let unanswered = self.exchange.as_ref().is_some_and(|exchange| !exchange.progress.is_answered());
        match denial.and_then(Denial::status) {
            Some(status) if self.status == 0 && unanswered && self.protocol != Protocol::Http2 => status.as_u16(),
            _ => self.status,
        }
    }

    fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let Some(exchange) = &self.exchange else { return };
        let denial = self.denial.or(exchange.progress.denial());
        if let Some(denial) = denial {
            self.metrics.denied(denial);
        }
        let record = RequestRecord {
            started: self.started,
            remote: exchange.client().ip(),
            host: exchange.host(),
            class: exchange.class(),
            method: std::mem::take(&mut self.method),
            target: std::mem::take(&mut self.target),
            protocol: self.protocol,
            status: self.status_for(denial),
            request_body_bytes: self.request_body_bytes.max(exchange.progress.body_bytes()),
            response_body_bytes: self.response_body_bytes,
            duration: self.begun.elapsed(),
            upstream_duration: self.upstream_duration,
            gate_duration: self.own_time.total,
            user_agent: self.user_agent.take(),
            reason: denial.map(Denial::reason).or(self.failure),
        };
        self.metrics.finished(&record);
        self.access_log.log(record);
    }
}

impl Drop for RecordGuard {
    fn drop(&mut self) {
        self.write();
    }
}
