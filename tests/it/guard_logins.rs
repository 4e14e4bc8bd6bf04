//! Logins: distinct wrong guesses count, parallel ones as well, repetitions and the upstream's troubles do not.

use futures_util::future::join_all;
use hearthgate::denial::Denial;
use http::Request;

use crate::harness::guest::{FORM, PROXY, START, code, json_of, password_of};
use crate::harness::household::{CODE, OWNER, PASSWORD, TESS};
use crate::harness::http2::{Http2Client, finish};
use crate::harness::{Answer, Guest, Household, Setup, eventually, guarded};

const THREE: &str = "login: {max_failures: 3}";
const UNLIMITED: &str = "rate_limits: {auth: off}";

#[tokio::test(flavor = "multi_thread")]
async fn the_last_distinct_wrong_password_bans_and_a_neighbour_logs_in() {
    let household = Household::start().await;
    let gate = guarded(&household, THREE).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for password in ["1", "2", "3"] {
        assert_eq!(guest.guess(password).await, 200);
    }
    assert!(guest.is_shut_out().await);
    assert_eq!(household.guesses(), 3);
    assert_eq!(gate.metric("hearthgate_bans_total{cause=\"login\"}"), Some(1.0));
    Guest::at(&gate, "203.0.113.2").log_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_wrong_password_counts_once() {
    let household = Household::start().await;
    let gate = guarded(&household, THREE).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for _ in 0..10 {
        assert_eq!(guest.guess("caps lock").await, 200);
    }
    assert_eq!(guest.guess("another").await, 200);
    guest.log_in().await;
    assert_eq!(gate.metric("hearthgate_bans_total{cause=\"login\"}"), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_at_once_get_no_more_answers_than_one_after_another() {
    let household = Household::start().await;
    let gate = guarded(&household, &format!("{THREE}, {UNLIMITED}")).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let flow = guest.begin().await;
    household.hold();
    let mut clients = Vec::new();
    for at in 0..200 {
        let mut client = guest.connect().await;
        let path = format!("/auth/login_flow/{flow}");
        client.send(guest.request("POST", &path, password_of(OWNER, &at.to_string()).as_bytes())).await;
        clients.push(client);
    }
    gate.has_denied(Denial::LoginThrottle, 197).await;
    household.release();
    let wrong = join_all(clients.into_iter().map(async |mut client| client.rest().await)).await;
    assert_eq!(wrong.iter().filter(|answer| answer.starts_with(b"HTTP/1.1 429")).count(), 197);
    assert_eq!(household.guesses(), 3);
    assert!(guest.is_shut_out().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_streams_at_once_get_no_more_answers_than_one_after_another() {
    let household = Household::start().await;
    let setup = guarded(&household, &format!("{THREE}, {UNLIMITED}")).section("limits: {http2_streams: 200}");
    let gate = setup.start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let flow = guest.begin().await;
    household.hold();
    let mut client = Http2Client::dial(guest.dial()).await;
    let mut streams = Vec::new();
    for at in 0..200 {
        let request = Request::post(format!("https://ha.test/auth/login_flow/{flow}")).body(()).unwrap();
        let (answer, mut body) = client.begin(request, false).await;
        body.send_data(password_of(OWNER, &at.to_string()).into(), true).unwrap();
        streams.push(answer);
    }
    gate.has_denied(Denial::LoginThrottle, 197).await;
    household.release();
    let answers = join_all(streams.into_iter().map(finish)).await;
    // The ban closes the connection, at best behind the last answers.
    let refused = answers.iter().flatten().filter(|answer| answer.status == 429).count();
    assert!(refused <= 197 && household.guesses() == 3, "{refused} {}", household.guesses());
    assert!(guest.is_shut_out().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fifth_wrong_code_counts_although_home_assistant_does_not_say_so() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 5}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let flow = guest.begin().await;
    let path = format!("/auth/login_flow/{flow}");
    assert_eq!(json_of(&guest.post(&path, password_of(TESS, PASSWORD)).await)["step_id"], "mfa");
    for wrong in 0..4 {
        assert_eq!(json_of(&guest.post(&path, code(&format!("00000{wrong}"))).await)["step_id"], "mfa");
    }
    assert_eq!(json_of(&guest.post(&path, code("000004")).await)["reason"], "too_many_retry");
    assert!(guest.is_shut_out().await);
    // A neighbour with four wrong codes gets in.
    let guest = Guest::at(&gate, "203.0.113.2");
    let path = format!("/auth/login_flow/{}", guest.begin().await);
    guest.post(&path, password_of(TESS, PASSWORD)).await;
    for wrong in 0..4 {
        guest.post(&path, code(&format!("00000{wrong}"))).await;
    }
    assert_eq!(json_of(&guest.post(&path, code(CODE)).await)["type"], "create_entry");
}

/// The same digits half a minute later are another guess.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_wrong_code_again_is_another_guess() {
    let household = Household::start().await;
    let gate = guarded(&household, THREE).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let path = format!("/auth/login_flow/{}", guest.begin().await);
    guest.post(&path, password_of(TESS, PASSWORD)).await;
    for _ in 0..3 {
        guest.post(&path, code("000000")).await;
    }
    assert!(guest.is_shut_out().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_code_or_refresh_token_counts_once_each() {
    let household = Household::start().await;
    let gate = guarded(&household, THREE).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for _ in 0..3 {
        assert_eq!(guest.refresh("stolen").await.status, 400);
    }
    let stale = guest.refresh("stolen").await;
    assert_eq!((stale.status, stale.text()), (400, "{\"error\":\"invalid_grant\"}"), "in the words of the application");
    assert_eq!(household.asked("/auth/token"), 3);
    assert_eq!(guest.exchange("authorization_code", "made up").await.status, 400);
    assert_eq!(guest.exchange("authorization_code", "made up too").await.status, 400);
    assert!(guest.is_shut_out().await);
}

async fn forwarded(gate: &crate::harness::Gate, from: &str, password: &str) -> Answer {
    let guest = Guest::at(gate, PROXY).with(&format!("X-Forwarded-For: {from}"));
    let flow = guest.begin().await;
    guest.try_password(&flow, password).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_spray_on_one_account_slows_strangers_and_no_known_device() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {account_failures: 5, delay: 60s}").start().await;
    let known = Guest::at(&gate, PROXY).with("X-Forwarded-For: 203.0.113.200");
    let session = known.log_in().await;
    for at in 1..=5 {
        assert_eq!(forwarded(&gate, &format!("203.0.113.{at}"), &at.to_string()).await.status, 200);
    }
    // Past the limit one passes per delay.
    assert_eq!(forwarded(&gate, "203.0.113.6", "6").await.status, 200);
    let refused = forwarded(&gate, "203.0.113.7", "7").await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((59..=300).contains(&wait), "{wait}");
    gate.has_denied(Denial::AccountThrottle, 1).await;
    // Another account, and the known device.
    let other = Guest::at(&gate, PROXY).with("X-Forwarded-For: 203.0.113.7");
    let path = format!("/auth/login_flow/{}", other.begin().await);
    assert_eq!(other.post(&path, password_of(TESS, "no")).await.status, 200);
    let browser = known.clone().with(&format!("Cookie: {}", session.cookie));
    browser.log_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_login_never_reaches_the_upstream() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let large = format!("{}{}", START, " ".repeat(64 * 1024 - START.len() + 1));
    for (guest, path, body, expected) in [
        (guest.clone(), "/auth/login_flow", large.as_str(), 413),
        (guest.clone().with("Content-Encoding: gzip"), "/auth/login_flow", START, 400),
        (guest.clone().with("Content-Encoding: identity"), "/auth/login_flow", START, 400),
        (guest.clone(), "/auth/login_flow", "{", 400),
        (guest.clone(), "/auth/login_flow/0", "[]", 400),
        (guest.clone(), "/auth/login_flow/0", "{\"client_id\":\"x\",\"password\":{\"a\":1}}", 400),
    ] {
        assert_eq!(guest.post(path, body).await.status, expected, "{path} {body:.40}");
    }
    let chunked = b"POST /auth/login_flow HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut client = guest.connect().await;
    let piece = " ".repeat(32 * 1024);
    let body = format!("8000\r\n{piece}\r\n8000\r\n{piece}\r\n1\r\n \r\n0\r\n\r\n");
    let _ = client.try_send([chunked, body.into_bytes()].concat()).await;
    assert_eq!(client.answer().await.status, 413);
    assert_eq!(household.seen().len(), 0);
    // At the limit it passes, whole.
    let full = &large[..64 * 1024];
    assert_eq!(guest.post("/auth/login_flow", full).await.status, 200);
    assert_eq!(household.last().body, full.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_chunks_or_over_http2_arrives_as_it_was_sent() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let head = "POST /auth/login_flow HTTP/1.1\r\nHost: ha.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (one, other) = START.split_at(10);
    let body = format!("{:x}\r\n{one}\r\n{:x}\r\n{other}\r\n0\r\n\r\n", one.len(), other.len());
    assert_eq!(guest.connect().await.exchange(format!("{head}{body}")).await.status, 200);
    assert_eq!(household.last().body, START.as_bytes());
    let request = Request::post("https://ha.test/auth/login_flow").body(()).unwrap();
    let answer = Http2Client::dial(guest.dial()).await.send(request, START.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body.escape_ascii());
    assert_eq!((answer.status, household.last().body), (200, START.as_bytes().to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_expects_100_continue_is_told_to_go_on() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1").with("Expect: 100-continue");
    let request = guest.request("POST", "/auth/login_flow", START.as_bytes());
    let (head, body) = request.split_at(request.len() - START.len());
    let mut client = guest.connect().await;
    client.send(head).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 100 "), "{head}");
    client.send(body).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(household.last().body, START.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_home_assistant_is_down_nobody_fails() {
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gate = Setup::new(address)
        .key("app: home_assistant")
        .section("guard: {never_ban: [192.0.2.0/24], login: {max_failures: 1}}")
        .start()
        .await;
    let mut client = gate.client().await;
    for attempt in 0..5 {
        let answer = client.post("/auth/login_flow/0", password_of(OWNER, &attempt.to_string()).as_bytes()).await;
        assert_eq!(answer.status, 502);
        client = gate.client().await;
        let bearer = format!("GET /api/states HTTP/1.1\r\nHost: ha.test\r\nAuthorization: Bearer {attempt}\r\n\r\n");
        let answer = client.exchange(bearer).await;
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("5")));
        client = gate.client().await;
    }
    assert_eq!(gate.metric("hearthgate_bans_total{cause=\"login\"}"), Some(0.0));
    let unjudged = gate.metric("hearthgate_login_attempts_total{kind=\"password\",outcome=\"unjudged\"}");
    assert_eq!(unjudged, Some(5.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_the_answer_has_guessed_all_the_same() {
    let household = Household::start().await;
    let gate = guarded(&household, THREE).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let flow = guest.begin().await;
    household.hold();
    for at in 1..=3 {
        let mut client = guest.connect().await;
        let path = format!("/auth/login_flow/{flow}");
        client.send(guest.request("POST", &path, password_of(OWNER, &at.to_string()).as_bytes())).await;
        eventually("the guess to arrive", || household.guesses() == at).await;
    }
    let sample = "hearthgate_login_attempts_total{kind=\"password\",outcome=\"abandoned\"}";
    eventually("three abandoned", || gate.metric(sample) == Some(3.0)).await;
    assert!(guest.is_shut_out().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_keeps_its_address_within_its_64_and_not_beyond() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let flow = Guest::at(&gate, "2001:db8:1:2::a").begin().await;
    let moved = Guest::at(&gate, "2001:db8:1:2:1:2:3:4");
    assert_eq!(json_of(&moved.try_password(&flow, "no").await)["errors"]["base"], "invalid_auth");
    assert_eq!(household.last().field("x-forwarded-for"), Some("2001:db8:1:2::a"));
    let elsewhere = Guest::at(&gate, "2001:db8:1:3::a");
    assert_eq!(elsewhere.try_password(&flow, PASSWORD).await.status, 400);
    assert_eq!(household.last().field("x-forwarded-for"), Some("2001:db8:1:3::a"));
    assert_eq!(json_of(&moved.try_password(&flow, PASSWORD).await)["type"], "create_entry");
    moved.get("/").await;
    assert_eq!(household.last().field("x-forwarded-for"), Some("2001:db8:1:2:1:2:3:4"), "only its login");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_login_goes_uncounted() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 2}").start().await;
    for (ip, path, field) in [
        ("203.0.113.1", "/auth/login_flow/", "Content-Type: text/plain"),
        ("203.0.113.2", "/%61uth/login_flow/", "Content-Type: application/json"),
        ("203.0.113.3", "/auth/login%5fflow/", "X-Forwarded-For: 192.0.2.9"),
        ("203.0.113.4", "/auth/login_flow/", "Accept-Encoding: gzip, deflate"),
    ] {
        let guest = Guest::at(&gate, ip).with(field);
        for password in ["1", "2"] {
            let flow = guest.begin().await;
            guest.post(&format!("{path}{flow}"), password_of(OWNER, password)).await;
        }
        assert!(guest.is_shut_out().await, "{path} {field}");
    }
    let guest = Guest::at(&gate, "203.0.113.5").with(FORM);
    guest.post("/%61uth/token", "grant_type=refresh_token&refresh_token=1").await;
    guest.post("/auth/%74oken", "grant_type=refresh_token&refresh_token=2").await;
    assert!(guest.is_shut_out().await);
}
