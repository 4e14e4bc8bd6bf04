//! Counts the frames of an HTTP/2 connection as they arrive, which the h2 crate does not tell us.
//!
//! Two things need it: a client that opens and resets streams, or sends control frames, faster than any browser
//! ([`Http2Counts`]), and a request body of which we want to know whether it is late because the client stalls or
//! because the upstream does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::exchange::Connection;

/// Frames that cost the gate work and carry nothing, since the counts were last taken.
#[derive(Debug, Default)]
pub struct Http2Counts {
    resets: AtomicU32,
    control: AtomicU32,
}

impl Http2Counts {
    /// Takes the counts: RST_STREAM frames, and SETTINGS, PING and PRIORITY frames.
    pub fn take(&self) -> (u32, u32) {
        (self.resets.swap(0, Relaxed), self.control.swap(0, Relaxed))
    }
}

/// Parses frame headers (RFC 9113 section 4.1), nothing else.
pub struct Http2Meter {
    connection: Arc<Connection>,
    counts: Arc<Http2Counts>,
    /// Bytes to pass over: what is left of the preface or of a payload.
    skip: usize,
    header: [u8; HEADER],
    header_len: usize,
    /// The length of a padded DATA frame whose pad length comes next.
    padded: Option<u32>,
}

const PREFACE: usize = 24;
const HEADER: usize = 9;
const DATA: u8 = 0;
const PADDED: u8 = 8;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

impl Http2Meter {
    /// Begins with the client's preface.
    pub fn new(connection: Arc<Connection>, counts: Arc<Http2Counts>) -> Self {
        Self { connection, counts, skip: PREFACE, header: [0; HEADER], header_len: 0, padded: None }
    }

    /// Takes note of bytes that arrived.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if let (Some(length), [pad, ..]) = (self.padded, bytes) {
                // RFC 9113 section 6.1: padding and its length are not data, and nobody will ever read them.
                self.data(length.saturating_sub(1 + u32::from(*pad)));
                self.padded = None;
            }
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = (HEADER - self.header_len).min(bytes.len());
            self.header[self.header_len..self.header_len + wanted].copy_from_slice(&bytes[..wanted]);
            self.header_len += wanted;
            bytes = &bytes[wanted..];
            if self.header_len == HEADER {
                self.frame();
                self.header_len = 0;
            }
        }
    }

    fn data(&self, bytes: u32) {
        self.connection.http2_body_bytes.fetch_add(bytes.into(), Relaxed);
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = length as usize;
        match kind {
            DATA if flags & PADDED != 0 && length > 0 => self.padded = Some(length),
            DATA => self.data(length),
            RST_STREAM => {
                self.counts.resets.fetch_add(1, Relaxed);
            }
            PRIORITY | SETTINGS | PING => {
                self.counts.control.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientAddr;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut stream = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (kind, length) in [(SETTINGS, 6u8), (DATA, 200), (RST_STREAM, 4), (PING, 8), (DATA, 0), (DATA, 5), (1, 77)]
        {
            stream.extend([0, 0, length, kind, 0, 0, 0, 0, 1]);
            // Payload bytes that look like frames must not count.
            stream.extend(std::iter::repeat_n(RST_STREAM, length.into()));
        }
        // Ten bytes of payload: a pad length of 3, six of data, three of padding.
        stream.extend([0, 0, 10, DATA, PADDED, 0, 0, 0, 1, 3]);
        stream.extend([RST_STREAM; 9]);
        for cut in 1..stream.len() {
            let connection = Arc::new(Connection::new(ClientAddr::new([127, 0, 0, 1].into()), Arc::default(), None));
            let counts = Arc::new(Http2Counts::default());
            let mut meter = Http2Meter::new(connection.clone(), counts.clone());
            stream.chunks(cut).for_each(|piece| meter.read(piece));
            assert_eq!((counts.take(), connection.http2_body_bytes.load(Relaxed)), ((1, 2), 211), "cut at {cut}");
            assert_eq!(counts.take(), (0, 0));
        }
    }
}
