//! Who is connected: so that a ban reaches the connections that are open already.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::client::{ClientAddr, ClientKey};
use crate::exchange::Connection;
use crate::guard::Bouncer;

/// What comes over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Requests, or a login: the guard is asked about each, so who stays gets nothing by it.
    Asked,
    /// Whatever client and upstream say to each other.
    Relayed,
}

/// The connections of each client behind their TLS handshake. Bounded by the limits on connections.
#[derive(Debug)]
pub struct Presence {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

type Shard = HashMap<ClientKey, Vec<Present>>;

#[derive(Debug)]
struct Present {
    client: ClientAddr,
    traffic: Traffic,
    connection: Weak<Connection>,
}

const SHARDS: usize = 64;

impl Default for Presence {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }
}

impl Presence {
    /// A connection is there, for `client`, until the guard is dropped.
    pub fn enter(
        self: &Arc<Self>,
        client: ClientAddr,
        traffic: Traffic,
        connection: &Arc<Connection>,
    ) -> PresenceGuard {
        let present = Present { client, traffic, connection: Arc::downgrade(connection) };
        self.shard(client.key()).lock().entry(client.key()).or_default().push(present);
        PresenceGuard { presence: self.clone(), client, connection: connection.clone() }
    }

    fn shard(&self, key: ClientKey) -> &Mutex<Shard> {
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[at]
    }

    fn leave(&self, key: ClientKey, connection: &Arc<Connection>) {
        let mut shard = self.shard(key).lock();
        let Some(connections) = shard.get_mut(&key) else { return };
        let left = Arc::as_ptr(connection);
        connections.retain(|other| other.connection.as_ptr() != left);
        if connections.is_empty() {
            shard.remove(&key);
            if shard.is_empty() {
                shard.shrink_to_fit();
            }
        }
    }
}

impl Bouncer for Presence {
    fn turn_out(&self, network: IpNet, is_home: &dyn Fn(ClientAddr) -> bool) {
        let key = ClientAddr::new(network.addr()).key();
        // Somebody who lives there may be about to say so, on a connection that looks like any other.
        let stays = |present: &&Present| present.traffic == Traffic::Asked && is_home(present.client);
        let turn_out = |connections: &Vec<Present>| {
            let banned = connections.iter().filter(|present| network.contains(&present.client.ip()));
            let leaving = banned.filter(|present| !stays(present));
            leaving.filter_map(|present| present.connection.upgrade()).for_each(|connection| connection.turn_out());
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
    client: ClientAddr,
    connection: Arc<Connection>,
}

impl Drop for PresenceGuard {
    fn drop(&mut self) {
        self.presence.leave(self.client.key(), &self.connection);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn connect(presence: &Arc<Presence>, ip: &str) -> (Arc<Connection>, PresenceGuard) {
        enter(presence, ip, Traffic::Asked)
    }

    fn enter(presence: &Arc<Presence>, ip: &str, traffic: Traffic) -> (Arc<Connection>, PresenceGuard) {
        let client = ClientAddr::new(ip.parse().unwrap());
        let connection = Arc::new(Connection::new(client, Arc::default(), None));
        let guard = presence.enter(client, traffic, &connection);
        (connection, guard)
    }

    fn turn_out(presence: &Presence, network: &str) {
        presence.turn_out(network.parse().unwrap(), &|_| false);
    }

    fn is_out(connection: &Connection) -> bool {
        connection.seat.turned_out().now_or_never().is_some()
    }

    #[test]
    fn a_ban_turns_out_its_own_network_and_nobody_who_has_proven_a_session() {
        let presence = Arc::new(Presence::default());
        let (stranger, _a) = connect(&presence, "203.0.113.1");
        let (proven, _b) = connect(&presence, "203.0.113.1");
        proven.set_proven();
        let (neighbour, _c) = connect(&presence, "203.0.113.2");
        let (v6, _d) = connect(&presence, "2001:db8:1:2::3");
        turn_out(&presence, "203.0.113.1/32");
        assert_eq!([&stranger, &proven, &neighbour, &v6].map(|c| is_out(c)), [true, false, false, false]);
        turn_out(&presence, "203.0.113.0/24");
        assert_eq!([&proven, &neighbour, &v6].map(|c| is_out(c)), [false, true, false]);
        turn_out(&presence, "2001:db8:1:2::/64");
        assert!(is_out(&v6));
    }

    #[test]
    fn at_a_home_only_what_nobody_asks_about_ends() {
        let presence = Arc::new(Presence::default());
        let (asked, _a) = enter(&presence, "203.0.113.1", Traffic::Asked);
        let (relayed, _b) = enter(&presence, "203.0.113.1", Traffic::Relayed);
        let (elsewhere, _c) = enter(&presence, "203.0.113.2", Traffic::Asked);
        let home = asked.peer;
        presence.turn_out("203.0.113.0/24".parse().unwrap(), &|client| client == home);
        assert_eq!([&asked, &relayed, &elsewhere].map(|c| is_out(c)), [false, true, true]);
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let presence = Arc::new(Presence::default());
        let (_, one) = connect(&presence, "203.0.113.1");
        let (other, there) = connect(&presence, "203.0.113.1");
        drop(one);
        turn_out(&presence, "203.0.113.1/32");
        assert!(is_out(&other));
        drop((other, there));
        assert!(presence.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
