//! Answers on their way to the client: every form of body, nothing collected, nothing leaked.

use crate::harness::http2::Http2Client;
use crate::harness::{Answer, Client, Gate, RawUpstream, Setup};

/// A request for `/` is answered with these bytes, after which the upstream closes.
async fn answered_with(gate: &Gate, upstream: &mut RawUpstream, bytes: &str) -> Answer {
    let mut client = gate.client().await;
    client.send("GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(bytes).await;
    drop(peer);
    client.answer().await
}

async fn gate() -> (Gate, RawUpstream) {
    let upstream = RawUpstream::start().await;
    (Gate::start(upstream.address).await, upstream)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_body_arrives_whole() {
    let (gate, mut upstream) = gate().await;
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
    ] {
        let answer_seen = answered_with(&gate, &mut upstream, answer).await;
        assert_eq!((answer_seen.status, answer_seen.text()), (200, "hello"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_leave_the_connection_usable() {
    let (gate, mut upstream) = gate().await;
    let mut client = gate.client().await;
    for (method, answer, status) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 304),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
    ] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: ha.test\r\n\r\n")).await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.send(answer).await;
        drop(peer);
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_gets_an_answer_it_understands() {
    let (gate, mut upstream) = gate().await;
    let mut client = gate.client().await;
    client.send("GET / HTTP/1.0\r\nHost: ha.test\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.") && head.contains(" 200 "), "{head}");
    assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    assert_eq!(client.rest().await, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn early_hints_come_before_the_answer() {
    let (gate, mut upstream) = gate().await;
    let mut client = gate.client().await;
    client.send("GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 103 "));
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_before_the_next_is_sent() {
    let (gate, mut upstream) = gate().await;
    let mut client = gate.client().await;
    client.send("GET /api/stream HTTP/1.1\r\nHost: ha.test\r\nAccept: text/event-stream\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    for n in 0..5 {
        let event = format!("data: {n}\n\n");
        peer.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(client.chunk().await, event.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_before_the_next_is_sent_over_http2() {
    let (gate, mut upstream) = gate().await;
    let mut client = Http2Client::connect(&gate).await;
    let request = http::Request::get("https://ha.test/api/stream").body(()).unwrap();
    let (answer, _) = client.begin(request, true).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
    let mut body = crate::harness::within("a head", answer).await.unwrap().into_body();
    for n in 0..5 {
        let event = format!("data: {n}\n\n");
        peer.send(&event).await;
        let got = crate::harness::within("an event", body.data()).await.unwrap().unwrap();
        assert_eq!(got, event.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_at_the_upstream_when_its_client_leaves() {
    let (gate, mut upstream) = gate().await;
    let mut client = gate.client().await;
    client.send("GET /api/camera_proxy_stream/camera.door HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n--frame").await;
    client.head().await;
    drop(client);
    peer.rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_the_upstreams_to_answer() {
    let (gate, mut upstream) = gate().await;
    let mut client = gate.client().await;
    client.send("GET /media HTTP/1.1\r\nHost: ha.test\r\nRange: bytes=2-3\r\nIf-Range: \"a\"\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    let head = peer.head().await.to_ascii_lowercase();
    assert!(head.contains("range: bytes=2-3\r\n") && head.contains("if-range: \"a\"\r\n"), "{head}");
    let answer = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-3/5\r\nContent-Length: 2\r\n\r\nll";
    peer.send(answer).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.field("content-range"), answer.text()), (206, Some("bytes 2-3/5"), "ll"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_behind_the_gate_is_not_told() {
    let (gate, mut upstream) = gate().await;
    let answer = "HTTP/1.1 200 OK\r\nServer: Python/3.13 aiohttp/3.11.16\r\nX-Powered-By: x\r\nAlt-Svc: h3\r\n\
                  Content-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = answered_with(&gate, &mut upstream, answer).await;
    for name in ["server", "x-powered-by", "alt-svc"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn security_fields_are_added_where_the_upstream_sets_none() {
    let (gate, mut upstream) = gate().await;
    let answer =
        answered_with(&gate, &mut upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.field("strict-transport-security"), Some("max-age=31536000"));
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.field("x-frame-options"), Some("SAMEORIGIN"));
    assert_eq!(answer.field("referrer-policy"), Some("same-origin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn security_fields_of_the_upstream_stay_as_they_are() {
    let (gate, mut upstream) = gate().await;
    let answer = "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nX-Frame-Options: DENY\r\n\
                  Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 0\r\n\
                  Connection: close\r\n\r\n";
    let answer = answered_with(&gate, &mut upstream, answer).await;
    assert_eq!(answer.field("strict-transport-security"), Some("max-age=1"));
    assert_eq!(answer.field("x-frame-options"), Some("DENY"));
    assert_eq!(answer.field("referrer-policy"), Some("no-referrer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn security_fields_can_be_left_out() {
    let mut upstream = RawUpstream::start().await;
    let setup = Setup::new(upstream.address).key("security_headers: false").key("strict_transport_security: 0s");
    let gate = setup.start().await;
    let answer =
        answered_with(&gate, &mut upstream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    for name in ["strict-transport-security", "x-content-type-options", "x-frame-options", "referrer-policy"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
}

/// The next request after the first on `client`, answered on whatever connection it comes.
async fn plain_exchange(client: &mut Client, peer: &mut Client, request: &str) {
    client.send(request).await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
}

const GET: &str = "GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 5\r\n\r\nhello";

#[tokio::test(flavor = "multi_thread")]
async fn one_upstream_connection_serves_many_requests_of_many_clients() {
    let (gate, mut upstream) = gate().await;
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
    for _ in 0..5 {
        plain_exchange(&mut gate.client().await, &mut peer, GET).await;
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_on_a_pooled_connection_that_died_is_sent_again() {
    let (gate, mut upstream) = gate().await;
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
    client.send(GET).await;
    peer.head().await;
    drop(peer); // it got the request and died
    let mut next = upstream.accept().await;
    next.head().await;
    next.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain").await;
    assert_eq!(client.answer().await.text(), "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_may_have_arrived_is_never_sent_again() {
    let (gate, mut upstream) = gate().await;
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
    client.send(POST).await;
    peer.head().await;
    peer.bytes(5).await;
    drop(peer);
    assert_eq!(client.answer().await.status, 502);
    assert_eq!(upstream.connections(), 1);
    upstream.is_untouched().await;
}
