//! How many connections there are, in all and per client, and the guard that takes one off when it ends.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::client::ClientKey;
use crate::denial::Denial;

/// Counts open connections. Bounded by the connection limit itself: a key lives as long as one of its connections.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    /// Connections over a limit that are still told so.
    over: AtomicUsize,
    shards: Box<[Mutex<HashMap<ClientKey, usize>>]>,
    hasher: RandomState,
}

/// Connections over a limit that get a 503 instead of a closed door; more are closed unheard.
const OVER_MAX: usize = 64;
const SHARDS: usize = 64;

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: AtomicUsize::new(0),
            over: AtomicUsize::new(0),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

/// The limits that hold at the moment of an accept.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    pub total: usize,
    pub per_client: usize,
}

/// What became of a new connection.
#[derive(Debug)]
pub enum Admitted {
    /// It counts until the guard is dropped.
    Yes(ConnectionGuard),
    /// Over a limit: answer its first request with 503 and close it.
    OnlyToHear(Denial, ConnectionGuard),
    /// Over a limit, and too many are being told so already.
    No(Denial),
}

impl Connections {
    /// Open connections now, those over a limit not counted.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Open connections of one client now.
    pub fn open_of(&self, key: ClientKey) -> usize {
        self.shard(key).lock().get(&key).copied().unwrap_or(0)
    }

    /// Counts a new connection of `key`.
    pub fn admit(self: &Arc<Self>, key: ClientKey, limits: ConnectionLimits) -> Admitted {
        let guard = |slot| ConnectionGuard { connections: self.clone(), slot };
        match self.take(key, limits) {
            Ok(()) => Admitted::Yes(guard(Slot::Counted(key))),
            Err(denial) => {
                let told = self.over.fetch_update(Relaxed, Relaxed, |n| (n < OVER_MAX).then_some(n + 1));
                match told {
                    Ok(_) => Admitted::OnlyToHear(denial, guard(Slot::Over)),
                    Err(_) => Admitted::No(denial),
                }
            }
        }
    }

    fn take(&self, key: ClientKey, limits: ConnectionLimits) -> Result<(), Denial> {
        let mut shard = self.shard(key).lock();
        let of_client = shard.get(&key).copied().unwrap_or(0);
        if of_client >= limits.per_client {
            return Err(Denial::ConnectionsPerClient);
        }
        let below_total = |open| (open < limits.total).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, below_total).map_err(|_| Denial::Connections)?;
        shard.insert(key, of_client + 1);
        Ok(())
    }

    fn shard(&self, key: ClientKey) -> &Mutex<HashMap<ClientKey, usize>> {
        // The hasher is seeded per process: strangers cannot choose addresses that share a shard.
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[at]
    }
}

/// One open connection.
#[derive(Debug)]
pub struct ConnectionGuard {
    connections: Arc<Connections>,
    slot: Slot,
}

#[derive(Debug)]
enum Slot {
    Counted(ClientKey),
    Over,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        match self.slot {
            Slot::Over => {
                self.connections.over.fetch_sub(1, Relaxed);
            }
            Slot::Counted(key) => {
                let mut shard = self.connections.shard(key).lock();
                if let Some(count) = shard.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        shard.remove(&key);
                        if shard.is_empty() {
                            shard.shrink_to_fit();
                        }
                    }
                }
                drop(shard);
                self.connections.open.fetch_sub(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientAddr;

    fn key(last: u8) -> ClientKey {
        ClientAddr::new([192, 0, 2, last].into()).key()
    }

    const LIMITS: ConnectionLimits = ConnectionLimits { total: 4, per_client: 2 };

    #[test]
    fn a_client_at_its_limit_does_not_bar_its_neighbour() {
        let connections = Arc::new(Connections::default());
        let held: Vec<_> = (0..2).map(|_| connections.admit(key(1), LIMITS)).collect();
        assert!(held.iter().all(|admitted| matches!(admitted, Admitted::Yes(_))));
        let third = connections.admit(key(1), LIMITS);
        assert!(matches!(third, Admitted::OnlyToHear(Denial::ConnectionsPerClient, _)));
        assert!(matches!(connections.admit(key(2), LIMITS), Admitted::Yes(_)));
        drop(held);
        assert!(matches!(connections.admit(key(1), LIMITS), Admitted::Yes(_)));
    }

    #[test]
    fn the_total_holds_and_everything_is_given_back() {
        let connections = Arc::new(Connections::default());
        let held: Vec<_> = (0..4).map(|last| connections.admit(key(last), LIMITS)).collect();
        assert!(matches!(connections.admit(key(9), LIMITS), Admitted::OnlyToHear(Denial::Connections, _)));
        assert_eq!(connections.open(), 4);
        drop(held);
        assert_eq!((connections.open(), connections.open_of(key(0))), (0, 0));
        assert!(connections.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn those_who_are_only_told_are_bounded_too() {
        let connections = Arc::new(Connections::default());
        let none = ConnectionLimits { total: 0, per_client: 1 };
        let told: Vec<_> = (0..OVER_MAX).map(|_| connections.admit(key(1), none)).collect();
        assert!(told.iter().all(|admitted| matches!(admitted, Admitted::OnlyToHear(..))));
        assert!(matches!(connections.admit(key(1), none), Admitted::No(Denial::Connections)));
        drop(told);
        assert!(matches!(connections.admit(key(1), none), Admitted::OnlyToHear(..)));
    }
}
