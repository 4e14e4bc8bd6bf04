use std::time::Duration;

use super::*;
use crate::acme::fixtures::{certificate, exact, settings};
use crate::acme::problem::Step;

const HOUR: Duration = Duration::from_secs(3600);

fn at(hours: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + HOUR * hours
}

fn held(name: &str) -> Held {
    let life = Life { not_before: at(0), not_after: at(90 * 24), luck: Luck(0) };
    Held { life, sha256: [7; 32], names: vec![name.to_owned()], issuer: None, identifier: None }
}

fn request(names: &[&str], directory: &str) -> Request {
    Request::new(&certificate(names.iter().map(|name| exact(name)).collect()), directory)
}

fn wanted() -> Request {
    request(&["a.test"], "https://ca.test")
}

#[test]
fn what_is_wanted_decides_when_it_is_due() {
    let mut memory = Memory::default();
    let due = |memory: &Memory, held: Option<&Held>| {
        let due = memory.due(held, &wanted(), at(1));
        (due.at, due.why)
    };
    let third = at(60 * 24);
    assert_eq!(due(&memory, None), (at(1), Why::Missing));
    // A memory that is lost costs no certificate.
    assert_eq!(due(&memory, Some(&held("a.test"))), (third, Why::Age));
    assert_eq!(due(&memory, Some(&held("b.test"))), (at(1), Why::Changed));
    for other in [
        request(&["a.test", "b.test"], "https://ca.test"),
        request(&["a.test"], "https://other.test"),
        Request { profile: Some("shortlived".to_owned()), ..wanted() },
    ] {
        memory.succeeded(other, at(0));
        assert_eq!(due(&memory, Some(&held("a.test"))), (at(1), Why::Changed));
    }
    memory.succeeded(wanted(), at(0));
    assert_eq!(due(&memory, Some(&held("a.test"))), (third, Why::Age));
    memory.ask();
    assert_eq!(due(&memory, Some(&held("a.test"))), (at(1), Why::Asked));
}

#[test]
fn what_is_due_again_at_once_waits_and_what_was_changed_does_not() {
    let mut memory = Memory::default();
    let window = Window { start: at(1), end: at(2), explanation: None };
    for hour in [1, 2, 3, 4] {
        memory.succeeded(wanted(), at(hour));
        memory.polled(&held("a.test"), Some(Some(window.clone())), at(9));
        let due = memory.due(Some(&held("a.test")), &wanted(), at(5));
        let expected = if hour < 4 { at(1) } else { at(1 + 4 * 34) };
        assert_eq!((due.why, due.renewal, due.at, due.is_too_soon), (Why::Authority, at(1), expected, hour == 4));
    }
    assert_eq!(memory.due(None, &wanted(), at(5)).at, at(5));
    let changed = memory.due(Some(&held("a.test")), &request(&["b.test"], "https://ca.test"), at(5));
    assert_eq!((changed.at, changed.is_too_soon), (at(5), false));
    memory.ask();
    assert_eq!(memory.due(Some(&held("a.test")), &wanted(), at(5)).at, at(5));
}

#[test]
fn the_order_of_names_is_no_difference() {
    assert_eq!(request(&["a.test", "b.test"], "x"), request(&["b.test", "a.test"], "x"));
}

#[test]
fn a_failure_is_waited_for_until_a_success_or_the_operator_ends_it() {
    let mut memory = Memory::default();
    let failure = Failure::new(Step::Order, "no");
    memory.failed(&failure, at(0), Luck(0));
    memory.failed(&failure, at(0), Luck(0));
    let due = memory.due(None, &wanted(), at(0));
    assert_eq!((due.renewal, due.at), (at(0), at(0) + Duration::from_secs(120)));
    assert_eq!((memory.failures, memory.error.as_ref().unwrap().sentence.as_str()), (2, "no"));
    memory.ask();
    assert_eq!(memory.due(None, &wanted(), at(0)).at, at(0));
    // What was asked for and has failed is not forgotten.
    memory.failed(&failure, at(0), Luck(0));
    let due = memory.due(Some(&held("a.test")), &wanted(), at(0));
    assert_eq!((due.why, due.at), (Why::Asked, at(0) + Duration::from_secs(240)));
    memory.succeeded(wanted(), at(1));
    assert_eq!((memory.failures, &memory.error, memory.wait_until, memory.is_asked), (0, &None, None, false));
}

#[test]
fn a_window_belongs_to_its_certificate() {
    let mut memory = Memory::default();
    let window = Window { start: at(5), end: at(5), explanation: None };
    memory.polled(&held("a.test"), Some(Some(window.clone())), at(2));
    assert!(!memory.is_poll_due(&held("a.test"), at(1)) && memory.is_poll_due(&held("a.test"), at(2)));
    assert_eq!(memory.due(Some(&held("a.test")), &wanted(), at(1)).why, Why::Authority);
    // An authority that does not answer leaves what it has said before.
    memory.polled(&held("a.test"), None, at(3));
    assert_eq!(memory.renewal.as_ref().unwrap().window, Some(window));
    let other = Held { sha256: [8; 32], ..held("a.test") };
    assert!(memory.is_poll_due(&other, at(1)));
    assert_eq!(memory.due(Some(&other), &wanted(), at(1)).why, Why::Age);
    memory.polled(&held("a.test"), Some(None), at(3));
    assert_eq!(memory.due(Some(&held("a.test")), &wanted(), at(1)).why, Why::Age);
}

const DUCKDNS: &str = "dns: {duck: {provider: duckdns, token: 11111111-2222-3333-4444-555555555555}}";

#[test]
fn other_settings_end_a_wait_and_the_same_do_not() {
    let hosts = [("a.duckdns.org", "acme"), ("b.example.org", "acme")];
    let before = settings(DUCKDNS, &hosts);
    let home = &before.wanted[0].certificate;
    let mut tried = Memory::default();
    tried.try_with(&before, home, 5, at(0));
    tried.failed(&Failure::new(Step::Order, "no"), at(0), Luck(0));
    let is_forgiven = |sections: &str, hosts: &[(&str, &str)]| {
        let settings = settings(sections, hosts);
        let mut memory = tried.clone();
        memory.forgive_if_changed(&settings, &settings.wanted[0].certificate);
        memory.wait_until.is_none()
    };
    assert!(!is_forgiven(DUCKDNS, &hosts));
    assert!(!is_forgiven(DUCKDNS, &hosts[..1]), "another certificate is another matter");
    assert!(is_forgiven(&DUCKDNS.replace("11111111", "21111111"), &hosts), "another token");
    assert!(is_forgiven(&format!("{DUCKDNS}\nacme: {{email: anna@example.org}}"), &hosts));
    assert!(is_forgiven(&format!("{DUCKDNS}\nlisten: {{http: []}}"), &hosts));
    assert!(is_forgiven(DUCKDNS, &[("a.duckdns.org", "{acme: {challenges: [tls-alpn-01]}}")]));
}

#[test]
fn attempts_that_never_end_cost_a_wait() {
    let settings = settings("", &[("a.test", "acme")]);
    let mut memory = Memory::default();
    // The power may fail once; a machine that is started over and over must wait.
    for minutes in [0, 2, 4, 8] {
        memory.try_with(&settings, &settings.wanted[0].certificate, 5, at(0));
        let again = memory.due(None, &wanted(), at(0)).at;
        assert_eq!(again, at(0) + Duration::from_secs(minutes * 60));
    }
    memory.succeeded(wanted(), at(0));
    assert_eq!(memory.wait_until, None);
}

#[test]
fn what_the_authority_has_said_holds_for_the_same_request() {
    let hosts = [("a.duckdns.org", "acme")];
    let before = settings(DUCKDNS, &hosts);
    let mut tried = Memory::default();
    tried.try_with(&before, &before.wanted[0].certificate, 5, at(0));
    let told = Failure { retry_after: Some(at(9)), ..Failure::new(Step::Order, "no") };
    tried.failed(&told, at(0), Luck(0));
    let wait = |sections: &str, hosts: &[(&str, &str)]| {
        let settings = settings(sections, hosts);
        let mut memory = tried.clone();
        memory.forgive_if_changed(&settings, &settings.wanted[0].certificate);
        memory.wait_until
    };
    assert_eq!(wait(&DUCKDNS.replace("11111111", "21111111"), &hosts), Some(at(9)));
    assert_eq!(wait(DUCKDNS, &[("a.duckdns.org", "{acme: {names: [a.duckdns.org, '*.a.duckdns.org']}}")]), None);
    assert_eq!(wait(&format!("{DUCKDNS}\nacme: {{directory: 'https://other.test/'}}"), &hosts), None);
}

#[test]
fn a_certificate_from_staging_is_not_served_for_long() {
    let held = Held { issuer: Some("(STAGING) Counterfeit Cashew R10".to_owned()), ..held("a.test") };
    let why = |directory| Memory::default().due(Some(&held), &request(&["a.test"], directory), at(1)).why;
    assert_eq!((why("https://ca.test"), why("https://acme-staging-v02.ca.test/directory")), (Why::Changed, Why::Age));
}

#[test]
fn no_token_is_in_what_is_written_down() {
    let settings = settings(DUCKDNS, &[("a.duckdns.org", "acme")]);
    let mut memory = Memory::default();
    memory.try_with(&settings, &settings.wanted[0].certificate, 5, at(0));
    let written = serde_json::to_string(&memory).unwrap();
    assert!(!written.contains("11111111") && !format!("{memory:?}").contains("hash"), "{written}");
    assert_eq!(serde_json::from_str::<Memory>(&written).unwrap(), memory);
}
