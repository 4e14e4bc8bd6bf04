//! A bounded store for what strangers make us remember.
//!
//! Every entry says from when on it may be forgotten without loss. A full table forgets such an entry first, and
//! otherwise the one of a few, picked blindly, that would lapse soonest: an attacker with a million addresses cannot
//! fill it, and cannot choose what it forgets. Sharded: no operation takes a lock that all others need.

use std::hash::{BuildHasher, Hash, RandomState};

use indexmap::IndexMap;
use indexmap::map::raw_entry_v1::{RawEntryApiV1, RawEntryMut};
use parking_lot::{Mutex, MutexGuard};

use crate::clock::Moment;
use crate::metrics::Fill;

/// What a [`Table`] can hold.
pub trait Lapse {
    /// From when on the entry is as good as none.
    fn lapses(&self) -> Moment;
}

/// At most `capacity` entries, rounded up to a multiple of 64.
#[derive(Debug)]
pub struct Table<K, V> {
    shards: Box<[Place<K, V>]>,
    shard_capacity: usize,
    hasher: RandomState,
}

/// On cache lines of its own, or whoever uses one shard would slow down whoever uses its neighbour.
#[derive(Debug)]
#[repr(align(128))]
struct Place<K, V>(Mutex<Shard<K, V>>);

#[derive(Debug)]
struct Shard<K, V> {
    entries: IndexMap<K, V, RandomState>,
    /// Where the next sample is taken; moves on with each.
    cursor: u64,
    evictions: u64,
}

const SHARDS: usize = 64;
/// Entries looked at to find one to forget.
const SAMPLE: usize = 8;

impl<K: Hash + Eq, V: Lapse> Table<K, V> {
    /// Empty; memory is taken as entries come.
    pub fn new(capacity: usize) -> Self {
        let hasher = RandomState::new();
        let shard = |_| Place(Mutex::new(Shard::new(hasher.clone())));
        Self { shards: (0..SHARDS).map(shard).collect(), shard_capacity: capacity.div_ceil(SHARDS).max(1), hasher }
    }

    /// Looks at an entry.
    pub fn peek<R>(&self, key: &K, look: impl FnOnce(&V) -> R) -> Option<R> {
        let (hash, shard) = self.lock(key);
        shard.entries.raw_entry_v1().from_key_hashed_nocheck(hash, key).map(|(_, value)| look(value))
    }

    /// Changes an entry, if it is there.
    pub fn change<R>(&self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let (hash, mut shard) = self.lock(key);
        match shard.find(hash, key) {
            RawEntryMut::Occupied(mut entry) => Some(change(entry.get_mut())),
            RawEntryMut::Vacant(_) => None,
        }
    }

    /// Changes an entry, which is made if it is missing.
    pub fn update<R>(&self, key: K, now: Moment, make: impl FnOnce() -> V, change: impl FnOnce(&mut V) -> R) -> R {
        let (hash, mut shard) = self.lock(&key);
        if let RawEntryMut::Occupied(mut entry) = shard.find(hash, &key) {
            return change(entry.get_mut());
        }
        if shard.entries.len() >= self.shard_capacity {
            shard.forget_one(now);
        }
        shard.make_room(self.shard_capacity);
        match shard.find(hash, &key) {
            RawEntryMut::Occupied(entry) => change(entry.into_mut()),
            RawEntryMut::Vacant(entry) => change(entry.insert_hashed_nocheck(hash, key, make()).1),
        }
    }

    /// Forgets an entry.
    pub fn remove(&self, key: &K) -> Option<V> {
        let (hash, mut shard) = self.lock(key);
        match shard.find(hash, key) {
            RawEntryMut::Occupied(entry) => Some(entry.swap_remove()),
            RawEntryMut::Vacant(_) => None,
        }
    }

    /// Forgets all entries for which `keep` is false, and gives memory back. Locks one shard at a time.
    pub fn retain(&self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for shard in &self.shards {
            let entries = &mut shard.0.lock().entries;
            entries.retain(&mut keep);
            if entries.len() < entries.capacity() / 4 {
                entries.shrink_to(entries.len() * 2);
            }
        }
    }

    /// Forgets what has lapsed.
    pub fn sweep(&self, now: Moment) {
        self.retain(|_, value| value.lapses() > now);
    }

    /// Looks at every entry, one shard at a time.
    pub fn for_each(&self, mut look: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            shard.0.lock().entries.iter().for_each(|(key, value)| look(key, value));
        }
    }

    /// Entries now, those that have lapsed included. Locks one shard after the other.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().entries.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often an entry was forgotten that had not lapsed. Locks one shard after the other.
    pub fn evictions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.lock().evictions).sum()
    }

    /// How full it is.
    pub fn fill(&self) -> Fill {
        Fill { entries: self.len(), capacity: self.shard_capacity * SHARDS, evictions: self.evictions() }
    }

    /// The hash of a key, which finds it in its shard as well.
    fn lock(&self, key: &K) -> (u64, MutexGuard<'_, Shard<K, V>>) {
        // Seeded per process: strangers cannot choose keys that share a shard. The maps go by the lowest and the highest
        // bits of the same hash; a shard must not share those.
        let hash = self.hasher.hash_one(key);
        let at = usize::try_from((hash >> 32) % SHARDS as u64).unwrap_or(0);
        (hash, self.shards[at].0.lock())
    }
}

impl<K: Hash + Eq, V: Lapse> Shard<K, V> {
    fn new(hasher: RandomState) -> Self {
        Self { entries: IndexMap::with_hasher(hasher), cursor: 0, evictions: 0 }
    }

    fn find(&mut self, hash: u64, key: &K) -> RawEntryMut<'_, K, V, RandomState> {
        self.entries.raw_entry_mut_v1().from_key_hashed_nocheck(hash, key)
    }

    /// Grows twofold, and never beyond `capacity`: by itself the map would take up to 7/4 of that.
    fn make_room(&mut self, capacity: usize) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            self.entries.reserve_exact(len.max(4).min(capacity - len.min(capacity)));
        }
    }

    /// Forgets the entry that will be missed least of those it looks at.
    fn forget_one(&mut self, now: Moment) {
        let mut soonest: Option<(usize, Moment)> = None;
        for _ in 0..SAMPLE {
            // Knuth's multiplier: consecutive cursors fall far apart.
            self.cursor = self.cursor.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = usize::try_from((self.cursor >> 33) % self.entries.len().max(1) as u64).unwrap_or(0);
            let Some((_, value)) = self.entries.get_index(at) else { return };
            let lapses = value.lapses();
            if soonest.is_none_or(|(_, best)| lapses < best) {
                soonest = Some((at, lapses));
            }
            if lapses <= now {
                break;
            }
        }
        let Some((at, lapses)) = soonest else { return };
        self.entries.swap_remove_index(at);
        self.evictions += u64::from(lapses > now);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Until(u64, Moment);

    impl Lapse for Until {
        fn lapses(&self) -> Moment {
            self.1
        }
    }

    fn at(second: u64) -> Moment {
        Moment::START + Duration::from_secs(second)
    }

    #[test]
    fn a_full_table_forgets_what_has_lapsed_before_what_has_not() {
        let table: Table<u64, Until> = Table::new(SHARDS * 4);
        for key in 0..100_000u64 {
            table.update(key, at(10), || Until(key, at(5)), |_| ());
        }
        assert!(table.len() <= SHARDS * 4, "{}", table.len());
        assert_eq!(table.evictions(), 0);
    }

    #[test]
    fn what_matters_longest_survives_a_flood() {
        let table = Table::new(SHARDS * 100);
        for key in 0..50u64 {
            table.update(key, at(0), || Until(key, at(1000)), |_| ());
        }
        for key in 1000..1_000_000u64 {
            table.update(key, at(0), || Until(key, at(1)), |_| ());
        }
        let left = (0..50).filter(|key| table.peek(key, |_| ()).is_some()).count();
        assert_eq!(left, 50);
        assert!(table.evictions() > 900_000);
    }

    #[test]
    fn a_sweep_gives_memory_back() {
        let table = Table::new(10_000);
        for key in 0..10_000u64 {
            table.update(key, at(0), || Until(key, at(key)), |_| ());
        }
        table.sweep(at(9_000));
        assert!(table.len() < 1_000);
        let room: usize = table.shards.iter().map(|shard| shard.0.lock().entries.capacity()).sum();
        assert!(room < 5_000, "{room}");
    }

    #[test]
    fn a_full_table_takes_no_more_room_than_it_needs() {
        let capacity = SHARDS * 1000;
        let table = Table::new(capacity);
        for key in 0..200_000u64 {
            table.update(key, at(0), || Until(key, at(1)), |_| ());
        }
        let room: usize = table.shards.iter().map(|shard| shard.0.lock().entries.capacity()).sum();
        assert_eq!((table.len(), room), (capacity, capacity));
    }

    proptest! {
        /// As long as it is not full, it is a map.
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0u64..40, 0u8..4, any::<u64>()), 0..200)) {
            let table: Table<u64, Until> = Table::new(SHARDS * 40);
            let mut model = HashMap::new();
            for (key, step, value) in steps {
                match step {
                    0 => prop_assert_eq!(table.remove(&key).map(|v| v.0), model.remove(&key)),
                    1 => {
                        table.change(&key, |v| v.0 = value);
                        model.entry(key).and_modify(|v| *v = value);
                    }
                    2 => prop_assert_eq!(table.peek(&key, |v| v.0), model.get(&key).copied()),
                    _ => {
                        table.update(key, at(0), || Until(0, at(9)), |v| v.0 = value);
                        model.insert(key, value);
                    }
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
