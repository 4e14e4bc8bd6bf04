//! An HTTP/1 client that sends exactly the bytes it is given.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::within;

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub struct Client {
    pub stream: Box<dyn Duplex>,
    pub buffer: BytesMut,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// As received, with its empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The only value of a field; `None` if it is absent.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = fields(&self.head).filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = values.next()?.1;
        assert!(values.next().is_none(), "{name} occurs twice: {}", self.head);
        Some(value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// The fields of a head, request or answer, without its first line.
pub fn fields(head: &str) -> impl Iterator<Item = (&str, &str)> {
    head.split("\r\n").skip(1).filter_map(|line| line.split_once(':').map(|(name, value)| (name, value.trim())))
}

impl Client {
    pub fn new(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: BytesMut::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends what the gate may no longer want to read.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: ha.test\r\n\r\n")).await
    }

    pub async fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        let head = format!("POST {path} HTTP/1.1\r\nHost: ha.test\r\nContent-Length: {}\r\n\r\n", body.len());
        self.exchange([head.as_bytes(), body].concat()).await
    }

    pub async fn exchange(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    pub async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        self.body_of(head).await
    }

    /// Reads the next head.
    pub async fn head(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let seen = self.buffer.clone();
            assert_ne!(self.more().await, 0, "closed within a head: {}", seen.escape_ascii());
        };
        String::from_utf8(self.buffer.split_to(end).to_vec()).unwrap()
    }

    async fn body_of(&mut self, head: String) -> Answer {
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.field("content-length").map(|length| length.parse().unwrap());
        answer.body = match (answer.status, length) {
            (100..200 | 204 | 304, _) => Vec::new(),
            (_, Some(length)) => self.bytes(length).await,
            _ if answer.field("transfer-encoding") == Some("chunked") => self.chunks().await,
            _ => self.rest().await,
        };
        answer
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let piece = self.chunk().await;
            if piece.is_empty() {
                return body;
            }
            body.extend(piece);
        }
    }

    /// Reads one chunk; the last one is empty.
    pub async fn chunk(&mut self) -> Vec<u8> {
        let size = self.line().await;
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("{size:?} is no chunk size"));
        let piece = self.bytes(size).await;
        assert_eq!(self.line().await, "");
        piece
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = self.buffer.split_to(at);
                self.buffer.advance(2);
                return String::from_utf8(line.to_vec()).unwrap();
            }
            assert_ne!(self.more().await, 0, "closed within a line");
        }
    }

    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert_ne!(self.more().await, 0, "closed after {} of {count} bytes", self.buffer.len());
        }
        self.buffer.split_to(count).to_vec()
    }

    /// Reads until the other side closes, however it does.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await != 0 {}
        std::mem::take(&mut self.buffer).to_vec()
    }

    /// Waits for the other side to close, having said nothing more.
    pub async fn closed(&mut self) {
        let rest = self.rest().await;
        assert_eq!(rest.escape_ascii().to_string(), "");
    }

    /// Reads more; 0 is the end, a reset included.
    pub async fn more(&mut self) -> usize {
        within("bytes", self.stream.read_buf(&mut self.buffer)).await.unwrap_or(0)
    }
}
