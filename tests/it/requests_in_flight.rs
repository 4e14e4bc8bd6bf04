//! The limits on requests in flight: in all, and per client. One HTTP/2 connection may carry a hundred.

use hearthgate::denial::Denial;
use http::Request;

use crate::harness::home_assistant::NEVER;
use crate::harness::http2::Http2Client;
use crate::harness::{Client, FakeHomeAssistant, Gate, Setup, eventually, within};

async fn gate(upstream: &FakeHomeAssistant, limits: &str) -> Gate {
    Setup::new(upstream.address).section(&format!("limits: {{{limits}}}")).start().await
}

/// An HTTP/1 request that the upstream has and does not answer.
async fn hold(upstream: &FakeHomeAssistant, mut client: Client) -> Client {
    let before = upstream.seen().len();
    client.send(format!("GET {NEVER} HTTP/1.1\r\nHost: ha.test\r\n\r\n")).await;
    eventually("the request to arrive", || upstream.seen().len() == before + 1).await;
    client
}

fn never() -> Request<()> {
    Request::get(format!("https://ha.test{NEVER}")).body(()).unwrap()
}

/// Asks until there is a place: it is given back a moment after its holder has heard the end.
async fn passes_soon(gate: &Gate, client_ip: &str) {
    within("a place", async { while gate.dial().from(client_ip).client().await.get("/later").await.status == 503 {} })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_client_at_its_limit_are_told_503_and_its_neighbour_passes() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "requests_per_client: 2").await;
    let mut client = Http2Client::connect(&gate).await;
    let (_first, mut stream) = client.begin(never(), true).await;
    let _second = client.begin(never(), true).await;
    eventually("both to arrive", || upstream.seen().len() == 2).await;

    let refused = client.get("/over").await.unwrap();
    assert_eq!((refused.status, refused.fields["retry-after"].as_bytes()), (503, b"5".as_slice()));
    assert_eq!(refused.fields.get("server"), None);
    gate.has_denied(Denial::RequestsPerClient, 1).await;
    // Another connection of the same client is no way around it.
    assert_eq!(gate.client().await.get("/over").await.status, 503);
    gate.has_denied(Denial::RequestsPerClient, 2).await;
    assert_eq!(upstream.targets(), [NEVER, NEVER]);

    let mut neighbour = Http2Client::dial(gate.dial().from("127.0.0.2")).await;
    assert_eq!(neighbour.get("/neighbour").await.unwrap().status, 200);

    stream.send_reset(h2::Reason::CANCEL);
    within("a place", async { while client.get("/next").await.unwrap().status == 503 {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http1_count_for_their_client_as_well() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "requests_per_client: 1").await;
    let held = hold(&upstream, gate.client().await).await;
    let mut second = gate.client().await;
    let answer = second.get("/over").await;
    assert_eq!((answer.status, answer.field("retry-after"), answer.field("server")), (503, Some("5"), None));
    gate.has_denied(Denial::RequestsPerClient, 1).await;
    assert_eq!(upstream.targets(), [NEVER]);
    assert_eq!(gate.dial().from("127.0.0.2").client().await.get("/neighbour").await.status, 200);
    drop(held);
    passes_soon(&gate, "127.0.0.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_without_a_request_takes_no_place() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "requests_per_client: 1").await;
    let mut clients = [gate.client().await, gate.client().await, gate.client().await];
    for client in &mut clients {
        assert_eq!(client.get("/").await.status, 200);
        passes_soon(&gate, "127.0.0.1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_limit_of_all_everyone_is_told_503() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "requests: 2, requests_per_client: 2").await;
    let first = hold(&upstream, gate.client().await).await;
    let _second = hold(&upstream, gate.dial().from("127.0.0.2").client().await).await;

    let answer = gate.dial().from("127.0.0.3").client().await.get("/over").await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
    gate.has_denied(Denial::Requests, 1).await;
    let mut stranger = Http2Client::dial(gate.dial().from("127.0.0.4")).await;
    assert_eq!(stranger.get("/over").await.unwrap().status, 503);
    gate.has_denied(Denial::Requests, 2).await;
    assert_eq!(upstream.targets(), [NEVER, NEVER]);

    drop(first);
    passes_soon(&gate, "127.0.0.3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_do_not_count() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "requests: 1, requests_per_client: 1").await;
    let mut first = crate::harness::websocket::WebSocket::open(&gate).await;
    passes_soon(&gate, "127.0.0.1").await;
    first.echoes(tokio_tungstenite::tungstenite::Message::text("still here")).await;
}
