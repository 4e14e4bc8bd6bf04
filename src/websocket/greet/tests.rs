use std::future;

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::fixtures::{Deflater, FINAL, frame, ping, text};
use super::super::frames::{BINARY, CLOSE, CONTINUATION, TEXT, close_frame};
use super::super::login::HELD_MAX;
use super::super::message::MESSAGE_MAX;
use super::super::relay::{Cause, Patience, relay};
use super::*;

const AUTH: &str = r#"{"type":"auth","access_token":"abc"}"#;
const REQUIRED: &str = r#"{"type":"auth_required","ha_version":"2026.11.0"}"#;
const ACCEPTED: &str = r#"{"type":"auth_ok","ha_version":"2026.11.0"}"#;
const REFUSED: &str = r#"{"type":"auth_invalid","message":"Invalid access token or password"}"#;
const INVALID: &str = r#"{"type":"auth_invalid","message":"told by the gate"}"#;
const COMMAND: &str = r#"{"id":1,"type":"get_states"}"#;

/// Decides as it is told, and writes down what it was asked.
struct Porter {
    decision: Decision,
    asked: Mutex<Vec<String>>,
    ban: watch::Receiver<bool>,
}

#[async_trait]
impl Doorkeeper for std::sync::Arc<Porter> {
    fn first_message(&self, text: &str) -> Decision {
        self.asked.lock().push(text.into());
        self.decision
    }

    fn upstream_message(&self, text: &str) -> Verdict {
        self.asked.lock().push(text.into());
        match text {
            ACCEPTED => Verdict::Accepted,
            REFUSED => Verdict::Refused,
            _ => Verdict::NotYet,
        }
    }

    async fn banned(&self) {
        if self.ban.clone().wait_for(|banned| *banned).await.is_err() {
            future::pending().await
        }
    }

    fn parted(&self, _: End) {}
}

struct Ends {
    client: DuplexStream,
    upstream: DuplexStream,
    drain: watch::Sender<bool>,
    ban: watch::Sender<bool>,
    porter: std::sync::Arc<Porter>,
    greeting: JoinHandle<Result<Greeted, Parted>>,
}

struct Setup<'a> {
    decision: Decision,
    deflate: Option<Deflate>,
    early: &'a [u8],
    behind: &'a [u8],
    capacity: usize,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { decision: Decision::Pass, deflate: None, early: b"", behind: b"", capacity: 1 << 20 }
    }
}

impl Setup<'_> {
    fn start(self) -> Ends {
        let (client, gate_client) = duplex(self.capacity);
        let (upstream, gate_upstream) = duplex(self.capacity);
        let (drain, draining) = watch::channel(false);
        let (ban, banned) = watch::channel(false);
        let porter = Porter { decision: self.decision, asked: Mutex::default(), ban: banned };
        let porter = std::sync::Arc::new(porter);
        let tunnel = Tunnel {
            client: Box::new(gate_client),
            early: self.early.into(),
            upstream: Box::new(gate_upstream),
            behind: self.behind.into(),
        };
        let terms = Terms { deflate: self.deflate, deadline: DEADLINE, invalid: INVALID };
        let doorkeeper = porter.clone();
        let greeting = tokio::spawn(async move { greet(tunnel, terms, &doorkeeper, draining).await });
        Ends { client, upstream, drain, ban, porter, greeting }
    }
}

fn start() -> Ends {
    Setup::default().start()
}

async fn expect(stream: &mut DuplexStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, bytes);
}

/// Nothing comes for a while of (paused) time.
async fn expect_silence(stream: &mut DuplexStream) {
    let mut byte = [0];
    let read = timeout(Duration::from_secs(5), stream.read(&mut byte)).await;
    assert!(read.is_err(), "{read:?} {byte:x?}");
}

async fn rest_of(stream: &mut DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    rest
}

impl Ends {
    fn asked(&self) -> Vec<String> {
        self.porter.asked.lock().clone()
    }

    /// How the greeting ended, and what the client and the upstream were sent until then.
    async fn parted(mut self) -> (End, Vec<u8>, Vec<u8>) {
        let down = rest_of(&mut self.client).await;
        drop(self.client);
        let parted = self.greeting.await.unwrap().err().unwrap();
        (parted.end, down, rest_of(&mut self.upstream).await)
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_login_passes_and_the_relay_goes_on() {
    let mut ends = start();
    ends.upstream.write_all(&text(false, REQUIRED)).await.unwrap();
    expect(&mut ends.client, &text(false, REQUIRED)).await;
    ends.client.write_all(&text(true, AUTH)).await.unwrap();
    expect(&mut ends.upstream, &text(true, AUTH)).await;
    ends.upstream.write_all(&text(false, ACCEPTED)).await.unwrap();
    expect(&mut ends.client, &text(false, ACCEPTED)).await;
    assert_eq!(ends.asked(), [REQUIRED, AUTH, ACCEPTED]);
    let greeted = ends.greeting.await.unwrap().ok().unwrap();
    assert_eq!(greeted.up, text(true, AUTH).len() as u64);
    assert_eq!(greeted.down, (text(false, REQUIRED).len() + text(false, ACCEPTED).len()) as u64);
    assert_eq!((greeted.tunnel.early.capacity(), greeted.tunnel.behind.capacity()), (0, 0), "no buffer is left");
}

/// What a relay does with what is in hand when the login was accepted.
#[tokio::test(start_paused = true)]
async fn after_the_verdict_every_byte_flows_untouched_and_a_shutdown_waits_for_the_frame() {
    let mut deflater = Deflater::new(false, 15);
    let mut answers = Deflater::new(false, 15);
    let auth = deflater.text(true, AUTH);
    let pipelined = [deflater.text(true, COMMAND), b"\xc1\xfe half".to_vec()].concat();
    let mut ends = Setup { deflate: Some(Deflate::default()), ..Setup::default() }.start();
    ends.client.write_all(&[auth.as_slice(), &pipelined].concat()).await.unwrap();
    expect(&mut ends.upstream, &auth).await;
    expect_silence(&mut ends.upstream).await;
    // The verdict, a whole frame and the beginning of another one come in one piece.
    let verdict = [answers.text(false, REQUIRED), answers.text(false, ACCEPTED)].concat();
    let behind = [answers.text(false, "{}"), b"\xc1\x05ab".to_vec()].concat();
    ends.upstream.write_all(&[verdict.as_slice(), &behind].concat()).await.unwrap();
    let greeted = ends.greeting.await.unwrap().ok().unwrap();
    let patience = Patience { idle: Duration::from_secs(600), write_stall: Duration::from_secs(60) };
    let relay = tokio::spawn(relay(greeted.tunnel, patience, ends.drain.subscribe(), |_, _| ()));
    expect(&mut ends.upstream, &pipelined).await;
    expect(&mut ends.client, &[verdict.as_slice(), &behind].concat()).await;
    ends.client.write_all(b"any bytes").await.unwrap();
    expect(&mut ends.upstream, b"any bytes").await;
    ends.drain.send(true).unwrap();
    ends.upstream.write_all(b"cde").await.unwrap();
    assert_eq!(rest_of(&mut ends.client).await, [b"cde".as_slice(), &close_frame(1001)].concat());
    assert_eq!(relay.await.unwrap().cause, Cause::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_ahead_counts_as_well() {
    let early = [text(true, AUTH), text(true, COMMAND)].concat();
    let behind = [text(false, REQUIRED), text(false, ACCEPTED), ping(false)].concat();
    // The verdict is there before the greeting has begun, and may not overtake the message that it is about.
    let (end, ..) = Setup { early: &early, behind: &behind, ..Setup::default() }.start().parted().await;
    assert_eq!(end, End::UpstreamUnreadable);
    let mut ends = Setup { early: &early, behind: &text(false, REQUIRED), ..Setup::default() }.start();
    expect(&mut ends.upstream, &text(true, AUTH)).await;
    ends.upstream.write_all(&[text(false, ACCEPTED), ping(false)].concat()).await.unwrap();
    let greeted = ends.greeting.await.unwrap().ok().unwrap();
    assert_eq!((greeted.tunnel.early, greeted.tunnel.behind), ((&*text(true, COMMAND)).into(), (&*ping(false)).into()));
}

#[tokio::test(start_paused = true)]
async fn a_fragmented_login_with_pings_between_passes_as_it_came() {
    let (head, tail) = AUTH.as_bytes().split_at(9);
    let opening = [frame(TEXT, true, head), ping(true), frame(FINAL, true, tail)].concat();
    let mut ends = start();
    ends.client.write_all(&opening).await.unwrap();
    expect(&mut ends.upstream, &opening).await;
    assert_eq!(ends.asked(), [AUTH]);
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_before_the_first_message_is_whole() {
    let mut deflater = Deflater::new(false, 15);
    let auth = deflater.message(AUTH.as_bytes());
    let opening = [
        ping(true),
        frame(0x40 | TEXT, true, &auth[..5]),
        frame(CONTINUATION, true, &auth[5..7]),
        frame(FINAL, true, &auth[7..]),
    ];
    let opening = opening.concat();
    let mut ends = Setup { deflate: Some(Deflate::default()), ..Setup::default() }.start();
    for byte in &opening[..opening.len() - 1] {
        ends.client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    expect_silence(&mut ends.upstream).await;
    assert!(ends.asked().is_empty());
    ends.client.write_all(&opening[opening.len() - 1..]).await.unwrap();
    expect(&mut ends.upstream, &opening).await;
    assert_eq!(ends.asked(), [AUTH]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_upstreams_reaches_the_client_and_nothing_else_passes() {
    let mut ends = start();
    ends.client.write_all(&[text(true, AUTH), text(true, COMMAND)].concat()).await.unwrap();
    expect(&mut ends.upstream, &text(true, AUTH)).await;
    let refusal = [text(false, REQUIRED), text(false, REFUSED), close_frame(1000).to_vec()].concat();
    ends.upstream.write_all(&refusal).await.unwrap();
    assert_eq!(ends.parted().await, (End::Refused, refusal, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_refuses_and_just_leaves_is_closed_properly() {
    let mut ends = start();
    ends.client.write_all(&text(true, AUTH)).await.unwrap();
    expect(&mut ends.upstream, &text(true, AUTH)).await;
    ends.upstream.write_all(&text(false, REFUSED)).await.unwrap();
    ends.upstream.shutdown().await.unwrap();
    let down = [text(false, REFUSED), close_frame(1000).to_vec()].concat();
    assert_eq!(ends.parted().await, (End::Refused, down, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_doorkeepers_never_reaches_the_upstream() {
    let invalid = [text(false, INVALID), close_frame(1000).to_vec()].concat();
    let rows = [
        (Decision::RefuseAsInvalid, End::RefusedAsInvalid, invalid),
        (Decision::RefuseLater, End::RefusedForNow, close_frame(1013).to_vec()),
        (Decision::Drop, End::Dropped, Vec::new()),
    ];
    for (decision, end, words) in rows {
        let mut ends = Setup { decision, ..Setup::default() }.start();
        ends.upstream.write_all(&text(false, REQUIRED)).await.unwrap();
        expect(&mut ends.client, &text(false, REQUIRED)).await;
        ends.client.write_all(&[text(true, AUTH), text(true, COMMAND)].concat()).await.unwrap();
        assert_eq!(ends.parted().await, (end, words, Vec::new()), "{decision:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_begin_with_a_message_is_closed_here() {
    let long = "x".repeat(MESSAGE_MAX + 1);
    let bomb = Deflater::new(false, 15).text(true, &"a".repeat(8 << 20));
    let deflate = Some(Deflate::default());
    let rows = [
        ("binary", None, frame(FINAL | BINARY, true, AUTH.as_bytes()), End::NotText, 1008),
        ("not UTF-8", None, frame(FINAL | TEXT, true, b"\xff"), End::NotText, 1008),
        ("over-long", None, text(true, &long), End::TooLong, 1009),
        ("bomb", deflate, bomb.clone(), End::TooLong, 1009),
        ("deflate without an agreement", None, bomb, End::Protocol, 1002),
        ("unmasked", None, text(false, AUTH), End::Protocol, 1002),
        ("pings for ever", None, ping(true).repeat(1000), End::Protocol, 1002),
        ("a close frame", None, frame(FINAL | CLOSE, true, &[3, 233]), End::Client, 1000),
    ];
    for (what, deflate, stream, end, code) in rows {
        let mut ends = Setup { deflate, ..Setup::default() }.start();
        ends.client.write_all(&stream).await.unwrap();
        assert_eq!(ends.parted().await, (end, close_frame(code).to_vec(), Vec::new()), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn words_of_ours_wait_for_the_frame_that_is_on_its_way() {
    let required = text(false, REQUIRED);
    let mut ends = Setup { decision: Decision::RefuseAsInvalid, ..Setup::default() }.start();
    ends.upstream.write_all(&required[..7]).await.unwrap();
    expect(&mut ends.client, &required[..7]).await;
    ends.client.write_all(&text(true, AUTH)).await.unwrap();
    expect_silence_briefly(&mut ends.client).await;
    ends.upstream.write_all(&required[7..]).await.unwrap();
    let down = [&required[7..], &text(false, INVALID), &close_frame(1000)].concat();
    assert_eq!(ends.parted().await, (End::RefusedAsInvalid, down, Vec::new()));
}

async fn expect_silence_briefly(stream: &mut DuplexStream) {
    let mut byte = [0];
    assert!(timeout(Duration::from_secs(1), stream.read(&mut byte)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_makes_no_sense_ends_it() {
    let mut ends = start();
    ends.upstream.write_all(&text(true, REQUIRED)).await.unwrap();
    assert_eq!(ends.parted().await, (End::UpstreamUnreadable, close_frame(1011).to_vec(), Vec::new()));
    // Inside a frame nothing can be said.
    let mut ends = start();
    let half = frame(TEXT, false, b"half");
    ends.upstream.write_all(&half).await.unwrap();
    expect(&mut ends.client, &half).await;
    ends.upstream.write_all(&[0x80]).await.unwrap();
    expect(&mut ends.client, &[0x80]).await;
    ends.upstream.write_all(&[0x81, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(ends.parted().await, (End::UpstreamUnreadable, Vec::new(), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn either_side_may_leave_before_the_verdict() {
    let mut ends = start();
    ends.client.write_all(&text(true, AUTH)[..9]).await.unwrap();
    ends.client.shutdown().await.unwrap();
    assert_eq!(ends.parted().await, (End::Client, close_frame(1000).to_vec(), Vec::new()));

    let mut ends = start();
    ends.upstream.write_all(&close_frame(1000)).await.unwrap();
    ends.upstream.shutdown().await.unwrap();
    assert_eq!(ends.parted().await, (End::Upstream, close_frame(1000).to_vec(), Vec::new()));

    // The upstream has had enough, and the client answers its close frame.
    let mut ends = start();
    ends.upstream.write_all(&close_frame(1000)).await.unwrap();
    expect(&mut ends.client, &close_frame(1000)).await;
    ends.client.write_all(&frame(FINAL | CLOSE, true, &[3, 232])).await.unwrap();
    assert_eq!(ends.parted().await, (End::Upstream, Vec::new(), Vec::new()));
}

/// Home Assistant closes without a verdict when the first message is no JSON, and waits ten seconds for the answer.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_closes_without_a_verdict_ends_it_at_once() {
    let mut ends = start();
    let message = text(true, "not JSON");
    ends.client.write_all(&message).await.unwrap();
    expect(&mut ends.upstream, &message).await;
    ends.upstream.write_all(&close_frame(1000)).await.unwrap();
    let begun = Instant::now();
    assert_eq!(rest_of(&mut ends.client).await, close_frame(1000));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_does_not_escape_the_verdict() {
    for verdict in [REFUSED, ACCEPTED] {
        let mut ends = start();
        ends.client.write_all(&text(true, AUTH)).await.unwrap();
        drop(ends.client);
        expect(&mut ends.upstream, &text(true, AUTH)).await;
        ends.upstream.write_all(&[text(false, REQUIRED), text(false, verdict)].concat()).await.unwrap();
        let parted = ends.greeting.await.unwrap().err().unwrap();
        assert!(matches!(parted.end, End::Client | End::Broken), "{parted:?}");
        assert_eq!(*ends.porter.asked.lock(), [AUTH, REQUIRED, verdict]);
    }
    // An upstream that says nothing is not waited for.
    let mut ends = start();
    ends.client.write_all(&text(true, AUTH)).await.unwrap();
    drop(ends.client);
    let begun = Instant::now();
    assert_eq!(ends.greeting.await.unwrap().err().unwrap().end, End::Client);
    assert!(begun.elapsed() <= FAREWELL);
}

#[tokio::test(start_paused = true)]
async fn the_whole_greeting_has_one_deadline() {
    let begun = Instant::now();
    let ends = start();
    assert_eq!(ends.parted().await, (End::Deadline, close_frame(1013).to_vec(), Vec::new()));
    assert!(begun.elapsed() >= DEADLINE && begun.elapsed() < DEADLINE + LINGER);
    // Talking does not make it longer.
    let begun = Instant::now();
    let mut ends = start();
    ends.client.write_all(&text(true, AUTH)).await.unwrap();
    expect(&mut ends.upstream, &text(true, AUTH)).await;
    while !ends.greeting.is_finished() {
        tokio::time::sleep(Duration::from_secs(4)).await;
        let _ = ends.upstream.write_all(&text(false, REQUIRED)).await;
        let _ = ends.client.write_all(&ping(true)).await;
    }
    assert!(begun.elapsed() < DEADLINE + Duration::from_secs(8));
    assert_eq!(ends.parted().await.0, End::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_and_one_that_sends_without_end_are_cut_at_the_deadline() {
    let ends = Setup { capacity: 16, behind: &text(false, REQUIRED), ..Setup::default() }.start();
    assert_eq!(ends.greeting.await.unwrap().err().unwrap().end, End::Deadline);
    let mut ends = Setup { capacity: 1024, ..Setup::default() }.start();
    ends.client.write_all(&text(true, AUTH)).await.unwrap();
    expect(&mut ends.upstream, &text(true, AUTH)).await;
    let mut sent = 0;
    while timeout(Duration::from_secs(1), ends.client.write_all(&[0; 512])).await.is_ok() {
        sent += 512;
    }
    assert!(sent <= HELD_MAX + 1024 && sent > HELD_MAX - 1024, "{sent}");
    assert_eq!(ends.greeting.await.unwrap().err().unwrap().end, End::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_and_a_ban_end_it_at_any_time() {
    for with_auth in [false, true] {
        let mut ends = start();
        if with_auth {
            ends.client.write_all(&text(true, AUTH)).await.unwrap();
            expect(&mut ends.upstream, &text(true, AUTH)).await;
        }
        ends.drain.send(true).unwrap();
        assert_eq!(ends.parted().await, (End::Shutdown, close_frame(1001).to_vec(), Vec::new()));

        let mut ends = start();
        if with_auth {
            ends.client.write_all(&text(true, AUTH)).await.unwrap();
            expect(&mut ends.upstream, &text(true, AUTH)).await;
        }
        ends.ban.send(true).unwrap();
        assert_eq!(ends.parted().await, (End::Banned, close_frame(1008).to_vec(), Vec::new()));
    }
    // A message that is there when the ban comes does not pass any more.
    let mut ends = start();
    ends.ban.send(true).unwrap();
    ends.client.write_all(&text(true, AUTH)).await.unwrap();
    assert!(ends.asked().is_empty());
    assert_eq!(ends.parted().await.0, End::Banned);
}

#[test]
fn every_end_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<_> = End::ALL.iter().map(|end| end.as_str()).collect();
    assert_eq!(words.len(), End::ALL.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However both streams are cut, both sides get every byte, in order, and the doorkeeper hears the same.
    #[test]
    fn any_cutting_passes_the_same_bytes(
        compress: bool,
        pings in 0usize..3,
        up_cuts in proptest::collection::vec(1usize..60, 1..8),
        down_cuts in proptest::collection::vec(1usize..60, 1..8),
        capacity in 1usize..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let (mut ups, mut downs) = (Deflater::new(false, 15), Deflater::new(false, 15));
            let mut up = |said| if compress { ups.text(true, said) } else { text(true, said) };
            let mut down = |said| if compress { downs.text(false, said) } else { text(false, said) };
            let auth = [ping(true).repeat(pings), up(AUTH)].concat();
            let up = [auth.as_slice(), &up(COMMAND), &up(COMMAND), b"\x81\xfe\x00"].concat();
            let required = down(REQUIRED);
            let down = [ping(false), down(ACCEPTED), down("{}"), b"\x81\x7e\x01".to_vec()].concat();
            let ends = Setup { deflate: compress.then(Deflate::default), capacity, ..Setup::default() }.start();
            let Ends { client, upstream, drain, porter, greeting, ban: _ban } = ends;
            let (mut from_gate, mut to_gate) = tokio::io::split(client);
            let (mut at_upstream, mut of_upstream) = tokio::io::split(upstream);
            let (sent_up, sent_down) = (up.clone(), [required.clone(), down.clone()].concat());
            let (up_len, down_len) = (sent_up.len(), sent_down.len());
            let talk = async move {
                write_cut(&mut to_gate, &up, &up_cuts).await;
                to_gate
            };
            let judge = async move {
                let mut got = vec![0; up_len];
                write_cut(&mut of_upstream, &required, &down_cuts).await;
                at_upstream.read_exact(&mut got[..auth.len()]).await.unwrap();
                let tell = write_cut(&mut of_upstream, &down, &down_cuts);
                let ((), read) = tokio::join!(tell, at_upstream.read_exact(&mut got[auth.len()..]));
                read.unwrap();
                (got, at_upstream, of_upstream)
            };
            let hear = async move {
                let mut got = vec![0; down_len];
                from_gate.read_exact(&mut got).await.unwrap();
                (got, from_gate)
            };
            let patience = Patience { idle: Duration::from_secs(600), write_stall: Duration::from_secs(60) };
            let go_on = async move { relay(greeting.await.unwrap().ok().unwrap().tunnel, patience, drain.subscribe(), |_, _| ()).await };
            let go_on = tokio::spawn(go_on);
            let (_to_gate, judged, heard) = tokio::join!(talk, judge, hear);
            assert_eq!(judged.0, sent_up);
            assert_eq!(heard.0, sent_down);
            let asked = porter.asked.lock().clone();
            assert_eq!(asked.iter().filter(|text| *text == AUTH).count(), 1);
            assert_eq!(asked.iter().filter(|text| *text != AUTH).collect::<Vec<_>>(), [REQUIRED, ACCEPTED]);
            go_on.abort();
        });
    }
}

async fn write_cut(to: &mut (impl tokio::io::AsyncWrite + Unpin), mut bytes: &[u8], cuts: &[usize]) {
    for cut in cuts.iter().cycle() {
        let (piece, rest) = bytes.split_at((*cut).min(bytes.len()));
        to.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
}
