//! An HTTP/2 client that keeps no rules: frames as the test writes them.

use super::{Client, Gate};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const PRIORITY: u8 = 2;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub struct RawHttp2 {
    pub client: Client,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

impl RawHttp2 {
    /// Sends preface and SETTINGS.
    pub async fn connect(gate: &Gate) -> Self {
        Self::connect_with(gate, b"").await
    }

    /// The same with settings other than the defaults.
    pub async fn connect_with(gate: &Gate, settings: &[u8]) -> Self {
        let mut raw = Self::silent(gate).await;
        raw.client.send(PREFACE).await;
        raw.send(SETTINGS, 0, 0, settings).await;
        raw
    }

    /// Sends nothing.
    pub async fn silent(gate: &Gate) -> Self {
        Self { client: gate.dial().alpn("h2").client().await }
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.try_send(kind, flags, stream, payload).await.unwrap();
    }

    /// Sends frames in one piece.
    pub async fn send_all(&mut self, frames: &[u8]) {
        self.client.try_send(frames.to_vec()).await.unwrap();
    }

    /// Sends what the gate may no longer want to read.
    pub async fn try_send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.client.try_send(frame(kind, flags, stream, payload)).await
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        while self.client.buffer.len() < 9 {
            if self.client.more().await == 0 {
                return None;
            }
        }
        let [a, b, c, kind, _flags, s, t, u, v] = self.client.buffer[..9].try_into().unwrap();
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let bytes = self.client.bytes(9 + length).await;
        Some(Frame { kind, stream: u32::from_be_bytes([s, t, u, v]), payload: bytes[9..].to_vec() })
    }

    /// The next frame of this kind.
    pub async fn next(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// What the gate has to say to the request on `stream`: a status, or an error code, be it the
    /// connection's.
    pub async fn verdict(&mut self, stream: u32) -> Result<u16, u32> {
        loop {
            let frame = self.frame().await.expect("an answer, not the end of the connection");
            match frame.kind {
                HEADERS if frame.stream == stream => return Ok(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return Err(frame.code()),
                GOAWAY => return Err(frame.code()),
                _ => {}
            }
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields as HPACK literals without indexing and without Huffman coding (RFC 7541 section 6.2.2).
pub fn literals(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(text.len(), &mut block);
            block.extend_from_slice(text);
        }
    }
    block
}

/// A GET for `path` with further fields.
pub fn get(path: &[u8], more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let pseudo: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"ha.test"), (b":path", path)];
    literals(&[&pseudo, more].concat())
}

/// A POST to `/upload` of `authority`.
pub fn post(authority: &[u8]) -> Vec<u8> {
    literals(&[(b":method", b"POST"), (b":scheme", b"https"), (b":authority", authority), (b":path", b"/upload")])
}

/// RFC 7541 section 5.1 with a prefix of seven bits.
fn integer(mut value: usize, out: &mut Vec<u8>) {
    if value < 127 {
        return out.push(value as u8);
    }
    out.push(127);
    value -= 127;
    while value >= 128 {
        out.push((value % 128) as u8 | 128);
        value /= 128;
    }
    out.push(value as u8);
}

/// The status, which comes first in an answer: from the static table, or three digits as they are or in Huffman code.
fn status(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block[0] {
        byte @ 0x88..=0x8e => INDEXED[usize::from(byte - 0x88)],
        0x48 | 0x08 | 0x18 => {
            let length = usize::from(block[1] & 0x7f);
            let digits = &block[2..2 + length];
            let digits = if block[1] & 0x80 == 0 { digits.to_vec() } else { digits_of_huffman(digits) };
            std::str::from_utf8(&digits).unwrap().parse().unwrap()
        }
        other => panic!("no status begins with {other:#x}"),
    }
}

/// RFC 7541 appendix B: 0, 1 and 2 have five bits, the other digits six.
fn digits_of_huffman(coded: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
    let mut rest = bits.as_slice();
    let mut digits = Vec::new();
    while digits.len() < 3 {
        let five = rest[..5].iter().fold(0, |n, bit| n * 2 + bit);
        if five < 3 {
            digits.push(b'0' + five);
            rest = &rest[5..];
        } else {
            let six = five * 2 + rest[5];
            digits.push(b'3' + six - 0b011001);
            rest = &rest[6..];
        }
    }
    digits
}
