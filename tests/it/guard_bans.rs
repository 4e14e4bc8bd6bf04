//! Bans: whom they turn away, how, and whom they leave alone.

use std::time::{Duration, Instant};

use hearthgate::admin::{BanTarget, Client as Operator, NewBan};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::guest::{FORM, PROXY, START};
use crate::harness::household::{LONG_LIVED, PASSWORD};
use crate::harness::websocket::WebSocket;
use crate::harness::{Answer, Client, Gate, Guest, Household, Setup, guarded, within};

const TWO: &str = "login: {max_failures: 2}";

async fn ban(gate: &Gate, network: &str) {
    let target = BanTarget::parse(network).unwrap();
    let ban = NewBan::new(target, Duration::from_secs(3600), Some("a test".into())).unwrap();
    operator(gate).add_ban(&ban).await.unwrap();
}

fn operator(gate: &Gate) -> Operator {
    Operator::new(gate.directory.path().join("admin.sock"))
}

async fn fail_twice(guest: &Guest<'_>) {
    for wrong in ["1", "2"] {
        assert_eq!(guest.guess(wrong).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_client_is_closed_before_tls_on_every_port_and_its_neighbour_is_not() {
    let household = Household::start().await;
    let gate = guarded(&household, TWO).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    fail_twice(&guest).await;
    assert!(guest.is_shut_out().await);
    assert!(!Guest::at(&gate, "203.0.113.2").is_shut_out().await, "the alert of a gate that listens");
    let report = operator(&gate).explain("203.0.113.1".parse().unwrap()).await.unwrap();
    assert_eq!(report.ban.unwrap().network, "203.0.113.1/32".parse().unwrap());
    assert_eq!(operator(&gate).bans().await.unwrap().total, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_client_may_be_told_so() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 2}, bans: {answer: page, first: 10m}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1").with("Accept: text/html");
    fail_twice(&guest).await;
    let seen = household.seen().len();
    let answer = guest.get("/").await;
    assert_eq!((answer.status, answer.field("content-type")), (403, Some("text/html; charset=utf-8")));
    let wait: u64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((590..=600).contains(&wait), "{wait}");
    assert_eq!(household.seen().len(), seen);
    assert_eq!(Guest::at(&gate, "203.0.113.2").get("/").await.status, 200);
}

/// Of three tries the best: the machine may be busy.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_ban_closes_what_is_open_within_100_ms_but_for_proven_sessions() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let mut best = Duration::MAX;
    for at in 1..=3 {
        let (ip, home) = (format!("203.0.113.{at}"), format!("203.0.113.{}", 50 + at));
        let guest = Guest::at(&gate, &ip);
        let mut idle = guest.connect().await;
        assert_eq!(idle.exchange(guest.request("GET", "/", b"")).await.status, 200);
        let mut unproven = guest.upgrade("/api/websocket").await.unwrap();
        let mut session = Guest::at(&gate, &home).show(LONG_LIVED).await.0;
        let known = Guest::at(&gate, &home).bearer(LONG_LIVED);
        let mut proven = known.connect().await;
        assert_eq!(proven.exchange(known.request("GET", "/api/states", b"")).await.status, 200);
        let mut neighbour = Guest::at(&gate, &format!("203.0.113.{}", 100 + at)).connect().await;
        let mut stranger = Guest::at(&gate, &home).connect().await;
        let begun = Instant::now();
        ban(&gate, &ip).await;
        idle.closed().await;
        assert_eq!(unproven.verdict().await, None);
        best = best.min(begun.elapsed());
        ban(&gate, &home).await;
        assert_eq!(proven.exchange(known.request("GET", "/api/states", b"")).await.status, 200);
        session.echoes(Message::text("still here")).await;
        assert_eq!(neighbour.exchange(guest.request("GET", "/", b"")).await.status, 200);
        // At a home a stranger's connection may be about to become somebody's: each of its requests is asked about.
        assert_eq!(stranger.exchange(guest.request("POST", "/auth/login_flow", START.as_bytes())).await.status, 403);
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ban_of_a_network_reaches_all_of_it_and_lifting_it_frees_them() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let mut open = Guest::at(&gate, "203.0.113.77").connect().await;
    ban(&gate, "203.0.113.0/24").await;
    open.closed().await;
    assert!(Guest::at(&gate, "203.0.113.5").is_shut_out().await);
    assert!(!Guest::at(&gate, "203.0.112.5").is_shut_out().await);
    operator(&gate).remove_bans(BanTarget::parse("203.0.113.9").unwrap()).await.unwrap();
    assert_eq!(Guest::at(&gate, "203.0.113.5").get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifted_ban_forgives_what_led_to_it() {
    let household = Household::start().await;
    let gate = guarded(&household, TWO).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    fail_twice(&guest).await;
    operator(&gate).remove_bans(BanTarget::parse("203.0.113.1").unwrap()).await.unwrap();
    assert_eq!(guest.guess("3").await, 200);
    guest.log_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_never_banned_waits_ever_longer() {
    let household = Household::start().await;
    let guard = "never_ban: [203.0.113.0/24], login: {max_failures: 2, delay: 1s}";
    let gate = guarded(&household, guard).start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    fail_twice(&guest).await;
    assert_eq!(guest.guess("3").await, 200, "one after another");
    let flow = guest.begin().await;
    let wait = |answer: &Answer| {
        assert_eq!(answer.status, 429);
        answer.field("retry-after").unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(wait(&guest.try_password(&flow, "4").await), 2);
    assert_eq!(household.guesses(), 3);
    assert_eq!(Guest::at(&gate, "203.0.113.2").guess("1").await, 200, "a neighbour");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(guest.guess("5").await, 200);
    assert_eq!(wait(&guest.try_password(&flow, PASSWORD).await), 4);
    assert_eq!(gate.metric("hearthgate_bans_total{cause=\"login\"}"), Some(0.0));
    assert_eq!(guest.get("/").await.status, 200);
    assert!(
        operator(&gate)
            .add_ban(&NewBan::new(BanTarget::parse("203.0.113.1").unwrap(), Duration::from_secs(60), None).unwrap())
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_in_a_64_are_banned_together_and_the_next_64_is_not() {
    let household = Household::start().await;
    let gate = guarded(&household, TWO).start().await;
    assert_eq!(Guest::at(&gate, "2001:db8:1:2::1").guess("1").await, 200);
    assert_eq!(Guest::at(&gate, "2001:db8:1:2:a:b:c:d").guess("2").await, 200);
    assert!(Guest::at(&gate, "2001:db8:1:2::3").is_shut_out().await);
    assert!(!Guest::at(&gate, "2001:db8:1:3::1").is_shut_out().await);
    Guest::at(&gate, "2001:db8:1:3::1").log_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_64_that_fail_take_their_56_along_and_nobody_further() {
    let household = Household::start().await;
    let gate = guarded(&household, TWO).start().await;
    for at in 0..8 {
        assert_eq!(Guest::at(&gate, &format!("2001:db8:1:{at:x}::1")).guess(&at.to_string()).await, 200);
    }
    assert!(Guest::at(&gate, "2001:db8:1:ff::1").is_shut_out().await);
    assert!(!Guest::at(&gate, "2001:db8:1:100::1").is_shut_out().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bans_and_known_devices_survive_a_restart() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 2}, bans: {answer: page}").start().await;
    let session = Guest::at(&gate, "203.0.113.1").log_in().await;
    fail_twice(&Guest::at(&gate, "203.0.113.1")).await;
    fail_twice(&Guest::at(&gate, "203.0.113.2")).await;
    let gate = gate.restart().await;
    let known = Guest::at(&gate, "203.0.113.1").bearer(&session.access);
    let asked = household.asked("/api/");
    assert_eq!(known.ask("POST", "/api/x", b"").await.status, 200);
    assert_eq!(household.asked("/api/"), asked, "not asked about again");
    let browser = Guest::at(&gate, "203.0.113.1").with(&format!("Cookie: {}", session.cookie));
    assert_eq!(browser.refresh(&session.refresh).await.status, 200);
    for ip in ["203.0.113.1", "203.0.113.2"] {
        let answer = Guest::at(&gate, ip).with(FORM).post("/auth/token", "grant_type=refresh_token").await;
        assert_eq!(answer.status, 429, "{ip}");
    }
    assert_eq!(Guest::at(&gate, "203.0.113.3").get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_a_proxy_announces_is_banned_and_the_proxy_is_not() {
    let household = Household::start().await;
    let gate = guarded(&household, TWO).start().await;
    fail_twice(&Guest::at(&gate, "203.0.113.1")).await;
    assert!(Guest::at(&gate, "203.0.113.1").is_shut_out().await);
    let mut own = gate.dial().announce(b"PROXY UNKNOWN\r\n").client().await;
    assert_eq!(own.get("/").await.status, 200);
    assert_eq!(Guest::at(&gate, "203.0.113.2").get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_behind_a_trusted_proxy_is_told_so_and_the_proxy_goes_on() {
    let household = Household::start().await;
    let gate = guarded(&household, TWO).start().await;
    let behind = |client: &str| Guest::at(&gate, PROXY).with(&format!("X-Forwarded-For: {client}"));
    fail_twice(&behind("203.0.113.1")).await;
    assert_eq!(behind("203.0.113.1").get("/").await.status, 403);
    assert_eq!(behind("203.0.113.2").get("/").await.status, 200);
    assert!(!Guest::at(&gate, PROXY).is_shut_out().await);
    assert!(Guest::at(&gate, "203.0.113.1").is_shut_out().await, "the same client on its own");
    // One connection of the proxy's carries both.
    let mut shared = Guest::at(&gate, PROXY).connect().await;
    for (client, status) in [("203.0.113.2", 200), ("203.0.113.1", 403), ("203.0.113.2", 200)] {
        assert_eq!(shared.exchange(behind(client).request("GET", "/", b"")).await.status, status);
    }
}

/// Who comes through a trusted proxy was looked for under the proxy's address.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_through_a_trusted_proxy_ends_with_its_own_clients_ban_only() {
    let household = Household::start().await;
    let setup = Setup::new(household.address).listen("proxy_protocol_from: [127.0.0.1/32]");
    let setup = setup.section(&format!("trusted_proxies: {{networks: [{PROXY}/32]}}"));
    let gate = setup.section("guard: {never_ban: [192.0.2.0/24]}").start().await;
    let open = async |client: &str| -> WebSocket {
        let guest = Guest::at(&gate, PROXY).with(&format!("X-Forwarded-For: {client}"));
        let mut socket = guest.upgrade("/ws").await.unwrap();
        socket.echoes(Message::text("open")).await;
        socket
    };
    let (mut banned, mut other) = (open("203.0.113.1").await, open("203.0.113.2").await);
    ban(&gate, "203.0.113.1").await;
    assert_eq!(banned.next().await, None);
    other.echoes(Message::text("still here")).await;
    ban(&gate, "203.0.113.0/24").await;
    assert_eq!(other.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn bans_may_be_turned_off_and_a_dry_run_bans_nobody() {
    for guard in ["login: {max_failures: 1, dry_run: true}", "login: {max_failures: 1}, bans: {enabled: false}"] {
        let household = Household::start().await;
        let gate = guarded(&household, guard).start().await;
        let guest = Guest::at(&gate, "203.0.113.1");
        for wrong in ["1", "2"] {
            assert_eq!(guest.guess(wrong).await, 200, "{guard}");
        }
        let third = guest.guess("3").await;
        assert_eq!(third, if guard.contains("dry_run") { 200 } else { 429 }, "{guard}");
        assert_eq!(guest.get("/").await.status, 200);
        assert_eq!(gate.metric("hearthgate_bans_total{cause=\"login\"}"), Some(0.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_ban_ends_by_itself_and_the_next_is_longer() {
    let household = Household::start().await;
    let gate =
        guarded(&household, "login: {max_failures: 1}, bans: {first: 1s, factor: 60, answer: page}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    assert_eq!(guest.guess("1").await, 200);
    assert_eq!(guest.get("/").await.status, 403);
    within("the end of the ban", async {
        while guest.get("/").await.status == 403 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(guest.guess("2").await, 200);
    let wait: u64 = guest.get("/").await.field("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_that_only_redirects_is_closed_to_the_banned_as_well() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let redirected = async |ip: &str| {
        let socket = tokio::net::TcpStream::connect(gate.http()).await.unwrap();
        let mut client = Client::new(socket);
        let announced = format!("PROXY TCP4 {ip} 192.0.2.1 1 80\r\nGET / HTTP/1.1\r\nHost: ha.test\r\n\r\n");
        let _ = client.try_send(announced).await;
        client.rest().await.starts_with(b"HTTP/1.1 308 ")
    };
    assert!(redirected("203.0.113.1").await);
    ban(&gate, "203.0.113.1").await;
    assert!(!redirected("203.0.113.1").await);
    assert!(redirected("203.0.113.2").await);
}
