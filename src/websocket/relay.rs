//! The relay: two directions, one scratch buffer per thread, nothing per connection while it is idle.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::frames::{Boundary, close_frame};
use super::handover::Io;

/// Both ends of an upgraded connection and what was read of each before the relay began.
pub struct Tunnel {
    pub client: Io,
    /// Client bytes that came behind the request's head.
    pub early: BytesMut,
    pub upstream: Io,
    /// Upstream bytes that came behind the 101.
    pub behind: BytesMut,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Nothing moves either way.
    pub idle: Duration,
    /// One side takes nothing of what the other has sent.
    pub write_stall: Duration,
}

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The client ended its stream.
    Client,
    /// The upstream ended its stream.
    Upstream,
    /// The gate is shutting down; the client got a close frame 1001.
    Shutdown,
    Idle,
    WriteStall,
    /// A stream broke.
    Broken,
}

impl Cause {
    /// All of them, for metrics.
    pub const ALL: [Self; 6] =
        [Self::Client, Self::Upstream, Self::Shutdown, Self::Idle, Self::WriteStall, Self::Broken];

    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Shutdown => "shutdown",
            Self::Idle => "idle",
            Self::WriteStall => "write_stall",
            Self::Broken => "broken",
        }
    }
}

/// What a relay has done.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    pub cause: Cause,
    /// Bytes from the client to the upstream.
    pub up: u64,
    /// Bytes from the upstream to the client.
    pub down: u64,
}

/// "Going away" (RFC 6455 section 7.4.1): the client is expected to connect again.
pub(super) const GOING_AWAY: u16 = 1001;
/// How long a close frame of ours and the end of the streams may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
/// How often the relay looks at the clock. Deadlines are minutes; a timer per byte would cost more than the copy.
const TICK: Duration = Duration::from_secs(15);

/// Copies both ways until one side ends, nothing moves for too long, or `draining` turns true.
///
/// `moved` hears every quarter of a minute, and at the end, how many bytes have gone up and down since.
pub async fn relay(
    tunnel: Tunnel,
    patience: Patience,
    mut draining: watch::Receiver<bool>,
    moved: impl Fn(u64, u64),
) -> Report {
    let Tunnel { mut client, early, mut upstream, behind } = tunnel;
    let mut up = Flow { held: early, ..Flow::default() };
    let mut down = Flow { held: behind, ..Flow::default() };
    down.boundary.advance(&down.held);
    let tick = TICK.min(patience.idle / 4).min(patience.write_stall / 4).max(Duration::from_millis(10));
    let mut clock = Clock { up: Still::new(), down: Still::new() };
    let mut told = Told::default();
    let cause = loop {
        let step = tokio::select! {
            biased;
            cause = poll_fn(|cx| copy_both(&mut client, &mut upstream, &mut up, &mut down, cx)) => Some(cause),
            () = drain_requested(&mut draining) => Some(Cause::Shutdown),
            () = tokio::time::sleep(tick) => {
                told.tell(&up, &down, &moved);
                clock.verdict(&up, &down, patience)
            }
        };
        if let Some(cause) = step {
            break cause;
        }
    };
    if cause == Cause::Shutdown {
        let _ = timeout(FAREWELL, say_goodbye(&mut client, &mut upstream, &mut down, &close_frame(GOING_AWAY))).await;
    }
    let _ = timeout(FAREWELL, async { tokio::join!(client.shutdown(), upstream.shutdown()) }).await;
    told.tell(&up, &down, &moved);
    Report { cause, up: up.bytes, down: down.bytes }
}

pub(super) async fn drain_requested(draining: &mut watch::Receiver<bool>) {
    // A dropped sender means that the gate is gone, which is a shutdown as well.
    let _ = draining.wait_for(|draining| *draining).await;
}

fn copy_both(client: &mut Io, upstream: &mut Io, up: &mut Flow, down: &mut Flow, cx: &mut Context<'_>) -> Poll<Cause> {
    let up = up.poll(client, upstream, cx);
    let down = down.poll(upstream, client, cx);
    match (up, down) {
        (Poll::Ready(Ok(())), _) => Poll::Ready(Cause::Client),
        (_, Poll::Ready(Ok(()))) => Poll::Ready(Cause::Upstream),
        (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(Cause::Broken),
        (Poll::Pending, Poll::Pending) => Poll::Pending,
    }
}

/// Finishes the frame that is on its way to the client, then sends it `words`, the last of which is a close frame.
pub(super) async fn say_goodbye(client: &mut Io, upstream: &mut Io, down: &mut Flow, words: &[u8]) -> io::Result<()> {
    while !down.boundary.is_between_frames() || !down.held.is_empty() {
        let ended = poll_fn(|cx| down.poll_once(upstream, client, cx)).await?;
        if ended {
            return Ok(());
        }
    }
    if !down.boundary.is_closed() {
        client.write_all(words).await?;
        client.flush().await?;
    }
    Ok(())
}

/// The bytes of which somebody has heard.
#[derive(Default)]
struct Told {
    up: u64,
    down: u64,
}

impl Told {
    fn tell(&mut self, up: &Flow, down: &Flow, moved: impl Fn(u64, u64)) {
        moved(up.bytes - self.up, down.bytes - self.down);
        *self = Self { up: up.bytes, down: down.bytes };
    }
}

/// Remembers when bytes last moved, each way.
struct Clock {
    up: Still,
    down: Still,
}

impl Clock {
    fn verdict(&mut self, up: &Flow, down: &Flow, patience: Patience) -> Option<Cause> {
        let (still_up, still_down) = (self.up.since(up.bytes), self.down.since(down.bytes));
        // A side that takes nothing is not excused by what it sends.
        let stalled = |flow: &Flow, still| !flow.held.is_empty() && still >= patience.write_stall;
        if stalled(up, still_up) || stalled(down, still_down) {
            return Some(Cause::WriteStall);
        }
        (still_up.min(still_down) >= patience.idle).then_some(Cause::Idle)
    }
}

/// How long one direction has not moved.
struct Still {
    bytes: u64,
    moved: Instant,
}

impl Still {
    fn new() -> Self {
        Self { bytes: 0, moved: Instant::now() }
    }

    fn since(&mut self, bytes: u64) -> Duration {
        if bytes != self.bytes {
            *self = Self { bytes, moved: Instant::now() };
        }
        self.moved.elapsed()
    }
}

thread_local! {
    /// Lent to whichever relay of this thread copies just now.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; 16 * 1024].into());
}

/// One direction: owns bytes only while the other side is full.
#[derive(Default)]
pub(super) struct Flow {
    pub held: BytesMut,
    pub bytes: u64,
    pub boundary: Boundary,
    unflushed: bool,
}

impl Flow {
    /// Copies until nothing moves; ready when `from` has ended.
    fn poll(&mut self, from: &mut Io, to: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if ready!(self.poll_once(from, to, cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Copies one piece; `true` when `from` has ended.
    pub fn poll_once(&mut self, from: &mut Io, to: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        ready!(self.write_held(to, cx))?;
        let ended = SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            match Pin::new(from).poll_read(cx, &mut buf)? {
                Poll::Ready(()) => self.write(buf.filled(), to, cx).map(Poll::Ready),
                Poll::Pending => Ok(Poll::Pending),
            }
        })?;
        if ended.is_pending() && self.unflushed {
            self.unflushed = Pin::new(to).poll_flush(cx)?.is_pending();
        }
        ended.map(Ok)
    }

    /// Writes what is held, and sees it off.
    pub fn poll_clear(&mut self, to: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_held(to, cx))?;
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn write_held(&mut self, to: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let n = ready!(write_some(to, &self.held, cx))?;
            self.held.advance(n);
            self.bytes += n as u64;
            self.unflushed = true;
        }
        self.held = BytesMut::new(); // an idle direction keeps no buffer
        Poll::Ready(Ok(()))
    }

    /// Writes what fits and holds the rest; `true` for an empty piece, the end of the stream.
    fn write(&mut self, piece: &[u8], to: &mut Io, cx: &mut Context<'_>) -> io::Result<bool> {
        self.boundary.advance(piece);
        let mut rest = piece;
        while !rest.is_empty() {
            match write_some(to, rest, cx)? {
                Poll::Ready(n) => {
                    rest = &rest[n..];
                    self.bytes += n as u64;
                    self.unflushed = true;
                }
                Poll::Pending => {
                    self.held.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(piece.is_empty())
    }
}

fn write_some(to: &mut Io, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        n => Poll::Ready(Ok(n)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    struct Ends {
        client: DuplexStream,
        upstream: DuplexStream,
        drain: watch::Sender<bool>,
        relay: tokio::task::JoinHandle<Report>,
    }

    fn start(capacity: usize, early: &[u8], behind: &[u8]) -> Ends {
        let (client, gate_client) = duplex(capacity);
        let (upstream, gate_upstream) = duplex(capacity);
        let (drain, draining) = watch::channel(false);
        let tunnel = Tunnel {
            client: Box::new(gate_client),
            early: early.into(),
            upstream: Box::new(gate_upstream),
            behind: behind.into(),
        };
        let patience = Patience { idle: Duration::from_secs(600), write_stall: Duration::from_secs(60) };
        Ends { client, upstream, drain, relay: tokio::spawn(relay(tunnel, patience, draining, |_, _| ())) }
    }

    #[tokio::test]
    async fn what_came_early_is_sent_first_and_both_ways_flow() {
        let mut ends = start(64, b"early ", b"\x81\x06behind");
        ends.client.write_all(b"late").await.unwrap();
        let mut up = [0; 10];
        ends.upstream.read_exact(&mut up).await.unwrap();
        assert_eq!(&up, b"early late");
        let mut down = [0; 8];
        ends.client.read_exact(&mut down).await.unwrap();
        assert_eq!(&down, b"\x81\x06behind");
        drop(ends.client);
        let report = ends.relay.await.unwrap();
        assert_eq!((report.cause, report.up, report.down), (Cause::Client, 10, 8));
    }

    #[tokio::test]
    async fn a_slow_reader_gets_every_byte_in_order() {
        let mut ends = start(100, b"", b"");
        let sent: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let mut upstream = ends.upstream;
        let writer = tokio::spawn(async move { upstream.write_all(&sent).await.map(|()| upstream) });
        let mut got = vec![0; expected.len()];
        ends.client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, expected);
        drop(writer.await.unwrap().unwrap());
        assert_eq!(ends.relay.await.unwrap().cause, Cause::Upstream);
    }

    #[tokio::test]
    async fn a_shutdown_closes_with_1001_between_frames_only() {
        let mut ends = start(1024, b"", b"");
        ends.upstream.write_all(b"\x81\x05hel").await.unwrap();
        let mut first = [0; 5];
        ends.client.read_exact(&mut first).await.unwrap();
        ends.drain.send(true).unwrap();
        ends.upstream.write_all(b"lo").await.unwrap();
        let mut rest = Vec::new();
        ends.client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [b"lo".as_slice(), &close_frame(1001)].concat());
        assert_eq!(ends.relay.await.unwrap().cause, Cause::Shutdown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_websocket_ends_at_its_deadline_and_a_talking_one_does_not() {
        let mut ends = start(64, b"", b"");
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(500)).await;
            assert!(!ends.relay.is_finished());
            ends.upstream.write_all(b"\x89\x00").await.unwrap();
            let mut ping = [0; 2];
            ends.client.read_exact(&mut ping).await.unwrap();
        }
        assert_eq!(ends.relay.await.unwrap().cause, Cause::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut() {
        let mut ends = start(64, b"", b"");
        ends.upstream.write_all(&[0x82; 128]).await.unwrap();
        assert_eq!(ends.relay.await.unwrap().cause, Cause::WriteStall);
    }
}
