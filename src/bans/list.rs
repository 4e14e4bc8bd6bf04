//! The bans in memory: found without a global lock, changed one at a time, never more than the capacity.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;

use super::pending::Pending;
use super::table::{Record, Table, micros, stamp};
use super::{Ban, Cause, Escalation, LONGEST, Reason, RefusedBan, SHORTEST};
use crate::clock::Moment;

/// All bans, and the strikes of networks that were banned lately; shared by an `Arc`, about 130 bytes each.
///
/// When it is full, what is over makes room first, then the automatic ban that would end first, the operator's last.
#[derive(Debug)]
pub struct BanList {
    table: Table,
    order: Mutex<Order>,
    pending: Pending,
    capacity: usize,
    evictions: AtomicU64,
    expirations: AtomicU64,
}

/// Records by their end. Its lock is held by whoever changes the list.
#[derive(Debug, Default)]
struct Order {
    automatic: BTreeSet<End>,
    operators: BTreeSet<End>,
    /// Records whose end has been counted.
    over: usize,
}

/// In 26 bytes rather than 32: the end as bytes that sort as the number does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    until: [u8; 8],
    network: IpNet,
}

impl BanList {
    /// An empty list of at most `capacity` networks, and of one at least.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            table: Table::new(),
            order: Mutex::default(),
            pending: Pending::new(capacity.div_ceil(4)),
            capacity,
            evictions: AtomicU64::new(0),
            expirations: AtomicU64::new(0),
        }
    }

    /// Whether `ip`, in canonical form, is banned. Takes one shard's read lock per prefix length in use.
    pub fn is_banned(&self, ip: IpAddr, now: Moment) -> bool {
        self.table.is_banned(ip, stamp(now))
    }

    /// The ban of `ip`, in canonical form, that ends last; of two that end together, the wider one.
    pub fn find(&self, ip: IpAddr, now: Moment) -> Option<Ban> {
        self.table.find(ip, stamp(now)).map(|(network, record)| record.ban(network))
    }

    /// Bans `network` for longer than the last time. Each call counts; none shortens a ban that holds.
    pub fn strike(&self, network: IpNet, escalation: &Escalation, now: Moment) -> Ban {
        let (network, at) = (normal(network), stamp(now));
        let mut order = self.order.lock();
        let record = struck(self.table.get(&network), escalation, at);
        self.put(&mut order, network, record.clone(), at);
        record.ban(network)
    }

    /// Bans `network` by the operator's word, which replaces what held before; strikes stay.
    pub fn add(&self, network: IpNet, lasts: Duration, reason: Option<Reason>, now: Moment) -> Result<Ban, RefusedBan> {
        let (network, at) = (normal(network), stamp(now));
        if network.prefix_len() == 0 {
            return Err(RefusedBan::Everybody);
        }
        if !(SHORTEST..=LONGEST).contains(&lasts) {
            return Err(RefusedBan::Duration);
        }
        let mut order = self.order.lock();
        let strikes = self.table.get(&network).map_or(0, |old| old.strikes);
        let until = at.saturating_add(micros(lasts));
        let record = Record { since: at, until, reason, strikes, cause: Cause::Operator, is_over: false };
        self.put(&mut order, network, record.clone(), at);
        Ok(record.ban(network))
    }

    /// Lifts the ban of exactly this network and forgets its strikes; says whether a ban was in force.
    pub fn remove(&self, network: IpNet, now: Moment) -> bool {
        let mut order = self.order.lock();
        self.drop_record(&mut order, &normal(network), stamp(now)).is_some_and(|old| old.is_active(stamp(now)))
    }

    /// The bans in force, those that end first at the front.
    pub fn list(&self, now: Moment) -> Vec<Ban> {
        let records = self.records().into_iter().filter(|(_, record)| record.is_active(stamp(now)));
        let mut bans: Vec<_> = records.map(|(network, record)| record.ban(network)).collect();
        bans.sort_unstable_by_key(|ban| (ban.until, ban.network));
        bans
    }

    /// Networks that are remembered, those included that are only for their strikes.
    pub fn len(&self) -> usize {
        self.order.lock().len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bans in force, as of the last [`sweep`](Self::sweep).
    pub fn active(&self) -> usize {
        let order = self.order.lock();
        order.len().saturating_sub(order.over)
    }

    /// The most networks that are remembered.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bans in force that made room for newer ones.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    /// Bans that have ended by themselves. Each is counted once, when it is noticed: by a sweep at the latest.
    pub fn expirations(&self) -> u64 {
        self.expirations.load(Relaxed)
    }

    /// Counts bans that have ended and forgets networks whose strikes are all taken back. To be called every minute or
    /// so.
    pub fn sweep(&self, escalation: &Escalation, now: Moment) {
        let at = stamp(now);
        let mut after = None;
        loop {
            // A few at a time: those who ban somebody wait for this lock.
            let mut order = self.order.lock();
            let ended = order.ended(after, at);
            let Some(last) = ended.last() else { return };
            after = Some(*last);
            ended.iter().for_each(|end| self.look_again(&mut order, end.network, escalation, at));
        }
    }

    fn look_again(&self, order: &mut Order, network: IpNet, escalation: &Escalation, at: i64) {
        let Some(record) = self.table.get(&network) else { return };
        if record.strikes_left(escalation, at) == 0 {
            self.drop_record(order, &network, at);
        } else if !record.is_over {
            self.expirations.fetch_add(1, Relaxed);
            order.over += 1;
            self.table.insert(network, Record { is_over: true, ..record });
        }
    }

    /// Takes a record back from the file; one that is there already is newer. `false` if there was no room.
    pub(super) fn restore(&self, network: IpNet, record: Record, at: i64) -> bool {
        let mut order = self.order.lock();
        if self.table.get(&network).is_some() {
            return true;
        }
        order.add(network, &record);
        self.table.insert(network, record);
        if order.len() > self.capacity {
            self.evict(&mut order, at);
        }
        self.table.get(&network).is_some()
    }

    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    pub(super) fn record(&self, network: &IpNet) -> Option<Record> {
        self.table.get(network)
    }

    /// A copy of everything as it is at one moment.
    pub(super) fn records(&self) -> Vec<(IpNet, Record)> {
        // Nothing moves meanwhile: a few milliseconds for 100,000.
        let order = self.order.lock();
        let mut records = Vec::with_capacity(order.len());
        records.extend(self.table.portions().flatten());
        records
    }

    /// A copy of everything, a little at a time, for whom nobody waits: what changes meanwhile may be missing, and is
    /// pending.
    pub(super) fn portions(&self) -> impl Iterator<Item = Vec<(IpNet, Record)>> {
        self.table.portions()
    }

    fn put(&self, order: &mut Order, network: IpNet, record: Record, at: i64) {
        match self.table.get(&network) {
            Some(old) => {
                order.subtract(network, &old);
                self.count_end(&old, at);
            }
            None if order.len() >= self.capacity => self.evict(order, at),
            None => {}
        }
        order.add(network, &record);
        self.table.insert(network, record);
        self.pending.note(network);
    }

    fn evict(&self, order: &mut Order, at: i64) {
        let Some(network) = order.dispensable(at) else { return };
        if self.drop_record(order, &network, at).is_some_and(|old| old.is_active(at)) {
            self.evictions.fetch_add(1, Relaxed);
        }
    }

    fn drop_record(&self, order: &mut Order, network: &IpNet, at: i64) -> Option<Record> {
        let old = self.table.remove(network)?;
        order.subtract(*network, &old);
        self.count_end(&old, at);
        self.pending.note(*network);
        Some(old)
    }

    /// A record that goes before any sweep has seen that it is over.
    fn count_end(&self, old: &Record, at: i64) {
        if !old.is_active(at) && !old.is_over {
            self.expirations.fetch_add(1, Relaxed);
        }
    }
}

/// What a strike makes of what was there.
fn struck(old: Option<Record>, escalation: &Escalation, at: i64) -> Record {
    let strikes = old.as_ref().map_or(0, |old| old.strikes_left(escalation, at));
    let until = at.saturating_add(micros(escalation.lasts(strikes)));
    let strikes = Escalation::next(strikes);
    match old.filter(|old| old.is_active(at)) {
        Some(old) if old.until >= until => Record { strikes, ..old },
        old => {
            let since = old.map_or(at, |old| old.since);
            // A ban that is lengthened again and again is still no longer than the longest.
            let since = since.max(until.saturating_sub(micros(LONGEST)));
            Record { since, until, reason: None, strikes, cause: Cause::Login, is_over: false }
        }
    }
}

/// Without host bits, and IPv4 as IPv4, as clients are looked up.
fn normal(network: IpNet) -> IpNet {
    let network = network.trunc();
    let (IpAddr::V6(v6), Some(prefix)) = (network.addr(), network.prefix_len().checked_sub(96)) else { return network };
    v6.to_ipv4_mapped().and_then(|v4| Ipv4Net::new(v4, prefix).ok()).map_or(network, IpNet::from)
}

impl Order {
    fn len(&self) -> usize {
        self.automatic.len() + self.operators.len()
    }

    fn of(&mut self, cause: Cause) -> &mut BTreeSet<End> {
        match cause {
            Cause::Login => &mut self.automatic,
            Cause::Operator => &mut self.operators,
        }
    }

    fn add(&mut self, network: IpNet, record: &Record) {
        self.of(record.cause).insert(End::new(record.until, network));
        self.over += usize::from(record.is_over);
    }

    fn subtract(&mut self, network: IpNet, record: &Record) {
        self.of(record.cause).remove(&End::new(record.until, network));
        self.over = self.over.saturating_sub(record.is_over.into());
    }

    /// Who makes room for another.
    fn dispensable(&self, at: i64) -> Option<IpNet> {
        let (automatic, operators) = (self.automatic.first(), self.operators.first());
        let is_over = |end: &&End| end.until() <= at;
        let over = automatic.filter(is_over).or(operators.filter(is_over));
        over.or(automatic).or(operators).map(|end| end.network)
    }

    /// The next few records behind `after` that have ended at `at`.
    fn ended(&self, after: Option<End>, at: i64) -> Vec<End> {
        let behind = |set: &BTreeSet<End>| -> Vec<End> {
            let behind = set.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
            behind.take_while(|end| end.until() <= at).take(AT_ONCE).copied().collect()
        };
        let mut ended = behind(&self.automatic);
        ended.extend(behind(&self.operators));
        ended.sort_unstable();
        ended.truncate(AT_ONCE);
        ended
    }
}

impl End {
    fn new(until: i64, network: IpNet) -> Self {
        // With the sign turned over, negative numbers sort before the others.
        Self { until: (until ^ i64::MIN).to_be_bytes(), network }
    }

    fn until(&self) -> i64 {
        i64::from_be_bytes(self.until) ^ i64::MIN
    }
}

/// How many records a sweep looks at before it lets others have the lock.
const AT_ONCE: usize = 256;
