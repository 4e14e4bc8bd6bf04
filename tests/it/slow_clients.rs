//! Clients that hold a connection open without using it: each one is gone by its deadline, and does not disturb others.

use std::time::{Duration, Instant};

use hearthgate::denial::Denial;
use tokio::time::sleep;

use crate::harness::{Client, FakeHomeAssistant, Gate, RawUpstream, Setup};

/// Sends one byte of `bytes` each 20 ms until the gate answers or closes; not waiting for luck, this *is* the attack.
async fn drip(client: &mut Client, bytes: &[u8]) {
    for byte in bytes.iter().cycle() {
        tokio::select! {
            _ = client.more() => return,
            () = sleep(Duration::from_millis(20)) => {
                if client.try_send([*byte]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_drips_ends_with_408_at_its_deadline() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {request_head: 400ms}").start().await;
    let mut client = gate.client().await;
    let begun = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: ha.test\r\nX: ").await;
    drip(&mut client, b"a").await;
    assert_eq!(client.answer().await.status, 408);
    client.closed().await;
    assert!(begun.elapsed() >= Duration::from_millis(400));
    gate.has_denied(Denial::SlowHead, 1).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_drips_and_ends_in_time_passes() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    for byte in b"GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n" {
        client.send([*byte]).await;
    }
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_nothing_is_closed() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {request_head: 200ms}").start().await;
    gate.client().await.closed().await;
    gate.has_denied(Denial::SlowHead, 1).await;
    gate.plain_client().await.closed().await;
    gate.has_denied(Denial::SlowHead, 2).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_between_two_requests_is_closed_at_its_own_deadline() {
    let upstream = FakeHomeAssistant::start().await;
    let timeouts = "timeouts: {request_head: 100ms, keep_alive: 300ms}";
    let gate = Setup::new(upstream.address).section(timeouts).start().await;
    let mut client = gate.client().await;
    assert_eq!(client.get("/").await.status, 200);
    let begun = Instant::now();
    client.closed().await;
    assert!(begun.elapsed() >= Duration::from_millis(250), "the first request's deadline was applied to the second");
    gate.has_denied(Denial::KeepAlive, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_handshake_that_stalls_is_cut() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {tls_handshake: 200ms}").start().await;
    let silent = gate.dial().tcp().await;
    Client::new(silent).closed().await;
    gate.has_denied(Denial::TlsTimeout, 1).await;
    let mut half_a_hello = Client::new(gate.dial().tcp().await);
    half_a_hello.send(b"\x16\x03\x01\x02\x00\x01").await;
    half_a_hello.closed().await;
    gate.has_denied(Denial::TlsTimeout, 2).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_closed() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = Client::new(gate.dial().tcp().await);
    client.send("GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    client.rest().await;
    gate.has_denied(Denial::TlsHandshake, 1).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_cut_with_408() {
    let mut upstream = RawUpstream::start().await;
    let timeouts = "timeouts: {body_grace: 100ms, body_stall: 5s}\nlimits: {body_rate: 1KiB}";
    let gate = Setup::new(upstream.address).section(timeouts).start().await;
    let mut client = gate.client().await;
    client.send("POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 1000000\r\n\r\n").await;
    drip(&mut client, b"a").await;
    assert_eq!(client.answer().await.status, 408);
    client.closed().await;
    gate.has_denied(Denial::SlowBody, 1).await;
    // It never grew to what is worth a connection to the upstream.
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_begins_and_stalls_is_cut_with_408() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {body_stall: 200ms}").start().await;
    let chunk = [b"2000\r\n".to_vec(), vec![b'x'; 8192], b"\r\n".to_vec()].concat();
    for (framing, begin) in [("Content-Length: 1000000", vec![b'x'; 8192]), ("Transfer-Encoding: chunked", chunk)] {
        let mut client = gate.client().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: ha.test\r\n{framing}\r\n\r\n")).await;
        client.send(begin).await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        assert_eq!(client.answer().await.status, 408, "{framing}");
        client.closed().await;
        // The upstream does not wait for the rest either.
        peer.rest().await;
    }
    gate.has_denied(Denial::SlowBody, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_chunk_that_does_not_come_is_cut_with_408() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {body_stall: 200ms}").start().await;
    let mut client = gate.client().await;
    client.send("POST / HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\n\r\n5").await;
    assert_eq!(client.answer().await.status, 408);
    client.closed().await;
    gate.has_denied(Denial::SlowBody, 1).await;
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_reads_slowly_is_not_the_clients_fault() {
    let mut upstream = RawUpstream::start().await;
    let timeouts = "timeouts: {body_stall: 200ms, body_grace: 100ms}\nlimits: {body_rate: 1MiB}";
    let gate = Setup::new(upstream.address).section(timeouts).start().await;
    let mut client = gate.client().await;
    let body = vec![b'x'; 32 << 20];
    let length = body.len();
    let writer = tokio::spawn(async move {
        client.send(format!("POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: {length}\r\n\r\n")).await;
        client.send(body).await;
        client.answer().await
    });
    let mut peer = upstream.accept().await;
    peer.head().await;
    // Many times what a client may stall.
    sleep(Duration::from_secs(2)).await;
    assert!(!writer.is_finished());
    peer.bytes(length).await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(writer.await.unwrap().status, 200);
    gate.has_denied_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {write_stall: 300ms}").start().await;
    let mut client = gate.client().await;
    client.send("GET /backup HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    while peer.try_send([b'x'; 65536]).await.is_ok() {}
    gate.has_denied(Denial::WriteStall, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_do_not_disturb_others() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut client = gate.client().await;
        client.send("GET / HTTP/1.1\r\nHost: ha.te").await;
        slow.push(client);
    }
    assert_eq!(gate.client().await.get("/").await.status, 200);
    for client in &mut slow {
        client.send("st\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
    }
}
