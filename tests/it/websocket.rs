//! WebSockets: both ways, early and late bytes, and what must not become one.

use std::time::{Duration, Instant};

use hearthgate::denial::Denial;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::websocket::{SWITCH, UPGRADE, WebSocket};
use crate::harness::{Client, FakeHomeAssistant, Gate, RawUpstream, Setup, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn messages_pings_and_closes_go_both_ways() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut socket = WebSocket::open(&gate).await;
    socket.echoes(Message::text("{\"type\":\"auth\"}")).await;
    socket.echoes(Message::binary(vec![0, 1, 2, 255])).await;
    socket.send(Message::Ping("beat".into())).await;
    assert_eq!(socket.next().await, Some(Message::Pong("beat".into())));
    socket.send(Message::Close(None)).await;
    assert!(matches!(socket.next().await, Some(Message::Close(_))));
    assert_eq!(socket.next().await, None);
    eventually("the gauge to fall", || gate.running.metrics.front_door.websockets_open() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_pass_whole() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut socket = WebSocket::open(&gate).await;
    let large: Vec<u8> = (0..1 << 20).map(|n: u32| ((n * 31) >> 3) as u8).collect();
    for _ in 0..4 {
        socket.echoes(Message::binary(large.clone())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_do_not_mix() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).section("guard: {rate_limits: {websocket: off}}").start().await;
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(WebSocket::open(&gate).await);
    }
    eventually("a gauge of 100", || gate.running.metrics.front_door.websockets_open() == 100).await;
    for round in 0..3 {
        for (at, socket) in sockets.iter_mut().enumerate() {
            socket.send(Message::text(format!("{at} {round}"))).await;
        }
        for (at, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.next().await, Some(Message::text(format!("{at} {round}"))));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_before_and_behind_the_101_are_not_lost() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client.send(format!("{UPGRADE}early")).await;
    let mut peer = upstream.accept().await;
    let head = peer.head().await.to_ascii_lowercase();
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
    peer.send(format!("{SWITCH}behind")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.bytes(6).await, b"behind");
    assert_eq!(peer.bytes(5).await, b"early");
    client.send("up").await;
    assert_eq!(peer.bytes(2).await, b"up");
    peer.send("down").await;
    assert_eq!(client.bytes(4).await, b"down");
    drop(peer);
    client.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_101_tells_nothing_of_what_runs_behind() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client.send(UPGRADE).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let lower = head.to_ascii_lowercase();
    assert!(!lower.contains("server:") && lower.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upgrade_leaves_the_connection_usable() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client.send(UPGRADE).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (403, "no"));
    client.send("GET /next HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    let mut next = upstream.accept().await;
    next.head().await;
    next.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_upgrade_answers_as_ever() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client.send(UPGRADE).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_101_ends_the_upstreams_connection() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client.send(UPGRADE).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    drop(client);
    peer.closed().await;
    eventually("the connection to be gone", || gate.running.status().connections_open == 0).await;
}

/// What is no whole upgrade must not become a tunnel, whatever the upstream says.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_nobody_asked_for_is_no_tunnel() {
    let without = |part: &str| UPGRADE.replace(part, "");
    for request in [
        without("Connection: Upgrade\r\n"),
        without("Upgrade: websocket\r\n"),
        without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        UPGRADE.replace("websocket\r\n", "h2c\r\n"),
        UPGRADE.replace("GET", "POST"),
        UPGRADE.replace("HTTP/1.1", "HTTP/1.0"),
        "GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n".to_owned(),
    ] {
        let mut upstream = RawUpstream::start().await;
        let gate = Gate::start(upstream.address).await;
        let mut client = gate.client().await;
        client.send(&request).await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.send(SWITCH).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 502, "{request}");
        let _ = client.try_send("GET /smuggled HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
        assert_eq!(peer.rest().await.escape_ascii().to_string(), "", "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_websocket_ends_at_its_deadline_and_a_talking_one_does_not() {
    let upstream = FakeHomeAssistant::start().await;
    let timeouts = "timeouts: {websocket_idle: 400ms, keep_alive: 100ms, request_head: 100ms, body_stall: 100ms}";
    let gate = Setup::new(upstream.address).section(timeouts).start().await;
    let mut socket = WebSocket::open(&gate).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1200) {
        socket.echoes(Message::text("beat")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gate.has_denied_only(&[]);
    assert_eq!(socket.next().await, None);
    gate.has_denied(Denial::WebSocketIdle, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_says_1001_between_two_frames() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client.send(UPGRADE).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(SWITCH).await;
    client.head().await;
    // Half of a text frame of five bytes.
    peer.send(b"\x81\x05hel").await;
    assert_eq!(client.bytes(5).await, b"\x81\x05hel");
    let stopped = tokio::spawn(gate.running.stop());
    peer.send(b"lo").await;
    assert_eq!(client.rest().await, b"lo\x88\x02\x03\xe9");
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_reaches_an_https_upstream() {
    let authority = crate::harness::Authority::new();
    let upstream = FakeHomeAssistant::with_tls(authority.issue(&["127.0.0.1"]).server_config()).await;
    let yaml = format!("{{url: \"https://{}\", verify: false, health_check: 0s}}", upstream.address);
    let gate = Setup::with_upstream(&yaml).start().await;
    WebSocket::open(&gate).await.echoes(Message::text("hello")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_with_nobody_behind_is_answered_502() {
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gate = Gate::start(address).await;
    let mut client: Client = gate.client().await;
    client.send(UPGRADE).await;
    assert_eq!(client.answer().await.status, 502);
}

/// Pingora completed such a half by itself, and its 101 then came for a request that nobody was to switch.
#[tokio::test(flavor = "multi_thread")]
async fn half_an_upgrade_is_an_ordinary_get() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    // Known as healthy before, and still so behind it.
    assert_eq!(gate.client().await.get("/").await.status, 200);
    let mut raw = RawUpstream::start().await;
    let raw_gate = Gate::start(raw.address).await;
    for connection in ["", "Connection: keep-alive\r\n", "Connection: X-Upgrade\r\n"] {
        let request = UPGRADE.replace("Connection: Upgrade\r\n", connection);
        let mut client = raw_gate.client().await;
        client.send(&request).await;
        let mut peer = raw.accept().await;
        let head = peer.head().await.to_ascii_lowercase();
        assert!(head.starts_with("get /api/websocket http/1.1\r\n"), "{head}");
        assert!(!head.contains("\r\nupgrade:") && !head.contains("connection: upgrade"), "{head}");
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain").await;
        assert_eq!(client.answer().await.text(), "plain", "{request}");
        assert_eq!(client.try_send("GET /next HTTP/1.1\r\nHost: ha.test\r\n\r\n").await.ok(), Some(()));
        let mut next = raw.accept().await;
        assert!(next.head().await.starts_with("GET /next "), "the connection did not stay HTTP");
        next.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 204);
        assert_eq!(raw_gate.running.status().hosts[0].health, "healthy");
        assert_eq!(raw_gate.running.metrics.front_door.websockets_open(), 0);
    }
    WebSocket::open(&gate).await.echoes(Message::text("whole")).await;
    assert_eq!(gate.running.status().hosts[0].health, "healthy");
}

/// The gate's own 502 behind such an answer was taken for the 101 that ends HTTP on the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_502_behind_a_broken_101_is_no_tunnel() {
    let broken = [
        "HTTP/1.1 101 Switching Protocols\r\nno field\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: web\0socket\r\n\r\n",
        "HTTP/1.1 101Switching\r\n\r\n",
        "HTTP/1.1 1012 Switching\r\n\r\n",
    ];
    let whole = [
        SWITCH.replace("Upgrade: websocket\r\n", ""),
        SWITCH.replace("Upgrade: websocket", "Upgrade: h2c"),
        SWITCH.replace("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", ""),
        SWITCH.replace("s3pPLM", "AAAAAA"),
        SWITCH.replace("HTTP/1.1", "HTTP/1.0"),
    ];
    for switch in broken.map(str::to_owned).into_iter().chain(whole) {
        let mut upstream = RawUpstream::start().await;
        let gate = Gate::start(upstream.address).await;
        let mut client = gate.client().await;
        client.send(UPGRADE).await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.send(format!("{switch}behind")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 502, "{switch:?}");
        assert!(!answer.text().contains("behind"));
        // The client may hear of the end already.
        let _ = client.try_send("GET /smuggled HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
        assert_eq!(peer.rest().await.escape_ascii().to_string(), "", "{switch:?}");
        assert_eq!(gate.running.metrics.front_door.websockets_open(), 0);
    }
}
