//! When the upstream is away, hangs, or talks nonsense: who is told what.

use crate::harness::http2::Http2Client;
use crate::harness::{Answer, FakeHomeAssistant, Gate, RawUpstream, Setup, within};
use tokio::net::TcpListener;

async fn nobody() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn ask(gate: &Gate, method: &str, path: &str, accept: &str) -> Answer {
    let mut client = gate.client().await;
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: ha.test\r\nAccept: {accept}\r\n\r\n")).await;
    if method == "HEAD" {
        let head = client.head().await;
        client.closed().await;
        return Answer { status: head[9..12].parse().unwrap(), head, body: Vec::new() };
    }
    client.answer().await
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_get_a_page_programs_json_and_everyone_the_same_status() {
    let gate = Gate::start(nobody().await).await;
    for (path, accept, content_type) in [
        ("/lovelace", "text/html,*/*;q=0.8", "text/html; charset=utf-8"),
        ("/api/states", "*/*", "application/json"),
        ("/auth/token", "*/*", "application/json"),
        ("/x", "application/json", "application/json"),
        ("/x", "*/*", "text/plain; charset=utf-8"),
    ] {
        let answer = ask(&gate, "GET", path, accept).await;
        assert_eq!((answer.status, answer.field("content-type")), (502, Some(content_type)), "{path}");
        assert_eq!(answer.field("retry-after"), Some("5"));
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    }
    assert_eq!(gate.metric("hearthgate_upstream_failures_total{cause=\"refused\",host=\"ha.test\"}"), Some(5.0));
    assert_eq!(gate.running.status().hosts[0].health, "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_gets_no_body() {
    let gate = Gate::start(nobody().await).await;
    let answer = ask(&gate, "HEAD", "/", "text/html").await;
    assert_eq!(answer.status, 502);
    assert_ne!(answer.field("content-length"), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_upstream_is_a_504() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).section("timeouts: {upstream_response: 200ms}").start().await;
    let answer = ask(&gate, "POST", "/", "*/*").await;
    assert_eq!(answer.status, 504);
    // Never sent twice, and let go.
    assert!(upstream.accept().await.head().await.starts_with("POST / "));
    assert_eq!(upstream.connections(), 1);
    assert_eq!(gate.running.status().hosts[0].health, "timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_be_silent_for_longer_than_an_ordinary_answer() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address)
        .key("app: home_assistant")
        .key("surface: open")
        .section("timeouts: {upstream_response: 200ms, upstream_stream: 20s}")
        .start()
        .await;
    let mut client = gate.client().await;
    client.send("GET /api/stream HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_a_502() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    for garbage in
        ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nX", "", "\0\0\0\0\r\n\r\n"]
    {
        let mut client = gate.client().await;
        client.send("POST / HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 0\r\n\r\n").await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.send(garbage).await;
        drop(peer);
        assert_eq!(client.answer().await.status, 502, "{garbage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_made_to_look_whole() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    for head in ["Content-Length: 100\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let mut client = gate.client().await;
        client.send("GET / HTTP/1.1\r\nHost: ha.test\r\n\r\n").await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.send(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        drop(peer);
        // Head and break may come so close together that the client hears of neither.
        let seen = client.rest().await;
        let seen = String::from_utf8_lossy(&seen);
        assert!(seen.is_empty() || seen.starts_with("HTTP/1.1 200 "), "{seen:?}");
        assert!(!seen.contains("0\r\n\r\n"), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_comes_back_is_used_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gate = Gate::start(address).await;
    assert_eq!(gate.client().await.get("/").await.status, 502);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let _upstream = FakeHomeAssistant::on(socket.listen(16).unwrap(), "back", None);
    assert_eq!(gate.client().await.get("/").await.text(), "back");
    assert_eq!(gate.running.status().hosts[0].health, "healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_upstream_away_leaves_the_others_alone() {
    let cam = FakeHomeAssistant::named("cam").await;
    let gate = Setup::new(nobody().await).host("cam.test", cam.address).start().await;
    assert_eq!(gate.client().await.get("/").await.status, 502);
    let request = "GET / HTTP/1.1\r\nHost: cam.test\r\n\r\n";
    assert_eq!(gate.client_of("cam.test").await.exchange(request).await.text(), "cam");
}

/// `localhost` is both 127.0.0.1 and ::1 here, or only one of them; either way the one that listens is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_address_is_tried_when_the_first_refuses() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(bind).await else { continue };
        let port = listener.local_addr().unwrap().port();
        let name = ("localhost", port);
        let addresses: Vec<_> = tokio::net::lookup_host(name).await.unwrap().collect();
        if !addresses.contains(&listener.local_addr().unwrap()) {
            continue;
        }
        let _upstream = FakeHomeAssistant::on(listener, "found", None);
        let yaml = format!("{{url: \"http://localhost:{port}\", health_check: 0s}}");
        let gate = Setup::with_upstream(&yaml).start().await;
        crate::harness::eventually("the name to resolve", || gate.running.status().hosts[0].health == "not asked yet")
            .await;
        let mut answer = gate.client().await.get("/").await;
        while answer.status == 502 && gate.running.status().hosts[0].health == "dns" {
            answer = gate.client().await.get("/").await;
        }
        assert_eq!(answer.text(), "found", "{bind}");
    }
}

/// A stream that ends says nothing of the upstream; a restart of Home Assistant ends them all at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_behind_its_head_is_no_sign_of_trouble() {
    let mut upstream = RawUpstream::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = Http2Client::connect(&gate).await;
    let request = || {
        let request = http::Request::get("https://ha.test/api/stream").header("accept", "text/event-stream");
        request.body(()).unwrap()
    };
    let (answer, _stream) = client.begin(request(), true).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    let event =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    peer.send(event).await;
    let answer = within("the head", answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    assert_eq!(within("an event", body.data()).await.unwrap().unwrap(), "hello");
    drop(peer);
    // The end is not made to look like one.
    assert!(within("the break", body.data()).await.unwrap().is_err());
    let broken = "hearthgate_upstream_failures_total{cause=\"broken\",host=\"ha.test\"}";
    assert_eq!((gate.running.status().hosts[0].health.as_str(), gate.metric(broken)), ("healthy", Some(0.0)));
    assert_eq!(gate.metric("hearthgate_upstream_up{host=\"ha.test\"}"), Some(1.0));

    let (answer, _stream) = client.begin(request(), true).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    drop(peer);
    assert_eq!(crate::harness::http2::finish(answer).await.unwrap().status, 502);
    assert_eq!((gate.running.status().hosts[0].health.as_str(), gate.metric(broken)), ("broken", Some(1.0)));
    assert_eq!(gate.metric("hearthgate_upstream_up{host=\"ha.test\"}"), Some(0.0));
}
