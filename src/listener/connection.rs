//! One client connection from accept to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::ClientHello;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::accept::{connection_limits, is_closed_to};
use super::places::{Admitted, PlaceGuard};
use super::presence::Traffic;
use super::stream::ClientStream;
use super::{Door, Role, claim_at, http1, http2, proxy_protocol};
use crate::acme::ACME_TLS_ALPN;
use crate::client::ClientAddr;
use crate::denial::Denial;
use crate::exchange::{Connection, Effort, Exchange, Greeting, Seat};
use crate::metrics::{Handshake, Open};
use crate::request::{Protocol, RequestRecord};
use crate::routing::normal_host;
use crate::websocket::greet::{self, Greeted, Parted, Terms};
use crate::websocket::handover::Io;
use crate::websocket::relay::{Cause, Patience, Tunnel, relay};

/// A connection just accepted.
pub(super) struct Arrival {
    pub socket: TcpStream,
    pub newcomer: Newcomer,
    pub guard: PlaceGuard,
    pub open: Open,
}

/// What is known of it at that moment.
pub(super) struct Newcomer {
    pub peer: ClientAddr,
    pub role: Role,
    /// The peer begins with a PROXY protocol header.
    pub announced: bool,
    /// Over a limit: it is only told so.
    pub denied: Option<Denial>,
    pub seat: Arc<Seat>,
}

/// A connection that has become a WebSocket.
pub(super) struct Upgraded {
    pub tunnel: Tunnel,
    pub exchange: Arc<Exchange>,
}

/// Serves one connection until it ends, the gate's patience ends, or, as a WebSocket, one side leaves.
pub(super) async fn run(door: Arc<Door>, arrival: Arrival) {
    let mut closing = door.closing.clone();
    tokio::select! {
        () = serve(&door, arrival) => {}
        _ = closing.wait_for(|closing| *closing) => {}
    }
}

async fn serve(door: &Arc<Door>, arrival: Arrival) {
    let Arrival { socket, newcomer, guard, open } = arrival;
    let _open = open;
    let mut place = Some(guard);
    let greeting = async {
        let seat = newcomer.seat.clone();
        tokio::select! {
            upgraded = greet(door, socket, newcomer, &mut place) => upgraded,
            denial = seat.turned_out() => {
                door.metrics.denied(denial);
                None
            }
        }
    };
    // Boxed, so that a WebSocket does not keep the state of the requests that led to it.
    let upgraded = Box::pin(greeting).await;
    if let Some(upgraded) = upgraded {
        Box::pin(relay_websocket(door, upgraded)).await;
    }
}

/// PROXY protocol, TLS, then requests.
async fn greet(
    door: &Arc<Door>,
    mut socket: TcpStream,
    newcomer: Newcomer,
    place: &mut Option<PlaceGuard>,
) -> Option<Upgraded> {
    let Newcomer { mut peer, role, announced, mut denied, seat } = newcomer;
    // Answers are joined by ourselves; waiting for acknowledgements would only delay them.
    socket.set_nodelay(true).ok()?;
    let (deadline, write_stall) = {
        let timeouts = &door.snapshot.load().config.timeouts;
        (Instant::now() + timeouts.tls_handshake, timeouts.write_stall)
    };
    if announced {
        match timeout_at(deadline, proxy_protocol::read_header(&mut socket)).await {
            Ok(Ok(client)) => {
                peer = client.map_or(peer, ClientAddr::new);
                if is_closed_to(door, peer) {
                    return None;
                }
                if denied.is_none() {
                    denied = admit_announced(door, peer, &seat, place)?;
                }
            }
            Ok(Err(_)) | Err(_) => {
                door.metrics.denied(Denial::ProxyProtocol);
                return None;
            }
        }
    }
    match role {
        Role::Redirect => {
            let connection = Arc::new(Connection::new(peer, seat, denied));
            let stream = ClientStream::new(Box::new(socket), connection.clone(), write_stall);
            Box::pin(http1::serve(door, stream, connection, role)).await
        }
        Role::Https => {
            let (stream, client_auth) = handshake(door, socket, &seat, deadline).await?;
            seat.advance(Effort::High);
            let session = stream.get_ref().1;
            let is_http2 = session.alpn_protocol() == Some(b"h2");
            let name = session.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
            let connection = Connection::new(peer, seat, denied).with_tls(name.map(Arc::from), client_auth);
            let connection = Arc::new(connection);
            let stream = ClientStream::new(Box::new(stream), connection.clone(), write_stall);
            let _present = door.presence.enter(peer, Traffic::Asked, &connection);
            if is_http2 {
                Box::pin(http2::serve(door, stream, connection)).await;
                None
            } else {
                Box::pin(http1::serve(door, stream, connection, role)).await
            }
        }
    }
}

/// Says whose the place of an announced connection is; `None` closes the connection.
fn admit_announced(
    door: &Door,
    client: ClientAddr,
    seat: &Arc<Seat>,
    place: &mut Option<PlaceGuard>,
) -> Option<Option<Denial>> {
    let unnamed = place.take()?;
    let per_client = connection_limits(door).per_client;
    match door.connections.name(unnamed, client.key(), per_client, seat, || claim_at(door, client)) {
        Admitted::Yes(named) => {
            *place = Some(named);
            Some(None)
        }
        Admitted::OnlyToHear(denial, guard) => {
            *place = Some(guard);
            Some(Some(denial))
        }
        Admitted::No(denial) => {
            door.metrics.denied(denial);
            None
        }
    }
}

/// The settings are those of a closed host, whose client has shown a certificate.
async fn handshake(
    door: &Door,
    socket: TcpStream,
    seat: &Seat,
    deadline: Instant,
) -> Option<(TlsStream<TcpStream>, ClientAuthShown)> {
    match timeout_at(deadline, accept_tls(door, socket, seat)).await {
        Ok(Ok(None)) => None,
        Ok(Ok(Some((stream, client_auth)))) => {
            let session = stream.get_ref().1;
            let is_tls_1_3 = session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
            let outcome = match session.handshake_kind() {
                Some(rustls::HandshakeKind::Resumed) => Handshake::Resumed,
                _ => Handshake::Full,
            };
            door.metrics.front_door.shaken_hands(is_tls_1_3, outcome);
            Some((stream, client_auth))
        }
        Ok(Err(error)) => {
            handshake_failed(door, tls_denial(&error));
            None
        }
        Err(_) => {
            handshake_failed(door, Denial::TlsTimeout);
            None
        }
    }
}

fn handshake_failed(door: &Door, denial: Denial) {
    door.metrics.denied(denial);
    door.metrics.front_door.handshake_failed(denial);
}

type ClientAuthShown = Option<Arc<rustls::ServerConfig>>;

/// The name decides whether a certificate is demanded of the client. `None`: it was an authority's look at a challenge,
/// and is over.
async fn accept_tls(
    door: &Door,
    socket: TcpStream,
    seat: &Seat,
) -> io::Result<Option<(TlsStream<TcpStream>, ClientAuthShown)>> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
    seat.advance(Effort::Medium);
    if let Some(challenge) = challenge(door, &start.client_hello()) {
        // The handshake is all that it wants to see (RFC 8737, section 3).
        start.into_stream(challenge).await?.shutdown().await?;
        return Ok(None);
    }
    let demanded = start.client_hello().server_name().and_then(normal_host).and_then(|name| {
        let snapshot = door.snapshot.load();
        Some(snapshot.routes.find(&name)?.client_auth.as_ref()?.config.clone())
    });
    let stream = start.into_stream(demanded.clone().unwrap_or_else(|| door.tls.clone())).await?;
    Ok(Some((stream, demanded)))
}

/// The settings for an authority that looks at a challenge: it offers that one protocol (RFC 8737, section 3).
fn challenge(door: &Door, hello: &ClientHello<'_>) -> Option<Arc<rustls::ServerConfig>> {
    let mut offered = hello.alpn()?;
    if offered.next() != Some(ACME_TLS_ALPN) || offered.next().is_some() {
        return None;
    }
    let name = normal_host(hello.server_name()?)?;
    let answer = door.challenges.tls_alpn(&name)?;
    log::debug!("tls-alpn-01 challenge looked at host={name}");
    Some(answer)
}

fn tls_denial(error: &io::Error) -> Denial {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        // What rustls says when the certificate store has no certificate for a name, or was given no name.
        Some(rustls::Error::General(what)) if what.contains("certificate") => Denial::TlsName,
        Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => {
            Denial::ClientCertificate
        }
        _ => Denial::TlsHandshake,
    }
}

/// Until the login inside, if there is one, is accepted; then to the end.
async fn relay_websocket(door: &Door, upgraded: Upgraded) {
    let Upgraded { tunnel, exchange } = upgraded;
    let begun = std::time::Instant::now();
    let started = std::time::SystemTime::now();
    let open = door.metrics.front_door.websocket_opened();
    let greeting = exchange.take_greeting();
    // Its own client's, who may have come through a trusted proxy.
    let client = exchange.client();
    let traffic = if greeting.is_some() { Traffic::Asked } else { Traffic::Relayed };
    let _present = door.presence.enter(client, traffic, &exchange.connection);
    // Of a ban since the request nobody has told us.
    if traffic == Traffic::Relayed && door.guard.is_banned(client, &door.snapshot.load().config.guard) {
        exchange.connection.turn_out();
    }
    let ended = match greeting {
        // First of all the room for a newcomer: to the doorkeeper it would look like a ban.
        Some(greeting) => tokio::select! {
            biased;
            () = exchange.connection.seat.made_room() => {
                door.metrics.denied(Denial::MadeRoom);
                Err((Denial::MadeRoom.reason(), 0, 0))
            }
            greeted = Box::pin(greet_first(door, tunnel, greeting)) => {
                greeted.map_err(|parted| (parted.end.as_str(), parted.up, parted.down))
            }
        },
        None => Ok(Greeted { tunnel, up: 0, down: 0 }),
    };
    let (cause, up, down) = match ended {
        Ok(greeted) => relay_rest(door, greeted, &exchange.connection).await,
        Err(ended) => {
            door.metrics.front_door.websocket_moved(ended.1, ended.2);
            ended
        }
    };
    drop(open);
    door.metrics.front_door.websocket_closed(cause);
    door.access_log.log(RequestRecord {
        started,
        remote: exchange.client().ip(),
        host: exchange.host(),
        class: exchange.class(),
        method: "GET".into(),
        target: String::new(),
        protocol: Protocol::WebSocket,
        status: 101,
        request_body_bytes: up,
        response_body_bytes: down,
        duration: begun.elapsed(),
        upstream_duration: None,
        gate_duration: None,
        user_agent: None,
        reason: Some(cause),
    });
}

/// What Home Assistant says to a token that is not good.
const AUTH_INVALID: &str = r#"{"type":"auth_invalid","message":"Invalid access token or password"}"#;

async fn greet_first(door: &Door, tunnel: Tunnel, greeting: Greeting) -> Result<Greeted, Parted> {
    let terms = Terms { deflate: greeting.deflate, deadline: greet::DEADLINE, invalid: AUTH_INVALID };
    greet::greet(tunnel, terms, &*greeting.doorkeeper, door.draining.clone()).await
}

async fn relay_rest(door: &Door, greeted: Greeted, connection: &Connection) -> (&'static str, u64, u64) {
    let patience = {
        let timeouts = &door.snapshot.load().config.timeouts;
        Patience { idle: timeouts.websocket_idle, write_stall: timeouts.write_stall }
    };
    let Greeted { tunnel, up, down } = greeted;
    let metrics = &door.metrics.front_door;
    metrics.websocket_moved(up, down);
    let report = tokio::select! {
        report = relay(tunnel, patience, door.draining.clone(), |up, down| metrics.websocket_moved(up, down)) => report,
        denial = connection.seat.turned_out() => {
            door.metrics.denied(denial);
            return (denial.reason(), up, down);
        }
    };
    let denial = match report.cause {
        Cause::Idle => Some(Denial::WebSocketIdle),
        Cause::WriteStall => Some(Denial::WriteStall),
        Cause::Client | Cause::Upstream | Cause::Shutdown | Cause::Broken => None,
    };
    if let Some(denial) = denial {
        door.metrics.denied(denial);
    }
    (report.cause.as_str(), up + report.up, down + report.down)
}

/// How long and how much is read of a client that has been refused, so that it hears why: closing a socket with
/// unread bytes resets it, and the answer with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// Sends `farewell`, ends our side and waits a moment for the client to end its own.
pub(super) async fn linger(mut io: Io, farewell: &[u8]) {
    let goodbye = async {
        io.write_all(farewell).await?;
        io.flush().await?;
        io.shutdown().await?;
        let mut scratch = [0; 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match io.read(&mut scratch).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    // Whether the client listened is its own affair.
    let _ = timeout(LINGER, goodbye).await;
}
