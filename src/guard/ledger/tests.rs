use proptest::prelude::*;

use super::*;
use crate::client::ClientAddr;

const LIMITS: LoginLimits = LoginLimits {
    max_failures: 5,
    window: Duration::from_secs(600),
    account_failures: 8,
    account_window: Duration::from_secs(3600),
    repeats: 3,
    delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(300),
    dry_run: false,
};

fn at(seconds: u64) -> Moment {
    Moment::START + Duration::from_secs(seconds)
}

fn client(text: &str) -> Who {
    Who::Client(ClientAddr::new(text.parse().unwrap()).key())
}

fn guess(who: Who, credential: u64) -> Guess {
    Guess { who, credential, account: None, is_shared: false }
}

/// One guess after another, each answered before the next.
fn fail(ledger: &Ledger, guess: Guess, now: Moment) -> Result<Toll, Wait> {
    ledger.begin(&guess, &LIMITS, now)?;
    Ok(ledger.end(&guess, End::Failed, &LIMITS, now))
}

#[test]
fn a_failure_takes_16_bytes() {
    assert_eq!((size_of::<Failure>(), size_of::<Tally>()), (16, 72));
}

#[test]
fn a_lifted_ban_gives_the_memory_of_its_failures_back() {
    let ledger = Ledger::default();
    let guesser = client("203.0.113.1");
    for n in 0..4 {
        fail(&ledger, guess(guesser, n), at(0)).unwrap();
    }
    let room = || ledger.clients.peek(&guesser, |tally| tally.failures.capacity());
    assert_eq!(room(), Some(4), "to the byte");
    ledger.forgive(guesser);
    assert_eq!(room(), Some(0));
}

#[test]
fn distinct_guesses_exhaust_a_client_and_not_its_neighbour() {
    let ledger = Ledger::default();
    let (guesser, neighbour) = (client("203.0.113.1"), client("203.0.113.2"));
    for n in 1..5 {
        let toll = fail(&ledger, guess(guesser, n), at(n)).unwrap();
        assert_eq!((toll.failures, toll.exhausted), (usize::try_from(n).unwrap(), false));
    }
    assert!(fail(&ledger, guess(guesser, 5), at(5)).unwrap().exhausted);
    assert_eq!(ledger.begin(&guess(neighbour, 6), &LIMITS, at(5)), Ok(()));
}

#[test]
fn a_repetition_counts_once() {
    let ledger = Ledger::default();
    let tablet = client("203.0.113.1");
    for n in 0..60_480 {
        let toll = fail(&ledger, guess(tablet, 1), at(10 * n)).unwrap();
        assert_eq!((toll.failures, toll.exhausted), (1, false));
    }
}

#[test]
fn failures_are_forgotten_after_the_window() {
    let ledger = Ledger::default();
    let guesser = client("203.0.113.1");
    for n in 0..100 {
        // Four in 600 s.
        assert!(!fail(&ledger, guess(guesser, n), at(150 * n)).unwrap().exhausted);
    }
}

#[test]
fn a_burst_gets_no_more_answers_than_failures_are_allowed() {
    let ledger = Ledger::default();
    let guesser = client("203.0.113.1");
    let begun: Vec<_> =
        (0..200).map(|n| guess(guesser, n)).filter(|guess| ledger.begin(guess, &LIMITS, at(0)).is_ok()).collect();
    assert_eq!(begun.len(), 5);
    assert_eq!(ledger.begin(&guess(guesser, 300), &LIMITS, at(0)), Err(Wait::Client(IN_FLIGHT_WAIT)));
    let tolls: Vec<_> = begun.iter().map(|guess| ledger.end(guess, End::Failed, &LIMITS, at(0)).exhausted).collect();
    assert_eq!(tolls, [false, false, false, false, true]);
}

#[test]
fn requests_that_share_a_credential_are_one_attempt() {
    let ledger = Ledger::default();
    let browser = client("203.0.113.1");
    let page = Guess { is_shared: true, ..guess(browser, 1) };
    for _ in 0..30 {
        ledger.begin(&page, &LIMITS, at(0)).unwrap();
    }
    for n in 2..6 {
        ledger.begin(&guess(browser, n), &LIMITS, at(0)).unwrap();
    }
    assert!(ledger.begin(&guess(browser, 9), &LIMITS, at(0)).is_err(), "five in flight");
    for _ in 0..30 {
        assert!(ledger.end(&page, End::Failed, &LIMITS, at(0)).failures <= 1);
    }
    assert_eq!(ledger.standing(browser, &LIMITS, at(0)), (1, 4));
}

#[test]
fn unjudged_attempts_give_their_place_back() {
    let ledger = Ledger::default();
    let client = client("203.0.113.1");
    for n in 0..100 {
        let guess = guess(client, n);
        ledger.begin(&guess, &LIMITS, at(0)).unwrap();
        assert_eq!(ledger.end(&guess, End::Unjudged, &LIMITS, at(0)).failures, 0);
    }
}

#[test]
fn getting_in_forgives_the_mistakes_on_that_account_only() {
    let ledger = Ledger::default();
    let home = client("203.0.113.1");
    let of = |credential, account| Guess { who: home, credential, account: Some(account), is_shared: false };
    for n in 0..3 {
        fail(&ledger, of(n, 1), at(0)).unwrap();
    }
    fail(&ledger, of(9, 2), at(0)).unwrap();
    ledger.begin(&of(10, 1), &LIMITS, at(1)).unwrap();
    assert_eq!(ledger.end(&of(10, 1), End::Succeeded, &LIMITS, at(1)).failures, 1);
}

#[test]
fn whoever_is_not_banned_waits_ever_longer() {
    let ledger = Ledger::default();
    let lan = client("192.168.1.2");
    for n in 0..5 {
        fail(&ledger, guess(lan, n), at(0)).unwrap();
    }
    let mut now = 0;
    let mut waits = Vec::new();
    for n in 10..18 {
        assert!(fail(&ledger, guess(lan, n), at(now)).is_ok(), "{n}");
        let Err(Wait::Client(wait)) = ledger.begin(&guess(lan, 100 + n), &LIMITS, at(now)) else { panic!("no wait") };
        waits.push(wait.as_secs());
        now += wait.as_secs();
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256]);
}

#[test]
fn one_throttled_attempt_passes_at_a_time() {
    let ledger = Ledger::default();
    let lan = client("192.168.1.2");
    for n in 0..5 {
        fail(&ledger, guess(lan, n), at(0)).unwrap();
    }
    let passed = (10..210).filter(|n| ledger.begin(&guess(lan, *n), &LIMITS, at(1)).is_ok()).count();
    assert_eq!(passed, 1);
}

#[test]
fn a_slow_spray_on_one_account_slows_strangers_and_not_known_devices() {
    let ledger = Ledger::default();
    let of = |n: u64, who| Guess { who, credential: n, account: Some(7), is_shared: false };
    let spray = |n: u64| client(&format!("198.51.{}.{}", n / 250, n % 250));
    let mut answered = 0;
    for n in 0..500 {
        if fail(&ledger, of(n, spray(n)), at(n / 10)).is_ok() {
            answered += 1;
        }
    }
    assert!((8..16).contains(&answered), "{answered}");
    assert!(matches!(ledger.begin(&of(900, client("192.0.2.9")), &LIMITS, at(50)), Err(Wait::Account(_))));
    assert_eq!(ledger.begin(&of(901, Who::Device(1)), &LIMITS, at(50)), Ok(()));
    let other = Guess { who: client("192.0.2.9"), credential: 902, account: Some(8), is_shared: false };
    assert_eq!(ledger.begin(&other, &LIMITS, at(50)), Ok(()), "another account");
    assert_eq!(ledger.throttled_accounts(at(50)), 1);
}

#[test]
fn a_parallel_spray_on_one_account_is_no_faster() {
    let ledger = Ledger::default();
    let begun = (0..500u64)
        .map(|n| Guess {
            who: client(&format!("198.51.{}.{}", n / 250, n % 250)),
            credential: n,
            account: Some(7),
            is_shared: false,
        })
        .filter(|guess| ledger.begin(guess, &LIMITS, at(0)).is_ok())
        .count();
    assert_eq!(begun, 8);
}

#[test]
fn many_failing_64_exhaust_their_56_and_48() {
    let ledger = Ledger::default();
    let mut exhausted = Vec::new();
    // Never more than four failures in one /64: none of them is exhausted by itself.
    for n in 0..120u64 {
        let who = client(&format!("2001:db8:1:{:x}::1", n / 4));
        let toll = fail(&ledger, guess(who, n), at(0)).unwrap();
        assert!(!toll.exhausted);
        exhausted.extend(toll.exhausted_networks.iter().map(ToString::to_string).map(|network| (n, network)));
    }
    assert_eq!(exhausted.first(), Some(&(19, "2001:db8:1::/56".to_owned())));
    assert_eq!(exhausted.iter().find(|(_, network)| network.ends_with("/48")).map(|(n, _)| *n), Some(79));
    let elsewhere = fail(&ledger, guess(client("2001:db8:2::1"), 500), at(0)).unwrap();
    assert!(elsewhere.exhausted_networks.is_empty());
}

proptest! {
    /// However strangers interleave, a known device behind the same address is counted apart.
    #[test]
    fn strangers_do_not_change_what_a_known_device_may_do(
        steps in proptest::collection::vec((0u64..20, 0u64..5, any::<bool>()), 0..60),
    ) {
        let (with, without) = (Ledger::default(), Ledger::default());
        let device = Who::Device(1);
        let stranger = client("203.0.113.1");
        let mut now = 0;
        for (credential, gap, is_device) in steps {
            now += gap;
            let guess = Guess { who: if is_device { device } else { stranger }, credential, account: Some(1), is_shared: false };
            let answer = fail(&with, guess, at(now));
            if is_device {
                prop_assert_eq!(answer, fail(&without, guess, at(now)));
            }
        }
    }
}
