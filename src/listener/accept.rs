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

/// Time for other connections to end and give their file descriptors back.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Accepts until the gate begins to drain.
pub async fn accept(door: Arc<Door>, listener: TcpListener, role: Role) {
    let mut draining = door.draining.clone();
    let open = door.metrics.connections_open.with_label_values(&[role.as_str()]);
    let accepted = door.metrics.connections.with_label_values(&[role.as_str()]);
    loop {
        let next = tokio::select! {
            next = listener.accept() => next,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        match next {
            Ok((socket, peer)) => {
                accepted.inc();
                let door = door.clone();
                let open = open.clone();
                open.inc();
                let counted = Counted(open);
                begin(door, socket, peer, role, counted);
            }
            Err(error) => {
                if door.metrics.accept_errors.get().is_multiple_of(100) {
                    log::error!("connection not accepted listener={}: {error}", role.as_str());
                }
                door.metrics.accept_errors.inc();
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Takes one off the gauge when the connection ends.
pub(super) struct Counted(prometheus::IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn begin(door: Arc<Door>, socket: TcpStream, peer: SocketAddr, role: Role, counted: Counted) {
    let peer = ClientAddr::new(peer.ip());
    // Behind a proxy that announces its clients, the limit per client is applied once the client is known.
    let announced = is_within(peer.ip(), &door.proxy_protocol_from);
    if !announced && is_closed_to(&door, peer) {
        return;
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
            return;
        }
    };
    let newcomer = connection::Newcomer { peer, role, announced, denied, seat };
    let arrival = connection::Arrival { socket, newcomer, guard, counted };
    tokio::spawn(connection::run(door, arrival));
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
