//! Bugs that were found once, each with the smallest story that shows it.

use hearthgate::denial::Denial;

use crate::harness::http2::{Http2Client, finish};
use crate::harness::raw_http2::{END_HEADERS, END_STREAM, HEADERS, RST_STREAM, RawHttp2, frame, get};
use crate::harness::{FakeHomeAssistant, Gate, RawUpstream, Setup, eventually};

/// Pingora compares the two byte by byte and answered with a page of its own, which no metric and no log knew.
#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_target_that_differs_from_its_host_in_spelling_is_refused_by_the_gate() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    let answer = client.exchange("GET http://ha.test:443/ HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    assert_eq!((answer.status, answer.field("server")), (400, None));
    gate.has_denied(Denial::BadHost, 1).await;
    assert_eq!(upstream.connections(), 0);
}

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The refusal left the connection open, with a body on it of which nobody knew the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_behind_a_broken_first_chunk() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: ha.test\r\n\r\n";
    let answer = client.exchange(format!("{CHUNKED}x\r\nhello\r\n0\r\n\r\n{smuggled}")).await;
    assert_eq!((answer.status, answer.field("connection")), (400, Some("close")));
    client.closed().await;
    assert_eq!(upstream.connections(), 0);
}

/// Half of a chunk's head counted as a body that had begun, so that a dripping one held an upstream connection.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_chunk_head_does_not_reach_the_upstream() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {body_stall: 200ms}").start().await;
    assert_eq!(gate.client().await.exchange(format!("{CHUNKED}5")).await.status, 408);
    upstream.is_untouched().await;
}

/// Pingora answered it before any phase of ours, with a page of its own, and nobody counted it.
#[tokio::test(flavor = "multi_thread")]
async fn connect_over_http2_is_refused_by_the_gate() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = Http2Client::connect(&gate).await;
    let connect = http::Request::connect("ha.test:443").body(()).unwrap();
    let answer = client.send(connect, b"").await.unwrap();
    assert_eq!((answer.status, answer.fields.get("server")), (405, None));
    gate.has_denied(Denial::Method, 1).await;
    upstream.is_untouched().await;
}

/// Where a read ended between two chunks, the upstream got a well-formed end instead of what followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_many_small_chunks_arrives_whole() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client.send(CHUNKED).await;
    client.send("5\r\nhello\r\n".repeat(100_000)).await;
    assert_eq!(client.exchange("0\r\n\r\n").await.status, 200);
    assert_eq!(upstream.only().body_bytes, 500_000);
}

/// The watcher took its first look when its task first ran, and what had changed until then was never news.
#[tokio::test]
async fn a_change_right_after_the_start_is_not_missed() {
    let upstream = FakeHomeAssistant::start().await;
    let watch = "reload: {watch: true, interval: 100ms}";
    let gate = Setup::new(upstream.address).section(watch).start().await;
    // On this single thread no other task has run since.
    gate.write(&Setup::new(upstream.address).section(watch).key("security_headers: false"));
    eventually("the second generation", || gate.running.status().generation == 2).await;
}

/// The bytes of both tries were added up, and the second one was over the limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_tried_again_is_measured_once() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).key("body_size: 1KiB").start().await;
    let mut client = gate.client().await;
    let mut http2 = Http2Client::connect(&gate).await;
    let body = [b'x'; 1000];
    for over_http2 in [false, true] {
        client.send("GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
        let mut pooled = upstream.accept().await;
        pooled.head().await;
        pooled.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 204);

        let put = "PUT / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 1000\r\n\r\n";
        let mut answer = None;
        if over_http2 {
            let request = http::Request::put("https://ha.test/").body(()).unwrap();
            let (head, mut stream) = http2.begin(request, false).await;
            stream.send_data(body.to_vec().into(), true).unwrap();
            answer = Some(head);
        } else {
            client.send([put.as_bytes(), &body].concat()).await;
        }
        // The pooled connection dies with the whole of the request on it.
        assert!(pooled.head().await.starts_with("PUT / "));
        if over_http2 {
            assert_eq!(pooled.chunk().await, body)
        } else {
            assert_eq!(pooled.bytes(1000).await, body)
        }
        drop(pooled);
        let mut fresh = upstream.accept().await;
        assert!(fresh.head().await.starts_with("PUT / "));
        if over_http2 {
            assert_eq!(fresh.chunk().await, body)
        } else {
            assert_eq!(fresh.bytes(1000).await, body)
        }
        fresh.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        let status = match answer {
            Some(answer) => finish(answer).await.unwrap().status,
            None => client.answer().await.status,
        };
        assert_eq!(status, 204);
    }
    gate.has_denied_only(&[]);
}

/// A browser that left a half loaded page took its requests back all at once, before a busy gate had looked at them.
/// h2 ended the connection for it, and the next page on it, a login, stayed blank.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_leaves_a_page_keeps_its_connection() {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut raw = RawHttp2::connect(&gate).await;
    let streams = || (0..60).map(|at| 2 * at + 1);
    let opened = streams().map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(b"/chunk.js", &[])));
    let taken_back = streams().map(|stream| frame(RST_STREAM, 0, stream, &CANCEL));
    raw.send_all(&opened.chain(taken_back).flatten().collect::<Vec<u8>>()).await;
    raw.send(HEADERS, END_HEADERS | END_STREAM, 121, &get(b"/", &[])).await;
    assert_eq!(raw.verdict(121).await, Ok(200));
    gate.has_denied_only(&[]);
}

/// The front door had read the beginning of the body, and the guard took what was left for the whole login.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_over_http2_is_read_from_its_first_byte() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).key("app: home_assistant").start().await;
    let mut client = Http2Client::connect(&gate).await;
    for padding in [0, 3_000, 40_000] {
        let body = format!(
            r#"{{"client_id":"https://ha.test/","handler":["homeassistant",null],"redirect_uri":"https://ha.test/{}"}}"#,
            "x".repeat(padding)
        );
        let request = http::Request::post("https://ha.test/auth/login_flow").body(()).unwrap();
        assert_eq!(client.send(request, body.as_bytes()).await.unwrap().status, 200);
        let seen = upstream.last();
        assert_eq!((seen.body_bytes, seen.body == body.as_bytes()), (body.len(), true));
    }
    gate.has_denied_only(&[]);
}
