//! HTTP/1 request bodies: chunks, Expect, pipelining, and what is large.

use std::time::Duration;

use hearthgate::denial::Denial;

use crate::harness::{FakeHomeAssistant, Gate, RawUpstream};

const CHUNKED: &str = "POST /upload HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_first_chunk_that_is_none_is_refused_before_the_upstream_hears_of_it() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let bad = ["x\r\nhello\r\n", "-5\r\nhello\r\n", "5\nhello\r\n0\r\n\r\n", "fffffffffffffffff\r\nhello"];
    for (at, chunk) in bad.iter().enumerate() {
        let mut client = gate.client().await;
        let answer = client.exchange(format!("{CHUNKED}{chunk}")).await;
        assert_eq!(answer.status, 400, "{chunk:?}");
        client.closed().await;
        gate.has_denied(Denial::Malformed, at as u64 + 1).await;
    }
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_chunk_that_is_none_ends_the_request_with_400() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    for (at, chunk) in ["x\r\nhello\r\n", "5\r\nhelloXX0\r\n\r\n"].iter().enumerate() {
        let mut client = gate.client().await;
        // More than the gate looks at before it hands a request on.
        client.send(format!("{CHUNKED}2000\r\n{}\r\n", "x".repeat(8192))).await;
        let answer = client.exchange(chunk).await;
        assert_eq!(answer.status, 400, "{chunk:?}");
        client.closed().await;
        gate.has_denied(Denial::Malformed, at as u64 + 1).await;
    }
    // The upstream has never seen the end of such a request.
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_extensions_and_trailers_arrive_as_one_body() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    let answer = client.exchange(format!("{CHUNKED}5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.only().body, b"hello!");
    assert_eq!(client.get("/next").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_streams_through() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    let megabyte = vec![b'x'; 1 << 20];
    client.send(format!("POST /upload HTTP/1.1\r\nHost: ha.test\r\nContent-Length: {}\r\n\r\n", 64 << 20)).await;
    for _ in 0..64 {
        client.send(&megabyte).await;
    }
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(upstream.only().body_bytes, 64 << 20);
}

/// What the gate collected would be seen here: a client can send no more than sockets hold.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_reads_waits_at_the_client() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    let megabyte = vec![b'x'; 1 << 20];
    client.send(format!("POST /upload HTTP/1.1\r\nHost: ha.test\r\nContent-Length: {}\r\n\r\n", 256 << 20)).await;
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_millis(500), client.send(&megabyte)).await.is_ok() {
        sent += 1;
        assert!(sent < 64, "the gate collects what the upstream does not read");
    }
    upstream.accept().await.head().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_continue_goes_through_to_the_upstream_and_back() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    for framing in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut client = gate.client().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: ha.test\r\nExpect: 100-continue\r\n{framing}\r\n\r\n")).await;
        let mut peer = upstream.accept().await;
        assert!(peer.head().await.contains("100-continue"));
        peer.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 100 "), "{framing}");
        let (body, raw) =
            if framing.starts_with('C') { ("hello", "hello") } else { ("hello", "5\r\nhello\r\n0\r\n\r\n") };
        client.send(raw).await;
        let got = if framing.starts_with('C') { peer.bytes(5).await } else { peer.chunk().await };
        assert_eq!(got, body.as_bytes());
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        assert_eq!(client.answer().await.text(), "ok", "{framing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_expectation_costs_no_body() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client.send("POST / HTTP/1.1\r\nHost: ha.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (413, "no"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client
        .send(
            "GET /1 HTTP/1.1\r\nHost: ha.test\r\n\r\n\
             POST /2 HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 5\r\n\r\nhello\
             GET /3 HTTP/1.1\r\nHost: ha.test\r\n\r\n",
        )
        .await;
    for _ in 0..3 {
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(upstream.targets(), ["/1", "/2", "/3"]);
    assert_eq!(upstream.seen()[1].body, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_body_is_judged_as_a_request_of_its_own() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    client
        .send(
            "POST /1 HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 5\r\n\r\nhello\
             GET /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 421);
    assert_eq!(upstream.targets(), ["/1"]);
}

/// Where a read ends, no chunk has to: neither before the request is handed on nor behind.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_in_as_many_pieces_as_possible_arrive_whole() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    let large = "x".repeat(8192);
    let pieces =
        ["5", "\r\n", "he", "llo", "\r", "\n", "2000\r\n", &large, "\r\n", "3", "\r\n", "end", "\r\n", "0\r\n", "\r\n"];
    let peer = tokio::spawn(async move {
        let mut peer = upstream.accept().await;
        peer.head().await;
        let mut body = Vec::new();
        loop {
            match peer.chunk().await {
                last if last.is_empty() => break,
                piece => body.extend(piece),
            }
        }
        peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        body
    });
    client.send(CHUNKED).await;
    for piece in pieces {
        client.send(piece).await;
        // So that the gate reads each by itself; if it does not, the test is easier and still right.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.answer().await.status, 204);
    assert_eq!(peer.await.unwrap(), format!("hello{large}end").into_bytes());
    gate.has_denied_only(&[]);
}
