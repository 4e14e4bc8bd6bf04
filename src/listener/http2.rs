//! The HTTP/2 loop of one connection: accept streams, hand each to Pingora, and watch what the h2 crate does not.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use h2::Reason;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{self as v2, H2Accept, H2Options, HttpSession};
use pingora_core::protocols::{Digest, Stream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::http2_meter::{Http2Counts, Http2Meter};
use super::places::PlaceGuard;
use super::stream::{ClientStream, digest_of};
use super::{BODY_START, Door, admit_request, body_limits, body_overdue, turned_out};
use crate::config::{Limits, Timeouts};
use crate::denial::Denial;
use crate::exchange::{Connection, Effort, Exchange};

type H2Connection = h2::server::Connection<Stream, bytes::Bytes>;

/// Unread answers buffered per stream; more waits at the upstream.
const SEND_BUFFER: usize = 64 * 1024;
/// Flow control: enough for a fast upload over a slow line, little enough for many connections.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// Control frames per RST_STREAM that a client may send: pings and settings are cheaper than streams.
const CONTROL_PER_RESET: u32 = 10;
/// Malformed requests on one connection; one may be a mistake.
const REJECTED_MAX: u32 = 32;
/// The time in which resets are counted.
const RESET_WINDOW: Duration = Duration::from_secs(60);
/// How often a connection with open streams is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long the last frames of a connection may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves streams until the connection ends.
pub(super) async fn serve(door: &Arc<Door>, stream: ClientStream, connection: Arc<Connection>) {
    let snapshot = door.snapshot.load_full();
    let counts = Arc::new(Http2Counts::default());
    let stream = stream.with_meter(Http2Meter::new(connection.clone(), counts.clone()));
    let options = options(&snapshot.config.limits);
    let preface = snapshot.config.timeouts.http2_preface;
    drop(snapshot);
    let h2 = match timeout(preface, v2::handshake(Box::new(stream), Some(options))).await {
        Ok(Ok(h2)) => h2,
        Ok(Err(_)) => return,
        Err(_) => return door.metrics.denied(Denial::Http2Preface),
    };
    Streams::new(door.clone(), connection, counts).run(h2).await;
}

fn options(limits: &Limits) -> H2Options {
    let mut options = v2::default_h2_options();
    options
        .max_concurrent_streams(limits.http2_streams)
        // What is somewhat too large is refused, counted and logged by ourselves, the rest by h2.
        .max_header_list_size(u32::try_from(2 * limits.head_size.bytes()).unwrap_or(u32::MAX))
        // Streams that are reset before we have looked at them: a browser that leaves a page does that by the dozen,
        // and h2 would end the connection under the next page. They count as all others do.
        .max_pending_accept_reset_streams(usize::try_from(limits.http2_resets).unwrap_or(usize::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    options
}

/// The state of one connection's loop.
struct Streams {
    door: Arc<Door>,
    connection: Arc<Connection>,
    counts: Arc<Http2Counts>,
    live: Arc<Live>,
    accepted: u32,
    rejected: u32,
    idle_since: Instant,
    /// A stream has been open since `idle_since` was set.
    was_live: bool,
    budget: ResetBudget,
    leaving: bool,
}

#[expect(clippy::large_enum_variant, reason = "one is alive per connection, and it is taken apart at once")]
enum Event {
    Accepted(HttpSession, Arc<Exchange>),
    Rejected,
    Ended,
    Draining,
    Tick,
}

impl Streams {
    fn new(door: Arc<Door>, connection: Arc<Connection>, counts: Arc<Http2Counts>) -> Self {
        Self {
            door,
            connection,
            counts,
            live: Arc::default(),
            accepted: 0,
            rejected: 0,
            idle_since: Instant::now(),
            was_live: false,
            budget: ResetBudget::new(Instant::now()),
            leaving: false,
        }
    }

    async fn run(mut self, mut h2: H2Connection) {
        loop {
            match self.next(&mut h2).await {
                Event::Accepted(session, exchange) => self.begin(&mut h2, session, exchange),
                Event::Rejected => {
                    self.rejected += 1;
                    self.door.metrics.denied(Denial::Malformed);
                }
                Event::Ended => return self.ended(),
                Event::Draining => self.leave(&mut h2),
                Event::Tick => {}
            }
            if let Some((denial, reason)) = self.verdict() {
                self.door.metrics.denied(denial);
                return say_goodbye(h2, reason).await;
            }
        }
    }

    async fn next(&mut self, h2: &mut H2Connection) -> Event {
        // Each stream brings its own exchange; the digest is asked for before the stream is there.
        let exchange = Arc::new(Exchange::new(self.connection.clone(), true, None));
        let digest = Digest { proxy_digest: Some(digest_of(exchange.clone())), ..Digest::default() };
        let mut draining = self.door.draining.clone();
        let tick = self.next_look();
        tokio::select! {
            accepted = HttpSession::from_h2_conn(h2, Arc::new(digest)) => match accepted {
                Ok(Some(H2Accept::Session(session))) => Event::Accepted(session, exchange),
                Ok(Some(H2Accept::Rejected)) => Event::Rejected,
                Ok(None) | Err(_) => Event::Ended,
            },
            _ = draining.wait_for(|draining| *draining), if !self.leaving => Event::Draining,
            () = self.live.last_ended.notified() => Event::Tick,
            () = sleep_until(tick) => Event::Tick,
        }
    }

    /// When the connection has to be looked at even if nothing happens: at the end of its patience, and now and then
    /// while streams are open, to count what the client resets.
    fn next_look(&self) -> Instant {
        if self.live.count.load(Relaxed) > 0 {
            return Instant::now() + LOOK;
        }
        self.idle_since + self.patience(&self.door.snapshot.load().config.timeouts)
    }

    /// How long the connection may be without a stream.
    fn patience(&self, timeouts: &Timeouts) -> Duration {
        if self.accepted == 0 { timeouts.request_head } else { timeouts.http2_idle }
    }

    /// Whether the connection has to end, why, and what the client is told.
    fn verdict(&mut self) -> Option<(Denial, Reason)> {
        let now = Instant::now();
        let snapshot = self.door.snapshot.load();
        if !self.budget.spend(self.counts.take(), snapshot.config.limits.http2_resets, now) {
            return Some((Denial::Http2Resets, Reason::ENHANCE_YOUR_CALM));
        }
        if self.rejected > REJECTED_MAX {
            return Some((Denial::Malformed, Reason::PROTOCOL_ERROR));
        }
        if self.live.count.load(Relaxed) > 0 {
            self.was_live = true;
            return None;
        }
        if std::mem::take(&mut self.was_live) {
            self.idle_since = now;
        }
        let patience = self.patience(&snapshot.config.timeouts);
        (now - self.idle_since >= patience).then_some((Denial::Http2Idle, Reason::NO_ERROR))
    }

    /// The connection is over; if the client or h2 has ended it for something that we count, it is counted.
    fn ended(&mut self) {
        let resets = self.door.snapshot.load().config.limits.http2_resets;
        if self.connection.is_write_stalled() {
            self.door.metrics.denied(Denial::WriteStall);
        } else if !self.budget.spend(self.counts.take(), resets, Instant::now()) {
            self.door.metrics.denied(Denial::Http2Resets);
        }
    }

    fn leave(&mut self, h2: &mut H2Connection) {
        self.leaving = true;
        h2.graceful_shutdown();
    }

    fn begin(&mut self, h2: &mut H2Connection, session: HttpSession, exchange: Arc<Exchange>) {
        self.accepted += 1;
        let last = self.accepted >= self.door.snapshot.load().config.limits.requests_per_connection;
        if !self.leaving && (last || self.connection.denied.is_some()) {
            if last {
                self.door.metrics.denied(Denial::RequestsPerConnection);
            }
            self.leave(h2);
        }
        if self.live.count.load(Relaxed) == 0 {
            exchange.seat.advance(Effort::High);
        }
        // Dropped, a session resets its stream.
        let fields = || Cow::Borrowed(&session.req_header().headers);
        let Some(place) = admit_request(&self.door, &exchange, fields) else { return };
        self.live.count.fetch_add(1, Relaxed);
        self.was_live = true;
        let live = LiveStream { live: self.live.clone(), exchange: exchange.clone(), _place: place };
        tokio::spawn(serve_stream(self.door.clone(), session, exchange, live));
    }
}

/// How many streams are open, and when the last of them has ended.
#[derive(Default)]
struct Live {
    count: AtomicUsize,
    last_ended: Notify,
}

/// Takes one off the counts when its stream ends.
struct LiveStream {
    live: Arc<Live>,
    exchange: Arc<Exchange>,
    _place: PlaceGuard,
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        if !self.exchange.progress.is_body_done() {
            self.exchange.connection.write_off_unread();
        }
        if self.live.count.fetch_sub(1, Relaxed) == 1 {
            self.live.last_ended.notify_one();
        }
    }
}

async fn serve_stream(door: Arc<Door>, mut session: HttpSession, exchange: Arc<Exchange>, _live: LiveStream) {
    let snapshot = door.snapshot.load_full();
    if session.is_body_done() {
        exchange.progress.set_body_done();
    }
    let serve = async {
        if !await_body(&mut session, &exchange).await {
            return;
        }
        // Boxed where it begins: while it waits above, a stream costs nothing of it.
        Box::pin(door.proxy.process_new_http(ServerSession::new_http2(session), &door.draining)).await;
    };
    tokio::select! {
        () = serve => return,
        () = body_overdue(&exchange, body_limits(&snapshot), is_waiting) => {}
        () = turned_out(&exchange) => {}
    }
    // Cut before the proxy took it over, the request has left no record: count it here.
    if let Some(denial) = exchange.progress.denial().filter(|_| !exchange.progress.is_taken()) {
        door.metrics.denied(denial);
    }
}

/// Waits until the body has begun; `false` when the client leaves meanwhile. What is read here is replayed later.
async fn await_body(session: &mut HttpSession, exchange: &Exchange) -> bool {
    // Who waits for a 100 sends nothing before the upstream has been asked.
    if session.req_header().headers.contains_key(http::header::EXPECT) {
        return true;
    }
    session.enable_retry_buffering();
    while !session.is_body_done() && session.body_bytes_read() < BODY_START {
        match session.read_body_bytes().await {
            Ok(Some(piece)) => exchange.progress.body_read_ahead(&exchange.connection, piece.len()),
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    true
}

/// Everything the client has sent has been read: whoever is late, it is not the upstream.
fn is_waiting(exchange: &Exchange) -> bool {
    let connection = &exchange.connection;
    connection.http2_body_bytes.load(Relaxed) <= connection.body_bytes_read.load(Relaxed)
}

async fn say_goodbye(mut h2: H2Connection, reason: Reason) {
    if reason == Reason::NO_ERROR {
        h2.graceful_shutdown();
    } else {
        h2.abrupt_shutdown(reason);
    }
    let flushed = async { while let Some(Ok(_)) = h2.accept().await {} };
    // Who does not listen is not waited for.
    let _ = timeout(FAREWELL, flushed).await;
}

/// Resets and control frames that a client has left in the current window.
struct ResetBudget {
    resets: u32,
    control: u32,
    window_began: Instant,
}

impl ResetBudget {
    fn new(now: Instant) -> Self {
        Self { resets: 0, control: 0, window_began: now }
    }

    /// Whether the client stays within its budget.
    fn spend(&mut self, (resets, control): (u32, u32), limit: u32, now: Instant) -> bool {
        if now - self.window_began >= RESET_WINDOW {
            *self = Self::new(now);
        }
        self.resets = self.resets.saturating_add(resets);
        self.control = self.control.saturating_add(control);
        self.resets <= limit && self.control <= limit.saturating_mul(CONTROL_PER_RESET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_navigates_stays_within_its_budget_and_a_flood_does_not() {
        let start = Instant::now();
        let mut budget = ResetBudget::new(start);
        assert!(budget.spend((100, 0), 200, start));
        assert!(budget.spend((100, 2000), 200, start));
        assert!(!budget.spend((1, 0), 200, start));
        let mut budget = ResetBudget::new(start);
        assert!(!budget.spend((0, 2001), 200, start));
    }

    #[test]
    fn a_new_window_begins_after_a_minute() {
        let start = Instant::now();
        let mut budget = ResetBudget::new(start);
        assert!(budget.spend((200, 0), 200, start));
        assert!(budget.spend((200, 0), 200, start + RESET_WINDOW));
    }
}
