//! How many of something there are at once, in all and per client, and the guard that takes one off when it ends.
//!
//! Connections and requests in flight are counted this way, before anybody is known. So that strangers cannot keep a known
//! device out by filling the places of its address, they hold theirs there until they are needed: a newcomer to a full
//! house gets the place of one of them ([`victim`] says of which).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::client::ClientKey;
use crate::denial::Denial;
use crate::exchange::Seat;

/// Counts places that are taken. Bounded by its own limit: a key lives as long as one of its places.
#[derive(Debug)]
pub struct Places {
    /// What those are told who come when all places are taken, or all of one client.
    full: Denial,
    full_for_client: Denial,
    open: AtomicUsize,
    /// Those over a limit that are still told so: strangers, and apart from them known devices.
    over: [AtomicUsize; 2],
    shards: Box<[Mutex<HashMap<ClientKey, House>>]>,
    hasher: RandomState,
}

/// The seats of one client, in the order in which they were taken.
type House = Vec<Arc<Seat>>;

/// Those over a limit that get a 503 instead of a closed door; more are turned away unheard.
const OVER_MAX: usize = 64;
const SHARDS: usize = 64;

/// The limits that hold at this moment.
#[derive(Debug, Clone, Copy)]
pub struct PlaceLimits {
    pub total: usize,
    pub per_client: usize,
}

/// What a newcomer may ask for when its client has no place left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nothing.
    None,
    /// A stranger's place: somebody known lives at this address, and may be who comes.
    Home,
    /// A stranger's place: it has shown who it is.
    Known,
}

/// What became of a newcomer.
#[derive(Debug)]
pub enum Admitted {
    /// It counts until the guard is dropped, or its seat is needed.
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
            over: Default::default(),
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
        self.shard(key).lock().get(&key).map_or(0, Vec::len)
    }

    /// Takes a place for `key`. What the newcomer may ask for is only looked up when there is none.
    pub fn admit(
        self: &Arc<Self>,
        key: ClientKey,
        limits: PlaceLimits,
        seat: &Arc<Seat>,
        claim: impl FnOnce() -> Claim,
    ) -> Admitted {
        match self.take(limits.total) {
            Some(place) => self.name(place, key, limits.per_client, seat, claim),
            None => self.turn_away(self.full, claim()),
        }
    }

    /// Says for whom a place is that was taken before its client was known.
    pub fn name(
        self: &Arc<Self>,
        mut place: PlaceGuard,
        key: ClientKey,
        per_client: usize,
        seat: &Arc<Seat>,
        claim: impl FnOnce() -> Claim,
    ) -> Admitted {
        if !self.sit(key, per_client, seat, Claim::None) {
            // Looked up without a lock of ours; meanwhile a place may have come free, which is as good.
            let claim = claim();
            if !self.sit(key, per_client, seat, claim) {
                return self.turn_away(self.full_for_client, claim);
            }
        }
        place.kind = Kind::Taken(Some((key, seat.clone())));
        Admitted::Yes(place)
    }

    /// Takes a place in all, for a client that is yet to be named.
    pub fn admit_unnamed(self: &Arc<Self>, total: usize) -> Admitted {
        self.take(total).map_or_else(|| self.turn_away(self.full, Claim::None), Admitted::Yes)
    }

    fn take(self: &Arc<Self>, total: usize) -> Option<PlaceGuard> {
        let below_total = |open| (open < total).then_some(open + 1);
        self.open.fetch_update(Relaxed, Relaxed, below_total).ok()?;
        Some(PlaceGuard { places: self.clone(), kind: Kind::Taken(None) })
    }

    fn sit(&self, key: ClientKey, per_client: usize, seat: &Arc<Seat>, claim: Claim) -> bool {
        let mut shard = self.shard(key).lock();
        let Some(house) = shard.get_mut(&key) else {
            shard.insert(key, vec![seat.clone()]);
            return true;
        };
        let has_room = house.len() < per_client || (claim != Claim::None && turn_one_out(house));
        if has_room {
            house.push(seat.clone());
        }
        has_room
    }

    fn turn_away(self: &Arc<Self>, denial: Denial, claim: Claim) -> Admitted {
        let is_known = claim == Claim::Known;
        let told = self.over[usize::from(is_known)].fetch_update(Relaxed, Relaxed, |n| (n < OVER_MAX).then_some(n + 1));
        match told {
            Ok(_) => {
                let guard = PlaceGuard { places: self.clone(), kind: Kind::Over { is_known } };
                Admitted::OnlyToHear(denial, guard)
            }
            Err(_) => Admitted::No(denial),
        }
    }

    /// Who has made room for a newcomer sits there no more.
    fn leave(&self, key: ClientKey, seat: &Arc<Seat>) {
        let mut shard = self.shard(key).lock();
        let Some(house) = shard.get_mut(&key) else { return };
        if let Some(at) = house.iter().position(|other| Arc::ptr_eq(other, seat)) {
            house.remove(at);
        }
        if house.is_empty() {
            shard.remove(&key);
            if shard.is_empty() {
                shard.shrink_to_fit();
            }
        }
    }

    fn shard(&self, key: ClientKey) -> &Mutex<HashMap<ClientKey, House>> {
        // The hasher is seeded per process: strangers cannot choose addresses that share a shard.
        let at = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        &self.shards[at]
    }
}

/// Has one who is not proven leave; `false` if all are.
fn turn_one_out(house: &mut House) -> bool {
    // Whoever is proven between the choice and the word stays, and is not chosen again.
    while let Some(at) = victim(house) {
        if house[at].make_room() {
            house.remove(at);
            return true;
        }
    }
    false
}

/// Who leaves for a newcomer: of the unproven, those of the most numerous `Effort`, of equals the lower, and of these
/// the one that came first.
///
/// The newcomer may be a known device, and be the next to leave before it has said so. But only when at least a third of
/// all unproven seats came after it and have got exactly as far: of 256, at least 85 connections that said hello, and
/// keep the gate busy with their handshakes, in one round trip of the device's. Connecting alone, which costs nothing, is
/// worth nothing: the hello comes with the first packet, and then those who only connect are another kind. The oldest of
/// all would be no good choice: 256 connections a round trip that say nothing would keep the device out. Nor would a time
/// of grace: as many, always fresh, would leave nobody to turn out.
///
/// One look at each seat: at most as many as a client may have, and only when it has them all.
fn victim(house: &House) -> Option<usize> {
    let mut kinds = [(0, None); 3];
    for (at, seat) in house.iter().enumerate().filter(|(_, seat)| !seat.is_proven()) {
        let (count, first) = &mut kinds[seat.effort() as usize];
        *count += 1;
        first.get_or_insert(at);
    }
    // The last of equals is taken: the lower effort.
    kinds.into_iter().rev().max_by_key(|(count, _)| *count).and_then(|(_, first)| first)
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
    Taken(Option<(ClientKey, Arc<Seat>)>),
    /// Over a limit, and only told so.
    Over { is_known: bool },
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Over { is_known } => {
                self.places.over[usize::from(*is_known)].fetch_sub(1, Relaxed);
            }
            Kind::Taken(of) => {
                if let Some((key, seat)) = of {
                    self.places.leave(*key, seat);
                }
                self.places.open.fetch_sub(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::client::ClientAddr;
    use crate::exchange::Effort;

    fn places() -> Arc<Places> {
        Arc::new(Places::new(Denial::Connections, Denial::ConnectionsPerClient))
    }

    fn key(last: u8) -> ClientKey {
        ClientAddr::new([192, 0, 2, last].into()).key()
    }

    const LIMITS: PlaceLimits = PlaceLimits { total: 4, per_client: 2 };

    fn admit(places: &Arc<Places>, key: ClientKey, limits: PlaceLimits) -> Admitted {
        places.admit(key, limits, &Arc::default(), || Claim::None)
    }

    /// A house of `per_client` places at an address where somebody lives.
    struct Home {
        places: Arc<Places>,
        per_client: usize,
    }

    impl Home {
        fn new(per_client: usize) -> Self {
            Self { places: places(), per_client }
        }

        fn come(&self, effort: Effort) -> Option<(Arc<Seat>, PlaceGuard)> {
            let seat = Arc::new(Seat::default());
            seat.advance(effort);
            let limits = PlaceLimits { total: usize::MAX, per_client: self.per_client };
            match self.places.admit(key(1), limits, &seat, || Claim::Home) {
                Admitted::Yes(guard) => Some((seat, guard)),
                Admitted::OnlyToHear(..) | Admitted::No(_) => None,
            }
        }
    }

    fn is_out(seat: &Seat) -> bool {
        seat.turned_out().now_or_never().is_some()
    }

    #[test]
    fn a_client_at_its_limit_does_not_bar_its_neighbour() {
        let places = places();
        let seat = Arc::default();
        let held = [places.admit(key(1), LIMITS, &seat, || Claim::None), admit(&places, key(1), LIMITS)];
        assert!(held.iter().all(|admitted| matches!(admitted, Admitted::Yes(_))));
        let third = admit(&places, key(1), LIMITS);
        assert!(matches!(third, Admitted::OnlyToHear(Denial::ConnectionsPerClient, _)));
        assert!(!is_out(&seat), "nobody makes room where nobody lives");
        assert!(matches!(admit(&places, key(2), LIMITS), Admitted::Yes(_)));
        drop(held);
        assert!(matches!(admit(&places, key(1), LIMITS), Admitted::Yes(_)));
    }

    #[test]
    fn the_total_holds_and_everything_is_given_back() {
        let places = places();
        let held: Vec<_> = (0..4).map(|last| admit(&places, key(last), LIMITS)).collect();
        assert!(matches!(admit(&places, key(9), LIMITS), Admitted::OnlyToHear(Denial::Connections, _)));
        assert_eq!(places.open(), 4);
        drop(held);
        assert_eq!((places.open(), places.open_of(key(0))), (0, 0));
        assert!(places.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn a_place_may_be_named_later_and_counts_once() {
        let places = places();
        let name = || {
            let Admitted::Yes(unnamed) = places.admit_unnamed(4) else { panic!("there is room") };
            places.name(unnamed, key(1), 1, &Arc::default(), || Claim::None)
        };
        assert!(matches!(name(), Admitted::Yes(_)));
        let held = name();
        assert_eq!((places.open(), places.open_of(key(1))), (1, 1));
        assert!(matches!(name(), Admitted::OnlyToHear(Denial::ConnectionsPerClient, _)));
        drop(held);
        assert_eq!((places.open(), places.open_of(key(1))), (0, 0));
    }

    #[test]
    fn those_who_are_only_told_are_bounded_too_and_known_devices_apart_from_them() {
        let places = places();
        let none = PlaceLimits { total: 0, per_client: 1 };
        let told: Vec<_> = (0..OVER_MAX).map(|_| admit(&places, key(1), none)).collect();
        assert!(told.iter().all(|admitted| matches!(admitted, Admitted::OnlyToHear(..))));
        assert!(matches!(admit(&places, key(1), none), Admitted::No(Denial::Connections)));
        let known = places.admit(key(1), none, &Arc::default(), || Claim::Known);
        assert!(matches!(known, Admitted::OnlyToHear(Denial::Connections, _)));
        drop(told);
        assert!(matches!(admit(&places, key(1), none), Admitted::OnlyToHear(..)));
    }

    #[test]
    fn at_a_home_the_first_stranger_leaves_for_a_newcomer_and_nobody_known_does() {
        let home = Home::new(3);
        let [known, first, second] = [0; 3].map(|_| home.come(Effort::High).unwrap());
        known.0.prove();
        let newcomer = home.come(Effort::Low).unwrap();
        assert_eq!([&known, &first, &second, &newcomer].map(|(seat, _)| is_out(seat)), [false, true, false, false]);
        assert_eq!(home.places.open_of(key(1)), 3, "its place is the newcomer's");
        drop(first);
        assert_eq!((home.places.open_of(key(1)), home.places.open()), (3, 3), "and is given back once");
        [&second, &newcomer].iter().for_each(|(seat, _)| seat.prove());
        assert!(home.come(Effort::Low).is_none(), "all are known");
        drop((known, second, newcomer));
        assert_eq!((home.places.open_of(key(1)), home.places.open()), (0, 0));
        assert!(home.places.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn who_has_got_further_does_not_leave_for_a_flood_of_those_who_have_not() {
        let home = Home::new(9);
        let _idle: Vec<_> = (0..9).map(|_| home.come(Effort::High).unwrap()).collect();
        let (device, _place) = home.come(Effort::Low).unwrap();
        let mut flood = Vec::new();
        for connecting in 0..3 {
            flood.push(home.come(Effort::Low).unwrap());
            assert!(!is_out(&device), "{connecting} came after it");
        }
        for effort in [Effort::Medium, Effort::High] {
            device.advance(effort);
            flood.extend((0..1000).map(|_| home.come(Effort::Low).unwrap()));
            assert!(!is_out(&device), "{effort:?}");
        }
    }

    proptest! {
        /// Whatever strangers do: nobody known leaves, nobody has more than the limit, and a newcomer stays until as
        /// many as the bound says have come after it.
        #[test]
        fn a_newcomer_stays_for_a_while(
            per_client in 1usize..12,
            known in 0usize..12,
            before in proptest::collection::vec(0u8..3, 0..40),
            after in proptest::collection::vec(0u8..3, 0..40),
            effort in 0u8..3,
        ) {
            let effort_of = |n| [Effort::Low, Effort::Medium, Effort::High][usize::from(n)];
            let home = Home::new(per_client);
            let known: Vec<_> = (0..known.min(per_client - 1)).map(|_| home.come(Effort::High).unwrap()).collect();
            known.iter().for_each(|(seat, _)| seat.prove());
            let mut strangers: Vec<_> = before.iter().map(|n| home.come(effort_of(*n)).unwrap()).collect();
            let (device, place) = home.come(effort_of(effort)).unwrap();
            let third = (per_client - known.len()).div_ceil(3);
            let mut as_far = 0;
            for n in after {
                let newcomer = home.come(effort_of(n)).unwrap();
                prop_assert!(!is_out(&device) || as_far + 1 >= third, "{as_far} of {third}");
                as_far += usize::from(n == effort);
                strangers.push(newcomer);
                prop_assert!(home.places.open_of(key(1)) <= per_client);
            }
            prop_assert!(!known.iter().any(|(seat, _)| is_out(seat)));
            drop((known, strangers, place));
            prop_assert_eq!((home.places.open(), home.places.open_of(key(1))), (0, 0));
        }
    }
}
