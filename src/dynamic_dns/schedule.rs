//! When a name's records are looked at, and when they are set: pure.
//!
//! Only changes are sent. What the zone's own servers say is asked at the start and twice a day, and what somebody else
//! has changed is repaired. A provider that refuses is left alone for longer each time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::dns::Addresses;

/// What is known of one name's records.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// What the records hold, as far as is known.
    records: Addresses,
    /// When the zone's servers are asked next.
    compare_at: Moment,
    /// Nothing is done before.
    not_before: Moment,
    /// Failures since the last success.
    failures: u32,
    error: Option<String>,
    last_change: Option<Moment>,
    /// Of the last hour, at most [`CHANGES`].
    changes: VecDeque<Moment>,
}

/// What is to be done for a name now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Ask the zone's servers what they answer.
    Compare,
    /// Set these addresses, and leave alone what is `None`.
    Point(Addresses),
}

impl Schedule {
    /// What to do if the home has these addresses; a family that is not known now is left alone.
    pub fn step(&self, home: Addresses, now: Moment) -> Step {
        if home == Addresses::default() || now < self.not_before {
            return Step::Nothing;
        }
        if now >= self.compare_at {
            return Step::Compare;
        }
        let missing = Addresses {
            ipv4: home.ipv4.filter(|_| home.ipv4 != self.records.ipv4),
            ipv6: home.ipv6.filter(|_| home.ipv6 != self.records.ipv6),
        };
        if missing == Addresses::default() { Step::Nothing } else { Step::Point(missing) }
    }

    /// The zone's servers have answered, or could not be asked (`None`): then what was last sent counts.
    pub fn compared(&mut self, found: Option<Addresses>, now: Moment, random: u8) {
        self.records = found.unwrap_or(self.records);
        self.compare_at = now + spread(COMPARE, random);
    }

    /// The provider has set these addresses. Returns whether that was one change too many for this hour.
    pub fn pointed(&mut self, sent: Addresses, now: Moment, random: u8) -> bool {
        self.records.ipv4 = sent.ipv4.or(self.records.ipv4);
        self.records.ipv6 = sent.ipv6.or(self.records.ipv6);
        self.compare_at = now + spread(COMPARE, random);
        self.failures = 0;
        self.error = None;
        self.last_change = Some(now);
        self.changes.retain(|change| now.since(*change) < HOUR);
        self.changes.push_back(now);
        let is_too_often = self.changes.len() >= CHANGES;
        if let Some(oldest) = self.changes.front().filter(|_| is_too_often) {
            self.not_before = *oldest + HOUR;
        }
        is_too_often
    }

    /// The provider has not; `interval` is the time between two looks at the home's addresses. Returns whether it says
    /// something new.
    pub fn failed(&mut self, error: String, interval: Duration, now: Moment, random: u8) -> bool {
        let doubled = interval.max(MINUTE).saturating_mul(1 << self.failures.min(DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + spread(doubled.min(HOUR), random);
        let is_new = self.error.as_ref() != Some(&error);
        self.error = Some(error);
        is_new
    }

    /// The operator has changed something: whatever went wrong may be right now, and the zone may be another.
    pub fn begin_anew(&mut self) {
        self.not_before = Moment::START;
        self.compare_at = Moment::START;
        self.failures = 0;
    }

    /// When something is to be done without a change of address.
    pub fn due(&self) -> Moment {
        if self.error.is_some() { self.not_before } else { self.compare_at.max(self.not_before) }
    }

    pub fn records(&self) -> Addresses {
        self.records
    }

    pub fn last_change(&self) -> Option<Moment> {
        self.last_change
    }

    /// What the provider said last, and when it is asked again.
    pub fn trouble(&self) -> Option<(&str, Moment)> {
        Some((self.error.as_deref()?, self.not_before))
    }
}

/// Up to a tenth less than `span`, so that homes that have started together do not ask together. Never more: what is
/// promised within a time comes within it.
pub(super) fn spread(span: Duration, random: u8) -> Duration {
    span - span / 10 * u32::from(random) / 255
}

/// The time between two looks at the home's addresses, after so many in a row that have found none. After a power cut the
/// gate is up before the router is, and that is when addresses change: then it looks again soon, and less and less so.
pub(super) fn pause(interval: Duration, in_vain: u32, random: u8) -> Duration {
    let soon = in_vain.checked_sub(1).map(|doublings| SOON.saturating_mul(1 << doublings.min(DOUBLINGS)));
    spread(soon.map_or(interval, |soon| soon.min(interval)), random)
}

/// How often the zone's servers are asked whether somebody else has changed a record.
const COMPARE: Duration = Duration::from_secs(12 * 3600);
/// Changes of one name in an hour. Providers end an account for less; a home whose address changes so often is better
/// served late.
const CHANGES: usize = 12;
const MINUTE: Duration = Duration::from_secs(60);
/// The longest wait after a failure.
const HOUR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(10);
/// From a minute beyond an hour.
const DOUBLINGS: u32 = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    fn v4(last: u8) -> Addresses {
        Addresses { ipv4: Some([203, 0, 113, last].into()), ipv6: None }
    }

    fn both(last: u8) -> Addresses {
        Addresses { ipv6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)].into()), ..v4(last) }
    }

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    /// A name whose records hold `records` at second 0.
    fn settled(records: Addresses) -> Schedule {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.step(records, at(0)), Step::Compare);
        schedule.compared(Some(records), at(0), 0);
        schedule
    }

    #[test]
    fn the_zone_is_asked_first_and_believed() {
        let schedule = settled(both(1));
        assert_eq!(schedule.step(both(1), at(0)), Step::Nothing);
        assert_eq!(schedule.step(both(2), at(0)), Step::Point(both(2)));
        assert_eq!(schedule.step(v4(2), at(0)), Step::Point(v4(2)));
    }

    #[test]
    fn a_zone_that_cannot_be_asked_costs_one_update() {
        let mut schedule = Schedule::default();
        schedule.compared(None, at(0), 0);
        assert_eq!(schedule.step(both(1), at(0)), Step::Point(both(1)));
        schedule.pointed(both(1), at(0), 0);
        assert_eq!(schedule.step(both(1), at(300)), Step::Nothing);
    }

    #[test]
    fn only_the_family_that_has_changed_is_sent() {
        let schedule = settled(both(1));
        let home = Addresses { ipv6: both(2).ipv6, ..both(1) };
        assert_eq!(schedule.step(home, at(1)), Step::Point(Addresses { ipv4: None, ..home }));
    }

    #[test]
    fn a_family_that_is_gone_is_left_alone() {
        let schedule = settled(both(1));
        assert_eq!(schedule.step(v4(1), at(1)), Step::Nothing);
        assert_eq!(schedule.step(Addresses::default(), at(13 * 3600)), Step::Nothing);
    }

    #[test]
    fn twice_a_day_the_zone_is_asked_and_repaired() {
        let mut schedule = settled(v4(1));
        assert_eq!(schedule.step(v4(1), at(12 * 3600 - 1)), Step::Nothing);
        assert_eq!(schedule.due(), at(12 * 3600));
        assert_eq!(schedule.step(v4(1), at(12 * 3600)), Step::Compare);
        schedule.compared(Some(v4(9)), at(12 * 3600), 0);
        assert_eq!(schedule.step(v4(1), at(12 * 3600)), Step::Point(v4(1)));
        // Could not be asked: what was sent counts.
        let mut schedule = settled(v4(1));
        schedule.compared(None, at(12 * 3600), 0);
        assert_eq!(schedule.step(v4(1), at(12 * 3600)), Step::Nothing);
    }

    #[test]
    fn a_provider_that_fails_is_asked_less_and_less() {
        let mut schedule = settled(v4(1));
        let (mut now, mut waits) = (at(0), Vec::new());
        for _ in 0..6 {
            assert_eq!(schedule.step(v4(2), now), Step::Point(v4(2)));
            schedule.failed("no".into(), INTERVAL, now, 0);
            waits.push(now.until(schedule.due()).as_secs());
            assert_eq!(schedule.step(v4(3), schedule.due() - Duration::from_secs(1)), Step::Nothing);
            now = schedule.due();
        }
        assert_eq!(waits, [300, 600, 1200, 2400, 3600, 3600]);
        schedule.pointed(v4(2), now, 0);
        schedule.failed("no".into(), Duration::from_secs(10), now, 0);
        assert_eq!(now.until(schedule.due()).as_secs(), 60);
    }

    #[test]
    fn each_error_is_new_once() {
        let mut schedule = settled(v4(1));
        let mut fail = |error: &str| schedule.failed(error.into(), INTERVAL, at(0), 0);
        assert!(fail("a") && !fail("a") && fail("b") && !fail("b"));
        schedule.pointed(v4(1), at(1), 0);
        assert!(schedule.trouble().is_none() && schedule.failed("b".into(), INTERVAL, at(2), 0));
    }

    #[test]
    fn what_the_operator_changes_ends_the_waiting() {
        let mut schedule = settled(v4(1));
        schedule.failed("token".into(), INTERVAL, at(0), 0);
        schedule.begin_anew();
        assert_eq!(schedule.step(v4(2), at(1)), Step::Compare);
        schedule.compared(None, at(1), 0);
        assert_eq!(schedule.step(v4(2), at(1)), Step::Point(v4(2)));
    }

    #[test]
    fn waiting_is_spread_downwards() {
        assert_eq!(spread(INTERVAL, 0), INTERVAL);
        assert_eq!(spread(INTERVAL, 255), INTERVAL * 9 / 10);
        assert_eq!(spread(Duration::ZERO, 255), Duration::ZERO);
    }

    #[test]
    fn a_home_without_address_looks_again_soon() {
        let waits = [0, 1, 2, 3, 5, 6, 99].map(|in_vain| pause(INTERVAL, in_vain, 0).as_secs());
        assert_eq!(waits, [300, 10, 20, 40, 160, 300, 300]);
        assert_eq!(pause(Duration::from_secs(5), 1, 0).as_secs(), 5);
    }

    /// What a gate would do for the home's addresses, a look at each; returns what was sent, and when.
    fn play(homes: &[u8], every: Duration, refuses: impl Fn(usize) -> bool) -> Vec<(Addresses, Moment)> {
        let (mut schedule, mut sent, mut tries) = (settled(both(0)), Vec::new(), 0);
        for (look, home) in homes.iter().enumerate() {
            let now = at(look as u64 * every.as_secs());
            if schedule.step(both(*home), now) == Step::Compare {
                schedule.compared(Some(schedule.records()), now, 0);
            }
            if let Step::Point(addresses) = schedule.step(both(*home), now) {
                tries += 1;
                if refuses(tries) {
                    schedule.failed("no".into(), every, now, 7);
                } else {
                    sent.push((addresses, now));
                    schedule.pointed(addresses, now, 7);
                }
            }
        }
        sent
    }

    proptest! {
        #[test]
        fn an_unchanged_address_sends_nothing(looks in 1_usize..600) {
            prop_assert!(play(&vec![0; looks], INTERVAL, |_| false).is_empty());
        }

        /// As long as it does not change more often than twelve times an hour.
        #[test]
        fn each_change_sends_exactly_one_update(homes in proptest::collection::vec(0_u8..4, 1..200)) {
            let slow: Vec<u8> = homes.iter().flat_map(|home| [*home; 3]).collect();
            let changes = std::iter::once(&0).chain(&homes).zip(&homes).filter(|(before, after)| before != after);
            let sent: Vec<_> = play(&slow, INTERVAL, |_| false).into_iter().map(|(addresses, _)| addresses).collect();
            prop_assert_eq!(sent, changes.map(|(_, after)| both(*after)).collect::<Vec<_>>());
        }

        /// However fast an address swings, and however the provider fails.
        #[test]
        fn no_hour_has_more_than_twelve_updates(
            homes in proptest::collection::vec(0_u8..3, 1..400),
            refused in proptest::collection::vec(any::<bool>(), 64),
        ) {
            let sent = play(&homes, MINUTE, |tries| refused[tries % refused.len()]);
            for (index, (_, first)) in sent.iter().enumerate() {
                let in_hour = sent[index..].iter().filter(|(_, moment)| moment.since(*first) < HOUR).count();
                prop_assert!(in_hour <= CHANGES);
            }
        }

        #[test]
        fn the_last_address_arrives_in_the_end(homes in proptest::collection::vec(0_u8..3, 1..100), last in 1_u8..3) {
            let mut homes = homes;
            homes.extend([last; 40]);
            let sent = play(&homes, INTERVAL, |tries| tries % 3 == 1);
            prop_assert!(sent.last().is_some_and(|(addresses, _)| *addresses == both(last)));
        }
    }
}
