use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(24 * HOUR);

fn at(days: f64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs_f64(1.8e9 + days * 86_400.0)
}

fn life(luck: u32) -> Life {
    Life { not_before: at(0.0), not_after: at(90.0), luck: Luck(luck) }
}

fn window(start: f64, end: f64) -> Window {
    Window { start: at(start), end: at(end), explanation: None }
}

#[test]
fn without_a_window_a_third_of_the_life_is_left() {
    assert_eq!(renewal(life(0), None), (at(60.0), Why::Age));
    let (earliest, _) = renewal(life(u32::MAX), None);
    assert!(earliest > at(57.0) && earliest < at(57.5), "{earliest:?}");
}

#[test]
fn a_window_decides_and_is_met_at_one_moment() {
    assert_eq!(renewal(life(0), Some(&window(10.0, 12.0))), (at(10.0), Why::Authority));
    let (half, _) = renewal(life(1 << 31), Some(&window(10.0, 12.0)));
    assert_eq!(half, at(11.0));
    assert_eq!(renewal(life(1 << 31), Some(&window(10.0, 12.0))).0, half);
    // The end before the start, and a window that would cost us the certificate.
    assert_eq!(renewal(life(1 << 31), Some(&window(12.0, 10.0))).0, at(12.0));
    assert_eq!(renewal(life(0), Some(&window(200.0, 201.0))).0, at(81.0));
}

#[test]
fn a_certificate_without_a_life_is_due() {
    let odd = Life { not_before: at(1.0), not_after: at(0.0), luck: Luck(5) };
    assert_eq!(renewal(odd, None).0, at(0.0));
}

#[test]
fn a_certificate_serves_for_a_while_whatever_is_said_of_it() {
    let now = at(3.0);
    let days = |days: f64| Life { not_after: at(days), ..life(0) };
    let had = |first: f64| [at(first), at(2.0), at(2.5), at(3.0)];
    assert_eq!(after_successes(days(90.0), &had(1.0), now), Some(at(1.0) + 4 * AFTER_ISSUED));
    assert_eq!(after_successes(days(5.0), &had(1.0), now), Some(at(3.0)));
    assert_eq!(after_successes(days(90.0), &had(1.0)[1..], now), None, "some may be revoked at once");
    assert_eq!(after_successes(days(90.0), &had(3.1), now), None, "from a time when the clock was wrong");
}

fn failed(count: u32) -> Failures<'static> {
    Failures { count, refused: &[], last_refused: 0, retry_after: None, is_issued: false }
}

#[test]
fn waits_double_from_a_minute_to_half_a_day() {
    let now = at(0.0);
    for (count, minutes) in [(0, 1), (1, 1), (2, 2), (3, 4), (10, 512), (11, 720), (40, 720), (u32::MAX, 720)] {
        let least = now + Duration::from_secs(minutes * 60);
        assert_eq!(after_failure(failed(count), now, Luck(0)), least, "{count}");
        let most = after_failure(failed(count), now, Luck(u32::MAX));
        assert!(most > least && most <= least + Duration::from_secs(minutes * 6), "{count}");
    }
}

#[test]
fn the_authority_may_ask_for_more_but_not_for_ever() {
    let (now, hours) = (at(0.0), |hours: u64| at(0.0) + Duration::from_secs(hours * HOUR));
    let wait = |retry_after| after_failure(Failures { retry_after: Some(retry_after), ..failed(1) }, now, Luck(0));
    assert_eq!(wait(hours(5)), hours(5));
    assert_eq!(wait(now + Duration::from_secs(1)), now + FIRST_WAIT);
    assert_eq!(wait(at(400.0)), now + LONGEST_WAIT);
    assert_eq!(wait(at(-400.0)), now + FIRST_WAIT);
}

#[test]
fn a_certificate_made_in_vain_is_not_asked_for_again_today() {
    let wait = after_failure(Failures { is_issued: true, ..failed(1) }, at(0.0), Luck(0));
    assert_eq!(wait, at(0.0) + AFTER_ISSUED);
    let a_week_later = at(0.0) + 5 * AFTER_ISSUED;
    assert!(a_week_later > at(7.0));
}

#[test]
fn a_wait_from_a_wrong_clock_is_forgotten() {
    assert_eq!(not_before(at(0.0), Some(at(1.0)), at(0.5)), at(1.0));
    assert_eq!(not_before(at(2.0), Some(at(1.0)), at(0.5)), at(2.0));
    assert_eq!(not_before(at(0.0), Some(at(9.0)), at(0.0)), at(0.0));
    assert_eq!(not_before(at(0.0), None, at(0.0)), at(0.0));
}

#[test]
fn the_window_is_asked_for_between_hourly_and_daily() {
    let now = at(0.0);
    for (hint, expected) in [(None, 6), (Some(0), 1), (Some(2), 2), (Some(400), 24)] {
        let hint = hint.map(|hours: u64| Duration::from_secs(hours * HOUR));
        assert_eq!(next_poll(hint, now), now + Duration::from_secs(expected * HOUR));
    }
    assert!(is_poll_due(None, now) && is_poll_due(Some(now), now + Duration::from_secs(1)));
    assert!(!is_poll_due(Some(at(0.9)), now) && is_poll_due(Some(at(2.0)), now));
}

#[test]
fn it_is_urgent_when_a_third_of_the_last_third_is_left() {
    assert!(!is_urgent(Some(life(0)), at(79.9)));
    assert!(is_urgent(Some(life(0)), at(80.1)) && is_urgent(Some(life(0)), at(91.0)));
    assert!(!is_urgent(None, at(0.0)));
}

proptest! {
    /// Whatever an attempt costs, and however long it takes, no hour sees more refusals than the authority allows.
    #[test]
    fn no_hour_sees_too_many_refusals(
        costs in proptest::collection::vec((1_usize..=3, 0_u64..120, any::<u32>()), 1..40),
    ) {
        let (mut now, mut all, mut kept) = (at(0.0), Vec::new(), Vec::new());
        // What a certificate costs depends on its settings, which do not change on the way.
        let cost = costs[0].0;
        for (count, (_, seconds, luck)) in (1..).zip(costs) {
            now += Duration::from_secs(seconds);
            all.extend(std::iter::repeat_n(now, cost));
            kept.extend(std::iter::repeat_n(now, cost));
            kept = still_counting(&kept, now);
            let failures = Failures { refused: &kept, last_refused: cost, ..failed(count) };
            let next = after_failure(failures, now, Luck(luck));
            prop_assert!(next >= now + FIRST_WAIT && next <= now + LONGEST_BACKOFF + LONGEST_BACKOFF / 10);
            now = next;
        }
        for from in &all {
            let within = all.iter().filter(|at| *at >= from && **at < *from + REFUSALS_WITHIN).count();
            prop_assert!(within <= REFUSALS, "{within} refusals");
        }
    }

    /// A renewal lies within the life, and its moment does not move while nothing else does.
    #[test]
    fn a_renewal_lies_within_the_life(
        luck: u32, days in 1_u32..400, start in -100.0_f64..500.0, width in 0.0_f64..50.0, has_window: bool,
    ) {
        let life = Life { not_before: at(0.0), not_after: at(f64::from(days)), luck: Luck(luck) };
        let window = window(start, start + width);
        let (moment, _) = renewal(life, has_window.then_some(&window));
        prop_assert!(moment < life.not_after);
        if !has_window {
            prop_assert!(moment > life.not_before);
            let left = life.not_after.duration_since(moment).unwrap();
            prop_assert!(left >= DAY * days / 3 && left <= DAY * days * 37 / 100);
        } else if moment != life.not_after - DAY * days / 10 {
            prop_assert!(moment >= window.start && moment <= window.end);
        }
    }

    /// A clock that jumps, in whichever direction, never stops a certificate for longer than the longest wait.
    #[test]
    fn no_wait_is_longer_than_the_longest(wait in -1000.0_f64..1000.0, now in -1000.0_f64..1000.0) {
        let due = not_before(at(now), Some(at(wait)), at(now));
        prop_assert!(due >= at(now) && due <= at(now) + LONGEST_WAIT);
    }
}
