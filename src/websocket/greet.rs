//! The greeting: a WebSocket between its 101 and the verdict on its login.
//!
//! The client's first message waits here until a [`Doorkeeper`] has decided about it; the upstream's messages pass
//! untouched and the doorkeeper sees them until one is the verdict. Then everything that reads is dropped, and
//! [`relay`](super::relay::relay) goes on with the bytes in hand. A client that does not begin as a login begins is
//! closed here, and the upstream not bothered with it.
//!
//! In the place where a relay begins, this makes a few lines:
//!
//! ```no_run
//! use std::time::Duration;
//! use hearthgate::websocket::deflate::Deflate;
//! use hearthgate::websocket::greet::{Doorkeeper, Terms, greet};
//! use hearthgate::websocket::relay::{Patience, Tunnel, relay};
//! # async fn example(tunnel: Tunnel, deflate: Option<Deflate>, doorkeeper: impl Doorkeeper, patience: Patience,
//! #     draining: tokio::sync::watch::Receiver<bool>) {
//! // `deflate`: what `negotiated_in(&answer.headers)` said when the 101 passed; its error refuses the upgrade.
//! let terms = Terms { deflate, deadline: Duration::from_secs(30), invalid: r#"{"type":"auth_invalid"}"# };
//! match Box::pin(greet(tunnel, terms, &doorkeeper, draining.clone())).await {
//!     Ok(greeted) => {
//!         drop(doorkeeper);
//!         let report = relay(greeted.tunnel, patience, draining, |_, _| ()).await;
//!         let (up, down) = (greeted.up + report.up, greeted.down + report.down);
//!         println!("{} {up} {down}", report.cause.as_str());
//!     }
//!     Err(parted) => println!("{} {} {}", parted.end.as_str(), parted.up, parted.down),
//! }
//! # }
//! ```

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::deflate::Deflate;
use super::handover::Io;
use super::login::{Login, Opening};
use super::relay::{FAREWELL, Flow, Tunnel, drain_requested, say_goodbye};

mod end;

pub use end::End;

/// Decides about one login over a WebSocket.
#[async_trait]
pub trait Doorkeeper: Send + Sync {
    /// May the upstream see the client's first message? Asked once at most.
    fn first_message(&self, text: &str) -> Decision;

    /// What a text message of the upstream's says about the login. Asked for each until one is a verdict; also when
    /// the client has left meanwhile, so that nobody escapes a verdict by hanging up, nor pays for a good one.
    fn upstream_message(&self, text: &str) -> Verdict;

    /// Resolves when the client must leave whatever the verdict may be, as after a ban.
    async fn banned(&self);

    /// It ended without a verdict of the upstream's, and why.
    fn parted(&self, end: End);
}

/// What is done with a client's first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Pass,
    /// The client gets [`Terms::invalid`], as if the upstream had refused it, and a close frame 1000. Nobody waits for
    /// what the upstream says first of itself: a client that spoke early may get the refusal alone.
    RefuseAsInvalid,
    /// A close frame 1013, "try again later".
    RefuseLater,
    /// The end of the stream, without a word.
    Drop,
}

/// What a message of the upstream's says about the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is about something else.
    NotYet,
    /// From here on everything passes.
    Accepted,
    /// The client hears it, and nothing more of the client's passes.
    Refused,
}

/// What holds for one greeting.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// As the 101 has agreed.
    pub deflate: Option<Deflate>,
    /// How long everything until the verdict may take. Home Assistant itself waits 10 s for the first message.
    pub deadline: Duration,
    /// The text that a client gets whose login is refused here as invalid.
    pub invalid: &'static str,
}

/// A sensible [`Terms::deadline`].
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A login has been accepted.
pub struct Greeted {
    /// For the relay; both directions of it stand where nothing is lost, and downwards between two frames.
    pub tunnel: Tunnel,
    /// Bytes that the upstream has been sent.
    pub up: u64,
    /// Bytes that the client has been sent.
    pub down: u64,
}

/// A WebSocket ended before it was accepted; both streams are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parted {
    pub end: End,
    /// Bytes that the upstream has been sent.
    pub up: u64,
    /// Bytes of the upstream's that the client has been sent; last words of ours are not among them.
    pub down: u64,
}

/// How much is read at once; a login is smaller.
const PIECE: usize = 2048;
/// How long and how much is read of a client after its last words: closing a socket with unread bytes resets it, and
/// the words with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;

/// Passes messages until the upstream has accepted the login.
///
/// Until then it holds at most 128 KiB of the client's bytes and, of each direction, one message of at most 64 KiB and
/// what inflating it takes. The client's pings and close frames are held in their order among the rest, so what a
/// client sends behind its first message does nothing before the verdict.
pub async fn greet(
    tunnel: Tunnel,
    terms: Terms,
    doorkeeper: &dyn Doorkeeper,
    mut draining: watch::Receiver<bool>,
) -> Result<Greeted, Parted> {
    let mut greeting = Greeting::new(tunnel, terms.deflate, doorkeeper);
    // What ends a greeting comes first: no message of a client's passes that is banned already.
    let outcome = tokio::select! {
        biased;
        () = doorkeeper.banned() => Err(End::Banned),
        () = drain_requested(&mut draining) => Err(End::Shutdown),
        () = sleep(terms.deadline) => Err(End::Deadline),
        outcome = poll_fn(|cx| greeting.poll(cx)) => outcome,
    };
    match outcome {
        Ok(()) => Ok(greeting.into_greeted()),
        Err(end) => {
            let parted = greeting.part(end, terms.invalid).await;
            doorkeeper.parted(end);
            Err(parted)
        }
    }
}

struct Greeting<'a> {
    client: Io,
    /// Client bytes that nobody has looked at.
    early: BytesMut,
    upstream: Io,
    /// Upstream bytes that nobody has looked at.
    behind: BytesMut,
    up: Flow,
    down: Flow,
    /// Nothing is written to the client any more.
    client_gone: bool,
    login: Login,
    verdict: Verdict,
    doorkeeper: &'a dyn Doorkeeper,
}

impl<'a> Greeting<'a> {
    fn new(tunnel: Tunnel, deflate: Option<Deflate>, doorkeeper: &'a dyn Doorkeeper) -> Self {
        let Tunnel { client, early, upstream, behind } = tunnel;
        Self {
            client,
            early,
            upstream,
            behind,
            up: Flow::default(),
            down: Flow::default(),
            client_gone: false,
            login: Login::new(deflate),
            verdict: Verdict::NotYet,
            doorkeeper,
        }
    }

    /// Ready when the login is accepted or the greeting must end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        // The upstream first: a verdict that is there counts, even if the client has left meanwhile.
        if let Poll::Ready(outcome) = self.poll_down(cx) {
            return Poll::Ready(outcome);
        }
        self.poll_up(cx).map(Err)
    }

    /// Passes what the upstream sends, up to the end of the message that is the verdict.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            if !self.client_gone {
                ready!(self.down.poll_clear(&mut self.client, cx)).map_err(|_| End::Broken)?;
            }
            match self.verdict {
                // Nothing may follow, and the client's answer to it waits here behind its first message.
                Verdict::NotYet if self.down.boundary.is_closed() => return Poll::Ready(Err(End::Upstream)),
                Verdict::NotYet => {}
                // Nobody can have judged a message that has not been sent.
                Verdict::Accepted if !self.login.is_waiting() => return Poll::Ready(Err(End::UpstreamUnreadable)),
                Verdict::Accepted => return Poll::Ready(Ok(())),
                Verdict::Refused => return Poll::Ready(Err(End::Refused)),
            }
            let piece = ready!(poll_piece(&mut self.upstream, &mut self.behind, PIECE, cx));
            self.pass_down(piece.map_err(|_| End::Broken)?)?;
        }
    }

    fn pass_down(&mut self, mut piece: BytesMut) -> Result<(), End> {
        if piece.is_empty() {
            return Err(End::Upstream);
        }
        let (taken, text) = self.login.upstream_bytes(&piece).map_err(|_| End::UpstreamUnreadable)?;
        let mut rest = piece.split_off(taken);
        rest.unsplit(std::mem::take(&mut self.behind));
        self.behind = rest;
        if !self.client_gone {
            self.down.boundary.advance(&piece);
            self.down.held = piece;
        }
        if let Some(text) = text {
            self.verdict = self.doorkeeper.upstream_message(&text);
        }
        Ok(())
    }

    /// Reads the client as far as there is room, and passes its first message if it may; ready when that ends it all.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if ready!(self.up.poll_clear(&mut self.upstream, cx)).is_err() {
                return Poll::Ready(End::Broken);
            }
            let room = self.login.room().min(PIECE);
            if room == 0 {
                return Poll::Pending; // until the verdict: whatever comes of the upstream wakes us
            }
            let end = match ready!(poll_piece(&mut self.client, &mut self.early, room, cx)) {
                Ok(piece) => self.pass_up(&piece).err(),
                Err(_) => Some(End::Broken),
            };
            if let Some(end) = end {
                return Poll::Ready(end);
            }
        }
    }

    fn pass_up(&mut self, piece: &[u8]) -> Result<(), End> {
        if piece.is_empty() {
            return Err(End::Client);
        }
        let Some(opening) = self.login.client_bytes(piece)? else { return Ok(()) };
        let decision = match opening {
            Opening::Message(text) => self.doorkeeper.first_message(&text),
            Opening::NotText => return Err(End::NotText),
            Opening::Close if self.down.boundary.is_closed() => return Err(End::Upstream),
            Opening::Close => return Err(End::Client),
        };
        match decision {
            Decision::Pass => self.up.held = self.login.release(),
            Decision::RefuseAsInvalid => return Err(End::RefusedAsInvalid),
            Decision::RefuseLater => return Err(End::RefusedForNow),
            Decision::Drop => return Err(End::Dropped),
        }
        Ok(())
    }

    fn into_greeted(self) -> Greeted {
        let mut early = self.up.held;
        early.unsplit(self.login.into_held());
        early.unsplit(self.early);
        let tunnel = Tunnel { client: self.client, early, upstream: self.upstream, behind: self.behind };
        Greeted { tunnel, up: self.up.bytes, down: self.down.bytes }
    }

    /// Ends both streams, each in the way that the end asks for.
    async fn part(mut self, end: End, invalid: &str) -> Parted {
        if matches!(end, End::Client | End::Broken) && self.login.is_waiting() {
            self.hear_out().await;
        } else {
            let words = end.last_words(invalid);
            // Whether the client hears them is its own affair.
            let _ = timeout(FAREWELL, self.take_leave(end, &words)).await;
        }
        let Self { mut client, mut upstream, up, down, .. } = self;
        let _ = timeout(FAREWELL, async { tokio::join!(client.shutdown(), upstream.shutdown()) }).await;
        drop(upstream);
        if end != End::Dropped {
            let mut rest = client.take(LINGER_BYTES);
            let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
        }
        Parted { end, up: up.bytes, down: down.bytes }
    }

    /// The client has left while the upstream judges: lets the doorkeeper know the verdict.
    async fn hear_out(&mut self) {
        self.client_gone = true;
        let verdict = poll_fn(|cx| match self.up.poll_clear(&mut self.upstream, cx) {
            Poll::Ready(Err(_)) => Poll::Ready(Err(End::Broken)),
            Poll::Ready(Ok(())) | Poll::Pending => self.poll_down(cx),
        });
        // The doorkeeper has been told, or will never know.
        let _ = timeout(FAREWELL, verdict).await;
    }

    /// Finishes what the client is being told, then says the last words.
    async fn take_leave(&mut self, end: End, words: &[u8]) -> io::Result<()> {
        let Self { client, upstream, behind, down, .. } = self;
        if end == End::UpstreamUnreadable && !down.boundary.is_between_frames() || words.is_empty() {
            return Ok(()); // a frame that nobody can finish
        }
        if end == End::UpstreamUnreadable {
            client.write_all(words).await?;
            return client.flush().await;
        }
        down.boundary.advance(behind);
        down.held.unsplit(std::mem::take(behind));
        while end == End::Refused && !down.boundary.is_closed() {
            if poll_fn(|cx| down.poll_once(upstream, client, cx)).await? {
                break;
            }
        }
        say_goodbye(client, upstream, down, words).await
    }
}

/// The next bytes of a side, at most `max`, those first that were read ahead of the greeting; empty at its end.
fn poll_piece(io: &mut Io, ahead: &mut BytesMut, max: usize, cx: &mut Context<'_>) -> Poll<io::Result<BytesMut>> {
    if !ahead.is_empty() {
        return Poll::Ready(Ok(ahead.split_to(ahead.len().min(max))));
    }
    let mut piece = [0; PIECE];
    let mut piece = ReadBuf::new(&mut piece[..max.min(PIECE)]);
    ready!(Pin::new(io).poll_read(cx, &mut piece))?;
    Poll::Ready(Ok(BytesMut::from(piece.filled())))
}

#[cfg(test)]
mod tests;
