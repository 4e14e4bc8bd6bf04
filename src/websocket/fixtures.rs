//! Frames and compressed messages as browsers and Home Assistant write them, for tests.

use flate2::{Compress, Compression, FlushCompress};

use super::deflate::TAIL;
use super::frames::{PING, TEXT};

/// A frame with any first byte; masked when a client writes it.
pub fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(mask_bit | length as u8),
        length @ 126..65536 => {
            frame.push(mask_bit | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(mask_bit | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    if masked {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        frame.extend(key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        frame.extend(payload);
    }
    frame
}

pub const FINAL: u8 = 0x80;
pub const COMPRESSED: u8 = 0x40;

pub fn text(masked: bool, text: &str) -> Vec<u8> {
    frame(FINAL | TEXT, masked, text.as_bytes())
}

pub fn ping(masked: bool) -> Vec<u8> {
    frame(FINAL | PING, masked, b"beat")
}

/// One direction's compressor, as a browser or aiohttp has it.
pub struct Deflater {
    compress: Compress,
    no_context_takeover: bool,
}

impl Deflater {
    pub fn new(no_context_takeover: bool, window_bits: u8) -> Self {
        let compress = Compress::new_with_window_bits(Compression::default(), false, window_bits);
        Self { compress, no_context_takeover }
    }

    pub fn message(&mut self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + 1024);
        self.compress.compress_vec(text, &mut out, FlushCompress::Sync).unwrap();
        if out.is_empty() {
            return vec![0]; // behind a flush, zlib has nothing to add for an empty message (RFC 7692 section 7.2.3.6)
        }
        assert!(out.len() < out.capacity() && out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        if self.no_context_takeover {
            self.compress.reset();
        }
        out
    }

    /// A whole compressed text frame.
    pub fn text(&mut self, masked: bool, text: &str) -> Vec<u8> {
        frame(FINAL | COMPRESSED | TEXT, masked, &self.message(text.as_bytes()))
    }
}
