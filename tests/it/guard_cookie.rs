//! The gate's own cookie: a browser with it goes on working behind an address that strangers got banned.

use crate::harness::{Gate, Guest, Household, guarded};

const TWO: &str = "login: {max_failures: 2}, bans: {answer: page}";

async fn ban(gate: &Gate, ip: &str) {
    let stranger = Guest::at(gate, ip);
    for wrong in ["1", "2"] {
        stranger.guess(wrong).await;
    }
    assert_eq!(stranger.clone().bearer("3").get("/api/states").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_gives_a_browser_a_cookie_that_home_assistant_never_sees() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let session = guest.log_in().await;
    assert!(session.cookie.starts_with("__Host-hearthgate="), "{}", session.cookie);
    let browser = guest.clone().with(&format!("Cookie: a=1; {}; b=2", session.cookie));
    assert_eq!(browser.get("/").await.status, 200);
    assert_eq!(household.last().field("cookie"), Some("a=1; b=2"));
    let refreshed = browser.refresh(&session.refresh).await;
    assert_eq!((refreshed.status, refreshed.field("set-cookie")), (200, None), "one is enough");
    let only = guest.clone().with(&format!("Cookie: {}", session.cookie));
    only.get("/").await;
    assert_eq!(household.last().field("cookie"), None);
    only.get("/static/x").await;
    assert_eq!(household.last().field("cookie"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_beside_one_that_is_not_ascii_stays_at_the_gate_as_well() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let session = guest.log_in().await;
    let browser = guest.clone().with(&format!("Cookie: name=Zoë; {}", session.cookie));
    assert_eq!(browser.ask("POST", "/api/x", b"").await.status, 401, "known, and without a token");
    assert_eq!(household.asked("/api/x"), 1);
    assert_eq!(household.last().fields["cookie"].as_bytes(), "name=Zoë".as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_with_the_cookie_works_behind_a_banned_address() {
    let household = Household::start().await;
    let gate = guarded(&household, TWO).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let session = guest.log_in().await;
    ban(&gate, "203.0.113.1").await;
    let browser = guest.clone().with(&format!("Cookie: {}", session.cookie));
    for path in ["/", "/static/a.js", "/lovelace"] {
        assert_eq!(browser.get(path).await.status, 200, "{path}");
    }
    assert_eq!(browser.refresh(&session.refresh).await.status, 200);
    let flow = browser.begin().await;
    assert_eq!(browser.try_password(&flow, "mistyped").await.status, 200);
    browser.log_in().await;
    assert_eq!(browser.clone().bearer(&session.access).ask("POST", "/api/x", b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_cookie_or_one_that_has_proven_nothing_is_a_strangers() {
    let household = Household::start().await;
    let gate = guarded(&household, TWO).start().await;
    let session = Guest::at(&gate, "203.0.113.1").log_in().await;
    // Given with the 101 to whoever opens a WebSocket.
    let socket = Guest::at(&gate, "203.0.113.9").connect().await;
    let unproven = cookie_of_a_websocket(socket).await;
    ban(&gate, "203.0.113.1").await;
    let (name, value) = session.cookie.split_once('=').unwrap();
    let at = value.len() / 2;
    let other = if value.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = format!("{name}={}{other}{}", &value[..at], &value[at + 1..]);
    for cookie in [forged, unproven, format!("{name}="), format!("x{}", session.cookie)] {
        let guest = Guest::at(&gate, "203.0.113.1").with(&format!("Cookie: {cookie}"));
        assert_eq!(guest.ask("POST", "/api/x", b"").await.status, 403, "{cookie}");
    }
    let known = Guest::at(&gate, "203.0.113.1").with(&format!("Cookie: {}", session.cookie));
    assert_eq!(known.ask("POST", "/api/x", b"").await.status, 401, "by Home Assistant");
    assert_eq!(household.asked("/api/x"), 1);
}

async fn cookie_of_a_websocket(mut client: crate::harness::Client) -> String {
    client.send(crate::harness::websocket::UPGRADE).await;
    let head = client.head().await;
    let field = head.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie:"));
    field.unwrap()[11..].split(';').next().unwrap().trim().to_owned()
}

/// A browser's cookie outlives its sessions, and belongs to the last of them.
#[tokio::test(flavor = "multi_thread")]
async fn signing_out_takes_the_cookie_out_of_the_lane_again_and_again() {
    let household = Household::start().await;
    let gate = guarded(&household, "proof_extends_to_address: 0s").start().await;
    let mut browser = Guest::at(&gate, "203.0.113.1");
    let mut session = browser.log_in().await;
    browser = browser.with(&format!("Cookie: {}", session.cookie));
    for round in 1..4 {
        // Of another session, by a refresh: still the same device.
        let fresh = crate::harness::guest::json_of(&browser.refresh(&session.refresh).await);
        let fresh = Guest::at(&gate, "203.0.113.1").bearer(fresh["access_token"].as_str().unwrap());
        assert_eq!(fresh.get("/api/states").await.status, 200);
        assert_eq!(browser.ask("POST", "/api/x", b"").await.status, 401);
        assert_eq!(household.asked("/api/x"), round, "known");
        let form = crate::harness::guest::FORM;
        browser.clone().with(form).post("/auth/revoke", format!("token={}", session.refresh)).await;
        assert_eq!(browser.ask("POST", "/api/x", b"").await.status, 401);
        assert_eq!(household.asked("/api/x"), round, "a stranger");
        let before = household.asked("/api/");
        assert_eq!(fresh.get("/api/states").await.status, 401);
        assert_eq!(household.asked("/api/"), before + 1, "all of the device's is to be proven anew");
        // Nobody's cookie stays nobody's: the browser gets another one.
        let guest = Guest::at(&gate, "203.0.113.1");
        session = guest.log_in().await;
        browser = guest.with(&format!("Cookie: {}", session.cookie));
    }
}
