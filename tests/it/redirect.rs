//! Port 80 points to https and is good for nothing else.

use hearthgate::denial::Denial;

use crate::harness::{RawUpstream, Setup};

async fn gate(upstream: &RawUpstream) -> crate::harness::Gate {
    Setup::new(upstream.address).listen("public_port: 443").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_for_a_known_host_is_sent_to_https() {
    let mut upstream = RawUpstream::start().await;
    let gate = gate(&upstream).await;
    for (request, location) in [
        ("GET /a?b=c HTTP/1.1\r\nHost: ha.test\r\n\r\n", "https://ha.test/a?b=c"),
        ("GET / HTTP/1.1\r\nHost: HA.test:80\r\n\r\n", "https://ha.test/"),
        ("POST /x HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 2\r\n\r\nok", "https://ha.test/x"),
        ("GET http://ha.test/a HTTP/1.1\r\nHost: ha.test\r\n\r\n", "https://ha.test/"),
    ] {
        let mut client = gate.plain_client().await;
        let answer = client.exchange(request).await;
        assert_eq!((answer.status, answer.field("location")), (308, Some(location)), "{request}");
        client.closed().await;
    }
    upstream.is_untouched().await;
    gate.has_denied_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusual_port_is_named() {
    let upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).start().await;
    let answer = gate.plain_client().await.get("/").await;
    let location = format!("https://ha.test:{}/", gate.https().port());
    assert_eq!(answer.field("location"), Some(location.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_hosts_are_not_pointed_anywhere() {
    let mut upstream = RawUpstream::start().await;
    let gate = gate(&upstream).await;
    for (at, host) in ["evil.test", "127.0.0.1"].iter().enumerate() {
        let mut client = gate.plain_client().await;
        let answer = client.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.field("location")), (421, None), "{host}");
        client.closed().await;
        gate.has_denied(Denial::Misdirected, at as u64 + 1).await;
    }
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_as_it_is_behind_tls() {
    let mut upstream = RawUpstream::start().await;
    let gate = gate(&upstream).await;
    for (request, status) in [
        ("GET /a b HTTP/1.1\r\nHost: ha.test\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("CONNECT ha.test:443 HTTP/1.1\r\nHost: ha.test\r\n\r\n", 405),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("\x16\x03\x01\x02\x00\x01", 400),
    ] {
        let answer = gate.plain_client().await.exchange(request).await;
        assert_eq!((answer.status, answer.field("location")), (status, None), "{request:?}");
    }
    upstream.is_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_not_carried_in_the_clear() {
    let mut upstream = RawUpstream::start().await;
    let gate = gate(&upstream).await;
    let upgrade = "GET /api/websocket HTTP/1.1\r\nHost: ha.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(gate.plain_client().await.exchange(upgrade).await.status, 308);
    upstream.is_untouched().await;
}
