//! WebSocket clients and the raw bytes of an upgrade.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::gate::Dial;
use super::{Gate, within};

pub const UPGRADE: &str = "GET /api/websocket HTTP/1.1\r\nHost: ha.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
pub const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A WebSocket through the gate.
pub struct WebSocket(pub WebSocketStream<TlsStream<TcpStream>>);

impl WebSocket {
    pub async fn open(gate: &Gate) -> Self {
        Self::dial(gate.dial()).await
    }

    pub async fn dial(dial: Dial<'_>) -> Self {
        let stream = dial.tls().await.unwrap();
        let handshake = tokio_tungstenite::client_async("ws://ha.test/api/websocket", stream);
        Self(within("a WebSocket handshake", handshake).await.unwrap().0)
    }

    pub async fn send(&mut self, message: Message) {
        within("room to send", self.0.send(message)).await.unwrap();
    }

    /// The next message; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Message> {
        within("a message", self.0.next()).await.and_then(Result::ok)
    }

    pub async fn echoes(&mut self, message: Message) {
        self.send(message.clone()).await;
        assert!(self.next().await == Some(message));
    }
}
