//! What the operator hears of: each time once, at the right address, and never a secret.

use std::collections::HashSet;

use serde_json::Value;

use crate::harness::{FakeHomeAssistant, Gate, Guest, Household, Setup, eventually, guarded};

/// Where events go: whatever it is asked, it says 200.
type Receiver = FakeHomeAssistant;

const THREE: &str = "login: {max_failures: 3}";

/// A section that tells `receiver` soon; its webhook's id and its token are `WEBHOOKID` and `TOKEN`.
fn told(receiver: &Receiver, more: &str) -> String {
    let url = format!("http://{}/api/webhook/WEBHOOKID", receiver.address);
    format!(
        "events: {{house: {{url: \"{url}\", format: home_assistant, token: TOKEN, batch: 100ms, min_interval: 1s{more}}}}}"
    )
}

/// All events that have arrived, in their order.
fn arrived(receiver: &Receiver) -> Vec<Value> {
    let messages = receiver.seen().into_iter().map(|seen| serde_json::from_slice::<Value>(&seen.body).unwrap());
    messages.flat_map(|message| message["events"].as_array().unwrap().clone()).collect()
}

fn kinds(receiver: &Receiver) -> Vec<String> {
    arrived(receiver).iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_and_its_end_are_told_with_the_address_and_no_secret() {
    let (household, receiver) = (Household::start().await, Receiver::start().await);
    let gate = guarded(&household, THREE).section(&told(&receiver, "")).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for password in ["GUESS1", "GUESS2", "GUESS3"] {
        guest.guess(password).await;
    }
    eventually("a message", || !arrived(&receiver).is_empty()).await;
    let ban = &arrived(&receiver)[0];
    assert_eq!((&ban["kind"], &ban["network"]), (&"ban".into(), &"203.0.113.1/32".into()));
    assert_eq!((&ban["cause"], &ban["strikes"], &ban["seconds"]), (&"login".into(), &1.into(), &900.into()));
    let seen = receiver.seen().remove(0);
    assert_eq!(seen.target, "/api/webhook/WEBHOOKID");
    assert_eq!(seen.values("authorization"), ["Bearer TOKEN"]);
    assert!(!String::from_utf8(seen.body).unwrap().contains("GUESS"));

    let file = gate.file.to_str().unwrap();
    super::command_line::answer_of(&["bans", "remove", "203.0.113.1", "--config", file]).await;
    super::command_line::answer_of(&[
        "bans",
        "add",
        "203.0.113.0/24",
        "--for",
        "1d",
        "--reason",
        "scans",
        "--config",
        file,
    ])
    .await;
    eventually("the rest", || arrived(&receiver).len() >= 3).await;
    assert_eq!(kinds(&receiver), ["ban", "ban_lifted", "ban"]);
    let operators = &arrived(&receiver)[2];
    assert_eq!((&operators["cause"], &operators["reason"]), (&"operator".into(), &"scans".into()));
    let text = prometheus::TextEncoder::new().encode_to_string(&gate.running.metrics.registry().gather()).unwrap();
    assert!(!text.contains("WEBHOOKID") && !text.contains("TOKEN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_told_once_and_neither_its_renewals_nor_its_ways() {
    let (household, receiver) = (Household::start().await, Receiver::start().await);
    let gate = guarded(&household, "").section(&told(&receiver, "")).start().await;
    let phone = Guest::at(&gate, "203.0.113.1");
    let session = phone.log_in().await;
    eventually("the new device", || arrived(&receiver).len() == 1).await;
    let device = &arrived(&receiver)[0];
    assert_eq!((&device["kind"], &device["proof"]), (&"new_device".into(), &"login".into()));
    assert_eq!((&device["host"], &device["network"]), (&"ha.test".into(), &"203.0.113.1/32".into()));

    // It goes on, from home and from elsewhere; and a browser that is known logs in anew.
    for ip in ["203.0.113.1", "198.51.100.77"] {
        let here = Guest::at(&gate, ip);
        assert_eq!(here.refresh(&session.refresh).await.status, 200);
        assert_eq!(here.clone().bearer(&session.access).get("/api/states").await.status, 200);
        assert_eq!(here.show(&session.access).await.1.as_deref(), Some("auth_ok"));
        here.clone().with(&format!("Cookie: {}", session.cookie)).log_in().await;
    }
    // A token that the gate has not seen is no news at home, and elsewhere it is.
    let token = crate::harness::household::LONG_LIVED;
    assert_eq!(phone.clone().bearer(token).get("/api/states").await.status, 200);
    let other = household.issue_access();
    assert_eq!(Guest::at(&gate, "192.0.2.200").bearer(&other).get("/api/states").await.status, 200);
    // Wrong ones are none.
    Guest::at(&gate, "192.0.2.201").bearer("made up").get("/api/states").await;
    Guest::at(&gate, "192.0.2.201").guess("wrong").await;
    Guest::at(&gate, "203.0.113.1").log_in().await;
    eventually("the others", || arrived(&receiver).len() >= 3).await;
    let told: Vec<_> =
        arrived(&receiver).iter().map(|device| (device["network"].clone(), device["proof"].clone())).collect();
    let expected = [("203.0.113.1/32", "login"), ("192.0.2.200/32", "bearer"), ("203.0.113.1/32", "login")];
    assert_eq!(told, expected.map(|(network, proof)| (network.into(), proof.into())));
    for seen in receiver.seen() {
        let body = String::from_utf8(seen.body).unwrap();
        for secret in [&session.access, &session.refresh, &session.cookie, &other] {
            assert!(!body.contains(secret.as_str()), "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reload_is_told_and_the_first_good_one_after_it() {
    let (upstream, receiver, second) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let setup = Setup::new(upstream.address).section(&told(&receiver, ", tell: [reloads]"));
    let gate = setup.clone().start().await;
    gate.running.reload().await;
    let good = std::fs::read_to_string(&gate.file).unwrap();
    std::fs::write(&gate.file, good.replace("upstream:", "upstraem:")).unwrap();
    gate.running.reload().await;
    eventually("the refusal", || arrived(&receiver).len() == 1).await;
    let refusal = arrived(&receiver).remove(0);
    assert_eq!(refusal["kind"], "reload_refused");
    let why = refusal["why"].as_str().unwrap();
    assert!(why.contains("`upstream` is missing: add it") && !why.contains('\n'), "{why}");

    // Who is told from now on, is told of this.
    gate.write(&Setup::new(upstream.address).section(&told(&second, "")));
    gate.running.reload().await;
    eventually("the acceptance", || arrived(&second).len() == 1).await;
    assert_eq!(kinds(&second), ["reload_accepted"]);
    gate.running.reload().await;
    gate.running.stop().await;
    assert_eq!((arrived(&receiver).len(), arrived(&second).len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_replaced_is_told_and_that_it_could_be_in_the_end() {
    let (upstream, receiver) = (Receiver::start().await, Receiver::start().await);
    let section = format!("reload: {{interval: 100ms}}\n{}", told(&receiver, ""));
    let gate = Setup::new(upstream.address).section(&section).start().await;
    let chain = gate.directory.path().join("ha.test.chain.pem");
    std::fs::write(&chain, "half a certificate").unwrap();
    eventually("the trouble", || arrived(&receiver).len() == 1).await;
    assert_eq!(
        (&arrived(&receiver)[0]["kind"], &arrived(&receiver)[0]["host"]),
        (&"certificate_failed".into(), &"ha.test".into())
    );
    gate.authority.issue(&["ha.test"]).write(gate.directory.path(), "ha.test");
    eventually("its end", || kinds(&receiver).contains(&"certificate_recovered".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_one_who_does_not_listen() {
    let household = Household::start().await;
    // Takes connections, and never a word.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let section = format!("events: {{house: {{url: \"{url}\", format: json, batch: 100ms}}}}\ntimeouts: {{drain: 0}}");
    let guard = "login: {max_failures: 3, account_failures: 1000}";
    let gate = guarded(&household, guard).section(&section).start().await;
    for last in 0..40 {
        let guest = Guest::at(&gate, &format!("203.0.113.{last}"));
        for password in ["1", "2", "3"] {
            guest.guess(password).await;
        }
        assert!(guest.is_shut_out().await);
    }
    assert_eq!(gate.metric("hearthgate_events_total{kind=\"ban\"}"), Some(40.0));
    let begun = std::time::Instant::now();
    gate.running.stop().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_asks_for_a_test_message() {
    let (upstream, receiver) = (Receiver::start().await, Receiver::start().await);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let section = told(&receiver, "")
        .replace("events: {", &format!("events: {{phone: {{url: \"http://{gone}/TOPIC\", format: ntfy}}, "));
    let (_directory, _authority, file) = Setup::new(upstream.address).section(&section).lay_out();
    let config = file.to_str().unwrap();
    let all = super::command_line::hearthgate(&["events", "test", "--config", config]).await;
    let text = String::from_utf8(all.stdout).unwrap() + &String::from_utf8(all.stderr).unwrap();
    assert_eq!(all.status.code(), Some(1), "{text}");
    let lines: HashSet<&str> = text.lines().map(|line| line.split([',', ';']).next().unwrap()).collect();
    assert!(lines.contains("house: sent"), "{text}");
    assert!(text.contains("phone: not delivered: cannot connect"), "{text}");
    assert!(!text.contains("TOPIC") && !text.contains("WEBHOOKID"), "{text}");
    assert_eq!(kinds(&receiver), ["test"]);
    let answer = super::command_line::answer_of(&["events", "test", "house", "--config", config]).await;
    assert!(answer.starts_with("house: sent, answered 200"), "{answer}");
    let unknown = super::command_line::hearthgate(&["events", "test", "hous", "--config", config]).await;
    let complaint = String::from_utf8(unknown.stderr).unwrap();
    assert!(unknown.status.code() == Some(1) && complaint.contains("known there: phone, house"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_that_cannot_be_read_are_a_mistake_like_any_other() {
    let upstream = Receiver::start().await;
    let gate = Gate::start(upstream.address).await;
    let section = "events: {house: {url: \"https://10.0.0.1/WEBHOOKID\", format: json, ca_file: none.pem}}";
    gate.write(&Setup::new(upstream.address).section(section));
    let report = gate.running.reload().await;
    assert_eq!(report.errors.len(), 1, "{report:?}");
    assert!(report.errors[0].starts_with("events.house.ca_file: ") && !report.errors[0].contains("WEBHOOKID"));
}
