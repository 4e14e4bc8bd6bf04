//! The upstream's half of a WebSocket handover: a socket of our own that shows Pingora the head of the answer and,
//! behind a 101, nothing more. See `websocket/handover.rs` for the whole.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use http::{HeaderMap, Version, header};
use pingora::http::ResponseHeader;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::peer::upstream_error;
use crate::exchange::Exchange;
use crate::upstream::Upstream;
use crate::upstream::health::Trouble;
use crate::websocket::handover::{Handover, Io};

/// Whether a 101 answers the handshake of this request (RFC 6455 section 4.1).
///
/// The status alone is no consent: an application that can be made to answer with a foreign status would open a tunnel
/// past everything that the gate asks of a request.
pub fn is_accepted(request: &HeaderMap, response: &ResponseHeader) -> bool {
    let only = |headers: &HeaderMap, name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).cloned()
    };
    let is_websocket = only(&response.headers, header::UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let expected = only(request, header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let accept = only(&response.headers, header::SEC_WEBSOCKET_ACCEPT);
    let agrees = expected.zip(accept).is_some_and(|(expected, accept)| accept.as_bytes() == expected.as_bytes());
    response.version == Version::HTTP_11 && is_websocket && agrees
}

/// No answer to an upgrade has a longer head.
const HEAD_MAX: usize = 64 * 1024;

/// Makes Pingora use a connection of ours for this request, so that it can be taken back.
pub fn take_back(peer: &mut HttpPeer, exchange: Arc<Exchange>, upstream: Arc<Upstream>) {
    peer.group_key = upstream.id;
    peer.options.custom_l4 = Some(Arc::new(Dial { exchange, upstream }));
}

#[derive(Debug)]
struct Dial {
    exchange: Arc<Exchange>,
    upstream: Arc<Upstream>,
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, _: &l4::socket::SocketAddr) -> pingora_core::Result<l4::stream::Stream> {
        let dialled = self.upstream.dial().await.map_err(|error| dial_error(error.trouble))?;
        let side = UpstreamSide {
            io: Some(dialled.io),
            head: BytesMut::new(),
            head_read: false,
            behind: BytesMut::new(),
            exchange: self.exchange.clone(),
        };
        Ok(VirtualSocketStream::new(Box::new(side)).into())
    }
}

fn dial_error(trouble: Trouble) -> Box<Error> {
    let kind = match trouble {
        Trouble::Refused => ErrorType::ConnectRefused,
        Trouble::Tls => ErrorType::TLSHandshakeFailure,
        Trouble::Dns | Trouble::Unreachable | Trouble::Silent | Trouble::Broken => ErrorType::ConnectTimedout,
    };
    upstream_error(kind, trouble.advice())
}

/// What Pingora holds as the upstream socket of an upgrade request.
struct UpstreamSide {
    /// `None` only while being dropped.
    io: Option<Io>,
    /// The head of the answer, as far as Pingora has not taken it.
    head: BytesMut,
    head_read: bool,
    /// What came behind a 101.
    behind: BytesMut,
    exchange: Arc<Exchange>,
}

impl UpstreamSide {
    fn handover(&self) -> Option<&Handover> {
        self.exchange.handover.as_ref()
    }

    fn is_done(&self) -> bool {
        self.handover().is_some_and(Handover::is_done)
    }

    fn io(&mut self) -> io::Result<Pin<&mut Io>> {
        self.io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.head_read {
            let mut piece = [0; 2048];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(self.io()?.poll_read(cx, &mut piece))?;
            let scanned = self.head.len().saturating_sub(3);
            self.head.extend_from_slice(piece.filled());
            let end = self.head[scanned..].windows(4).position(|w| w == b"\r\n\r\n").map(|at| scanned + at + 4);
            if end.is_none() && self.head.len() > HEAD_MAX {
                return Poll::Ready(Err(io::Error::other("the head of the answer is too long")));
            }
            self.head_read = end.is_some() || piece.filled().is_empty();
            if let Some(end) = end.filter(|_| is_switching(&self.head)) {
                self.behind = self.head.split_off(end);
                if let Some(handover) = self.handover() {
                    handover.switched();
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Whether a head says 101, in either version that can.
fn is_switching(head: &[u8]) -> bool {
    head.starts_with(b"HTTP/1.1 101") || head.starts_with(b"HTTP/1.0 101")
}

impl Drop for UpstreamSide {
    fn drop(&mut self) {
        let behind = std::mem::take(&mut self.behind);
        if let (Some(io), Some(handover)) = (self.io.take(), self.handover().filter(|handover| handover.is_done())) {
            handover.return_upstream(io, behind);
        }
    }
}

impl AsyncRead for UpstreamSide {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_head(cx))?;
        if !self.head.is_empty() {
            let n = buf.remaining().min(self.head.len());
            buf.put_slice(&self.head[..n]);
            self.head.advance(n);
            return Poll::Ready(Ok(()));
        }
        if let Some(handover) = self.handover().filter(|handover| handover.is_switched()) {
            handover.wait(cx.waker());
            return Poll::Pending;
        }
        self.io()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for UpstreamSide {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        self.io()?.poll_shutdown(cx)
    }
}

impl std::fmt::Debug for UpstreamSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamSide").finish_non_exhaustive()
    }
}

impl VirtualSocket for UpstreamSide {
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(()) // set when it was dialled
    }
}
