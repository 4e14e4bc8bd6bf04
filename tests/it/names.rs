//! Which host a connection is for: SNI, Host and what is configured must agree.

use hearthgate::denial::Denial;
use rustls::pki_types::ServerName;

use crate::harness::{Client, FakeHomeAssistant, Gate, RawUpstream, Setup};

const ALERT: u8 = 21;

/// All bytes with which the gate answers a hello for `name`.
async fn answer_to_hello(gate: &Gate, name: Option<&str>) -> Vec<u8> {
    let mut config = gate.authority.client_config(&["http/1.1"]);
    config.enable_sni = name.is_some();
    let server = ServerName::try_from(name.unwrap_or("ha.test").to_owned()).unwrap();
    let mut tls = rustls::ClientConnection::new(std::sync::Arc::new(config), server).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut client = Client::new(gate.dial().tcp().await);
    client.send(hello).await;
    client.rest().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_name_gets_an_alert_and_sees_no_certificate() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    for (at, name) in [Some("evil.test"), Some("test"), Some("a.ha.test"), None].into_iter().enumerate() {
        let answer = answer_to_hello(&gate, name).await;
        assert_eq!((answer[0], answer.len()), (ALERT, 7), "{name:?}: {}", answer.escape_ascii());
        gate.has_denied(Denial::TlsName, at as u64 + 1).await;
    }
    assert!(gate.dial().without_name().tls().await.is_err());
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_shows_its_own_certificate_to_whoever_knows_its_name() {
    let upstream = FakeHomeAssistant::start().await;
    let setup = Setup::new(upstream.address).host("cam.test", upstream.address);
    let gate = setup.host("*.wild.test", upstream.address).alias("other.test").start().await;
    for name in ["ha.test", "HA.test", "cam.test", "a.wild.test", "b.wild.test", "other.test"] {
        // The client verifies that the certificate is for the name it asked for.
        assert!(gate.dial().name(name).tls().await.is_ok(), "{name}");
    }
    for name in ["wild.test", "a.b.wild.test", "b.ha.test"] {
        assert!(gate.dial().name(name).tls().await.is_err(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_host_than_the_connections_is_misdirected() {
    let mut secret = RawUpstream::start().await;
    let mut home = RawUpstream::start().await;
    let gate = Setup::new(home.address).host("cam.test", secret.address).start().await;
    for (at, host) in ["cam.test", "evil.test", "127.0.0.1", "[::1]"].iter().enumerate() {
        let answer = gate.client().await.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, 421, "{host}");
        gate.has_denied(Denial::Misdirected, at as u64 + 1).await;
    }
    secret.is_untouched().await;
    home.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misdirected_request_leaves_the_connection_to_its_own_host() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n").await.status, 421);
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_compared_without_case_port_and_root_dot() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    for host in ["HA.TEST", "ha.test.", "ha.test:443", "Ha.Test.:8443"] {
        let answer = gate.client().await.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{host}");
        assert_eq!(upstream.last().values("host"), [host]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_routed_exact_before_wildcard_and_by_alias() {
    let home = FakeHomeAssistant::named("home").await;
    let wild = FakeHomeAssistant::named("wild").await;
    let exact = FakeHomeAssistant::named("exact").await;
    let setup = Setup::new(home.address).alias("casa.test").host("*.wild.test", wild.address);
    let gate = setup.host("a.wild.test", exact.address).start().await;
    for (name, expected) in [
        ("ha.test", "home"),
        ("casa.test", "home"),
        ("a.wild.test", "exact"),
        ("b.wild.test", "wild"),
        ("c.wild.test", "wild"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        assert_eq!(gate.client_of(name).await.exchange(request).await.text(), expected, "{name}");
    }
}
