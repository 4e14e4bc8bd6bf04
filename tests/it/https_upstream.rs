//! Upstreams behind TLS: whom the gate believes.

use std::fmt::Write;

use hearthgate::admin::ReloadOutcome::{Accepted, Refused, Unchanged};

use crate::harness::{Authority, FakeHomeAssistant, Gate, Setup};

/// A TLS upstream with a certificate for 127.0.0.1, and the authority that issued it.
async fn upstream() -> (FakeHomeAssistant, Authority, String) {
    let authority = Authority::new();
    let issued = authority.issue(&["127.0.0.1"]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &issued.der);
    let pin = digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    (FakeHomeAssistant::with_tls(issued.server_config()).await, authority, pin)
}

async fn gate(upstream: &FakeHomeAssistant, trust: &str) -> Gate {
    let yaml = format!("{{url: \"https://{}\", health_check: 0s, {trust}}}", upstream.address);
    Setup::with_upstream(&yaml).start().await
}

fn ca_file(authority: &Authority) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    let key = format!("ca_file: {}", file.display());
    (directory, key)
}

/// Ordinary requests and upgrades take different ways to the upstream; both must agree.
async fn passes(gate: &Gate, upstream: &FakeHomeAssistant) {
    assert_eq!(gate.client().await.get("/").await.text(), "home");
    let mut client = gate.client().await;
    client.send(crate::harness::websocket::UPGRADE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(upstream.seen().len(), 2);
}

async fn is_not_believed(gate: &Gate, upstream: &FakeHomeAssistant) {
    assert_eq!(gate.client().await.get("/").await.status, 502);
    assert_eq!(gate.running.status().hosts[0].health, "tls");
    let upgrade = crate::harness::websocket::UPGRADE;
    assert_eq!(gate.client().await.exchange(upgrade).await.status, 502);
    assert_eq!(upstream.seen().len(), 0, "a request was shown to an upstream that is not believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_is_believed() {
    let (upstream, authority, _) = upstream().await;
    let (_directory, ca_file) = ca_file(&authority);
    passes(&gate(&upstream, &ca_file).await, &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_not_believed() {
    let (upstream, _, _) = upstream().await;
    let (_directory, ca_file) = ca_file(&Authority::new());
    is_not_believed(&gate(&upstream, &ca_file).await, &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_systems_authorities_do_not_believe_a_stranger() {
    let (upstream, ..) = upstream().await;
    is_not_believed(&gate(&upstream, "verify: true").await, &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_not_believed() {
    let authority = Authority::new();
    let upstream = FakeHomeAssistant::with_tls(authority.issue(&["evil.test"]).server_config()).await;
    let (_directory, ca_file) = ca_file(&authority);
    is_not_believed(&gate(&upstream, &ca_file).await, &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pinned_certificate_is_believed() {
    let (upstream, _, pin) = upstream().await;
    passes(&gate(&upstream, &format!("certificate_sha256: \"{pin}\"")).await, &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_than_the_pinned_one_is_not_believed() {
    let (upstream, ..) = upstream().await;
    let (_, _, other) = self::upstream().await;
    is_not_believed(&gate(&upstream, &format!("certificate_sha256: \"{other}\"")).await, &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_no_verification_gets_none() {
    let (upstream, ..) = upstream().await;
    passes(&gate(&upstream, "verify: false").await, &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn https_to_an_upstream_without_it_is_a_502() {
    let upstream = FakeHomeAssistant::start().await;
    is_not_believed(&gate(&upstream, "verify: false").await, &upstream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_the_authorities_that_the_same_file_holds_by_now() {
    let (upstream, authority, _) = upstream().await;
    let stranger = Authority::new();
    let (directory, key) = ca_file(&stranger);
    let gate = gate(&upstream, &key).await;
    is_not_believed(&gate, &upstream).await;

    std::fs::write(directory.path().join("ca.pem"), &authority.pem).unwrap();
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    passes(&gate, &upstream).await;
    assert_eq!(gate.running.reload().await.outcome, Unchanged);
    assert_eq!(gate.client().await.get("/").await.text(), "home");

    // And back: no pooled connection of the old trust is left.
    std::fs::write(directory.path().join("ca.pem"), &stranger.pem).unwrap();
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    let before = upstream.seen().len();
    assert_eq!(gate.client().await.get("/").await.status, 502);
    assert_eq!(gate.client().await.exchange(crate::harness::websocket::UPGRADE).await.status, 502);
    assert_eq!(upstream.seen().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_an_authority_that_is_none_is_refused_and_the_old_one_goes_on() {
    let (upstream, authority, _) = upstream().await;
    let (directory, key) = ca_file(&authority);
    let gate = gate(&upstream, &key).await;
    std::fs::write(directory.path().join("ca.pem"), "no certificate").unwrap();
    let report = gate.running.reload().await;
    assert_eq!(report.outcome, Refused);
    assert!(report.errors.iter().any(|error| error.contains("ca.pem")), "{report:?}");
    passes(&gate, &upstream).await;
}
