//! Bounds on the size of HTTP/1 heads and bodies, each on both sides.

use hearthgate::denial::Denial;

use crate::harness::{FakeHomeAssistant, Gate, RawUpstream, Setup};

fn with_path(length: usize) -> String {
    format!("GET /{} HTTP/1.1\r\nHost: ha.test\r\n\r\n", "x".repeat(length - 1))
}

fn with_fields(count: usize) -> String {
    let others: String = (1..count).map(|n| format!("X-{n}: y\r\n")).collect();
    format!("GET / HTTP/1.1\r\nHost: ha.test\r\n{others}\r\n")
}

fn with_size(size: usize) -> String {
    let fixed = "GET / HTTP/1.1\r\nHost: ha.test\r\nX: \r\n\r\n".len();
    format!("GET / HTTP/1.1\r\nHost: ha.test\r\nX: {}\r\n\r\n", "y".repeat(size - fixed))
}

async fn small_gate(upstream: std::net::SocketAddr) -> Gate {
    let limits = "limits: {uri_length: 1KiB, head_size: 4KiB, header_count: 10}";
    Setup::new(upstream).section(limits).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_over_a_limit_are_refused() {
    let mut upstream = RawUpstream::start().await;
    let gate = small_gate(upstream.address).await;
    let unfinished = format!("GET /{}", "x".repeat(2000));
    for (head, denial, status) in [
        (with_path(1025), Denial::UriLength, 414),
        (unfinished, Denial::UriLength, 414),
        (with_fields(11), Denial::HeaderCount, 431),
        (with_size(4097), Denial::HeadSize, 431),
        (with_size(100_000), Denial::HeadSize, 431),
    ] {
        let before = gate.denials(denial);
        let mut client = gate.client().await;
        client.send(head).await;
        assert_eq!(client.answer().await.status, status, "{}", denial.reason());
        client.closed().await;
        assert_eq!(gate.denials(denial), before + 1);
    }
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_at_their_limits_pass() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = small_gate(upstream.address).await;
    for head in [with_path(1024), with_fields(10), with_size(4096)] {
        assert_eq!(gate.client().await.exchange(head).await.status, 200);
    }
    gate.has_denied_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn home_assistants_longest_lines_pass_with_the_defaults() {
    let upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut upstream = upstream;
    let mut client = gate.client().await;
    let path = "x".repeat(24_000);
    let token = "t".repeat(24_000);
    client.send(format!("GET /{path} HTTP/1.1\r\nHost: ha.test\r\nAuthorization: {token}\r\n\r\n")).await;
    let mut peer = upstream.accept().await;
    let head = peer.head().await;
    assert!(head.starts_with(&format!("GET /{path} HTTP/1.1\r\n")) && head.contains(&token));
    peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_announced_over_the_limit_is_refused_before_the_upstream_hears_of_it() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).key("body_size: 1KiB").start().await;
    let answer = gate.client().await.post("/", &[b'x'; 1025]).await;
    assert_eq!(answer.status, 413);
    gate.has_denied(Denial::BodySize, 1).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_grows_over_the_limit_by_chunks_is_cut() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).key("body_size: 1KiB").start().await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(0x200));
    let request =
        format!("POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}{chunk}0\r\n\r\n");
    let answer = gate.client().await.exchange(request).await;
    assert_eq!(answer.status, 413);
    gate.has_denied(Denial::BodySize, 1).await;
    assert_eq!(upstream.seen().len(), 0, "an upstream saw the whole of a body that was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_at_the_limit_pass() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).key("body_size: 1KiB").start().await;
    assert_eq!(gate.client().await.post("/", &[b'x'; 1024]).await.status, 200);
    let chunk = format!("200\r\n{}\r\n", "x".repeat(0x200));
    let request =
        format!("POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n");
    assert_eq!(gate.client().await.exchange(request).await.status, 200);
    assert_eq!(upstream.last().body_bytes, 1024);
    gate.has_denied_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_politely_after_its_last_request() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).section("limits: {requests_per_connection: 2}").start().await;
    let mut client = gate.client().await;
    assert_ne!(client.get("/1").await.field("connection"), Some("close"));
    assert_eq!(client.get("/2").await.field("connection"), Some("close"));
    client.closed().await;
    gate.has_denied(Denial::RequestsPerConnection, 1).await;
}
