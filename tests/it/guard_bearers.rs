//! Bearers: Home Assistant is asked about an unknown one before anything else of it passes.

use futures_util::future::join_all;
use hearthgate::denial::Denial;

use crate::harness::guest::json_of;
use crate::harness::household::{ADMIN_VIEW, LONG_LIVED};
use crate::harness::{Guest, Household, eventually, guarded, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_good_bearer_is_asked_about_once_however_many_carry_it() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1").bearer(LONG_LIVED);
    household.hold();
    let asked = async {
        eventually("the question", || household.asked("/api/") == 1).await;
        eventually("the others to wait", || gate.running.status().connections_open == 50).await;
        household.release();
    };
    let (answers, ()) = tokio::join!(join_all((0..50).map(|_| guest.get("/api/states"))), asked);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((household.asked("/api/"), household.asked("/api/states")), (1, 50));
    let question = household.seen().remove(0);
    assert_eq!(question.field("x-forwarded-for"), Some("203.0.113.1"));
    assert_eq!(question.field("authorization"), Some("Bearer long-lived"));
    assert_eq!(Guest::at(&gate, "203.0.113.7").bearer(LONG_LIVED).get("/api/config").await.status, 200);
    assert_eq!(household.asked("/api/"), 1, "nor again, from wherever");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_bearer_reaches_no_view_and_soon_nobody_at_all() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 3, repeats: 2}").start().await;
    let tablet = Guest::at(&gate, "203.0.113.1").bearer("stale");
    let answers = join_all((0..30).map(|_| tablet.get("/api/states"))).await;
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 429)));
    for _ in 0..20 {
        let answer = tablet.ask("POST", "/api/services/light/turn_on", b"{}").await;
        assert_eq!((answer.status, answer.field("content-type")), (401, Some("application/json")));
    }
    assert_eq!(household.asked("/api/"), 2);
    assert_eq!(household.seen().len(), 2);
    assert_eq!(gate.metric("hearthgate_bans_total{cause=\"login\"}"), Some(0.0));
    // The tablet's neighbours live on.
    assert_eq!(Guest::at(&gate, "203.0.113.1").bearer(LONG_LIVED).get("/api/states").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessed_bearers_ban() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 3}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for guess in ["Bearer 1", "Basic b3duZXI6bm8=", "bearer long-lived"] {
        let answer = guest.clone().with(&format!("Authorization: {guess}")).get("/api/states").await;
        assert_eq!(answer.status, 401, "{guess}");
    }
    assert!(guest.is_shut_out().await);
    assert_eq!(household.asked("/api/states"), 0);
    assert!(!Guest::at(&gate, "203.0.113.2").is_shut_out().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_on_a_view_for_administrators_keeps_a_good_bearer_good() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 1}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1").bearer(LONG_LIVED);
    for asked in 1..5 {
        assert_eq!(guest.get(ADMIN_VIEW).await.status, 401);
        // The first question, and one of each doubt.
        eventually("the doubt", || household.asked("/api/") == asked + 1).await;
    }
    assert_eq!(guest.get("/api/states").await.status, 200);
    assert_eq!(household.asked("/api/"), 5, "still known");
    assert_eq!(household.asked(ADMIN_VIEW), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_bearer_is_out_and_no_guess() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 1}, proof_extends_to_address: 0s").start().await;
    let guest = Guest::at(&gate, "203.0.113.1").bearer(LONG_LIVED);
    assert_eq!(guest.get("/api/states").await.status, 200);
    household.expire(LONG_LIVED);
    assert_eq!(guest.get("/api/states").await.status, 401, "by Home Assistant");
    is_out(&guest, &household).await;
    assert!(!Guest::at(&gate, "203.0.113.1").is_shut_out().await, "it was good once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_given_back_takes_its_device_out_of_the_lane() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let session = guest.log_in().await;
    let device = guest.clone().bearer(&session.access);
    assert_eq!(device.get("/api/states").await.status, 200);
    assert_eq!(household.asked("/api/"), 0, "known by its login");
    let revocation = format!("token={}", session.refresh);
    let form = crate::harness::guest::FORM;
    assert_eq!(guest.clone().with(form).post("/auth/revoke", revocation).await.status, 200);
    assert_eq!(device.get("/api/states").await.status, 401);
    assert_eq!(household.asked("/api/"), 1, "asked anew, and refused");
}

/// Waits until the gate itself refuses the guest, which it learns from Home Assistant behind an answer's back.
async fn is_out(guest: &Guest<'_>, household: &Household) {
    within("the guest to be out", async {
        loop {
            let before = household.asked("/api/states");
            assert_eq!(guest.get("/api/states").await.status, 401);
            if household.asked("/api/states") == before {
                return;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_signed_out_is_out_of_the_lane_with_all_it_has() {
    let household = Household::start().await;
    let gate = guarded(&household, "proof_extends_to_address: 0s").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let session = guest.log_in().await;
    let browser = guest.clone().with(&format!("Cookie: {}", session.cookie));
    assert_eq!(browser.ask("POST", "/api/x", b"").await.status, 401);
    assert_eq!(household.asked("/api/x"), 1, "known by its cookie");
    household.expire(&session.access);
    is_out(&guest.clone().bearer(&session.access), &household).await;
    assert_eq!(browser.ask("POST", "/api/x", b"").await.status, 401);
    assert_eq!(household.asked("/api/x"), 1);
}

/// The end of an access token was taken for the end of its device.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_run_out_takes_nobody_out_of_the_lane() {
    let household = Household::start().await;
    household.tokens_last(5);
    let gate = guarded(&household, "login: {max_failures: 2}, bans: {answer: page}").start().await;
    let tablet = Guest::at(&gate, "203.0.113.1");
    let session = tablet.log_in().await;
    let stranger = Guest::at(&gate, "203.0.113.1");
    for wrong in ["1", "2"] {
        stranger.guess(wrong).await;
    }
    assert_eq!(stranger.clone().bearer("3").get("/api/states").await.status, 403);
    household.expire(&session.access);
    assert_eq!(tablet.clone().bearer(&session.access).get("/api/states").await.status, 401);
    assert_eq!(household.asked("/api/states"), 0, "asked about first");
    let fresh = tablet.refresh(&session.refresh).await;
    assert_eq!(fresh.status, 200);
    let browser = tablet.clone().with(&format!("Cookie: {}", session.cookie));
    assert_eq!(browser.get("/").await.status, 200);
    // The same in a WebSocket.
    let access = json_of(&fresh)["access_token"].as_str().unwrap().to_owned();
    assert_eq!(tablet.show(&access).await.1.as_deref(), Some("auth_ok"));
    household.expire(&access);
    assert_eq!(tablet.show(&access).await.1.as_deref(), Some("auth_invalid"));
    assert_eq!(tablet.refresh(&session.refresh).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_bearer_waits_while_home_assistant_is_silent_and_others_do_not() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let known = Guest::at(&gate, "203.0.113.1").bearer(LONG_LIVED);
    assert_eq!(known.get("/api/states").await.status, 200);
    household.hold();
    let mut waiting = Guest::at(&gate, "203.0.113.2").bearer("unknown").connect().await;
    waiting.send(Guest::at(&gate, "203.0.113.2").bearer("unknown").request("GET", "/api/states", b"")).await;
    eventually("the question", || household.asked("/api/") == 2).await;
    assert_eq!(Guest::at(&gate, "203.0.113.3").get("/").await.status, 200);
    household.release();
    assert_eq!(waiting.answer().await.status, 401);
    gate.has_denied(Denial::StaleCredential, 1).await;
}
