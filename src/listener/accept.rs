//! The accept loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::connection;
use super::places::{Admitted, PlaceLimits};
use super::{Door, Role, claim_at, is_proxy};
use crate::client::{ClientAddr, is_within};
use crate::denial::Denial;
use crate::exchange::Seat;
use crate::metrics::Open;
use crate::websocket::greet::End;
use crate::websocket::relay::Cause;

/// Time for other connections to end and give their file descriptors back.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Accepts until the gate begins to drain.
pub async fn accept(door: Arc<Door>, listener: TcpListener, role: Role) {
    let mut draining = door.draining.clone();
    let causes = Cause::ALL.iter().map(|cause| cause.as_str()).chain(End::ALL.iter().map(|end| end.as_str()));
    door.metrics.front_door.websockets_may_end(causes);
    let connections = door.metrics.front_door.connections(role.as_str());
    loop {
        let next = tokio::select! {
            next = listener.accept() => next,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        match next {
            Ok((socket, peer)) => {
                let open = connections.came();
                if begin(door.clone(), socket, peer, role, open) {
                    connections.accepted();
                } else {
                    connections.refused();
                }
            }
            Err(error) => {
                let errors = &door.metrics.front_door.accept_errors;
                if errors.get().is_multiple_of(100) {
                    log::error!("connection not accepted listener={}: {error}", role.as_str());
                }
                errors.inc();
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Whether the connection is served, or at least told why not.
fn begin(door: Arc<Door>, socket: TcpStream, peer: SocketAddr, role: Role, open: Open) -> bool {
    let peer = ClientAddr::new(peer.ip());
    // Behind a proxy that announces its clients, the limit per client is applied once the client is known.
    let announced = is_within(peer.ip(), &door.proxy_protocol_from);
    if !announced && is_closed_to(&door, peer) {
        return false;
    }
    let limits = connection_limits(&door);
    let seat = Arc::new(Seat::default());
    let admitted = match announced {
        true => door.connections.admit_unnamed(limits.total),
        false => door.connections.admit(peer.key(), limits, &seat, || claim_at(&door, peer)),
    };
    let (guard, denied) = match admitted {
        Admitted::Yes(guard) => (guard, None),
        Admitted::OnlyToHear(denial, guard) => (guard, Some(denial)),
        Admitted::No(denial) => {
            door.metrics.denied(denial);
            return false;
        }
    };
    let newcomer = connection::Newcomer { peer, role, announced, denied, seat };
    let arrival = connection::Arrival { socket, newcomer, guard, open };
    tokio::spawn(connection::run(door, arrival));
    true
}

/// Whether a client is banned and not even told so; counted.
pub(super) fn is_closed_to(door: &Door, client: ClientAddr) -> bool {
    let (now, snapshot) = (door.guard.now(), door.snapshot.load());
    // Whom a trusted proxy comes for is in its requests.
    if is_proxy(door, client) {
        return false;
    }
    door.guard.connected(client, now);
    let closed = door.guard.closes_door_to(client, &snapshot.config.guard, now);
    if closed {
        door.metrics.denied(Denial::Banned);
    }
    closed
}

/// The connection limits in force now.
pub(super) fn connection_limits(door: &Door) -> PlaceLimits {
    let limits = &door.snapshot.load().config.limits;
    PlaceLimits { total: limits.connections, per_client: limits.connections_per_client }
}
