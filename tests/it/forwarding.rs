//! What the upstream is told about the client: the gate's word and nobody else's.

use http::Request;

use crate::harness::http2::Http2Client;
use crate::harness::{FakeHomeAssistant, Gate, Setup};

/// Every way in which a client could claim to be someone else.
const FORGED: [(&str, &str); 23] = [
    ("x-forwarded-for", "6.6.6.6"),
    ("x-forwarded-for", "7.7.7.7"),
    ("x_forwarded_for", "6.6.6.6"),
    ("x-forwarded-host", "evil.test"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-proto", "ftp"),
    ("x-forwarded-port", "1"),
    ("x-forwarded-server", "evil.test"),
    ("forwarded", "for=6.6.6.6"),
    ("x-real-ip", "6.6.6.6"),
    ("cf-connecting-ip", "6.6.6.6"),
    ("true-client-ip", "6.6.6.6"),
    ("x-client-ip", "6.6.6.6"),
    ("x-hass-is-admin", "1"),
    ("x-ingress-path", "/evil"),
    ("x-remote-user-name", "admin"),
    ("proxy", "http://evil.test"),
    ("remote-user", "admin"),
    ("remote-groups", "admin"),
    ("x-webauth-user", "admin"),
    ("x-auth-request-user", "admin"),
    ("client-ip", "6.6.6.6"),
    ("x-azure-clientip", "6.6.6.6"),
];

fn forged() -> String {
    FORGED.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

fn is_unforged(upstream: &FakeHomeAssistant, client: &str) {
    let seen = upstream.last();
    assert_eq!(seen.values("x-forwarded-for"), [client]);
    assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.values("x-forwarded-host"), ["ha.test"]);
    assert_eq!(seen.values("host"), ["ha.test"]);
    for (name, _) in FORGED.iter().filter(|(name, _)| !seen_by_design(name)) {
        assert!(!seen.fields.contains_key(*name), "{name} arrived: {seen:?}");
    }
}

fn seen_by_design(name: &str) -> bool {
    matches!(name, "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http1_cannot_forge_its_address() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.dial().from("127.0.0.9").client().await;
    let request = format!("GET / HTTP/1.1\r\nHost: ha.test\r\n{}Authorization: Bearer x\r\n\r\n", forged());
    assert_eq!(client.exchange(request).await.status, 200);
    is_unforged(&upstream, "127.0.0.9");
    assert_eq!(upstream.last().values("authorization"), ["Bearer x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http2_cannot_forge_its_address() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = Http2Client::dial(gate.dial().from("127.0.0.9")).await;
    let mut request = Request::get("https://ha.test/");
    for (name, value) in FORGED {
        request = request.header(name, value);
    }
    assert_eq!(client.send(request.body(()).unwrap(), b"").await.unwrap().status, 200);
    is_unforged(&upstream, "127.0.0.9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_cannot_forge_its_address() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.dial().from("127.0.0.9").client().await;
    let request = format!(
        "GET /api/websocket HTTP/1.1\r\nHost: ha.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
        forged()
    );
    client.send(request).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    is_unforged(&upstream, "127.0.0.9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_ipv6_is_named_without_brackets() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).https("[::1]:0").start().await;
    assert_eq!(gate.client().await.get("/").await.status, 200);
    is_unforged(&upstream, "::1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_names_the_rightmost_untrusted_client() {
    let upstream = FakeHomeAssistant::start().await;
    let trusted = "trusted_proxies: {networks: [127.0.0.1/32, 10.0.0.0/8]}";
    let gate = Setup::new(upstream.address).section(trusted).start().await;
    for (field, client) in [
        ("X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"),
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.1\r\n", "203.0.113.9"),
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"),
        ("X-Forwarded-For: ::ffff:203.0.113.9\r\n", "203.0.113.9"),
        ("X-Forwarded-For: [2001:db8::9]:4242\r\n", "2001:db8::9"),
        ("X-Forwarded-For: 10.0.0.2, 10.0.0.1\r\n", "10.0.0.2"),
        ("", "127.0.0.1"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: ha.test\r\n{field}\r\n");
        assert_eq!(gate.client().await.exchange(request).await.status, 200, "{field}");
        is_unforged(&upstream, client);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_that_names_its_client_illegibly_is_refused() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).section("trusted_proxies: {networks: [127.0.0.1/32]}").start().await;
    for (at, value) in ["garbage", "", "203.0.113.9,", "unknown", "fe80::1%eth0"].iter().enumerate() {
        let request = format!("GET / HTTP/1.1\r\nHost: ha.test\r\nX-Forwarded-For: {value}\r\n\r\n");
        assert_eq!(gate.client().await.exchange(request).await.status, 400, "{value:?}");
        gate.has_denied(hearthgate::denial::Denial::BadForwarding, at as u64 + 1).await;
    }
    assert_eq!(upstream.connections(), 0);
    // Nobody asks a stranger.
    let mut stranger = gate.dial().from("127.0.0.2").client().await;
    let request = "GET / HTTP/1.1\r\nHost: ha.test\r\nX-Forwarded-For: garbage\r\n\r\n";
    assert_eq!(stranger.exchange(request).await.status, 200);
    is_unforged(&upstream, "127.0.0.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trusted_field_can_be_another_one() {
    let upstream = FakeHomeAssistant::start().await;
    let trusted = "trusted_proxies: {networks: [127.0.0.1/32], header: CF-Connecting-IP}";
    let gate = Setup::new(upstream.address).section(trusted).start().await;
    let fields = "X-Forwarded-For: 6.6.6.6\r\nCF-Connecting-IP: 203.0.113.9\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: ha.test\r\n{fields}\r\n");
    assert_eq!(gate.client().await.exchange(request).await.status, 200);
    is_unforged(&upstream, "203.0.113.9");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_one_hop_stay_on_it() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let request = "GET / HTTP/1.1\r\nHost: ha.test\r\nConnection: X-Secret, close\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
                   TE: trailers\r\nX-Kept: 1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    assert_eq!(gate.client().await.exchange(request).await.status, 200);
    let seen = upstream.only();
    for name in ["x-secret", "keep-alive", "upgrade", "http2-settings"] {
        assert!(!seen.fields.contains_key(name), "{name} arrived: {seen:?}");
    }
    assert_eq!(seen.values("x-kept"), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gates_own_fields_cannot_be_struck_by_a_client() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    for nominated in ["X-Forwarded-For", "X-Forwarded-Proto", "Host"] {
        let request = format!("GET / HTTP/1.1\r\nHost: ha.test\r\nConnection: {nominated}\r\n\r\n");
        let answer = gate.client().await.exchange(request).await;
        if answer.status == 200 {
            is_unforged(&upstream, "127.0.0.1");
        } else {
            assert_eq!(answer.status, 400, "{nominated}");
        }
    }
}

/// The operator's own field is not among those that nobody may send, until it is named as the trusted one.
#[tokio::test(flavor = "multi_thread")]
async fn the_trusted_field_of_an_untrusted_peer_stops_at_the_gate() {
    let upstream = FakeHomeAssistant::start().await;
    let trusted = "trusted_proxies: {networks: [127.0.0.1/32], header: X-Edge-Client}";
    let gate = Setup::new(upstream.address).section(trusted).start().await;
    let request = "GET / HTTP/1.1\r\nHost: ha.test\r\nX-Edge-Client: 6.6.6.6\r\nX-Custom: 1\r\n\r\n";
    assert_eq!(gate.dial().from("127.0.0.2").client().await.exchange(request).await.status, 200);
    is_unforged(&upstream, "127.0.0.2");
    assert_eq!((upstream.last().values("x-edge-client").len(), upstream.last().values("x-custom")), (0, vec!["1"]));
    // Nor does it travel on from the one who may send it.
    assert_eq!(gate.client().await.exchange(request).await.status, 200);
    is_unforged(&upstream, "6.6.6.6");
    assert_eq!((upstream.last().values("x-edge-client").len(), upstream.last().values("x-custom")), (0, vec!["1"]));
    // Elsewhere it is a field like any other.
    let gate = Gate::start(upstream.address).await;
    assert_eq!(gate.client().await.exchange(request).await.status, 200);
    assert_eq!(upstream.last().values("x-edge-client"), ["6.6.6.6"]);
}
