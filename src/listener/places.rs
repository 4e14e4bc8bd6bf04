//! How many of something there are at once, in all and per client, and the guard that takes one off when it ends.
//!
//! Connections and requests in flight are counted this way.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::client::ClientKey;
use crate::denial::Denial;

/// Counts places that are taken. Bounded by its own limit: a key lives as long as one of its places.
#[derive(Debug)]
pub struct Places {
    /// What those are told who come when all places are taken, or all of one client.
    full: Denial,
    full_for_client: Denial,
    open: AtomicUsize,
    /// Those over a limit that are still told so.
    over: AtomicUsize,
    shards: Box<[Mutex<HashMap<ClientKey, usize>>]>,
    hasher: RandomState,
}

/// Those over a limit that get a 503 instead of a closed door; more are turned away unheard.
const OVER_MAX: usize = 64;
const SHARDS: usize = 64;

/// The limits that hold at this moment.
#[derive(Debug, Clone, Copy)]
pub struct PlaceLimits {
    pub total: usize,
    pub per_client: usize,
}

/// What became of a newcomer.
#[derive(Debug)]
pub enum Admitted {
    /// It counts until the guard is dropped.
    Yes(PlaceGuard),
    /// Over a limit: answer with 503 and nothing else.
    OnlyToHear(Denial, PlaceGuard),
    /// Over a limit, and too many are being told so already.
    No(Denial),
}

impl Places {
    /// All free. The denials say what is full: everything, or what one client may have.
    pub fn new(full: Denial, full_for_client: Denial) -> Self {
        Self {
            full,
            full_for_client,
            open: AtomicUsize::new(0),
            over: AtomicUsize::new(0),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Places taken now, those over a limit not counted.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Places of one client now.
    pub fn open_of(&self, key: ClientKey) -> usize {
        self.shard(key).lock().get(&key).copied().unwrap_or(0)
    }

    /// Takes a place for `key`.
    pub fn admit(self: &Arc<Self>, key: ClientKey, limits: PlaceLimits) -> Admitted {
        match self.admit_unnamed(limits.total) {
            Admitted::Yes(place) => self.name(place, key, limits.per_client),
            turned_away => turned_away,
        }
    }

    /// Says for whom a place is that was taken before its client was known.
    pub fn name(self: &Arc<Self>, mut place: PlaceGuard, key: ClientKey, per_client: usize) -> Admitted {
        let mut shard = self.shard(key).lock();
        let of_client = shard.get(&key).copied().unwrap_or(0);
        if of_client >= per_client {
            drop(shard);
            return self.turn_away(self.full_for_client);
        }
        shard.insert(key, of_client + 1);
        place.kind = Kind::Taken(Some(key));
        Admitted::Yes(place)
    }

    /// Takes a place in all, for a client that is yet to be named.
    pub fn admit_unnamed(self: &Arc<Self>, total: usize) -> Admitted {
        let below_total = |open| (open < total).then_some(open + 1);
        match self.open.fetch_update(Relaxed, Relaxed, below_total) {
            Ok(_) => Admitted::Yes(PlaceGuard { places: self.clone(), kind: Kind::Taken(None) }),
            Err(_) => self.turn_away(self.full),
        }
    }

    fn turn_away(self: &Arc<Self>, denial: Denial) -> Admitted {
        let told = self.over.fetch_update(Relaxed, Relaxed, |n| (n < OVER_MAX).then_some(n + 1));
        match told {
            Ok(_) => {
                let guard = PlaceGuard { places: self.clone(), kind: Kind::Over };
                Admitted::OnlyToHear(denial, guard)
            }
            Err(_) => Admitted::No(denial),
        }
    }

    fn leave(&self, key: ClientKey) {
        let mut shard = self.shard(key).lock();
        if let Some(count) = shard.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&key);
                if shard.is_empty() {
                    shard.shrink_to_fit();
                }
            }
        }
    }

    fn shard(&self, key: ClientKey) -> &Mutex<HashMap<ClientKey, usize>> {
        // The hasher is seeded per process: strangers cannot choose addresses that share a shard.
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[at]
    }
}

/// One place, until it is dropped.
#[derive(Debug)]
pub struct PlaceGuard {
    places: Arc<Places>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Counts in all, and for its client once that is known.
    Taken(Option<ClientKey>),
    /// Over a limit, and only told so.
    Over,
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        match self.kind {
            Kind::Over => {
                self.places.over.fetch_sub(1, Relaxed);
            }
            Kind::Taken(key) => {
                if let Some(key) = key {
                    self.places.leave(key);
                }
                self.places.open.fetch_sub(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientAddr;

    fn places() -> Places {
        Places::new(Denial::Connections, Denial::ConnectionsPerClient)
    }

    fn key(last: u8) -> ClientKey {
        ClientAddr::new([192, 0, 2, last].into()).key()
    }

    const LIMITS: PlaceLimits = PlaceLimits { total: 4, per_client: 2 };

    #[test]
    fn a_client_at_its_limit_does_not_bar_its_neighbour() {
        let places = Arc::new(places());
        let held: Vec<_> = (0..2).map(|_| places.admit(key(1), LIMITS)).collect();
        assert!(held.iter().all(|admitted| matches!(admitted, Admitted::Yes(_))));
        let third = places.admit(key(1), LIMITS);
        assert!(matches!(third, Admitted::OnlyToHear(Denial::ConnectionsPerClient, _)));
        assert!(matches!(places.admit(key(2), LIMITS), Admitted::Yes(_)));
        drop(held);
        assert!(matches!(places.admit(key(1), LIMITS), Admitted::Yes(_)));
    }

    #[test]
    fn the_total_holds_and_everything_is_given_back() {
        let places = Arc::new(places());
        let held: Vec<_> = (0..4).map(|last| places.admit(key(last), LIMITS)).collect();
        assert!(matches!(places.admit(key(9), LIMITS), Admitted::OnlyToHear(Denial::Connections, _)));
        assert_eq!(places.open(), 4);
        drop(held);
        assert_eq!((places.open(), places.open_of(key(0))), (0, 0));
        assert!(places.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn a_place_may_be_named_later_and_counts_once() {
        let places = Arc::new(places());
        let Admitted::Yes(unnamed) = places.admit_unnamed(4) else { panic!("there is room") };
        assert!(matches!(places.name(unnamed, key(1), 1), Admitted::Yes(_)));
        let Admitted::Yes(unnamed) = places.admit_unnamed(4) else { panic!("there is room") };
        let held = places.name(unnamed, key(1), 1);
        assert_eq!((places.open(), places.open_of(key(1))), (1, 1));
        drop(held);
        assert_eq!((places.open(), places.open_of(key(1))), (0, 0));
    }

    #[test]
    fn those_who_are_only_told_are_bounded_too() {
        let places = Arc::new(places());
        let none = PlaceLimits { total: 0, per_client: 1 };
        let told: Vec<_> = (0..OVER_MAX).map(|_| places.admit(key(1), none)).collect();
        assert!(told.iter().all(|admitted| matches!(admitted, Admitted::OnlyToHear(..))));
        assert!(matches!(places.admit(key(1), none), Admitted::No(Denial::Connections)));
        drop(told);
        assert!(matches!(places.admit(key(1), none), Admitted::OnlyToHear(..)));
    }
}
