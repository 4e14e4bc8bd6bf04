//! The end of the gate: what is in hand is finished, what is idle is closed, what does not end is cut.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::harness::http2::Http2Client;
use crate::harness::raw_http2::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, RawHttp2, get};
use crate::harness::{FakeHomeAssistant, Gate, RawUpstream, Setup, eventually, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_hand_is_finished_and_its_connection_closed() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let address = gate.https();
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    let stopped = tokio::spawn(gate.running.stop());
    within("the listener to close", async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(!stopped.is_finished());
    peer.send(OK).await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "ok");
    client.closed().await;
    within("the end", stopped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_at_once() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut used = gate.client().await;
    assert_eq!(used.get("/").await.status, 200);
    let mut fresh = gate.client().await;
    let mut http2 = Http2Client::connect(&gate).await;
    assert_eq!(http2.get("/").await.unwrap().status, 200);
    let begun = Instant::now();
    gate.running.stop().await;
    used.closed().await;
    fresh.closed().await;
    assert_eq!(http2.closed().await, None);
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_told_to_go_and_its_stream_is_finished() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut raw = RawHttp2::connect(&gate).await;
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &get(b"/", &[])).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    let stopped = tokio::spawn(gate.running.stop());
    assert_eq!(raw.next(GOAWAY).await.unwrap().code(), 0);
    peer.send(OK).await;
    assert_eq!(raw.verdict(1).await, Ok(200));
    drop(raw);
    within("the end", stopped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_is_cut_at_the_deadline() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {drain: 300ms}").start().await;
    let mut clients = [gate.client().await, gate.client().await];
    for client in &mut clients {
        client.send(GET).await;
    }
    let mut peers = [upstream.accept().await, upstream.accept().await];
    for peer in &mut peers {
        peer.head().await;
    }
    let mut half_a_head = gate.client().await;
    half_a_head.send("GET / HT").await;
    let begun = Instant::now();
    within("the end", gate.running.stop()).await;
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&begun.elapsed()));
    for client in &mut clients {
        client.rest().await;
    }
    half_a_head.closed().await;
    for peer in &mut peers {
        peer.rest().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_counted_off_when_it_ends() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = gate.client().await;
        assert_eq!(client.get("/").await.status, 200);
        clients.push(client);
    }
    assert_eq!(gate.running.status().connections_open, 20);
    drop(clients);
    eventually("all to be gone", || gate.running.status().connections_open == 0).await;
    assert_eq!(gate.metric("hearthgate_connections_open{listener=\"https\"}"), Some(0.0));
}
