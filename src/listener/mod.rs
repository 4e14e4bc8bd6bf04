//! The front door: everything between a stranger's first packet and a request that Pingora may see.
//!
//! accept -> connection limits -> PROXY protocol -> TLS -> own head reader (HTTP/1) or own stream loop (HTTP/2), each
//! with one deadline. Pingora's own loop has no deadline for a whole head, none for an HTTP/2 preface, idle
//! connection or stalled body, and no count of connections per client.

mod accept;
mod body_clock;
mod chunks;
mod connection;
mod head;
mod http1;
mod http2;
mod http2_meter;
mod places;
mod presence;
mod proxy_protocol;
mod stream;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use http::HeaderMap;
use ipnet::IpNet;
use pingora_proxy::HttpProxy;
use tokio::sync::watch;

pub use accept::accept;
pub use places::Places;
use places::{Admitted, Claim, PlaceGuard, PlaceLimits};
pub use presence::Presence;

use crate::access_log::AccessLog;
use crate::acme::Challenges;
use crate::client::{ClientAddr, is_within};
use crate::denial::Denial;
use crate::exchange::{Connection, Exchange};
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::proxy::{Gateway, shows_device};
use crate::request::{Protocol, RequestRecord};
use crate::snapshot::Snapshot;
use body_clock::{BodyClock, BodyLimits};

/// What every connection needs; made once.
pub struct Door {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub proxy: Arc<HttpProxy<Gateway>>,
    pub tls: Arc<rustls::ServerConfig>,
    /// What a certificate authority may ask for at this moment.
    pub challenges: Arc<Challenges>,
    pub connections: Arc<Places>,
    /// Requests in flight: one HTTP/2 connection may carry a hundred.
    pub requests: Arc<Places>,
    pub metrics: Arc<Metrics>,
    pub access_log: AccessLog,
    pub guard: Arc<Guard>,
    /// Who is connected.
    pub presence: Arc<Presence>,
    /// Peers that begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Where redirects to https point.
    pub public_port: u16,
    /// Turns true when the gate begins to shut down: finish what is in hand, begin nothing new.
    pub draining: watch::Receiver<bool>,
    /// Turns true when patience with the rest is at its end.
    pub closing: watch::Receiver<bool>,
}

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// TLS, and everything behind it.
    Https,
    /// Plain HTTP, which only redirects, and shows authorities that the name is ours.
    Redirect,
}

impl Role {
    /// The word in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Redirect => "http",
        }
    }
}

impl Door {
    /// Records a request that never reached the proxy.
    fn record(&self, remote: IpAddr, begun: Instant, outcome: Outcome<'_>) {
        if let Some(denial) = outcome.denial {
            self.metrics.denied(denial);
        }
        let record = RequestRecord {
            started: SystemTime::now(),
            remote,
            host: outcome.host,
            class: None,
            method: outcome.method.to_owned(),
            target: outcome.target.to_owned(),
            protocol: Protocol::Http11,
            status: outcome.status,
            request_body_bytes: 0,
            response_body_bytes: 0,
            duration: begun.elapsed(),
            upstream_duration: None,
            gate_duration: None,
            user_agent: None,
            reason: outcome.denial.map(Denial::reason),
        };
        self.metrics.finished(&record);
        self.access_log.log(record);
    }
}

/// How a request ended that never reached the proxy; what is not known of it is empty.
#[derive(Default)]
struct Outcome<'a> {
    host: Option<Arc<str>>,
    method: &'a str,
    target: &'a str,
    status: u16,
    denial: Option<Denial>,
}

/// Takes a place for a request in flight. Over a limit, the request is marked to be told so; `None` when too many are
/// being told already. `fields` are looked at until the connection is known.
fn admit_request<'a>(
    door: &Door,
    exchange: &Exchange,
    fields: impl FnOnce() -> Cow<'a, HeaderMap>,
) -> Option<PlaceGuard> {
    let limits = {
        let limits = &door.snapshot.load().config.limits;
        PlaceLimits { total: limits.requests, per_client: limits.requests_per_client }
    };
    let (connection, seat) = (&exchange.connection, &exchange.seat);
    if connection.seat.is_proven() {
        seat.prove();
    } else if is_known(door, connection, &fields()) {
        // Now, and not when the proxy sees it: the body may be long in coming.
        seat.prove();
        if !is_proxy(door, connection.peer) {
            connection.seat.prove();
        }
    }
    let claim = || if seat.is_proven() { Claim::Known } else { claim_at(door, connection.peer) };
    match door.requests.admit(connection.peer.key(), limits, seat, claim) {
        Admitted::Yes(place) => Some(place),
        Admitted::OnlyToHear(denial, place) => {
            exchange.progress.deny(denial);
            Some(place)
        }
        Admitted::No(denial) => {
            door.metrics.denied(denial);
            None
        }
    }
}

/// Whether a request shows a credential of a known device. A request for another host than its connection's is refused
/// later.
fn is_known(door: &Door, connection: &Connection, fields: &HeaderMap) -> bool {
    let snapshot = door.snapshot.load();
    let route = connection.server_name.as_deref().and_then(|name| snapshot.routes.find(name));
    route.is_some_and(|route| shows_device(&door.guard, &route.name, fields))
}

/// What anybody may ask for who comes from an address. A trusted proxy's is nobody's home, whoever comes through it.
fn claim_at(door: &Door, peer: ClientAddr) -> Claim {
    let is_home = || door.guard.is_home(peer, &door.snapshot.load().config.guard, door.guard.now());
    if !is_proxy(door, peer) && is_home() { Claim::Home } else { Claim::None }
}

/// Whether a peer names its clients in its requests.
fn is_proxy(door: &Door, peer: ClientAddr) -> bool {
    is_within(peer.ip(), &door.snapshot.load().config.trusted_proxies.networks)
}

fn body_limits(snapshot: &Snapshot) -> BodyLimits {
    let config = &snapshot.config;
    BodyLimits {
        stall: config.timeouts.body_stall,
        grace: config.timeouts.body_grace,
        rate: config.limits.body_rate.bytes(),
    }
}

/// So much of a request body must be there, or all of it, before the request is handed on: a body that drips holds
/// neither the memory of a request in hand nor a connection to the upstream.
const BODY_START: usize = 4 * 1024;
/// Looks at the clock this often while a request body is on its way.
const TICK: Duration = Duration::from_secs(1);

/// Returns when a request has to leave for a newcomer, and says so in the exchange.
async fn turned_out(exchange: &Exchange) {
    let denial = exchange.seat.turned_out().await;
    exchange.progress.deny(denial);
}

/// Returns when the client of `exchange` has used up the time for its body, and says so in the exchange; never, once
/// the body is there.
async fn body_overdue(exchange: &Exchange, limits: BodyLimits, is_waiting: impl Fn(&Exchange) -> bool) {
    let mut clock = BodyClock::default();
    let tick = TICK.min(limits.stall / 4).max(Duration::from_millis(10));
    loop {
        if exchange.progress.is_body_done() {
            return std::future::pending().await;
        }
        tokio::time::sleep(tick).await;
        let waiting = is_waiting(exchange) && !exchange.progress.is_body_done();
        if clock.tick(tick, exchange.progress.body_bytes(), waiting, &limits) {
            exchange.progress.deny(Denial::SlowBody);
            return;
        }
    }
}
