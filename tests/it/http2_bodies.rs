//! Request bodies and fields on their way from HTTP/2 to HTTP/1.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use hearthgate::denial::Denial;
use http::Request;
use tokio::time::sleep;

use crate::harness::http2::{Http2Client, finish};
use crate::harness::raw_http2::{self, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, RawHttp2, get, literals};
use crate::harness::{FakeHomeAssistant, Gate, RawUpstream, Setup, eventually};

fn post() -> Request<()> {
    Request::post("https://ha.test/upload").body(()).unwrap()
}

/// cloudflare/pingora#935: an empty last DATA frame became a second end of the chunked body.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_in_an_empty_frame_ends_once() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut raw = RawHttp2::connect(&gate).await;
    let block =
        literals(&[(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"ha.test"), (b":path", b"/upload")]);
    raw.send(HEADERS, END_HEADERS, 1, &block).await;
    raw.send(DATA, 0, 1, b"hello").await;
    raw.send(DATA, END_STREAM, 1, b"").await;
    let mut peer = upstream.accept().await;
    let head = peer.head().await;
    assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
    let whole = "5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(peer.bytes(whole.len()).await, whole.as_bytes());
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(raw.verdict(1).await, Ok(200));
    // What the gate sends next on this connection is the next request and not a stray chunk.
    raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &get(b"/next", &[])).await;
    assert!(peer.head().await.starts_with("GET /next HTTP/1.1\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_ends_in_an_empty_frame_is_a_whole_request() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut raw = RawHttp2::connect(&gate).await;
    raw.send(HEADERS, END_HEADERS, 1, &get(b"/1", &[])).await;
    raw.send(DATA, END_STREAM, 1, b"").await;
    assert_eq!(raw.verdict(1).await, Ok(200));
    raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &get(b"/2", &[])).await;
    assert_eq!(raw.verdict(3).await, Ok(200));
    assert_eq!(upstream.targets(), ["/1", "/2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn crumbs_of_a_cookie_arrive_as_one() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut raw = RawHttp2::connect(&gate).await;
    let crumbs: [(&[u8], &[u8]); 2] = [(b"cookie", b"a=1"), (b"cookie", b"b=2")];
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &get(b"/", &crumbs)).await;
    assert_eq!(raw.verdict(1).await, Ok(200));
    assert_eq!(upstream.only().values("cookie"), ["a=1; b=2"]);
    assert_eq!(upstream.only().values("host"), ["ha.test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_resets_its_stream_and_no_other() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {body_stall: 300ms}").start().await;
    let mut client = Http2Client::connect(&gate).await;
    let (stalled, mut body) = client.begin(post(), false).await;
    body.send_data(Bytes::from(vec![b'x'; 10_000]), false).unwrap();
    let error = finish(stalled).await.map(|answer| answer.status);
    assert!(matches!(&error, Ok(408)) || error.is_err(), "{error:?}");
    gate.has_denied(Denial::SlowBody, 1).await;
    assert_eq!(client.get("/other").await.unwrap().status, 200);
    assert_eq!(upstream.targets(), ["/other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_begin_never_reaches_the_upstream() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {body_stall: 300ms}").start().await;
    let mut client = Http2Client::connect(&gate).await;
    let (stalled, _body) = client.begin(post(), false).await;
    assert!(finish(stalled).await.is_err());
    gate.has_denied(Denial::SlowBody, 1).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_cut() {
    let upstream = FakeHomeAssistant::start().await;
    let section = "timeouts: {body_grace: 100ms, body_stall: 5s}\nlimits: {body_rate: 1MiB}";
    let gate = Setup::new(upstream.address).section(section).start().await;
    let mut client = Http2Client::connect(&gate).await;
    let (dripping, mut body) = client.begin(post(), false).await;
    let drip = async {
        while body.send_data(Bytes::from_static(b"x"), false).is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = finish(dripping) => {
            let reason = outcome.map(|answer| answer.status).map_err(|error| error.reason());
            assert!(matches!(reason, Ok(408) | Err(Some(Reason::CANCEL | Reason::NO_ERROR))), "{reason:?}");
        }
        () = drip => unreachable!(),
    }
    gate.has_denied(Denial::SlowBody, 1).await;
    assert_eq!(upstream.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_reads_slowly_is_not_the_clients_fault() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {body_stall: 200ms}").start().await;
    let mut client = Http2Client::connect(&gate).await;
    let length = 24 << 20;
    let (answer, mut body) = client.begin(post(), false).await;
    body.send_data(Bytes::from(vec![b'x'; length]), true).unwrap();
    let answer = tokio::spawn(finish(answer));
    let mut peer = upstream.accept().await;
    peer.head().await;
    sleep(Duration::from_secs(2)).await;
    assert!(!answer.is_finished());
    let mut got = 0;
    loop {
        match peer.chunk().await.len() {
            0 => break,
            n => got += n,
        }
    }
    assert_eq!(got, length);
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(answer.await.unwrap().unwrap().status, 200);
    gate.has_denied_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_reset_ends_its_request_at_the_upstream() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = Http2Client::connect(&gate).await;
    let (answer, mut stream) = client.begin(post(), false).await;
    stream.send_data(Bytes::from(vec![b'x'; 10_000]), false).unwrap();
    let mut peer = upstream.accept().await;
    peer.head().await;
    stream.send_reset(Reason::CANCEL);
    drop(answer);
    peer.rest().await;
    eventually("the stream to be gone", || gate.running.status().connections_open == 1).await;
}

/// `upload` is sent on a connection that then goes silent, with a body that has begun on stream 1. That body must be
/// cut within `patience`: `body_stall` is 300 ms.
async fn a_stalled_body_is_cut_behind(upload: impl AsyncFnOnce(&mut RawHttp2), patience: Duration) -> Gate {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {body_stall: 300ms}").start().await;
    let mut raw = RawHttp2::connect(&gate).await;
    raw.send(HEADERS, END_HEADERS, 1, &raw_http2::post(b"ha.test")).await;
    raw.send(DATA, 0, 1, b"hello").await;
    upload(&mut raw).await;
    let begun = Instant::now();
    let cut = |gate: &Gate| gate.denials(Denial::SlowBody) == 1;
    eventually("the stalled body to be cut", || cut(&gate)).await;
    assert!(begun.elapsed() < patience, "it took {:?}", begun.elapsed());
    upstream.is_untouched().await;
    gate
}

/// Padding is never read by anybody, and looked like data that waits for the upstream.
#[tokio::test(flavor = "multi_thread")]
async fn padding_does_not_stop_the_clock_of_a_body() {
    let pad = async |raw: &mut RawHttp2| {
        for _ in 0..10 {
            let padded = [&[200][..], b"x", &[0; 200]].concat();
            raw.send(DATA, PADDED, 1, &padded).await;
        }
    };
    // One stall and a busy machine; less than the ten stalls that a clock grants to a slow upstream.
    let gate = a_stalled_body_is_cut_behind(pad, Duration::from_millis(2500)).await;
    gate.has_denied_only(&[(Denial::SlowBody, 1)]);
}

/// Bytes on a stream that has had its answer are read by nobody either. They buy the ten stalls of a slow upstream (see
/// `BodyClock`), once, and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn data_on_an_answered_stream_does_not_stop_the_clock_of_another_body_for_long() {
    let leave_behind = async |raw: &mut RawHttp2| {
        raw.send(HEADERS, END_HEADERS, 3, &raw_http2::post(b"evil.test")).await;
        raw.send(DATA, 0, 3, &[b'x'; 5000]).await;
        assert_eq!(raw.verdict(3).await, Ok(421));
        raw.send(DATA, 0, 3, &[b'x'; 5000]).await;
    };
    let gate = a_stalled_body_is_cut_behind(leave_behind, Duration::from_secs(8)).await;
    gate.has_denied_only(&[(Denial::SlowBody, 1), (Denial::Misdirected, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_padded_body_arrives_without_its_padding() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut raw = RawHttp2::connect(&gate).await;
    raw.send(HEADERS, END_HEADERS, 1, &raw_http2::post(b"ha.test")).await;
    raw.send(DATA, PADDED, 1, b"\x03hello\0\0\0").await;
    raw.send(DATA, PADDED | END_STREAM, 1, b"\0!").await;
    assert_eq!(raw.verdict(1).await, Ok(200));
    assert_eq!(upstream.only().body, b"hello!");
}
