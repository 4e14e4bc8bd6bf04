//! Home Assistant that does not trust the gate answers a bare 400 to everything it forwards. The gate finds out, says
//! so, and notices when it is over.

use std::time::Duration;

use crate::harness::{FakeHomeAssistant, Gate, Setup, within};

async fn gate(upstream: &FakeHomeAssistant, health_check: &str) -> Gate {
    let yaml = format!("{{url: \"http://{}\", health_check: {health_check}}}", upstream.address);
    Setup::with_upstream(&yaml).key("app: home_assistant").start().await
}

/// Asks until the health is as expected.
async fn until_health_is(gate: &Gate, expected: &str) {
    within(expected, async {
        while gate.running.status().hosts[0].health != expected {
            gate.client().await.get("/").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn distrust_is_found_told_and_noticed_when_it_is_over() {
    let upstream = FakeHomeAssistant::start().await;
    upstream.distrust(true);
    let gate = gate(&upstream, "0s").await;
    until_health_is(&gate, "does not trust this gate").await;
    let mut client = gate.client().await;
    let answer = client.exchange("GET / HTTP/1.1\r\nHost: ha.test\r\nAccept: text/html\r\n\r\n").await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("does not accept this gate yet"), "{}", answer.text());
    upstream.distrust(false);
    until_health_is(&gate, "healthy").await;
    assert_eq!(gate.client().await.get("/").await.text(), "home");
}

#[tokio::test(flavor = "multi_thread")]
async fn distrust_is_found_at_the_start_without_any_client() {
    let upstream = FakeHomeAssistant::start().await;
    upstream.distrust(true);
    let gate = gate(&upstream, "1s").await;
    let found = || gate.running.status().hosts[0].health == "does not trust this gate";
    crate::harness::eventually("the distrust to be found", found).await;
    assert_eq!(gate.metric("hearthgate_upstream_up{host=\"ha.test\"}"), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_400_passes_untouched() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = gate(&upstream, "0s").await;
    for _ in 0..3 {
        let answer = gate.client().await.get("/static/bad").await;
        assert_eq!((answer.status, answer.text()), (400, "400: Bad Request"));
    }
    assert_eq!(gate.client().await.get("/").await.status, 200);
    assert_eq!(gate.running.status().hosts[0].health, "healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generic_upstream_may_say_400_as_it_likes() {
    let upstream = FakeHomeAssistant::start().await;
    upstream.distrust(true);
    let gate = Gate::start(upstream.address).await;
    for _ in 0..3 {
        assert_eq!(gate.client().await.get("/").await.text(), "400: Bad Request");
    }
    assert_eq!(gate.running.status().hosts[0].health, "healthy");
}
