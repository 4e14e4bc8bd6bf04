//! The HTTP/1 loop of one connection: read a head, hand the request to Pingora, take the stream back.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::chunks::{self, Chunks};
use super::connection::{Upgraded, linger};
use super::head::{self, Body, Head, HeadLimits};
use super::stream::ClientStream;
use super::{BODY_START, Door, Outcome, Role, admit_request, body_limits, body_overdue, turned_out};
use crate::denial::Denial;
use crate::exchange::{Connection, Effort, Exchange, ReturnedClient};
use crate::proxy::response;
use crate::snapshot::Snapshot;
use crate::websocket::handover::Handover;
use crate::websocket::relay::Tunnel;

/// How long Pingora thinks an idle connection may stay; ours is the clock that counts.
const PINGORA_KEEP_ALIVE: u64 = 3600;

/// Serves requests until one side ends the connection or it becomes a WebSocket.
pub(super) async fn serve(
    door: &Arc<Door>,
    mut stream: ClientStream,
    connection: Arc<Connection>,
    role: Role,
) -> Option<Upgraded> {
    for served in 0u32.. {
        let snapshot = door.snapshot.load_full();
        let begun = std::time::Instant::now();
        let next = next_request(&mut stream, served == 0, &snapshot, door.draining.clone()).await;
        let (head, bytes) = match next {
            Next::Request(head, bytes) => (head, bytes),
            Next::Gone => return None,
            Next::Leaving => return refuse(stream, b"").await,
            Next::Idle => {
                door.metrics.denied(if served == 0 { Denial::SlowHead } else { Denial::KeepAlive });
                return refuse(stream, b"").await;
            }
            Next::Denied(denial) => {
                let status = denial.status().map_or(0, |status| status.as_u16());
                door.record(
                    connection.peer.ip(),
                    begun,
                    Outcome { status, denial: Some(denial), ..Outcome::default() },
                );
                return refuse(stream, &response::raw_denial(denial)).await;
            }
        };
        if role == Role::Redirect {
            return redirect(door, stream, &connection, &snapshot, &head, begun).await;
        }
        let handover = head.upgrade.then(Handover::default);
        let exchange = Arc::new(Exchange::new(connection.clone(), head.body != Body::None, handover));
        stream.begin(exchange.clone(), head.body);
        let last = served + 1 >= snapshot.config.limits.requests_per_connection;
        if last {
            door.metrics.denied(Denial::RequestsPerConnection);
        }
        exchange.seat.advance(Effort::High);
        let Some(place) = admit_request(door, &exchange, || Cow::Owned(head::credentials(&bytes))) else {
            let answer = response::raw_denial(Denial::Requests);
            return refuse(stream, &answer).await;
        };
        let kept = hand_on(door, stream, bytes, &exchange, &snapshot, last).await;
        drop(place);
        if !exchange.progress.is_taken() {
            // Pingora has refused by itself what it was handed, or not seen it; that must not go uncounted.
            let denial = exchange.progress.denial().unwrap_or(Denial::Malformed);
            let outcome = Outcome {
                method: &head.method,
                target: &head.target,
                status: denial.status().map_or(0, |status| status.as_u16()),
                denial: Some(denial),
                ..Outcome::default()
            };
            door.record(connection.peer.ip(), begun, outcome);
        }
        match kept {
            Some(kept) => stream = kept,
            None => return let_go(&exchange).await,
        }
    }
    None
}

enum Next {
    Request(Head, BytesMut),
    /// The client ended the connection.
    Gone,
    /// The gate is draining.
    Leaving,
    /// Nothing came.
    Idle,
    Denied(Denial),
}

/// Waits for the next head, and for the start of its body.
async fn next_request(
    stream: &mut ClientStream,
    first: bool,
    snapshot: &Snapshot,
    mut draining: watch::Receiver<bool>,
) -> Next {
    let timeouts = &snapshot.config.timeouts;
    if stream.input().is_empty() {
        let idle = if first { timeouts.request_head } else { timeouts.keep_alive };
        *stream.input() = BytesMut::new();
        tokio::select! {
            read = timeout(idle, stream.read_more()) => match read {
                Ok(Ok(0) | Err(_)) => return Next::Gone,
                Ok(Ok(_)) => {}
                Err(_) => return Next::Idle,
            },
            _ = draining.wait_for(|draining| *draining) => return Next::Leaving,
        }
    }
    let head = read_head(stream, snapshot).await;
    let (head, bytes) = match head {
        Ok(Some(head)) => head,
        Ok(None) => return Next::Gone,
        Err(denial) => return Next::Denied(denial),
    };
    match await_body(stream, &head, snapshot).await {
        Ok(true) => Next::Request(head, bytes),
        Ok(false) => Next::Gone,
        Err(denial) => Next::Denied(denial),
    }
}

/// One deadline for the whole head, from its first byte.
async fn read_head(stream: &mut ClientStream, snapshot: &Snapshot) -> Result<Option<(Head, BytesMut)>, Denial> {
    let limits = &snapshot.config.limits;
    let limits = HeadLimits {
        size: limits.head_size.as_usize(),
        uri: limits.uri_length.as_usize(),
        fields: limits.header_count,
    };
    let deadline = Instant::now() + snapshot.config.timeouts.request_head;
    let mut scanned = 0;
    loop {
        if let Some(end) = head::find_end(stream.input(), scanned, &limits)? {
            let bytes = stream.input().split_to(end);
            return head::parse(&bytes, &limits).map(|head| Some((head, bytes)));
        }
        scanned = stream.input().len();
        match timeout_at(deadline, stream.read_more()).await {
            Ok(Ok(0) | Err(_)) => return Ok(None),
            Ok(Ok(_)) => {}
            Err(_) => return Err(Denial::SlowHead),
        }
    }
}

/// Waits until the body has begun well; `false` when the client leaves meanwhile.
async fn await_body(stream: &mut ClientStream, head: &Head, snapshot: &Snapshot) -> Result<bool, Denial> {
    let limits = body_limits(snapshot);
    let begun = Instant::now();
    while !head.expects_continue && !has_begun(stream.input(), head.body)? {
        let have = stream.input().len() as u64;
        // The moment at which what is there falls below the rate, but never before the grace is over.
        let due = Duration::from_secs(have.checked_div(limits.rate).unwrap_or(u64::from(u32::MAX)) + 1);
        let deadline = (begun + due.max(limits.grace)).min(Instant::now() + limits.stall);
        match timeout_at(deadline, stream.read_more()).await {
            Ok(Ok(0) | Err(_)) => return Ok(false),
            Ok(Ok(_)) => {}
            Err(_) => return Err(Denial::SlowBody),
        }
    }
    Ok(true)
}

/// Whether enough of the body is there to hand the request on.
fn has_begun(input: &[u8], body: Body) -> Result<bool, Denial> {
    Ok(match body {
        Body::None => true,
        Body::Length(length) => input.len() as u64 >= length.min(BODY_START as u64),
        Body::Chunked => chunks::scan(input)? == Chunks::Complete || input.len() >= BODY_START,
    })
}

/// Runs all phases of one request; the stream comes back if the connection lives on.
async fn hand_on(
    door: &Arc<Door>,
    stream: ClientStream,
    head: BytesMut,
    exchange: &Arc<Exchange>,
    snapshot: &Snapshot,
    last: bool,
) -> Option<ClientStream> {
    let mut session = ServerSession::new_http1(Box::new(stream));
    session.set_keepalive((!last && exchange.connection.denied.is_none()).then_some(PINGORA_KEEP_ALIVE));
    if last || exchange.connection.denied.is_some() {
        session.set_keepalive_reuses_remaining(Some(0));
    }
    session.set_pipelined_prefix(head);
    let overdue = body_overdue(exchange, body_limits(snapshot), |exchange| exchange.progress.is_awaiting_client());
    let kept = tokio::select! {
        kept = door.proxy.process_new_http(session, &door.draining) => kept,
        () = overdue => None,
        () = turned_out(exchange) => None,
    };
    let (stream, _) = kept?.consume();
    stream.into_any().downcast::<ClientStream>().ok().map(|stream| *stream)
}

/// After Pingora has let go of a stream: a WebSocket goes on, everything else says goodbye.
async fn let_go(exchange: &Arc<Exchange>) -> Option<Upgraded> {
    let ReturnedClient { io: client, ahead: early, mut unsent } = exchange.progress.take_client()?;
    let upstream = exchange.handover.as_ref().and_then(Handover::take_upstream);
    if let Some((upstream, behind)) = upstream {
        let tunnel = Tunnel { client, early, upstream, behind };
        return Some(Upgraded { tunnel, exchange: exchange.clone() });
    }
    if let Some(denial) = exchange.progress.denial().filter(|_| !exchange.progress.is_answered()) {
        unsent.extend_from_slice(&response::raw_denial(denial));
    }
    linger(client, &unsent).await;
    None
}

async fn refuse(stream: ClientStream, farewell: &[u8]) -> Option<Upgraded> {
    if let Some((io, _)) = stream.into_parts() {
        linger(io, farewell).await;
    }
    None
}

/// What plain HTTP is good for: pointing to https, and an authority's look at a challenge.
async fn redirect(
    door: &Door,
    stream: ClientStream,
    connection: &Connection,
    snapshot: &Snapshot,
    head: &Head,
    begun: std::time::Instant,
) -> Option<Upgraded> {
    let route = snapshot.routes.find(&head.host);
    let denial = connection.denied.or(route.is_none().then_some(Denial::Misdirected));
    let (status, answer) = match (denial, challenge(door, head)) {
        (None, Some(key_authorization)) => (200, response::raw_challenge(&key_authorization)),
        (None, None) => (308, response::raw_redirect(&head.host, door.public_port, &head.target)),
        (Some(denial), _) => (denial.status().map_or(0, |status| status.as_u16()), response::raw_denial(denial)),
    };
    let host = route.map(|route| route.name.clone());
    let outcome = Outcome { host, method: &head.method, target: &head.target, status, denial };
    door.record(connection.peer.ip(), begun, outcome);
    refuse(stream, &answer).await
}

/// What an authority finds at a challenge's place (RFC 8555, section 8.3).
fn challenge(door: &Door, head: &Head) -> Option<String> {
    let token = head.target.strip_prefix("/.well-known/acme-challenge/").filter(|_| head.method == "GET")?;
    door.challenges.http(&head.host, token)
}
