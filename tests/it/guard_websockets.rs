//! The login inside a WebSocket: judged by its messages, and everything behind it left alone.

use tokio_tungstenite::tungstenite::Message;

use crate::harness::guest::auth;
use crate::harness::household::{INGRESS, LONG_LIVED};
use crate::harness::websocket::{SWITCH, UPGRADE};
use crate::harness::{Guest, Household, RawUpstream, Setup, eventually, guarded};

const INVALID: &str = "auth_invalid";

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_passes_and_then_everything_does() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let (mut socket, verdict) = Guest::at(&gate, "203.0.113.1").show(LONG_LIVED).await;
    assert_eq!(verdict.as_deref(), Some("auth_ok"));
    socket.echoes(Message::text("{\"id\":1}")).await;
    socket.echoes(Message::binary(vec![7; 100_000])).await;
    socket.echoes(Message::text(auth("another token"))).await;
    assert_eq!(household.websocket_tokens(), [LONG_LIVED]);
    // It has proven a session: the bearer is known.
    assert_eq!(Guest::at(&gate, "203.0.113.1").bearer(LONG_LIVED).get("/api/states").await.status, 200);
    assert_eq!(household.asked("/api/"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_ban_and_a_neighbour_goes_on() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 3}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for token in ["1", "2", "3"] {
        assert_eq!(guest.show(token).await.1.as_deref(), Some(INVALID));
    }
    assert!(guest.is_shut_out().await);
    assert_eq!(Guest::at(&gate, "203.0.113.2").show(LONG_LIVED).await.1.as_deref(), Some("auth_ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_token_is_answered_by_the_gate_after_a_few_times() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 2, repeats: 3}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    for _ in 0..10 {
        assert_eq!(guest.show("stale").await.1.as_deref(), Some(INVALID));
    }
    assert_eq!(household.websocket_tokens().len(), 3);
    assert_eq!(guest.clone().bearer("stale").get("/api/states").await.status, 401, "the same credential");
    assert_eq!(household.asked("/api/"), 0);
    assert_eq!(guest.show(LONG_LIVED).await.1.as_deref(), Some("auth_ok"), "nobody is banned");
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_guesses_get_no_more_verdicts_than_one_after_another() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 3}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    household.hold();
    let mut sockets = Vec::new();
    for at in 0..20 {
        let mut socket = guest.upgrade("/api/websocket").await.unwrap();
        socket.send(Message::text(auth(&at.to_string()))).await;
        sockets.push(socket);
    }
    for socket in &mut sockets[3..] {
        assert_eq!(socket.verdict().await, None, "try again later");
    }
    household.release();
    assert_eq!(household.websocket_tokens(), ["0", "1", "2"]);
    for socket in &mut sockets[..3] {
        // The ban may close the last of them first.
        assert!(matches!(socket.verdict().await.as_deref(), None | Some(INVALID)));
    }
    eventually("the ban", || gate.metric("hearthgate_bans_total{cause=\"login\"}") == Some(1.0)).await;
}

/// An upstream that the test plays, with an application that logs in over WebSockets.
fn before(upstream: &RawUpstream) -> Setup {
    Setup::new(upstream.address).key("app: home_assistant")
}

fn client_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    assert!(text.len() < 126);
    frame.extend(text.bytes());
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_is_held_until_it_is_whole_and_what_follows_until_the_verdict() {
    let mut upstream = RawUpstream::start().await;
    let gate = before(&upstream).start().await;
    let mut client = gate.client().await;
    client.send(UPGRADE).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(SWITCH).await;
    client.head().await;
    let first = client_frame(&auth("token"));
    let (half, rest) = first.split_at(20);
    client.send(half).await;
    peer.send(b"\x81\x07{\"a\":1}").await;
    assert_eq!(client.bytes(9).await, b"\x81\x07{\"a\":1}", "the greeting passes meanwhile");
    let behind = client_frame("{\"id\":1}");
    client.send([rest, &behind].concat()).await;
    assert_eq!(peer.bytes(first.len()).await, first);
    peer.send(b"\x81\x02{}").await;
    assert_eq!(client.bytes(4).await, b"\x81\x02{}");
    assert!(peer.buffer.is_empty(), "held until the verdict");
    peer.send(b"\x81\x12{\"type\":\"auth_ok\"}").await;
    assert_eq!(peer.bytes(behind.len()).await, behind);
    assert_eq!(client.bytes(20).await, b"\x81\x12{\"type\":\"auth_ok\"}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_offer_of_compression_reaches_home_assistant_and_its_answer_the_client() {
    let mut upstream = RawUpstream::start().await;
    let gate = before(&upstream).start().await;
    let mut client = gate.client().await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    client.send(format!("{}{offer}", UPGRADE.strip_suffix("\r\n").unwrap())).await;
    let mut peer = upstream.accept().await;
    let head = peer.head().await.to_ascii_lowercase();
    assert!(head.contains("sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"), "{head}");
    let agreed = "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    peer.send(format!("{}{agreed}", SWITCH.strip_suffix("\r\n").unwrap())).await;
    let head = client.head().await.to_ascii_lowercase();
    assert!(head.contains("sec-websocket-extensions: permessage-deflate\r\n"), "{head}");
    // A stored block (RFC 1951 section 3.2.4) with the empty one behind it left out (RFC 7692 section 7.2.1).
    let packed = |text: &str, mask: u8| {
        let length = text.len() as u16;
        let mut payload = vec![0];
        payload.extend(length.to_le_bytes());
        payload.extend((!length).to_le_bytes());
        payload.extend(text.bytes());
        payload.push(0);
        let mut frame = vec![0xc1, mask | payload.len() as u8];
        frame.extend(if mask == 0 { vec![] } else { vec![0; 4] });
        frame.extend(payload);
        frame
    };
    let (first, verdict) = (packed(&auth("packed"), 0x80), packed("{\"type\":\"auth_ok\"}", 0));
    client.send(&first).await;
    assert_eq!(peer.bytes(first.len()).await, first, "the same bytes");
    peer.send(&verdict).await;
    assert_eq!(client.bytes(verdict.len()).await, verdict);
    client.send("anything").await;
    assert_eq!(peer.bytes(8).await, b"anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_that_nobody_offered_are_no_websocket() {
    let mut upstream = RawUpstream::start().await;
    let gate = before(&upstream).start().await;
    let mut client = gate.client().await;
    client.send(UPGRADE).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    let extension = "Sec-WebSocket-Extensions: x-webkit-deflate-frame\r\n\r\n";
    peer.send(format!("{}{extension}", SWITCH.strip_suffix("\r\n").unwrap())).await;
    assert_eq!(client.answer().await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_begin_as_a_login_is_not_passed_on() {
    for odd in [client_frame("hello")[..1].to_vec(), b"\x82\x82\0\0\0\0ab".to_vec(), b"\x81\x02ab".to_vec()] {
        let mut upstream = RawUpstream::start().await;
        let gate = before(&upstream).start().await;
        let mut client = gate.client().await;
        client.send(UPGRADE).await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.send(SWITCH).await;
        client.head().await;
        client.send(&odd).await;
        drop(client);
        assert_eq!(peer.rest().await.iter().filter(|byte| **byte == b'a').count(), 0, "{}", odd.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_ons_websocket_begins_at_once_for_who_is_known_and_not_for_strangers() {
    let household = Household::start().await;
    let gate = guarded(&household, "").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    assert!(guest.upgrade(INGRESS).await.is_err());
    assert_eq!(household.asked(INGRESS), 0);
    let session = guest.log_in().await;
    // Ingress has a cookie of its own; the browser sends ours along.
    let browser = guest.clone().with(&format!("Cookie: ingress_session=x; {}", session.cookie));
    let mut socket = browser.upgrade(INGRESS).await.unwrap();
    socket.echoes(Message::text("no login at all")).await;
    socket.echoes(Message::binary(vec![1, 2, 3])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_stranger_is_dropped_even_on_a_websocket_that_was_open() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 2}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    let mut silent = guest.upgrade("/api/websocket").await.unwrap();
    let (mut proven, verdict) = guest.show(LONG_LIVED).await;
    assert_eq!(verdict.as_deref(), Some("auth_ok"));
    for wrong in ["1", "2"] {
        guest.show(wrong).await;
    }
    // Behind the banned address is a home: a stranger's token is not even asked about, the known one is.
    let asked = household.websocket_tokens().len();
    silent.send(Message::text(auth("3"))).await;
    assert_eq!(silent.verdict().await, None);
    proven.echoes(Message::text("still here")).await;
    let mut stranger = guest.upgrade("/api/websocket").await.unwrap();
    stranger.send(Message::text(auth("4"))).await;
    assert_eq!(stranger.verdict().await, None);
    assert_eq!(household.websocket_tokens().len(), asked);
    assert_eq!(guest.show(LONG_LIVED).await.1.as_deref(), Some("auth_ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_in_a_websocket_is_out_of_the_lane() {
    let household = Household::start().await;
    let gate = guarded(&household, "login: {max_failures: 1}").start().await;
    let guest = Guest::at(&gate, "203.0.113.1");
    assert_eq!(guest.show(LONG_LIVED).await.1.as_deref(), Some("auth_ok"));
    household.expire(LONG_LIVED);
    assert_eq!(guest.show(LONG_LIVED).await.1.as_deref(), Some(INVALID));
    assert_eq!(guest.clone().bearer(LONG_LIVED).ask("POST", "/api/x", b"").await.status, 401);
    assert_eq!((household.asked("/api/x"), household.asked("/api/")), (0, 1));
    assert!(!guest.is_shut_out().await, "it was good once");
}
