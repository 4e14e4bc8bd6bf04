//! The client's connection as Pingora sees it.
//!
//! It joins head and body of an answer into one write, keeps what the client sends ahead of its turn (a pipelined
//! request, the first frames behind an upgrade) away from the request in hand, ends when the client takes nothing of
//! what it is sent, and is never lost: when Pingora drops it, the raw stream goes back to the connection loop.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::http::ResponseHeader;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use super::head::Body;
use super::http2_meter::Http2Meter;
use crate::denial::Denial;
use crate::exchange::{Connection, Exchange, ReturnedClient};
use crate::websocket::handover::Io;

/// At most one TLS record is joined; longer writes go through.
const OUT_MAX: usize = 16 * 1024;
/// How much a client may send ahead of its turn before we stop reading it.
const AHEAD_MAX: usize = 16 * 1024;

/// One client connection.
pub struct ClientStream {
    /// `None` only while being dropped or after [`into_parts`](Self::into_parts).
    io: Option<Io>,
    /// Bytes read and not yet used.
    input: BytesMut,
    out: BytesMut,
    gate: Gate,
    exchange: Option<Arc<Exchange>>,
    digest: Option<Arc<ProxyDigest>>,
    meter: Option<Http2Meter>,
    connection: Arc<Connection>,
    write_stall: Duration,
    /// Our own 101 has been written: once it is flushed, the WebSocket begins.
    switching: bool,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// How many bytes of the request body Pingora may still read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Pingora finds the end itself (chunked bodies, HTTP/2).
    Open,
    /// Exactly so many; what follows is the next request or the WebSocket.
    Left(u64),
}

impl ClientStream {
    /// A write of which the client takes no byte for `write_stall` fails.
    pub fn new(io: Io, connection: Arc<Connection>, write_stall: Duration) -> Self {
        Self {
            io: Some(io),
            input: BytesMut::new(),
            out: BytesMut::new(),
            gate: Gate::Open,
            exchange: None,
            digest: None,
            meter: None,
            connection,
            write_stall,
            switching: false,
            stalled: None,
        }
    }

    /// Watches the frames of an HTTP/2 connection as they arrive.
    pub fn with_meter(mut self, meter: Http2Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Bytes read and not yet used; the head reader works in here.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Reads more bytes behind those in `input`; 0 is the end of the stream.
    pub async fn read_more(&mut self) -> io::Result<usize> {
        let io = self.io.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        self.input.reserve(2048);
        io.read_buf(&mut self.input).await
    }

    /// Begins a request whose head has been taken out of `input`.
    pub fn begin(&mut self, exchange: Arc<Exchange>, body: Body) {
        self.gate = match body {
            Body::None => Gate::Left(0),
            Body::Length(length) => Gate::Left(length),
            Body::Chunked => Gate::Open,
        };
        self.switching = false;
        self.digest = Some(digest_of(exchange.clone()));
        self.exchange = Some(exchange);
    }

    /// The raw stream and what was read of it and not used.
    pub fn into_parts(mut self) -> Option<(Io, BytesMut)> {
        let input = std::mem::take(&mut self.input);
        self.exchange = None;
        self.io.take().map(|io| (io, input))
    }

    fn is_handed_over(&self) -> bool {
        self.exchange.as_ref().and_then(|e| e.handover.as_ref()).is_some_and(|h| h.is_done())
    }

    fn io(&mut self) -> io::Result<Pin<&mut Io>> {
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Passes the outcome of a write or flush on, and fails it when the client has taken nothing for too long.
    fn timed<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let patience = self.write_stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        self.connection.set_write_stalled();
        if let Some(exchange) = &self.exchange {
            exchange.progress.deny(Denial::WriteStall);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let io = self.io.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let written = Pin::new(io).poll_write(cx, &self.out);
            let n = ready!(self.timed(written, cx))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
        }
        self.out = BytesMut::new(); // an idle connection keeps no buffer
        Poll::Ready(Ok(()))
    }

    /// Nothing of what comes now belongs to the request: it is kept, and only the end of the stream is passed on.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(handover) = self.exchange.as_ref().and_then(|exchange| exchange.handover.as_ref()) {
            handover.wait(cx.waker());
        }
        while self.input.len() < AHEAD_MAX {
            let mut piece = [0; 2048];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(self.io()?.poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.input.extend_from_slice(piece.filled());
        }
        Poll::Pending
    }

    /// Reads at most `limit` bytes of body, first those read already.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, limit: usize) -> Poll<io::Result<usize>> {
        let limit = limit.min(buf.remaining());
        if !self.input.is_empty() {
            let n = limit.min(self.input.len());
            buf.put_slice(&self.input.split_to(n));
            if self.input.is_empty() {
                self.input = BytesMut::new();
            }
            return Poll::Ready(Ok(n));
        }
        let before = buf.filled().len();
        let read = if limit == buf.remaining() {
            self.io()?.poll_read(cx, buf)
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(limit));
            let read = self.io()?.poll_read(cx, &mut part);
            let n = part.filled().len();
            buf.advance(n);
            read
        };
        if let Some(exchange) = &self.exchange {
            exchange.progress.set_awaiting_client(read.is_pending());
        }
        ready!(read)?;
        let fresh = &buf.filled()[before..];
        if let Some(meter) = &mut self.meter {
            meter.read(fresh);
        }
        let n = fresh.len();
        Poll::Ready(Ok(n))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        let (Some(io), Some(exchange)) = (self.io.take(), self.exchange.take()) else { return };
        let (ahead, unsent) = (std::mem::take(&mut self.input), std::mem::take(&mut self.out));
        exchange.progress.return_client(ReturnedClient { io, ahead, unsent });
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_handed_over() {
            return Poll::Ready(Ok(()));
        }
        match self.gate {
            Gate::Open => self.poll_body(cx, buf, usize::MAX).map_ok(drop),
            Gate::Left(0) => self.poll_ahead(cx),
            Gate::Left(left) => {
                let limit = usize::try_from(left).unwrap_or(usize::MAX);
                let n = ready!(self.poll_body(cx, buf, limit))?;
                self.gate = Gate::Left(left - n as u64);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_handed_over() {
            return Poll::Ready(Ok(bytes.len()));
        }
        if let Some(exchange) = &self.exchange {
            exchange.progress.set_answered();
        }
        self.switching |= self.out.is_empty() && bytes.starts_with(b"HTTP/1.1 101 ");
        if self.out.len() + bytes.len() > OUT_MAX {
            ready!(self.drain(cx))?;
            if bytes.len() >= OUT_MAX {
                let written = self.io()?.poll_write(cx, bytes);
                return self.timed(written, cx);
            }
        }
        self.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_handed_over() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.drain(cx))?;
        let flushed = self.io()?.poll_flush(cx);
        ready!(self.timed(flushed, cx))?;
        if let Some(handover) = self.exchange.as_ref().and_then(|exchange| exchange.handover.as_ref())
            && self.switching
            && handover.is_switched()
        {
            handover.complete();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_handed_over() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.drain(cx))?;
        let ended = self.io()?.poll_shutdown(cx);
        self.timed(ended, cx)
    }
}

/// Puts an exchange where the proxy finds it: in the session's digest.
pub fn digest_of(exchange: Arc<Exchange>) -> Arc<ProxyDigest> {
    let unused = ResponseHeader::build(200, Some(0)).expect("200 is a status");
    Arc::new(ProxyDigest::new(Box::new(unused), Some(Box::new(exchange))))
}

impl std::fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientStream").field("gate", &self.gate).finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // Whoever is gone already does not need to be told.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> UniqueIDType {
        0
    }
}

impl Ssl for ClientStream {}

impl GetTimingDigest for ClientStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for ClientStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.digest.clone()
    }
}

impl GetSocketDigest for ClientStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for ClientStream {}
