//! What strangers see of a host: what a login needs, and nothing behind it, however it is spelled.

use hearthgate::denial::Denial;
use http::Request;

use crate::harness::household::LONG_LIVED;
use crate::harness::http2::Http2Client;
use crate::harness::{Guest, Household, guarded};

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_reaches_what_a_login_needs_and_nothing_behind_it() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for path in ["/", "/lovelace", "/static/a.js", "/auth/providers", "/auth/authorize?x=y"] {
        assert_eq!(guest.get(path).await.status, 200, "{path}");
    }
    assert_eq!(guest.post("/api/webhook/0123456789abcdef", "{}").await.status, 200);
    let reached = household.seen().len();
    for (method, path, status) in [
        ("GET", "/api/states", 401),
        ("GET", "/api/", 401),
        ("POST", "/api/services/light/turn_on", 401),
        ("POST", "/api/webhook/short", 404),
        ("GET", "/unknown", 401),
        ("GET", "/api/hassio/app/entrypoint.js", 401),
        ("POST", "/auth/providers", 404),
        ("DELETE", "/static/a.js", 404),
        ("OPTIONS", "/api/states", 401),
    ] {
        let answer = guest.ask(method, path, b"").await;
        assert!(
            answer.status == status || matches!((status, answer.status), (401 | 404, 401 | 404)),
            "{method} {path} {}",
            answer.status
        );
    }
    assert_eq!(household.seen().len(), reached);
    let device = guest.clone().bearer(LONG_LIVED);
    for (method, path) in [("GET", "/api/states"), ("POST", "/api/services/light/turn_on"), ("GET", "/unknown")] {
        assert_eq!(device.ask(method, path, b"").await.status, 200, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_lets_its_address_read_and_change_nothing() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    assert_eq!(guest.get("/api/camera").await.status, 401);
    assert_eq!(household.asked("/api/camera"), 0);
    guest.log_in().await;
    guest.get("/api/camera").await;
    let mut client = guest.connect().await;
    client.send(guest.request("HEAD", "/api/camera", b"")).await;
    client.head().await;
    assert_eq!(household.asked("/api/camera"), 2, "a picture, which sends no token");
    guest.ask("POST", "/api/camera", b"").await;
    Guest::at(&gate, "203.0.113.2").get("/api/camera").await;
    assert_eq!(household.asked("/api/camera"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_may_be_told_to_open_nothing_for_its_address() {
    let household = Household::start().await;
    let gate = guarded(&household, "proof_extends_to_address: 0s").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let session = guest.log_in().await;
    guest.get("/api/camera").await;
    assert_eq!(household.asked("/api/camera"), 0);
    guest.clone().with(&format!("Cookie: {}", session.cookie)).get("/api/camera").await;
    assert_eq!(household.asked("/api/camera"), 1);
}

/// However a path behind the login is spelled, and however a path before it is bent.
#[tokio::test(flavor = "multi_thread")]
async fn no_odd_spelling_opens_anything_to_a_stranger() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let device = guest.clone().bearer(LONG_LIVED);
    assert_eq!(Guest::at(&gate, "203.0.113.9").bearer(LONG_LIVED).get("/api/").await.status, 200);
    let reached = household.seen().len();
    let odd = [
        "/static/../api/states",
        "/static/%2e%2e/api/states",
        "/static/..%2fapi/states",
        "/static/%2e%2e%2fapi%2fstates",
        "/static/%252e%252e/api/states",
        "/static/..%5capi/states",
        "/static/..;/api/states",
        "/static/%09../api/states",
        "//api/states",
        "/%61pi/states",
        "/./api/states",
        "/static/./x",
        "/auth//token",
        "/auth/providers%00",
        "/auth/providers%3b",
        "/auth/providers;a=b",
        "/static/%ff",
        "/API/states",
        "/api/hassio/app/.%252e/supervisor/info",
        "https://ha.test/static/a.js",
    ];
    for path in odd {
        let answer = guest.get(path).await;
        assert!(matches!(answer.status, 400 | 401 | 404), "{path} {}", answer.status);
    }
    let mut client = Http2Client::dial(guest.dial()).await;
    for path in odd.iter().filter(|path| path.starts_with('/')) {
        let Ok(request) = Request::get(format!("https://ha.test{path}")).body(()) else { continue };
        let status = client.send(request, b"").await.unwrap().status;
        assert!(matches!(status, 400 | 401 | 404), "{path} {status}");
    }
    assert_eq!(household.seen().len(), reached);
    assert!(gate.denials(Denial::OddPath) > 0);
    // The same from who is known is Home Assistant's to judge.
    device.get("/%61pi/states").await;
    assert_eq!(household.last().target, "/%61pi/states");
}

#[tokio::test(flavor = "multi_thread")]
async fn public_paths_may_be_read_and_not_changed() {
    let household = Household::start().await;
    let gate = guarded(&household, "").key("public_paths: [/nodered]").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for (method, path, reaches) in [
        ("GET", "/nodered", true),
        ("GET", "/nodered/ui", true),
        ("POST", "/nodered/ui", false),
        ("GET", "/noderedx", false),
        ("GET", "/nodered/../api/states", false),
        ("GET", "/nodered/%2e%2e/api/states", false),
        ("GET", "/nodered/..%2fapi/states", false),
    ] {
        let before = household.seen().len();
        guest.ask(method, path, b"").await;
        assert_eq!(household.seen().len() - before, usize::from(reaches), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn onboarding_is_for_nobody_outside_unless_it_is_allowed() {
    let paths = ["/onboarding.html", "/api/onboarding", "/api/onboarding/users", "/%61pi/onboarding/users"];
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for path in paths {
        let answer = guest.post(path, "{}").await;
        assert!(matches!(answer.status, 403 | 404), "{path} {}", answer.status);
        assert_eq!(guest.get(path).await.status, 403, "{path}");
    }
    assert_eq!(household.seen().len(), 0);
    let gate = guarded(&household, "").key("onboarding: true").start().await;
    Guest::at(&gate, "203.0.113.1").post("/api/onboarding/users", "{}").await;
    assert_eq!(household.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_surface_leaves_all_to_home_assistant_but_onboarding_and_guesses() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 2}").key("surface: open").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for path in ["/api/states", "/unknown", "/%61pi/states"] {
        assert_eq!(guest.get(path).await.status, 401, "{path}");
        assert_eq!(household.last().target, path);
    }
    assert_eq!(guest.get("/api/onboarding").await.status, 403);
    for wrong in ["1", "2"] {
        assert_eq!(guest.clone().bearer(wrong).get("/api/states").await.status, 401);
    }
    assert_eq!(household.asked("/api/states"), 1, "never with a token that is made up");
    assert!(guest.is_shut_out().await);
}
