//! A new configuration while the gate serves: all or nothing, and nobody notices but those it concerns.

use std::net::SocketAddr;

use hearthgate::admin::ReloadOutcome::{Accepted, Refused, Unchanged};
use rustls::pki_types::CertificateDer;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::websocket::WebSocket;
use crate::harness::{FakeHomeAssistant, Gate, RawUpstream, Setup, eventually};

const RELOADS: &str = "hearthgate_config_reloads_total";

async fn shown_certificate(gate: &Gate) -> CertificateDer<'static> {
    let stream = gate.dial().tls().await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Writes the certificate of `ha.test` anew, as certbot would.
fn renew(gate: &Gate) -> CertificateDer<'static> {
    let issued = gate.authority.issue(&["ha.test"]);
    issued.write(gate.directory.path(), "ha.test");
    issued.der.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_file_moves_the_next_request_of_an_open_connection() {
    let (old, new) = (FakeHomeAssistant::named("old").await, FakeHomeAssistant::named("new").await);
    let gate = Gate::start(old.address).await;
    let mut client = gate.client().await;
    assert_eq!(client.get("/").await.text(), "old");
    gate.write(&Setup::new(new.address).host("cam.test", old.address));
    let report = gate.running.reload().await;
    assert_eq!((report.outcome, report.generation), (Accepted, 2), "{report:?}");
    assert_eq!(client.get("/").await.text(), "new");
    let request = "GET / HTTP/1.1\r\nHost: cam.test\r\n\r\n";
    assert_eq!(gate.client_of("cam.test").await.exchange(request).await.text(), "old");
    assert_eq!(gate.metric("hearthgate_config_generation"), Some(2.0));
    assert_eq!(gate.metric("hearthgate_config_last_reload_successful"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_gone_is_unknown_from_then_on() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).host("cam.test", upstream.address).start().await;
    let request = "GET / HTTP/1.1\r\nHost: cam.test\r\n\r\n";
    let mut client = gate.client_of("cam.test").await;
    assert_eq!(client.exchange(request).await.status, 200);
    gate.write(&Setup::new(upstream.address));
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    assert_eq!(client.exchange(request).await.status, 421);
    assert!(gate.dial().name("cam.test").tls().await.is_err());
    assert_eq!(gate.client().await.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_refused_and_the_old_one_serves() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let good = std::fs::read_to_string(&gate.file).unwrap();
    let bad = [
        "hosts: [".to_owned(),
        good.replace("upstream:", "upstraem:"),
        good.replace("ha.test.chain.pem", "absent.pem"),
        String::new(),
    ];
    for (at, bad) in bad.iter().enumerate() {
        std::fs::write(&gate.file, bad).unwrap();
        let report = gate.running.reload().await;
        assert_eq!((report.outcome, report.generation), (Refused, 1), "{bad}");
        assert!(!report.errors.is_empty() && report.keys_needing_restart.is_empty(), "{report:?}");
        assert_eq!(gate.client().await.get("/").await.status, 200);
        assert_eq!(gate.metric(&format!("{RELOADS}{{outcome=\"refused\"}}")), Some(at as f64 + 1.0));
        assert_eq!(gate.metric("hearthgate_config_last_reload_successful"), Some(0.0));
    }
    std::fs::remove_file(&gate.file).unwrap();
    assert_eq!(gate.running.reload().await.outcome, Refused);
    std::fs::write(&gate.file, good).unwrap();
    assert_eq!(gate.running.reload().await.outcome, Unchanged);
    assert_eq!(gate.metric("hearthgate_config_last_reload_successful"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_need_a_restart_are_named_and_nothing_of_the_file_is_taken() {
    let (old, new) = (FakeHomeAssistant::named("old").await, FakeHomeAssistant::named("new").await);
    let gate = Gate::start(old.address).await;
    gate.write(&Setup::new(new.address).listen("public_port: 444").section("reload: {interval: 5s}"));
    let report = gate.running.reload().await;
    assert_eq!(report.outcome, Refused);
    assert_eq!(report.keys_needing_restart, ["listen.public_port", "reload.interval"]);
    assert_eq!(gate.client().await.get("/").await.text(), "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_changes_nothing() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let report = gate.running.reload().await;
    assert_eq!((report.outcome, report.generation), (Unchanged, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_finishes_on_what_it_began_with() {
    let (mut old, new) = (RawUpstream::start().await, FakeHomeAssistant::named("new").await);
    let gate = Gate::start(old.address).await;
    let mut client = gate.client().await;
    client.send("GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    let mut peer = old.accept().await;
    peer.head().await;
    gate.write(&Setup::new(new.address).key("security_headers: false"));
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold").await;
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.field("x-frame-options")), ("old", Some("SAMEORIGIN")));
    let answer = client.get("/").await;
    assert_eq!((answer.text(), answer.field("x-frame-options")), ("new", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_outlives_every_reload_even_of_its_own_host() {
    let upstream = FakeHomeAssistant::start().await;
    let other = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut socket = WebSocket::open(&gate).await;
    socket.echoes(Message::text("before")).await;
    for at in 0..10 {
        let address: SocketAddr = if at % 2 == 0 { other.address } else { upstream.address };
        gate.write(&Setup::new(address));
        assert_eq!(gate.running.reload().await.outcome, Accepted);
        socket.echoes(Message::text(format!("after {at}"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_live() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    let request = format!("GET / HTTP/1.1\r\nHost: ha.test\r\n{}\r\n", "X: y\r\n".repeat(20));
    assert_eq!(client.exchange(&request).await.status, 200);
    gate.write(&Setup::new(upstream.address).section("limits: {header_count: 10}"));
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    assert_eq!(gate.client().await.exchange(&request).await.status, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_after_a_reload() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let old = shown_certificate(&gate).await;
    let mut open = gate.client().await;
    let new = renew(&gate);
    assert_eq!(shown_certificate(&gate).await, old);
    assert_eq!(gate.running.reload().await.outcome, Unchanged);
    assert_eq!(shown_certificate(&gate).await, new);
    assert_eq!(open.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_found_without_being_told() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).section("reload: {interval: 100ms}").start().await;
    let new = renew(&gate);
    crate::harness::within("the new certificate", async {
        while shown_certificate(&gate).await != new {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_certificate_is_counted_and_the_old_one_goes_on() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).section("reload: {interval: 100ms}").start().await;
    let old = shown_certificate(&gate).await;
    let key_of_another = gate.authority.issue(&["ha.test"]).key;
    std::fs::write(gate.directory.path().join("ha.test.key.pem"), key_of_another).unwrap();
    let errors = || gate.metric("hearthgate_tls_certificate_errors");
    eventually("the broken certificate to be counted", || errors() == Some(1.0)).await;
    assert_eq!(shown_certificate(&gate).await, old);
    let new = renew(&gate);
    eventually("the all-clear", || errors() == Some(0.0)).await;
    assert_eq!(shown_certificate(&gate).await, new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_file_is_read_again_by_itself() {
    let (old, new) = (FakeHomeAssistant::named("old").await, FakeHomeAssistant::named("new").await);
    let watch = "reload: {watch: true, interval: 100ms}";
    let gate = Setup::new(old.address).section(watch).start().await;
    gate.write(&Setup::new(new.address).section(watch));
    eventually("the second generation", || gate.running.status().generation == 2).await;
    assert_eq!(gate.client().await.get("/").await.text(), "new");
}
