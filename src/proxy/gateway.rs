//! Hearthgate's `ProxyHttp`: a line of intent per phase.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::bearer::Bearers;
use super::context::RequestContext;
use super::failure::Failure;
use super::guarded;
use super::headers;
use super::inspect::{Request, inspect};
use super::peer;
use super::response::{self, Answer};
use super::upgrade;
use crate::access_log::AccessLog;
use crate::app::home_assistant;
use crate::config::App;
use crate::denial::Denial;
use crate::exchange::{Exchange, Greeting};
use crate::guard::{Guard, Refusal};
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::upstream::health::Condition;
use crate::websocket::deflate;

/// Decides about every request and forwards those that may pass.
pub struct Gateway {
    snapshot: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
    guard: Arc<Guard>,
    bearers: Bearers,
}

/// What is left of a refused request's body is read for so long, to let the client hear the answer.
const DRAIN: Duration = Duration::from_secs(2);

impl Gateway {
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        metrics: Arc<Metrics>,
        access_log: AccessLog,
        guard: Arc<Guard>,
    ) -> Self {
        Self { snapshot, metrics, access_log, guard, bearers: Bearers::default() }
    }

    /// Whether the request may go on.
    async fn admit(&self, session: &mut Session, ctx: &mut RequestContext) -> std::result::Result<(), Refusal> {
        let exchange = exchange_of(session).ok_or(Denial::Malformed)?;
        ctx.identify(session, exchange.clone());
        // First of all: a refusal must not wait for its client for ever either.
        limit_time(session, &ctx.snapshot);
        if let Some(denial) = exchange.progress.denial() {
            return Err(denial.into());
        }
        let header = session.req_header();
        let request =
            Request { method: &header.method, uri: &header.uri, target: header.raw_path(), headers: &header.headers };
        let accepted = inspect(&request, &exchange.connection, &ctx.snapshot)?;
        exchange.accept(accepted.client, accepted.route.name.clone());
        let passed = guarded::pass(&self.guard, &self.bearers, session, &exchange, &accepted).await?;
        ctx.accept(accepted, passed);
        Ok(())
    }
}

fn limit_time(session: &mut Session, snapshot: &Snapshot) {
    // Bodies are timed by the connection loop, which knows who keeps whom waiting.
    session.set_read_timeout(None);
    session.set_write_timeout(Some(snapshot.config.timeouts.write_stall));
    session.set_total_drain_timeout(Some(DRAIN));
}

/// Whether tokens are asked for: clients take some words there for the end of their session.
fn is_token_request(session: &Session) -> bool {
    session.req_header().uri.path() == "/auth/token"
}

/// The exchange that the front door put into the session.
fn exchange_of(session: &Session) -> Option<Arc<Exchange>> {
    let data = session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?;
    data.downcast_ref::<Arc<Exchange>>().cloned()
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(self.snapshot.load_full(), self.metrics.clone(), self.access_log.clone())
    }

    /// No compression, no other module.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<bool> {
        let Err(refusal) = self.admit(session, ctx).await else { return Ok(false) };
        ctx.denied(refusal.denial);
        let answer =
            if is_token_request(session) { Answer::to_refused_token(refusal) } else { Answer::to_refused(refusal) };
        response::write(session, &answer).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut RequestContext) -> Result<Box<HttpPeer>> {
        let snapshot = ctx.snapshot.clone();
        let forwarding = ctx.forwarding().ok_or_else(not_accepted)?;
        if forwarding.attempts > 0 {
            forwarding.exchange.progress.body_replayed();
            forwarding.body_bytes = 0;
        }
        ctx.sent();
        let forwarding = ctx.forwarding().ok_or_else(not_accepted)?;
        let header = session.req_header();
        peer::peer(forwarding, header.uri.path(), &header.headers, &snapshot.config.timeouts)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        digest: Option<&Digest>,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let forwarding = ctx.forwarding().ok_or_else(not_accepted)?;
        self.metrics.upstream_connected(&forwarding.accepted.route.name, reused);
        if forwarding.exchange.handover.is_some() {
            return Ok(()); // dialled and verified by ourselves
        }
        peer::check_pin(&forwarding.accepted.route.upstream, digest)
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let snapshot = ctx.snapshot.clone();
        let forwarding = ctx.forwarding().ok_or_else(not_accepted)?;
        let accepted = &forwarding.accepted;
        let over_tls = forwarding.exchange.connection.server_name.is_some();
        let trusted = &snapshot.config.trusted_proxies.header;
        headers::to_upstream(request, forwarding.client, &accepted.authority, over_tls, trusted)?;
        if forwarding.watch.reads_body() {
            // A login's answer is smaller than what packing it would save.
            request.remove_header(&header::ACCEPT_ENCODING);
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let Some(forwarding) = ctx.forwarding() else { return Ok(()) };
        // An empty last DATA frame would become a second end of a chunked body (cloudflare/pingora#935). Before the end
        // an empty piece is half a chunk's head, and `None` would end the body there.
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        let bytes = body.as_ref().map_or(0, Bytes::len);
        let exchange = &forwarding.exchange;
        exchange.progress.body_read(&exchange.connection, bytes, end);
        forwarding.body_bytes += bytes as u64;
        let limit = forwarding.accepted.route.body_size;
        if limit.is_some_and(|limit| forwarding.body_bytes > limit.bytes()) {
            ctx.denied(Denial::BodySize);
            session.set_keepalive(None);
            return Err(Error::explain(ErrorType::HTTPStatus(413), "over the host's body_size").into_down());
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        ctx.upstream_answered();
        let Some(forwarding) = ctx.forwarding() else { return Ok(()) };
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            if forwarding.exchange.handover.is_none() {
                return Err(peer::upstream_error(ErrorType::InvalidHTTPHeader, "an upgrade that nobody asked for"));
            }
            if !upgrade::is_accepted(&session.req_header().headers, response) {
                return Err(peer::upstream_error(ErrorType::InvalidHTTPHeader, "a 101 that accepts no WebSocket"));
            }
            if let Some(login) = &forwarding.watch.websocket {
                let deflate = deflate::negotiated_in(&response.headers).map_err(|_| {
                    peer::upstream_error(ErrorType::InvalidHTTPHeader, "a 101 with extensions that nobody asked for")
                })?;
                let doorkeeper = Box::new(login.clone());
                forwarding.exchange.set_greeting(Greeting { deflate, doorkeeper });
            }
        }
        let upstream = &forwarding.accepted.route.upstream;
        upstream.answered();
        if upstream.app == App::HomeAssistant && home_assistant::may_be_distrust(response.status, &response.headers) {
            upstream.suspect();
            if matches!(upstream.condition(), Condition::Distrusts { .. }) {
                return Err(peer::upstream_error(peer::DISTRUSTED, "Home Assistant does not trust the gate"));
            }
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        // HTTP/1.0 knows no chunks (RFC 9112 section 7.1): such an answer ends with its connection.
        if session.req_header().version == http::Version::HTTP_10
            && response.remove_header(&http::header::TRANSFER_ENCODING).is_some()
        {
            session.set_keepalive(None);
        }
        let Some(forwarding) = ctx.forwarding() else { return Ok(()) };
        let over_tls = forwarding.exchange.connection.server_name.is_some();
        headers::to_client(response, &forwarding.accepted.route, over_tls)?;
        forwarding.watch.head(response)?;
        let begun = Instant::now();
        forwarding.watch.doubt().await;
        let waited = begun.elapsed();
        ctx.passed_on(waited);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if let Some(forwarding) = ctx.forwarding() {
            forwarding.watch.body(body.as_ref(), end);
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(forwarding) = ctx.forwarding() {
            let upstream = &forwarding.accepted.route.upstream;
            if let Some(address) = peer._address.as_inet() {
                upstream.avoid(*address);
            }
            // Nothing has been sent: another address of the same upstream is always safe to try.
            let again = forwarding.exchange.handover.is_none() && forwarding.attempts < upstream.address_count();
            error.set_retry(again);
            if again {
                self.metrics.upstream_retries.inc();
            }
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut RequestContext) -> FailToProxy {
        let answer = self.answer_to(error, session.response_written().is_some(), ctx);
        let error_code = answer.map_or(0, |answer| answer.status.as_u16());
        if let Some(answer) = answer
            && session.response_written().is_none()
        {
            session.set_keepalive(None);
            // The client may have left meanwhile; then nobody misses the answer.
            let _ = response::write(session, &answer).await;
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut RequestContext) {
        ctx.finish(session);
    }

    /// Everything worth an operator's attention is logged where it is understood; a client that leaves is not.
    fn suppress_error_log(&self, _: &Session, _: &RequestContext, error: &Error) -> bool {
        Failure::of(error) != Failure::Internal
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &RequestContext, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}

impl Gateway {
    /// What the client is told about an error, and what metrics, log and health learn from it.
    fn answer_to(&self, error: &Error, answered: bool, ctx: &mut RequestContext) -> Option<Answer> {
        if let ErrorType::HTTPStatus(413) = error.etype() {
            return Some(Answer::to_denied(Denial::BodySize));
        }
        if *error.etype() == peer::DISTRUSTED {
            ctx.failed("distrusted");
            return Some(Answer::distrusted());
        }
        let failure = Failure::of(error);
        ctx.failed(failure.as_str());
        match failure {
            Failure::ClientMalformed => ctx.denied(Denial::Malformed),
            Failure::ClientStalled => ctx.denied(Denial::WriteStall),
            Failure::Upstream(cause) => {
                if let Some(forwarding) = ctx.forwarding() {
                    forwarding.watch.unanswered();
                }
                // A connection that breaks behind the head of an answer says little: a stream ended.
                if let Some(forwarding) = ctx.forwarding().filter(|_| !answered) {
                    forwarding.accepted.route.upstream.failed(cause);
                }
            }
            Failure::ClientGone | Failure::Internal => {}
        }
        failure.answer()
    }
}

fn not_accepted() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "a phase ran for a request that was not accepted")
}
