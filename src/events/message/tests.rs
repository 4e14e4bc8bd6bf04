use std::net::Ipv4Addr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::events::Why;

fn told(event: Event, second: u64) -> Arc<Told> {
    Arc::new(Told { at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_469_400 + second), event })
}

fn ban(address: u32) -> Event {
    Event::Ban {
        network: IpNet::from(std::net::IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 + address))),
        cause: "login",
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_470_300),
        seconds: 900,
        strikes: 1,
        reason: None,
    }
}

fn device(host: &str) -> Event {
    Event::NewDevice { host: host.into(), network: "2001:db8::/64".parse().unwrap(), proof: "login" }
}

fn message(events: Vec<Arc<Told>>) -> Message {
    let mut batch = Batch::default();
    events.into_iter().for_each(|told| batch.add(told));
    batch.into_message()
}

#[test]
fn one_event_is_one_sentence() {
    let one = message(vec![told(ban(9), 0)]);
    assert_eq!(one.title, "Hearthgate: 1 ban");
    assert_eq!(one.text, "203.0.113.9 is banned for 15m, until 2026-11-23 21:45 UTC: too many failed logins");
    assert_eq!((one.kind, one.tag, one.urgency), ("ban", "no_entry", Urgency::Normal));
    assert_eq!((one.count(), one.omitted.len()), (1, 0));
}

#[test]
fn a_few_are_a_list_and_many_a_digest() {
    let few = message(vec![told(ban(9), 0), told(device("ha.example.org"), 1), told(ban(10), 2)]);
    assert_eq!(few.title, "Hearthgate: 2 bans, 1 new device");
    let expected = "\
- 203.0.113.9 is banned for 15m, until 2026-11-23 21:45 UTC: too many failed logins
- 203.0.113.10 is banned for 15m, until 2026-11-23 21:45 UTC: too many failed logins
- Somebody has logged in to ha.example.org from 2001:db8::/64 on a new device";
    assert_eq!(few.text, expected);
    assert_eq!((few.kind, few.urgency, few.tag), ("several", Urgency::High, "iphone"));

    let many = message((0..500).map(|nth| told(ban(nth % 200), u64::from(nth) / 10)).collect());
    assert_eq!(many.title, "Hearthgate: 500 bans");
    assert_eq!(many.text, "500 bans within 49s, such as 203.0.113.0, 203.0.113.1, 203.0.113.2");
    assert_eq!((many.events.len(), many.omitted["ban"], many.count()), (50, 450, 500));

    // The one that comes when the list is full still has its place.
    let mut events: Vec<_> = (0..50).map(|nth| told(ban(nth), 0)).collect();
    events.push(told(device("ha.example.org"), 1));
    let drowned = message(events);
    assert_eq!(drowned.title, "Hearthgate: 50 bans, 1 new device");
    assert!(drowned.text.ends_with("- 1 new device"), "{}", drowned.text);
    assert_eq!((drowned.omitted["new_device"], drowned.urgency), (1, Urgency::High));
}

#[test]
fn the_json_of_an_event_is_what_the_readme_says() {
    let json = |event| serde_json::to_value(&*told(event, 0)).unwrap();
    assert_eq!(
        json(ban(9)),
        serde_json::json!({
            "at": "2026-11-23T21:30:00Z", "kind": "ban", "network": "203.0.113.9/32", "cause": "login",
            "until": "2026-11-23T21:45:00Z", "seconds": 900, "strikes": 1,
            "message": "203.0.113.9 is banned for 15m, until 2026-11-23 21:45 UTC: too many failed logins",
        })
    );
    for event in all_kinds() {
        assert_eq!(json(event.clone())["kind"], event.kind());
        assert!(!event.sentence().is_empty() && !event.subject().is_empty());
    }
}

fn all_kinds() -> Vec<Event> {
    let (host, not_after, why) = (String::from("ha.example.org"), SystemTime::UNIX_EPOCH, Why::new("because"));
    vec![
        ban(1),
        Event::BanLifted { network: "203.0.113.0/24".parse().unwrap() },
        device(&host),
        Event::LoginStorm { failures: 31, seconds: 60 },
        Event::CertificateFailed { host: host.clone(), why: why.clone() },
        Event::CertificateExpiresSoon { host: host.clone(), not_after },
        Event::CertificateExpired { host: host.clone(), not_after },
        Event::CertificateRecovered { host: host.clone(), not_after },
        Event::ReloadRefused { why: why.clone() },
        Event::ReloadAccepted { generation: 3 },
        Event::UpstreamDown { host: host.clone(), why },
        Event::UpstreamUp { host },
        Event::Test,
    ]
}

#[test]
fn an_explanation_is_one_bounded_line() {
    assert_eq!(Why::new("a.yaml:3:1: hosts: missing\n  3 | x\n").to_string(), "a.yaml:3:1: hosts: missing");
    assert_eq!(Why::new("a\u{1b}[2Jb\u{85}c").to_string(), "a [2Jb c");
    assert!(Why::new(&"ü".repeat(1000)).to_string().len() <= 305);
    assert_eq!(Why::new("").to_string(), "");
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_grows_without_end(picks in prop::collection::vec(0..13_usize, 1..400)) {
        let kinds = all_kinds();
        let message = message(picks.iter().map(|pick| told(kinds[*pick].clone(), 0)).collect());
        prop_assert_eq!(message.count(), picks.len() as u64);
        prop_assert!(message.events.len() <= MOST_EVENTS);
        prop_assert!(message.text.len() <= MOST_TEXT + '…'.len_utf8());
        prop_assert!(message.title.len() < 200);
        // In order, and the first ones.
        let kept: Vec<_> = message.events.iter().map(|told| told.event.kind()).collect();
        let first: Vec<_> = picks.iter().take(MOST_EVENTS).map(|pick| kinds[*pick].kind()).collect();
        prop_assert_eq!(kept, first);
    }
}
