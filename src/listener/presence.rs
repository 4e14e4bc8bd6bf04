//! Who is connected: so that a ban reaches the connections that are open already.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::client::{ClientAddr, ClientKey};
use crate::exchange::Connection;
use crate::guard::Bouncer;

/// The connections of each client behind their TLS handshake. Bounded by the limits on connections.
#[derive(Debug)]
pub struct Presence {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

type Shard = HashMap<ClientKey, Vec<Weak<Connection>>>;

const SHARDS: usize = 64;

impl Default for Presence {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl Presence {
    /// A connection is there until the guard is dropped.
    pub fn enter(self: &Arc<Self>, connection: &Arc<Connection>) -> PresenceGuard {
        let key = connection.peer.key();
        self.shard(key).lock().entry(key).or_default().push(Arc::downgrade(connection));
        PresenceGuard { presence: self.clone(), connection: connection.clone() }
    }

    fn shard(&self, key: ClientKey) -> &Mutex<Shard> {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[at]
    }

    fn leave(&self, connection: &Arc<Connection>) {
        let key = connection.peer.key();
        let mut shard = self.shard(key).lock();
        let Some(connections) = shard.get_mut(&key) else { return };
        let left = Arc::as_ptr(connection);
        connections.retain(|other| other.as_ptr() != left);
        if connections.is_empty() {
            shard.remove(&key);
            if shard.is_empty() {
                shard.shrink_to_fit();
            }
        }
    }
}

impl Bouncer for Presence {
    fn turn_out(&self, network: IpNet) {
        let key = ClientAddr::new(network.addr()).key();
        let turn_out = |connections: &Vec<Weak<Connection>>| {
            let present = connections.iter().filter_map(Weak::upgrade);
            present.filter(|connection| network.contains(&connection.peer.ip())).for_each(|present| present.turn_out());
        };
        if key.network().contains(&network) {
            if let Some(connections) = self.shard(key).lock().get(&key) {
                turn_out(connections);
            }
            return;
        }
        for shard in &self.shards {
            shard.lock().values().for_each(turn_out);
        }
    }
}

/// A connection that is there, until it is dropped.
#[derive(Debug)]
pub struct PresenceGuard {
    presence: Arc<Presence>,
    connection: Arc<Connection>,
}

impl Drop for PresenceGuard {
    fn drop(&mut self) {
        self.presence.leave(&self.connection);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn connect(presence: &Arc<Presence>, ip: &str) -> (Arc<Connection>, PresenceGuard) {
        let connection = Arc::new(Connection::new(ClientAddr::new(ip.parse().unwrap()), None, None));
        let guard = presence.enter(&connection);
        (connection, guard)
    }

    fn is_out(connection: &Connection) -> bool {
        connection.turned_out().now_or_never().is_some()
    }

    #[test]
    fn a_ban_turns_out_its_own_network_and_nobody_who_has_proven_a_session() {
        let presence = Arc::new(Presence::default());
        let (stranger, _a) = connect(&presence, "203.0.113.1");
        let (proven, _b) = connect(&presence, "203.0.113.1");
        proven.set_proven();
        let (neighbour, _c) = connect(&presence, "203.0.113.2");
        let (v6, _d) = connect(&presence, "2001:db8:1:2::3");
        presence.turn_out("203.0.113.1/32".parse().unwrap());
        assert_eq!([&stranger, &proven, &neighbour, &v6].map(|c| is_out(c)), [true, false, false, false]);
        presence.turn_out("203.0.113.0/24".parse().unwrap());
        assert_eq!([&proven, &neighbour, &v6].map(|c| is_out(c)), [false, true, false]);
        presence.turn_out("2001:db8:1:2::/64".parse().unwrap());
        assert!(is_out(&v6));
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let presence = Arc::new(Presence::default());
        let (_, one) = connect(&presence, "203.0.113.1");
        let (other, there) = connect(&presence, "203.0.113.1");
        drop(one);
        presence.turn_out("203.0.113.1/32".parse().unwrap());
        assert!(is_out(&other));
        drop((other, there));
        assert!(presence.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
