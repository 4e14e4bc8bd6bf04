//! A record as the file holds it: fixed fields, times as whole seconds of the wall clock.
//!
//! A key is 4 or 6, the address, and the prefix length; so rows sort by network. A value begins with the version of its
//! form. Reading is strict: what this version would not have written is not guessed at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::table::{Record, micros, span};
use super::{Cause, LONGEST, MOST_STRIKES, Reason};
use crate::clock::{Clock, Moment};

/// Where the wall clock stood when the gate started, in microseconds since 1970, by what it shows now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WallClock(i64);

impl WallClock {
    pub fn read(clock: &Clock) -> Self {
        let start = clock.wall(Moment::START);
        let since_1970 = start.duration_since(std::time::UNIX_EPOCH);
        Self(since_1970.map_or_else(|before| -micros(before.duration()), micros))
    }

    #[cfg(test)]
    pub fn in_1970() -> Self {
        Self(0)
    }

    /// Whether it has been set since, rather than corrected a little.
    pub fn has_jumped(self, earlier: Self) -> bool {
        self.0.abs_diff(earlier.0) > JUMP_SECONDS.unsigned_abs() * 1_000_000
    }

    fn unix(self, stamp: i64) -> i64 {
        self.0.saturating_add(stamp).saturating_add(500_000).div_euclid(1_000_000)
    }

    fn stamp(self, unix: i64) -> i64 {
        unix.saturating_mul(1_000_000).saturating_sub(self.0)
    }
}

const JUMP_SECONDS: i64 = 5;

/// The form of values that is written, and the only one that is read.
const VERSION: u8 = 1;

/// Version, cause, strikes, two times.
const FIXED_BYTES: usize = 3 + 8 + 8;

/// A row that has been read, times still as they are in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub network: IpNet,
    since: i64,
    until: i64,
    strikes: u8,
    cause: Cause,
    reason: Option<Reason>,
}

impl Row {
    /// `None` if this is none of ours.
    pub fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let network = network(key)?;
        let (fixed, reason) = value.split_first_chunk::<FIXED_BYTES>()?;
        let [VERSION, cause, strikes, times @ ..] = fixed else { return None };
        let (since, until) = times.split_first_chunk::<8>()?;
        let (since, until) = (i64::from_le_bytes(*since), i64::from_le_bytes(until.try_into().ok()?));
        let reason = if reason.is_empty() { None } else { Some(Reason::new(std::str::from_utf8(reason).ok()?).ok()?) };
        let row = Self { network, since, until, strikes: *strikes, cause: cause_of(*cause)?, reason };
        (row.since <= row.until && row.strikes <= MOST_STRIKES).then_some(row)
    }

    /// What is left of it at `at`. However wrong the wall clock, that is never more than the ban has lasted in all, nor
    /// than the longest.
    pub fn record(self, wall: WallClock, at: i64) -> Record {
        let Self { since, until, strikes, cause, reason, .. } = self;
        let lasts = micros(span(wall.stamp(since), wall.stamp(until)).min(LONGEST));
        let until = wall.stamp(until).min(at.saturating_add(lasts));
        let is_over = until <= at;
        Record { since: until.saturating_sub(lasts), until, reason, strikes, cause, is_over }
    }
}

pub(super) fn key(network: &IpNet) -> Vec<u8> {
    let mut key = match network.addr() {
        IpAddr::V4(v4) => [&[4], v4.octets().as_slice()].concat(),
        IpAddr::V6(v6) => [&[6], v6.octets().as_slice()].concat(),
    };
    key.push(network.prefix_len());
    key
}

pub(super) fn value(record: &Record, wall: WallClock) -> Vec<u8> {
    let mut value = vec![VERSION, code(record.cause), record.strikes];
    value.extend(wall.unix(record.since).to_le_bytes());
    value.extend(wall.unix(record.until).to_le_bytes());
    value.extend(record.reason.iter().flat_map(|reason| reason.as_str().bytes()));
    value
}

fn network(key: &[u8]) -> Option<IpNet> {
    let (prefix, address) = key.split_last()?;
    let address = match address {
        [4, octets @ ..] => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)),
        [6, octets @ ..] => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)),
        _ => return None,
    };
    let network = IpNet::new(address, *prefix).ok()?;
    (network.trunc() == network).then_some(network)
}

fn code(cause: Cause) -> u8 {
    match cause {
        Cause::Login => 1,
        Cause::Operator => 2,
    }
}

fn cause_of(code: u8) -> Option<Cause> {
    [Cause::Login, Cause::Operator].into_iter().find(|cause| self::code(*cause) == code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 24 * 3600 * SECOND;
    const WALL: WallClock = WallClock(1_800_000_000 * SECOND);

    fn record(since: i64, until: i64) -> Record {
        let reason = Some(Reason::new("scans für Kameras").unwrap());
        Record { since, until, reason, strikes: 3, cause: Cause::Operator, is_over: false }
    }

    fn row(record: &Record) -> Row {
        let network: IpNet = "2001:db8::/48".parse().unwrap();
        Row::read(&key(&network), &value(record, WALL)).unwrap()
    }

    #[test]
    fn a_row_comes_back_as_it_was_a_little_later() {
        for network in ["192.0.2.1/32", "10.0.0.0/8", "2001:db8::/64", "2001:db8::1/128", "8000::/1"] {
            let network: IpNet = network.parse().unwrap();
            let record = record(-7 * SECOND, 60 * SECOND);
            let row = Row::read(&key(&network), &value(&record, WALL)).unwrap();
            assert_eq!(row.network, network);
            assert_eq!(row.record(WALL, 10 * SECOND), record);
        }
    }

    #[test]
    fn a_restart_keeps_the_end_on_the_wall_clock() {
        // The next process starts 100 seconds after the first.
        let next = WallClock(WALL.0 + 100 * SECOND);
        let restored = row(&record(10 * SECOND, 400 * SECOND)).record(next, 2 * SECOND);
        assert_eq!((restored.since, restored.until), (-90 * SECOND, 300 * SECOND));
        let over = row(&record(10 * SECOND, 50 * SECOND)).record(next, 2 * SECOND);
        assert_eq!((over.until, over.is_over, over.strikes), (-50 * SECOND, true, 3));
    }

    #[test]
    fn a_wrong_clock_bans_nobody_longer_than_before() {
        let in_1970 = WallClock::in_1970();
        let restored = row(&record(0, DAY)).record(in_1970, 5 * SECOND);
        assert_eq!((restored.since, restored.until), (5 * SECOND, DAY + 5 * SECOND));
        let longest = micros(LONGEST);
        let endless = row(&record(0, 4000 * DAY)).record(in_1970, 0);
        assert_eq!((endless.since, endless.until), (0, longest));
        let in_2100 = WallClock(4_100_000_000 * SECOND);
        assert!(row(&record(0, DAY)).record(in_2100, 0).is_over);
    }

    #[test]
    fn only_steps_of_the_clock_are_jumps() {
        for (step, jumped) in [(0, false), (5 * SECOND, false), (5 * SECOND + 1, true), (-6 * SECOND, true)] {
            assert_eq!(WallClock(WALL.0 + step).has_jumped(WALL), jumped, "{step}");
        }
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        let good_key = key(&"192.0.2.0/24".parse().unwrap());
        let good = value(&record(0, SECOND), WALL);
        assert!(Row::read(&good_key, &good).is_some());
        let with = |at: usize, byte: u8| {
            let mut value = good.clone();
            value[at] = byte;
            value
        };
        let backwards = value(&record(2 * SECOND, SECOND), WALL);
        let mut control = good.clone();
        control.push(7);
        for value in [with(0, 2), with(1, 0), with(1, 9), with(2, 33), good[..18].to_vec(), vec![], backwards, control]
        {
            assert_eq!(Row::read(&good_key, &value), None, "{value:?}");
        }
        for key in [&[][..], &[4], &[4, 1, 2, 3, 4], &[4, 1, 2, 3, 4, 24], &[4, 1, 2, 3, 0, 33], &[5, 1, 2, 3, 0, 24]] {
            assert_eq!(Row::read(key, &good), None, "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_rows_never_panic(
            key in proptest::collection::vec(any::<u8>(), 0..20),
            mut value in proptest::collection::vec(any::<u8>(), 0..40),
            wall in any::<i64>(),
            at in any::<i64>(),
        ) {
            if let Some(version) = value.first_mut() {
                *version = VERSION;
            }
            for key in [key.as_slice(), &[4, 192, 0, 2, 1, 32]] {
                if let Some(row) = Row::read(key, &value) {
                    let record = row.record(WallClock(wall), at);
                    prop_assert!(span(record.since, record.until) <= LONGEST);
                    prop_assert!(span(at, record.until) <= LONGEST);
                }
            }
        }
    }
}
