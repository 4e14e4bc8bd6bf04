//! HTTP/2 connections that only cost: floods, silence, and preludes without an end.

use std::time::{Duration, Instant};

use hearthgate::denial::Denial;
use tokio::time::sleep;

use crate::harness::http2::Http2Client;
use crate::harness::raw_http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM, RawHttp2, SETTINGS,
    WINDOW_UPDATE, frame, get, literals,
};
use crate::harness::{FakeHomeAssistant, Gate, RawUpstream, Setup};

const NO_ERROR: u32 = 0;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const ENHANCE_YOUR_CALM: u32 = 11;

/// Writes `frames` until the gate closes, then says with what.
async fn flood(gate: &Gate, mut frames: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let mut raw = RawHttp2::connect(gate).await;
    for at in 0..100_000 {
        let sent = raw.client.try_send(frames(at)).await;
        // The answers are read as well, or the gate would wait for room to write.
        if sent.is_err() || saw_goaway(&mut raw).await {
            break;
        }
    }
    raw.next(GOAWAY).await.expect("a GOAWAY before the end").code()
}

/// Reads what is there; whether a GOAWAY is among it. Keeps that frame.
async fn saw_goaway(raw: &mut RawHttp2) -> bool {
    use tokio::io::AsyncReadExt;
    let mut piece = [0; 4096];
    while let Ok(Ok(n @ 1..)) = tokio::time::timeout(Duration::ZERO, raw.client.stream.read(&mut piece)).await {
        raw.client.buffer.extend_from_slice(&piece[..n]);
    }
    let bytes = &raw.client.buffer;
    let mut at = 0;
    while at + 9 <= bytes.len() {
        if bytes[at + 3] == GOAWAY {
            return true;
        }
        at += 9 + usize::from(bytes[at]) * 65536 + usize::from(bytes[at + 1]) * 256 + usize::from(bytes[at + 2]);
    }
    false
}

async fn strict_gate(upstream: std::net::SocketAddr) -> Gate {
    Setup::new(upstream).section("limits: {http2_resets: 20}").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_control_frames_end_with_enhance_your_calm() {
    let mut upstream = RawUpstream::start().await;
    let gate = strict_gate(upstream.address).await;
    let floods = [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, b""), frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])];
    for (at, flood_of) in floods.iter().enumerate() {
        assert_eq!(flood(&gate, |_| flood_of.clone()).await, ENHANCE_YOUR_CALM, "{}", flood_of.escape_ascii());
        gate.has_denied(Denial::Http2Resets, at as u64 + 1).await;
    }
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_reset_ends_with_enhance_your_calm() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = strict_gate(upstream.address).await;
    let open_and_reset = |at: u32| {
        let stream = 2 * at + 1;
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(b"/", &[]));
        [open, frame(RST_STREAM, 0, stream, &CANCEL)].concat()
    };
    assert_eq!(flood(&gate, open_and_reset).await, ENHANCE_YOUR_CALM);
    gate.has_denied(Denial::Http2Resets, 1).await;
    assert!(upstream.seen().len() <= 50, "{} requests reached the upstream", upstream.seen().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn paced_resets_end_with_enhance_your_calm() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = strict_gate(upstream.address).await;
    let mut raw = RawHttp2::connect(&gate).await;
    for at in 0..21 {
        let stream = 2 * at + 1;
        raw.send(HEADERS, END_HEADERS, stream, &get(b"/", &[])).await;
        raw.send(PING, 0, 0, &[0; 8]).await;
        raw.next(PING).await.unwrap();
        raw.send(RST_STREAM, 0, stream, &CANCEL).await;
    }
    assert_eq!(raw.next(GOAWAY).await.unwrap().code(), ENHANCE_YOUR_CALM);
    gate.has_denied(Denial::Http2Resets, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_cancels_and_pings_within_its_budget_stays() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = strict_gate(upstream.address).await;
    let mut raw = RawHttp2::connect(&gate).await;
    for at in 0..20 {
        let stream = 2 * at + 1;
        raw.send(HEADERS, END_HEADERS, stream, &get(b"/", &[])).await;
        raw.send(PING, 0, 0, &[0; 8]).await;
        raw.next(PING).await.unwrap();
        raw.send(RST_STREAM, 0, stream, &CANCEL).await;
    }
    raw.send(HEADERS, END_HEADERS | END_STREAM, 41, &get(b"/", &[])).await;
    assert_eq!(raw.verdict(41).await, Ok(200));
    gate.has_denied_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preface_that_does_not_come_or_drips_is_cut() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {http2_preface: 300ms}").start().await;
    RawHttp2::silent(&gate).await.client.rest().await;
    gate.has_denied(Denial::Http2Preface, 1).await;
    let mut drip = RawHttp2::silent(&gate).await;
    let begun = Instant::now();
    for byte in PREFACE {
        if drip.client.try_send([*byte]).await.is_err() || begun.elapsed() > Duration::from_secs(2) {
            break;
        }
        sleep(Duration::from_millis(30)).await;
    }
    drip.client.rest().await;
    gate.has_denied(Denial::Http2Preface, 2).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_first_stream_ends_at_the_heads_deadline_pings_or_not() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {request_head: 300ms}").start().await;
    let mut silent = RawHttp2::connect(&gate).await;
    assert_eq!(silent.next(GOAWAY).await.unwrap().code(), NO_ERROR);
    gate.has_denied(Denial::Http2Idle, 1).await;

    let mut pinging = RawHttp2::connect(&gate).await;
    let begun = Instant::now();
    while pinging.try_send(PING, 0, 0, &[0; 8]).await.is_ok() && !saw_goaway(&mut pinging).await {
        assert!(begun.elapsed() < Duration::from_secs(5), "pings keep a connection open");
        sleep(Duration::from_millis(30)).await;
    }
    gate.has_denied(Denial::Http2Idle, 2).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_between_streams_ends_at_its_own_deadline() {
    let upstream = FakeHomeAssistant::start().await;
    let timeouts = "timeouts: {request_head: 100ms, http2_idle: 400ms}";
    let gate = Setup::new(upstream.address).section(timeouts).start().await;
    let mut client = Http2Client::connect(&gate).await;
    assert_eq!(client.get("/").await.unwrap().status, 200);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(client.get("/").await.unwrap().status, 200, "the first stream's deadline was applied to the second");
    let begun = Instant::now();
    assert_eq!(client.closed().await, None);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_is_not_idle() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {request_head: 100ms, http2_idle: 200ms}").start().await;
    let mut client = Http2Client::connect(&gate).await;
    let answer = tokio::spawn(async move { client.get("/").await });
    let mut peer = upstream.accept().await;
    peer.head().await;
    sleep(Duration::from_millis(800)).await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(answer.await.unwrap().unwrap().body, b"ok");
    gate.has_denied_only(&[]);
}

/// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2) of nothing: the gate may send heads and no body.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

fn misdirected() -> Vec<u8> {
    literals(&[(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"evil.test"), (b":path", b"/")])
}

/// The refusal waited for its window for ever, and its connection was never idle.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_its_client_does_not_take_ends_and_so_does_the_connection() {
    let mut upstream = RawUpstream::start().await;
    let timeouts = "timeouts: {write_stall: 300ms, http2_idle: 300ms, request_head: 300ms}";
    let gate = Setup::new(upstream.address).section(timeouts).start().await;
    let mut raw = RawHttp2::connect_with(&gate, &NO_WINDOW).await;
    let begun = Instant::now();
    for stream in [1, 3, 5] {
        raw.send(HEADERS, END_HEADERS | END_STREAM, stream, &misdirected()).await;
    }
    assert_eq!(raw.next(GOAWAY).await.expect("a GOAWAY before the end").code(), NO_ERROR);
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    // Each is counted once, by the first thing that was wrong with it.
    gate.has_denied_only(&[(Denial::Misdirected, 3), (Denial::Http2Idle, 1)]);
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_whose_client_opens_its_window_in_time_arrives_whole() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut raw = RawHttp2::connect_with(&gate, &NO_WINDOW).await;
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &misdirected()).await;
    assert_eq!(raw.verdict(1).await, Ok(421));
    raw.send(WINDOW_UPDATE, 0, 1, &1000u32.to_be_bytes()).await;
    assert!(!raw.next(DATA).await.unwrap().payload.is_empty());
    gate.has_denied(Denial::Misdirected, 1).await;
    upstream.is_untouched().await;
}
