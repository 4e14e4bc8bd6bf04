//! Closed hosts: nothing without a client certificate.

use std::path::Path;
use std::sync::Arc;

use hearthgate::admin::ReloadOutcome::Accepted;
use hearthgate::denial::Denial;
use rustls::ClientConfig;

use crate::harness::authority::Authority;
use crate::harness::{Client, FakeHomeAssistant, Gate, Setup};

fn closed(upstream: &FakeHomeAssistant, ca: &Path) -> Setup {
    let setup = Setup::new(upstream.address).key("surface: closed");
    setup.key(&format!("client_ca_file: {}", ca.display())).host("open.test", upstream.address)
}

/// An authority for a family, and where it is written down.
fn family(directory: &Path) -> (Authority, std::path::PathBuf) {
    let family = Authority::new();
    let file = directory.join("family.pem");
    std::fs::write(&file, &family.pem).unwrap();
    (family, file)
}

/// The status of `/`, or `None` if the TLS handshake failed. TLS 1.3 tells a client so behind its own last message.
async fn status(gate: &Gate, config: ClientConfig) -> Option<u16> {
    let stream = gate.dial().tls_with(Arc::new(config)).await.ok()?;
    let mut client = Client::new(stream);
    client.try_send("GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await.ok()?;
    let rest = client.more().await;
    if rest == 0 { None } else { Some(client.answer().await.status) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_family_gets_in_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let (family, ca) = family(directory.path());
    let upstream = FakeHomeAssistant::start().await;
    let gate = closed(&upstream, &ca).start().await;
    let (member, stranger) = (family.issue(&["anna"]), Authority::new().issue(&["anna"]));
    assert_eq!(status(&gate, member.client_config(&gate.authority)).await, Some(200));
    assert_eq!(status(&gate, stranger.client_config(&gate.authority)).await, None);
    assert_eq!(status(&gate, gate.authority.client_config(&[])).await, None);
    gate.has_denied(Denial::ClientCertificate, 2).await;
    assert_eq!(upstream.targets(), ["/"]);
    // The neighbour asks for no certificate.
    assert_eq!(
        gate.client_of("open.test").await.exchange("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n").await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_host_opens_no_closed_one() {
    let directory = tempfile::tempdir().unwrap();
    let (_, ca) = family(directory.path());
    let upstream = FakeHomeAssistant::start().await;
    let gate = closed(&upstream, &ca).start().await;
    // A connection that was made for the open host.
    let mut client = gate.client_of("open.test").await;
    assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await.status, 421);
    assert!(upstream.targets().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_from_before_a_host_was_closed_are_turned_away() {
    let directory = tempfile::tempdir().unwrap();
    let (family, ca) = family(directory.path());
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).start().await;
    let mut early = gate.client().await;
    assert_eq!(early.get("/").await.status, 200);
    gate.write(&closed(&upstream, &ca));
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    assert_eq!(early.get("/").await.status, 421);
    // Who has shown a certificate keeps the connection over a reload that changes something else.
    let member = family.issue(&["anna"]).client_config(&gate.authority);
    let mut member = Client::new(gate.dial().tls_with(Arc::new(member)).await.unwrap());
    assert_eq!(member.get("/").await.status, 200);
    gate.write(&closed(&upstream, &ca).section("limits: {header_count: 50}"));
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    assert_eq!(member.get("/").await.status, 200);
    // Another authority is another door.
    std::fs::write(&ca, Authority::new().pem).unwrap();
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    assert_eq!(member.get("/").await.status, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_with_a_broken_authority_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_, ca) = family(directory.path());
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).start().await;
    std::fs::write(&ca, "no certificate").unwrap();
    gate.write(&closed(&upstream, &ca));
    let report = gate.running.reload().await;
    assert!(report.errors.join("\n").contains("hosts.ha.test.client_ca_file"), "{report:?}");
    assert_eq!(gate.client().await.get("/").await.status, 200);
}
