//! Rate limits: a burst, then 429, for this client and this class of requests only.

use hearthgate::admin::ReloadOutcome::Accepted;
use hearthgate::denial::Denial;
use http::Request;

use crate::harness::http2::Http2Client;
use crate::harness::{Guest, Household, guarded};

const TIGHT: &str = "rate_limits: {page: {rate: 1/h, burst: 3}, static: {rate: 1/h, burst: 3}}";

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_passes_and_the_next_one_waits_while_other_classes_and_clients_pass() {
    let household = Household::start().await;
    let gate = guarded(&household, TIGHT).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for _ in 0..3 {
        assert_eq!(guest.get("/").await.status, 200);
    }
    let refused = guest.get("/").await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    assert_eq!(household.asked("/"), 3);
    assert_eq!(guest.get("/static/a.js").await.status, 200, "another class");
    assert_eq!(Guest::at(&gate, "203.0.113.2").get("/").await.status, 200, "another client");
    gate.has_denied(Denial::RateLimit, 1).await;
    assert_eq!(gate.metric("hearthgate_guard_refusals_total{host=\"ha.test\",reason=\"rate_limit\"}"), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_page_to_a_browser_and_json_to_a_program() {
    let household = Household::start().await;
    let gate = guarded(&household, "rate_limits: {page: {rate: 1/h, burst: 1}}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    assert_eq!(guest.get("/").await.status, 200);
    for (accept, content_type) in [("text/html", "text/html; charset=utf-8"), ("application/json", "application/json")]
    {
        let refused = guest.clone().with(&format!("Accept: {accept}")).get("/").await;
        assert_eq!((refused.status, refused.field("content-type")), (429, Some(content_type)));
        assert!(refused.text().contains("Too many requests") && refused.field("retry-after").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_and_http1_share_one_count() {
    let household = Household::start().await;
    let gate = guarded(&household, TIGHT).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let mut client = Http2Client::dial(guest.dial()).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.get("/").await.unwrap().status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert!(client.get("/").await.unwrap().fields.contains_key("retry-after"));
    assert_eq!(guest.get("/").await.status, 429);
    assert_eq!(client.get("/static/a.js").await.unwrap().status, 200, "the connection stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_streams_get_no_more_than_the_burst() {
    let household = Household::start().await;
    let gate = guarded(&household, TIGHT).start().await;
    let mut client = Http2Client::dial(Guest::at(&gate, "203.0.113.1").dial()).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        let request = Request::get("https://ha.test/").body(()).unwrap();
        streams.push(client.begin(request, true).await.0);
    }
    let mut passed = 0;
    for stream in streams {
        passed += usize::from(crate::harness::http2::finish(stream).await.unwrap().status == 200);
    }
    assert_eq!((passed, household.asked("/")), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_neighbour_of_the_64_shares_the_count_and_another_64_does_not() {
    let household = Household::start().await;
    let gate = guarded(&household, "rate_limits: {page: {rate: 1/h, burst: 1}}").start().await;
    assert_eq!(Guest::at(&gate, "2001:db8:1:2::3").get("/").await.status, 200);
    assert_eq!(Guest::at(&gate, "2001:db8:1:2:ffff::4").get("/").await.status, 429);
    assert_eq!(Guest::at(&gate, "2001:db8:1:3::3").get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_may_have_limits_of_its_own_which_are_counted_apart() {
    let household = Household::start().await;
    let setup = guarded(&household, "rate_limits: {page: {rate: 1/h, burst: 1}}");
    let setup = setup.host("big.test", household.address).key("app: home_assistant");
    let gate = setup.key("rate_limits: {page: {burst: 3}}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let big = "GET / HTTP/1.1\r\nHost: big.test\r\n\r\n";
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(guest.dial().name("big.test").client().await.exchange(big).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(guest.get("/").await.status, 200);
    assert_eq!(guest.get("/").await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_and_refuses_nothing() {
    let household = Household::start().await;
    let gate = guarded(&household, "rate_limits: {page: {rate: 1/h, burst: 1, dry_run: true}}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for _ in 0..4 {
        assert_eq!(guest.get("/").await.status, 200);
    }
    assert_eq!(gate.metric("hearthgate_guard_dry_run_total{host=\"ha.test\",reason=\"rate_limit\"}"), Some(3.0));
    gate.has_denied_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_limits_and_forgets_no_count() {
    let household = Household::start().await;
    let gate = guarded(&household, "rate_limits: {page: {rate: 1/h, burst: 3}}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for _ in 0..3 {
        assert_eq!(guest.get("/").await.status, 200);
    }
    for (burst, expected) in [(3, 429), (4, 200), (4, 429), (2, 429)] {
        gate.write(&guarded(&household, &format!("rate_limits: {{page: {{rate: 1/h, burst: {burst}}}}}")));
        let outcome = gate.running.reload().await.outcome;
        assert!(outcome == Accepted || (burst, expected) == (3, 429) || (burst, expected) == (4, 429), "{outcome:?}");
        assert_eq!(guest.get("/").await.status, expected, "burst {burst}");
    }
    gate.write(&guarded(&household, "rate_limits: {page: off}"));
    assert_eq!(gate.running.reload().await.outcome, Accepted);
    assert_eq!(guest.get("/").await.status, 200);
}

/// Refused bodies went by the limit: nobody counted them.
#[tokio::test(flavor = "multi_thread")]
async fn logins_that_nobody_understands_are_limited_as_well() {
    let household = Household::start().await;
    let gate = guarded(&household, "rate_limits: {auth: {rate: 1/h, burst: 3}}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(guest.post("/auth/login_flow", "no login").await.status);
    }
    assert_eq!(statuses, [400, 400, 400, 429, 429]);
    assert_eq!(Guest::at(&gate, "203.0.113.2").post("/auth/login_flow", "no login").await.status, 400);
    assert_eq!(household.seen().len(), 0);
}
