//! PROXY protocol: believed from trusted peers, required of them, and refused from everyone else.

use hearthgate::denial::Denial;

use crate::harness::{Client, FakeHomeAssistant, Gate, RawUpstream, Setup, eventually};

async fn behind_a_proxy(upstream: std::net::SocketAddr) -> Gate {
    Setup::new(upstream).listen("proxy_protocol_from: [127.0.0.1/32]").start().await
}

fn v2(source: [u8; 4], command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 12]);
    header.extend(source);
    header.extend([192, 0, 2, 1, 0x10, 0x92, 0x01, 0xbb]);
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_peer_names_its_client() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = behind_a_proxy(upstream.address).await;
    for (header, client) in [
        (b"PROXY TCP4 203.0.113.9 192.0.2.1 4242 443\r\n".to_vec(), "203.0.113.9"),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 4242 443\r\n".to_vec(), "2001:db8::9"),
        (b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:192.0.2.1 4242 443\r\n".to_vec(), "203.0.113.9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2([203, 0, 113, 10], 1), "203.0.113.10"),
        (v2([203, 0, 113, 10], 0), "127.0.0.1"),
    ] {
        let answer = gate.dial().announce(&header).client().await.get("/").await;
        assert_eq!(answer.status, 200, "{}", header.escape_ascii());
        assert_eq!(upstream.last().values("x-forwarded-for"), [client]);
    }
    gate.has_denied_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_peer_that_names_nobody_is_refused() {
    let mut upstream = RawUpstream::start().await;
    let gate = behind_a_proxy(upstream.address).await;
    assert!(gate.dial().tls().await.is_err());
    gate.has_denied(Denial::ProxyProtocol, 1).await;
    let garbage: [&[u8]; 2] = [b"PROXY TCP4 x y 1 2\r\n", b"PROXY TCP4 203.0.113.9 192.0.2.1 4242 443 6\r\n"];
    for (at, header) in garbage.iter().enumerate() {
        Client::new(gate.dial().announce(header).tcp().await).closed().await;
        gate.has_denied(Denial::ProxyProtocol, at as u64 + 2).await;
    }
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_peer_that_stalls_is_cut_with_the_handshakes_deadline() {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new(upstream.address).listen("proxy_protocol_from: [127.0.0.1/32]");
    let gate = setup.section("timeouts: {tls_handshake: 200ms}").start().await;
    Client::new(gate.dial().announce(b"PROXY TC").tcp().await).closed().await;
    gate.has_denied(Denial::ProxyProtocol, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_peer_cannot_name_anybody() {
    let mut upstream = RawUpstream::start().await;
    let gate = behind_a_proxy(upstream.address).await;
    let stranger = gate.dial().from("127.0.0.2").announce(b"PROXY TCP4 203.0.113.9 192.0.2.1 4242 443\r\n");
    assert!(stranger.tls().await.is_err());
    gate.has_denied(Denial::TlsHandshake, 1).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_peer_without_a_header_is_an_ordinary_client() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = behind_a_proxy(upstream.address).await;
    assert_eq!(gate.dial().from("127.0.0.2").client().await.get("/").await.status, 200);
    assert_eq!(upstream.only().values("x-forwarded-for"), ["127.0.0.2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_per_client_holds_for_those_who_are_named() {
    let upstream = FakeHomeAssistant::start().await;
    let setup = Setup::new(upstream.address).listen("proxy_protocol_from: [127.0.0.1/32]");
    let gate = setup.section("limits: {connections_per_client: 1}").start().await;
    let (one, other) = (b"PROXY TCP4 203.0.113.1 192.0.2.1 1 443\r\n", b"PROXY TCP4 203.0.113.2 192.0.2.1 1 443\r\n");
    let mut first = gate.dial().announce(one).client().await;
    assert_eq!(first.get("/").await.status, 200);
    assert_eq!(gate.dial().announce(one).client().await.get("/").await.status, 503);
    assert_eq!(gate.dial().announce(other).client().await.get("/").await.status, 200);
    gate.has_denied(Denial::ConnectionsPerClient, 1).await;
}

/// They counted twice: as the proxy's, and as their own.
#[tokio::test(flavor = "multi_thread")]
async fn an_announced_connection_takes_one_place_of_all() {
    let upstream = FakeHomeAssistant::start().await;
    let setup = Setup::new(upstream.address).listen("proxy_protocol_from: [127.0.0.1/32]");
    let gate = setup.section("limits: {connections: 2, connections_per_client: 2}").start().await;
    let announced = |last: u8| format!("PROXY TCP4 203.0.113.{last} 192.0.2.1 1 443\r\n");
    let mut held = Vec::new();
    for last in [1, 2] {
        let mut client = gate.dial().announce(announced(last).as_bytes()).client().await;
        assert_eq!(client.get("/").await.status, 200);
        held.push(client);
    }
    assert_eq!(gate.running.status().connections_open, 2);
    let answer = gate.dial().announce(announced(3).as_bytes()).client().await.get("/over").await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
    gate.has_denied(Denial::Connections, 1).await;
    assert_eq!(upstream.targets(), ["/", "/"]);
    held.pop();
    eventually("a place", || gate.running.status().connections_open == 1).await;
    assert_eq!(gate.dial().announce(announced(3).as_bytes()).client().await.get("/").await.status, 200);
}
