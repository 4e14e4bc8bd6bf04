//! The half of the list that every request reads: networks to records, in shards, and which prefix lengths are in use.
//!
//! A look-up probes one map per prefix length in use and takes only that shard's read lock. Writers are told apart by
//! the list, which lets one of them in at a time.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use parking_lot::{Mutex, RwLock};

use super::{Ban, Cause, Escalation, Reason};
use crate::clock::Moment;

/// What is remembered of a network, in 56 bytes with its key. Times are signed microseconds since the start of the
/// gate: what the file remembers may have begun, or even ended, before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub since: i64,
    pub until: i64,
    pub reason: Option<Reason>,
    pub strikes: u8,
    pub cause: Cause,
    /// Its end has been counted.
    pub is_over: bool,
}

impl Record {
    pub fn is_active(&self, at: i64) -> bool {
        at < self.until
    }

    /// Strikes that good conduct has not taken back yet.
    pub fn strikes_left(&self, escalation: &Escalation, at: i64) -> u8 {
        escalation.left(self.strikes, span(self.until, at))
    }

    pub fn ban(self, network: IpNet) -> Ban {
        Ban {
            network,
            until: moment(self.until),
            lasts: span(self.since, self.until),
            strikes: self.strikes.into(),
            cause: self.cause,
            reason: self.reason,
        }
    }
}

/// `moment` as records keep it.
pub(super) fn stamp(moment: Moment) -> i64 {
    micros(moment.since(Moment::START))
}

/// The other way round; what was before the gate is its start.
fn moment(stamp: i64) -> Moment {
    Moment::after_start(span(0, stamp))
}

pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// From `since` to `until`; zero if that is backwards.
pub(super) fn span(since: i64, until: i64) -> Duration {
    Duration::from_micros(u64::try_from(until.saturating_sub(since)).unwrap_or(0))
}

#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Shard]>,
    in_use: PrefixLengths,
    hasher: RandomState,
}

/// On cache lines of its own, or readers of neighbours would slow each other down.
#[derive(Debug)]
#[repr(align(128))]
struct Shard(RwLock<HashMap<IpNet, Record, RandomState>>);

const SHARDS: usize = 64;

impl Table {
    pub fn new() -> Self {
        let hasher = RandomState::new();
        let shard = |_| Shard(RwLock::new(HashMap::with_hasher(hasher.clone())));
        Self { shards: (0..SHARDS).map(shard).collect(), in_use: PrefixLengths::default(), hasher }
    }

    /// Whether a network that covers `ip` is banned at `at`.
    pub fn is_banned(&self, ip: IpAddr, at: i64) -> bool {
        self.in_use.networks(ip).any(|network| {
            let shard = self.shard(&network).read();
            shard.get(&network).is_some_and(|record| record.is_active(at))
        })
    }

    /// The longest-lasting ban that covers `ip` at `at`; of two that end together, the wider one.
    pub fn find(&self, ip: IpAddr, at: i64) -> Option<(IpNet, Record)> {
        let covering = self.in_use.networks(ip).filter_map(|network| Some((network, self.get(&network)?)));
        covering.filter(|(_, record)| record.is_active(at)).max_by_key(|(_, record)| record.until)
    }

    pub fn get(&self, network: &IpNet) -> Option<Record> {
        self.shard(network).read().get(network).cloned()
    }

    /// Returns what was there before.
    pub fn insert(&self, network: IpNet, record: Record) -> Option<Record> {
        // Known before it is there: a reader in between probes in vain.
        let old = self.get(&network);
        if old.is_none() {
            self.in_use.add(&network);
        }
        self.shard(&network).write().insert(network, record);
        old
    }

    pub fn remove(&self, network: &IpNet) -> Option<Record> {
        let mut shard = self.shard(network).write();
        let old = shard.remove(network)?;
        // After an attack its memory is given back.
        if shard.len() < shard.capacity() / 8 {
            shard.shrink_to_fit();
        }
        drop(shard);
        self.in_use.subtract(network);
        Some(old)
    }

    /// Copies of all records, a shard's at a time.
    pub fn portions(&self) -> impl Iterator<Item = Vec<(IpNet, Record)>> {
        let copied = |(network, record): (&IpNet, &Record)| (*network, record.clone());
        self.shards.iter().map(move |shard| shard.0.read().iter().map(copied).collect())
    }

    fn shard(&self, network: &IpNet) -> &RwLock<HashMap<IpNet, Record, RandomState>> {
        // The maps go by the lowest and the highest bits of the same hash; a shard must not share those.
        let at = usize::try_from((self.hasher.hash_one(network) >> 32) % SHARDS as u64).unwrap_or(0);
        &self.shards[at].0
    }
}

/// How many networks there are of each prefix length. Readers see only which lengths there are, as one bit each.
#[derive(Debug, Default)]
struct PrefixLengths {
    counts: Mutex<HashMap<(bool, u8), usize>>,
    /// Bit n is prefix length n + 1: a /0 cannot be said.
    v4: AtomicU64,
    v6: [AtomicU64; 2],
}

impl PrefixLengths {
    fn add(&self, network: &IpNet) {
        let mut counts = self.counts.lock();
        *counts.entry(kind(network)).or_default() += 1;
        if let Some((word, bit)) = self.place(network) {
            word.fetch_or(bit, Ordering::Release);
        }
    }

    fn subtract(&self, network: &IpNet) {
        let mut counts = self.counts.lock();
        let Some(count) = counts.get_mut(&kind(network)) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&kind(network));
            if let Some((word, bit)) = self.place(network) {
                word.fetch_and(!bit, Ordering::Release);
            }
        }
    }

    fn place(&self, network: &IpNet) -> Option<(&AtomicU64, u64)> {
        let at = network.prefix_len().checked_sub(1)?;
        let word = match network {
            IpNet::V4(_) => &self.v4,
            IpNet::V6(_) => &self.v6[usize::from(at / 64)],
        };
        Some((word, 1 << (at % 64)))
    }

    /// The networks around `ip` that may be banned, narrowest first, where most bans are.
    fn networks(&self, ip: IpAddr) -> impl Iterator<Item = IpNet> {
        let mut left = match ip {
            IpAddr::V4(_) => self.v4.load(Ordering::Acquire).into(),
            IpAddr::V6(_) => {
                let [low, high] = self.v6.each_ref().map(|word| u128::from(word.load(Ordering::Acquire)));
                high << 64 | low
            }
        };
        std::iter::from_fn(move || {
            let prefix = u8::try_from(u128::BITS - left.leading_zeros()).ok().filter(|prefix| *prefix > 0)?;
            left &= !(1 << (prefix - 1));
            around(ip, prefix)
        })
    }
}

fn kind(network: &IpNet) -> (bool, u8) {
    (network.addr().is_ipv6(), network.prefix_len())
}

fn around(ip: IpAddr, prefix: u8) -> Option<IpNet> {
    match ip {
        IpAddr::V4(ip) => Ipv4Net::new(ip, prefix).ok().map(|network| network.trunc().into()),
        IpAddr::V6(ip) => Ipv6Net::new(ip, prefix).ok().map(|network| network.trunc().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_with_its_key_takes_56_bytes() {
        assert_eq!(size_of::<(IpNet, Record)>(), 56);
    }

    #[test]
    fn only_prefix_lengths_in_use_are_probed() {
        let lengths = PrefixLengths::default();
        let networks = ["192.0.2.0/24", "192.0.2.1/32", "10.0.0.0/8", "2001:db8::/64", "2001:db8::1/128", "8000::/1"]
            .map(|network| network.parse::<IpNet>().unwrap());
        networks.iter().for_each(|network| lengths.add(network));
        lengths.add(&networks[0]);
        lengths.subtract(&networks[0]);
        let around = |ip: &str| -> Vec<String> {
            lengths.networks(ip.parse().unwrap()).map(|network| network.to_string()).collect()
        };
        assert_eq!(around("198.51.100.7"), ["198.51.100.7/32", "198.51.100.0/24", "198.0.0.0/8"]);
        assert_eq!(around("2001:db8:1::9"), ["2001:db8:1::9/128", "2001:db8:1::/64", "::/1"]);
        networks.iter().for_each(|network| lengths.subtract(network));
        assert!(around("198.51.100.7").is_empty() && around("2001:db8::1").is_empty());
        assert!(lengths.counts.lock().is_empty());
    }

    #[test]
    fn nobody_is_everybody() {
        let table = Table::new();
        let record =
            Record { since: 0, until: i64::MAX, reason: None, strikes: 1, cause: Cause::Login, is_over: false };
        table.insert("0.0.0.0/0".parse().unwrap(), record.clone());
        table.insert("::/0".parse().unwrap(), record);
        assert!(!table.is_banned("192.0.2.1".parse().unwrap(), 0));
        assert!(!table.is_banned("2001:db8::1".parse().unwrap(), 0));
    }
}
