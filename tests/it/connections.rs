//! The limits on open connections: in all, and per client.

use hearthgate::denial::Denial;

use crate::harness::{FakeHomeAssistant, Gate, Setup, eventually};

async fn gate(upstream: &FakeHomeAssistant, limits: &str) -> Gate {
    Setup::new(upstream.address).section(&format!("limits: {{{limits}}}")).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_at_its_limit_is_told_503_and_its_neighbour_passes() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "connections_per_client: 2").await;
    let mut held = [gate.client().await, gate.client().await];
    let mut third = gate.client().await;
    let answer = third.get("/third").await;
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
    third.closed().await;
    gate.has_denied(Denial::ConnectionsPerClient, 1).await;
    assert_eq!(upstream.targets(), Vec::<String>::new());

    let mut neighbour = gate.dial().from("127.0.0.2").client().await;
    assert_eq!(neighbour.get("/neighbour").await.status, 200);
    for client in &mut held {
        assert_eq!(client.get("/held").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_given_back_when_its_connection_ends() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "connections_per_client: 1").await;
    for _ in 0..5 {
        let mut client = gate.client().await;
        assert_eq!(client.get("/").await.status, 200);
        drop(client);
        eventually("the connection to be counted off", || gate.running.status().connections_open == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_limit_of_all_everyone_is_told_503() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "connections: 2, connections_per_client: 2").await;
    let mut held = gate.client().await;
    let other = gate.dial().from("127.0.0.2").client().await;
    let answer = gate.dial().from("127.0.0.3").client().await.get("/").await;
    assert_eq!(answer.status, 503);
    gate.has_denied(Denial::Connections, 1).await;
    assert_eq!(upstream.connections(), 0);
    assert_eq!(held.get("/").await.status, 200);
    drop(other);
    eventually("a place", || gate.running.status().connections_open == 1).await;
    assert_eq!(gate.dial().from("127.0.0.3").client().await.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redirect_port_counts_as_well() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "connections_per_client: 1").await;
    let _held = gate.client().await;
    let answer = gate.plain_client().await.get("/").await;
    assert_eq!(answer.status, 503);
    gate.has_denied(Denial::ConnectionsPerClient, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_are_only_told_are_bounded_too() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "connections_per_client: 1").await;
    let mut held = gate.client().await;
    let mut over = Vec::new();
    for _ in 0..80 {
        over.push(gate.dial().tcp().await);
    }
    // 64 wait to be told; the others were closed unheard.
    eventually("16 closed", || gate.denials(Denial::ConnectionsPerClient) == 16).await;
    assert_eq!(held.get("/").await.status, 200);
}
