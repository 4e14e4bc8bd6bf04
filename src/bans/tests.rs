use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const INSTANT: Duration = Duration::from_micros(1);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(span: Duration) -> Moment {
    Moment::after_start(span)
}

fn usual() -> Escalation {
    Escalation::default()
}

#[test]
fn a_ban_covers_its_network_until_its_end_and_nobody_else() {
    let list = BanList::new(10);
    let ban = list.strike(net("2001:db8:1:2::/64"), &usual(), at(HOUR));
    assert_eq!((ban.since(), ban.until, ban.lasts), (at(HOUR), at(HOUR + MINUTE * 15), MINUTE * 15));
    assert_eq!((ban.strikes, ban.cause, ban.reason.clone()), (1, Cause::Login, None));
    for (address, now, banned) in [
        ("2001:db8:1:2::", HOUR, true),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", HOUR, true),
        ("2001:db8:1:3::", HOUR, false),
        ("2001:db8:1:1:ffff:ffff:ffff:ffff", HOUR, false),
        ("192.0.2.1", HOUR, false),
        ("2001:db8:1:2::1", HOUR + MINUTE * 15 - INSTANT, true),
        ("2001:db8:1:2::1", HOUR + MINUTE * 15, false),
    ] {
        assert_eq!(list.is_banned(ip(address), at(now)), banned, "{address} {now:?}");
        assert_eq!(list.find(ip(address), at(now)), banned.then(|| ban.clone()), "{address} {now:?}");
    }
}

#[test]
fn bans_grow_and_good_conduct_shrinks_them() {
    let list = BanList::new(10);
    let network = net("192.0.2.1/32");
    let mut now = Duration::ZERO;
    // How long after the end of the last ban the next strike comes, and what it brings.
    for (clean, minutes, strikes) in [
        (Duration::ZERO, 15, 1),
        (Duration::ZERO, 60, 2),
        (DAY - INSTANT, 240, 3),
        (DAY, 240, 3),
        (DAY * 2, 60, 2),
        (DAY * 2 - INSTANT, 60, 2),
        (DAY * 2, 15, 1),
        (DAY * 50, 15, 1),
        (Duration::ZERO, 60, 2),
        (Duration::ZERO, 240, 3),
        (Duration::ZERO, 960, 4),
        (Duration::ZERO, 3840, 5),
        (Duration::ZERO, 10_080, 6),
        (Duration::ZERO, 10_080, 7),
    ] {
        now += clean;
        let ban = list.strike(network, &usual(), at(now));
        assert_eq!((ban.lasts, ban.strikes), (MINUTE * minutes, strikes), "{clean:?}");
        now += ban.lasts;
    }
}

#[test]
fn a_strike_during_a_ban_counts_and_never_shortens() {
    let list = BanList::new(10);
    let network = net("192.0.2.1/32");
    let reason = Some(Reason::new("mail by night").unwrap());
    list.add(network, HOUR * 2, reason.clone(), at(HOUR)).unwrap();
    let ban = list.strike(network, &usual(), at(HOUR));
    assert_eq!((ban.until, ban.strikes, ban.cause, ban.reason), (at(HOUR * 3), 1, Cause::Operator, reason));
    list.strike(network, &usual(), at(HOUR));
    let ban = list.strike(network, &usual(), at(HOUR + MINUTE));
    assert_eq!((ban.until, ban.strikes, ban.cause, ban.reason.clone()), (at(HOUR * 5 + MINUTE), 3, Cause::Login, None));
    assert_eq!(ban.since(), at(HOUR), "it has been banned all the time");
    assert_eq!((list.len(), list.expirations()), (1, 0));
}

#[test]
fn the_longest_ban_is_found_and_the_wider_one_of_two() {
    let list = BanList::new(10);
    for (network, hours) in [("10.0.0.0/8", 2), ("10.1.0.0/16", 3), ("10.1.1.0/24", 3), ("10.1.1.1/32", 1)] {
        list.add(net(network), HOUR * hours, None, Moment::START).unwrap();
    }
    for (address, now, found) in [
        ("10.1.1.1", Duration::ZERO, Some("10.1.0.0/16")),
        ("10.9.9.9", Duration::ZERO, Some("10.0.0.0/8")),
        ("10.9.9.9", HOUR * 2, None),
        ("11.0.0.0", Duration::ZERO, None),
    ] {
        assert_eq!(list.find(ip(address), at(now)).map(|ban| ban.network), found.map(net), "{address} {now:?}");
    }
}

#[test]
fn the_operator_has_the_last_word() {
    let list = BanList::new(10);
    let network = net("198.51.100.0/24");
    list.strike(network, &usual(), Moment::START);
    list.strike(network, &usual(), Moment::START);
    let ban = list.add(net("198.51.100.7/24"), MINUTE, None, at(MINUTE)).unwrap();
    assert_eq!((ban.network, ban.until, ban.strikes, ban.cause), (network, at(MINUTE * 2), 2, Cause::Operator));
    assert!(list.remove(net("198.51.100.9/24"), at(MINUTE)));
    assert!(!list.remove(network, at(MINUTE)));
    assert_eq!(list.strike(network, &usual(), at(MINUTE)).strikes, 1, "strikes are forgiven with the ban");
    assert!(!list.remove(network, at(DAY)), "it was over");
    assert!(list.is_empty());
}

#[test]
fn bans_have_bounds() {
    let list = BanList::new(10);
    for (network, lasts, expected) in [
        ("0.0.0.0/0", HOUR, Err(RefusedBan::Everybody)),
        ("::/0", HOUR, Err(RefusedBan::Everybody)),
        ("::ffff:0:0/96", HOUR, Err(RefusedBan::Everybody)),
        ("0.0.0.0/1", HOUR, Ok("0.0.0.0/1")),
        ("::ffff:192.0.2.0/120", HOUR, Ok("192.0.2.0/24")),
        ("::ffff:0:0/95", HOUR, Ok("::fffe:0:0/95")),
        ("192.0.2.1/32", Duration::from_millis(999), Err(RefusedBan::Duration)),
        ("192.0.2.1/32", Duration::from_secs(1), Ok("192.0.2.1/32")),
        ("192.0.2.1/32", LONGEST, Ok("192.0.2.1/32")),
        ("192.0.2.1/32", LONGEST + INSTANT, Err(RefusedBan::Duration)),
    ] {
        let ban = list.add(net(network), lasts, None, Moment::START).map(|ban| ban.network);
        assert_eq!(ban, expected.map(net), "{network} {lasts:?}");
    }
}

#[test]
fn reasons_are_short_and_plain() {
    for (text, expected) in [
        ("scanner", Ok("scanner")),
        ("  scanner ", Ok("scanner")),
        ("", Err(RefusedBan::EmptyReason)),
        (" ", Err(RefusedBan::EmptyReason)),
        ("two\nlines", Err(RefusedBan::ControlCharacter)),
        ("\u{1b}[31mred", Err(RefusedBan::ControlCharacter)),
        (&"ü".repeat(200), Ok(&*"ü".repeat(200))),
        (&"ü".repeat(201), Err(RefusedBan::LongReason)),
    ] {
        assert_eq!(Reason::new(text).as_ref().map(Reason::as_str), expected.as_ref().map(|text| *text), "{text:?}");
    }
}

#[test]
fn a_full_list_lets_the_least_ban_go_and_the_operators_last() {
    let list = BanList::new(3);
    let add = |network: &str, hours| list.add(net(network), HOUR * hours, None, Moment::START).unwrap();
    let left =
        || -> Vec<String> { list.list(Moment::START).into_iter().map(|ban| ban.network.addr().to_string()).collect() };
    add("10.0.0.1/32", 1);
    list.strike(net("10.0.0.2/32"), &Escalation { first: HOUR * 5, ..usual() }, Moment::START);
    list.strike(net("10.0.0.3/32"), &Escalation { first: HOUR * 4, ..usual() }, Moment::START);
    assert_eq!((list.evictions(), list.len()), (0, 3));
    add("10.0.0.4/32", 9);
    assert_eq!(left(), ["10.0.0.1", "10.0.0.2", "10.0.0.4"]);
    add("10.0.0.5/32", 2);
    assert_eq!(left(), ["10.0.0.1", "10.0.0.5", "10.0.0.4"]);
    list.strike(net("10.0.0.6/32"), &usual(), Moment::START);
    assert_eq!(left(), ["10.0.0.6", "10.0.0.5", "10.0.0.4"], "there was no other");
    assert_eq!((list.evictions(), list.expirations()), (3, 0));
    // Once over, the operator's goes before an automatic one that holds.
    list.strike(net("10.0.0.6/32"), &Escalation { first: DAY, ..usual() }, at(HOUR * 2));
    list.strike(net("10.0.0.7/32"), &usual(), at(HOUR * 2));
    assert!(list.is_banned(ip("10.0.0.6"), at(HOUR * 2)));
    assert!(!list.is_banned(ip("10.0.0.5"), at(HOUR * 2)));
}

#[test]
fn a_sweep_forgets_what_good_conduct_has_cleared() {
    let list = BanList::new(10);
    let (once, twice) = (net("10.0.0.1/32"), net("10.0.0.2/32"));
    list.strike(once, &usual(), Moment::START);
    list.strike(twice, &usual(), Moment::START);
    list.strike(twice, &Escalation { factor: 1, ..usual() }, Moment::START);
    let end = MINUTE * 15;
    // After: remembered, in force, expired.
    for (now, expected) in [
        (end - INSTANT, (2, 2, 0)),
        (end, (2, 0, 2)),
        (end, (2, 0, 2)),
        (end + DAY - INSTANT, (2, 0, 2)),
        (end + DAY, (1, 0, 2)),
        (end + DAY * 2 - INSTANT, (1, 0, 2)),
        (end + DAY * 2, (0, 0, 2)),
    ] {
        list.sweep(&usual(), at(now));
        assert_eq!((list.len(), list.active(), list.expirations()), expected, "{now:?}");
    }
}

#[test]
fn a_sweep_of_very_many_reaches_them_all() {
    let list = BanList::new(10_000);
    for n in 0..5000_u32 {
        list.strike(IpNet::new_assert(IpAddr::V4(n.into()), 32), &usual(), at(INSTANT * (n % 7)));
        list.add(IpNet::new_assert(IpAddr::V6(u128::from(n).into()), 128), MINUTE, None, Moment::START).unwrap();
    }
    list.sweep(&usual(), at(HOUR));
    assert_eq!((list.len(), list.active(), list.expirations()), (5000, 0, 10_000));
    list.sweep(&usual(), at(DAY * 2));
    assert_eq!((list.len(), list.expirations()), (0, 10_000));
}

#[test]
fn readers_and_writers_share_the_list() {
    let list = Arc::new(BanList::new(1000));
    let steady = net("203.0.113.0/24");
    list.add(steady, LONGEST, None, Moment::START).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..2_u8 {
            let list = &list;
            scope.spawn(move || {
                for n in 0..20_000_u32 {
                    let network = IpNet::new_assert([10, writer, (n >> 8) as u8, n as u8].into(), 32);
                    list.strike(network, &usual(), at(INSTANT * n));
                    if n % 3 == 0 {
                        list.remove(network, at(INSTANT * n));
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for n in 0..20_000_u32 {
                    assert!(list.is_banned(ip("203.0.113.9"), at(INSTANT * n)));
                    assert!(!list.is_banned(ip("198.51.100.9"), at(INSTANT * n)));
                    if n % 1000 == 0 {
                        list.sweep(&usual(), at(INSTANT * n));
                        assert!(list.list(Moment::START).len() <= 1000);
                    }
                }
            });
        }
    });
    assert_eq!(list.len(), 1000);
    assert!(list.evictions() > 0);
}

/// The list as one would write it without a thought for speed.
#[derive(Default)]
struct Model {
    records: Vec<Naive>,
    evictions: u64,
    expirations: u64,
}

#[derive(Debug, Clone)]
struct Naive {
    ban: Ban,
    is_counted: bool,
}

const CAPACITY: usize = 6;

impl Model {
    fn take(&mut self, network: IpNet, now: Moment) -> Option<Naive> {
        let place = self.records.iter().position(|naive| naive.ban.network == network)?;
        let old = self.records.remove(place);
        self.expirations += u64::from(!old.ban.is_active(now) && !old.is_counted);
        Some(old)
    }

    fn put(&mut self, ban: Ban, now: Moment) -> Ban {
        if self.take(ban.network, now).is_none() && self.records.len() >= CAPACITY {
            let rank = |naive: &&Naive| {
                let Ban { until, network, cause, .. } = naive.ban;
                let is_operators = cause == Cause::Operator;
                (naive.ban.is_active(now), is_operators, until, network)
            };
            let victim = self.records.iter().min_by_key(rank).unwrap().ban.clone();
            self.evictions += u64::from(victim.is_active(now));
            self.take(victim.network, now);
        }
        self.records.push(Naive { ban: ban.clone(), is_counted: false });
        ban
    }

    fn strikes(naive: &Naive, now: Moment) -> u32 {
        let days = now.since(naive.ban.until).as_secs() / DAY.as_secs();
        naive.ban.strikes.saturating_sub(days as u32)
    }

    fn strike(&mut self, network: IpNet, now: Moment) -> Ban {
        let old = self.records.iter().find(|naive| naive.ban.network == network).cloned();
        let strikes = old.as_ref().map_or(0, |old| Self::strikes(old, now));
        let lasts = (MINUTE * 15 * 4_u32.pow(strikes.min(5))).min(DAY * 7);
        let strikes = (strikes + 1).min(32);
        let fresh = Ban { network, until: now + lasts, lasts, strikes, cause: Cause::Login, reason: None };
        let ban = match old.map(|old| old.ban).filter(|ban| ban.is_active(now)) {
            Some(ban) if ban.until >= fresh.until => Ban { strikes, ..ban },
            Some(ban) => Ban { lasts: fresh.until.since(ban.since()), ..fresh },
            None => fresh,
        };
        self.put(ban, now)
    }

    fn add(&mut self, network: IpNet, lasts: Duration, now: Moment) -> Ban {
        let old = self.records.iter().find(|naive| naive.ban.network == network);
        let strikes = old.map_or(0, |old| old.ban.strikes);
        self.put(Ban { network, until: now + lasts, lasts, strikes, cause: Cause::Operator, reason: None }, now)
    }

    fn find(&self, ip: IpAddr, now: Moment) -> Option<Ban> {
        let covering = self.records.iter().map(|naive| &naive.ban);
        let covering = covering.filter(|ban| ban.network.contains(&ip) && ban.is_active(now));
        covering.max_by_key(|ban| (ban.until, std::cmp::Reverse(ban.network.prefix_len()))).cloned()
    }

    fn sweep(&mut self, now: Moment) {
        for naive in &mut self.records {
            let is_news = !naive.ban.is_active(now) && !naive.is_counted;
            self.expirations += u64::from(is_news);
            naive.is_counted |= is_news;
        }
        self.records.retain(|naive| naive.ban.is_active(now) || Self::strikes(naive, now) > 0);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Strike(IpNet),
    Add(IpNet, Duration),
    Remove(IpNet),
    Find(IpAddr),
    Sweep,
    Wait(Duration),
}

/// Few addresses, so that networks meet; all prefix lengths.
fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..4_u32, 0..3_u32).prop_map(|(high, low)| IpAddr::V4((high << 30 | low).into())),
        (0..4_u128, 0..3_u128, 0..3_u128).prop_map(|(a, b, c)| IpAddr::V6((a << 126 | b << 64 | c).into())),
    ]
}

fn networks() -> impl Strategy<Value = IpNet> {
    let prefix = prop_oneof![Just(128_u8), Just(64), Just(32), 1..=128_u8];
    (addresses(), prefix)
        .prop_map(|(ip, prefix)| IpNet::new_assert(ip, if ip.is_ipv4() { prefix.min(32) } else { prefix }).trunc())
}

fn steps() -> impl Strategy<Value = Step> {
    let spans = prop_oneof![(1..120_u64).prop_map(Duration::from_secs), (1..4000_u64).prop_map(|n| MINUTE * n as u32)];
    prop_oneof![
        4 => networks().prop_map(Step::Strike),
        2 => (networks(), spans.clone()).prop_map(|(network, span)| Step::Add(network, span)),
        1 => networks().prop_map(Step::Remove),
        4 => addresses().prop_map(Step::Find),
        1 => Just(Step::Sweep),
        2 => spans.prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn the_list_does_what_a_naive_one_does(steps in proptest::collection::vec(steps(), 0..120)) {
        let (list, mut model, mut now) = (BanList::new(CAPACITY), Model::default(), Moment::START);
        for step in steps {
            match step {
                Step::Strike(network) => {
                    prop_assert_eq!(list.strike(network, &usual(), now), model.strike(network, now));
                }
                Step::Add(network, lasts) => {
                    prop_assert_eq!(list.add(network, lasts, None, now), Ok(model.add(network, lasts, now)));
                }
                Step::Remove(network) => {
                    let was_active = model.take(network, now).is_some_and(|old| old.ban.is_active(now));
                    prop_assert_eq!(list.remove(network, now), was_active);
                }
                Step::Find(ip) => {
                    prop_assert_eq!(list.find(ip, now), model.find(ip, now));
                    prop_assert_eq!(list.is_banned(ip, now), model.find(ip, now).is_some());
                }
                Step::Sweep => {
                    list.sweep(&usual(), now);
                    model.sweep(now);
                    prop_assert_eq!(list.active(), list.list(now).len());
                }
                Step::Wait(span) => now = now + span,
            }
            let mut active: Vec<_> = model.records.iter().map(|naive| naive.ban.clone()).collect();
            active.retain(|ban| ban.is_active(now));
            active.sort_by_key(|ban| (ban.until, ban.network));
            prop_assert_eq!(list.list(now), active);
            prop_assert_eq!(list.len(), model.records.len());
            prop_assert_eq!((list.evictions(), list.expirations()), (model.evictions, model.expirations));
        }
    }
}
