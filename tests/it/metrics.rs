//! What a request leaves behind in the metrics.

use hearthgate::admin::ReloadOutcome::Accepted;

use crate::harness::{FakeHomeAssistant, Gate, Setup, eventually};

const OTHER: &str = "GET / HTTP/1.1\r\nHost: cam.test\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_counted_by_host_class_and_code_and_so_is_its_time() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let mut client = gate.client().await;
    let begun = std::time::Instant::now();
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n").await.status, 421);
    let total = begun.elapsed().as_secs_f64();
    let metric = |sample: &str| gate.metric(&format!("hearthgate_{sample}")).unwrap_or_default();
    let file = "requests_total{class=\"static\",code=\"2xx\",host=\"ha.test\"}";
    eventually("the file to be counted", || metric(file) == 1.0).await;
    let unknown = "requests_total{class=\"other\",code=\"4xx\",host=\"none\"}";
    eventually("the stranger to be counted", || metric(unknown) == 1.0).await;
    assert_eq!(metric("upstream_connections_total{host=\"ha.test\",reused=\"no\"}"), 1.0);
    // Only what was forwarded takes the gate's own time, and that is part of the whole.
    assert_eq!(metric("gate_duration_seconds_count"), 1.0);
    let own = metric("gate_duration_seconds_sum");
    assert!(own > 0.0 && own < total, "{own} of {total}");
    assert_eq!(metric("response_size_bytes_count{host=\"ha.test\"}"), 1.0);
    assert_eq!(metric("requests_in_flight"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_gone_leaves_no_series() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Setup::new(upstream.address).host("cam.test", upstream.address).start().await;
    assert_eq!(gate.client_of("cam.test").await.exchange(OTHER).await.status, 200);
    assert_eq!(gate.client().await.get("/").await.status, 200);
    let text = || prometheus::TextEncoder::new().encode_to_string(&gate.running.metrics.registry().gather()).unwrap();
    eventually("both to be counted", || {
        ["cam.test", "ha.test"].iter().all(|host| text().contains(&format!("code=\"2xx\",host=\"{host}\"")))
    })
    .await;
    gate.write(&Setup::new(upstream.address));
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    let left: Vec<_> = text().lines().filter(|line| line.contains("cam.test")).map(str::to_owned).collect();
    assert!(left.is_empty(), "{left:#?}");
    assert!(text().contains("code=\"2xx\",host=\"ha.test\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_tells_its_whole_life() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let at = |end: &str| {
        gate.metric(&format!("hearthgate_tls_certificate_{end}_timestamp_seconds{{host=\"ha.test\"}}")).unwrap()
    };
    assert!(at("not_before") < at("not_after"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_says_that_an_upstream_is_down_before_it_was_asked() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let up = || gate.metric("hearthgate_upstream_up{host=\"ha.test\"}");
    assert_eq!(up(), None);
    assert_eq!(gate.client().await.get("/").await.status, 200);
    eventually("its answer", || up() == Some(1.0)).await;
    assert_eq!(gate.metric("hearthgate_upstream_distrusts_gate{host=\"ha.test\"}"), Some(0.0));
}
