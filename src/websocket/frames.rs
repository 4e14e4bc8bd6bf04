//! Frame boundaries of a WebSocket stream (RFC 6455 section 5.2), found without keeping any of it.

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

/// What stands before a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The frame is the last of its message.
    pub is_final: bool,
    /// RSV1, RSV2 and RSV3, from the highest of three bits down.
    pub reserved: u8,
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    pub payload: u64,
    /// The length is written in as few bytes as it can be, which is a rule of the RFC's.
    pub is_shortest: bool,
}

impl Header {
    pub fn is_control(&self) -> bool {
        self.opcode & 0x8 != 0
    }
}

/// Collects a header, which may come byte by byte.
#[derive(Debug, Default)]
pub struct HeaderReader {
    bytes: [u8; 14],
    len: usize,
}

impl HeaderReader {
    /// Takes one byte; the header when that was its last.
    pub fn push(&mut self, byte: u8) -> Option<Header> {
        self.bytes[self.len] = byte;
        self.len += 1;
        let header = self.complete()?;
        self.len = 0;
        Some(header)
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn complete(&self) -> Option<Header> {
        let bytes = &self.bytes[..self.len];
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (extended_len, least) = match second & 0x7f {
            126 => (2, 126),
            127 => (8, 1 << 16),
            _ => (0, 0),
        };
        let extended = bytes.get(2..2 + extended_len)?;
        let mask = match second & 0x80 {
            0 => None,
            _ => Some(bytes.get(2 + extended_len..)?.first_chunk().copied()?),
        };
        let payload = match extended_len {
            0 => u64::from(second & 0x7f),
            _ => extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        Some(Header {
            is_final: first & 0x80 != 0,
            reserved: first >> 4 & 0x7,
            opcode: first & 0x0f,
            mask,
            payload,
            is_shortest: payload >= least,
        })
    }
}

/// Follows one direction of a stream and knows whether it stands between two frames.
#[derive(Debug, Default)]
pub struct Boundary {
    /// Bytes of the current frame's payload still to come.
    payload_left: u64,
    header: HeaderReader,
    close_seen: bool,
}

impl Boundary {
    /// Takes note of bytes that passed.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let skip = usize::try_from(self.payload_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload_left -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            bytes = rest;
            if let Some(header) = self.header.push(*first) {
                self.close_seen |= header.opcode == CLOSE;
                self.payload_left = header.payload;
            }
        }
    }

    /// Whether the last byte seen was the last of a frame.
    pub fn is_between_frames(&self) -> bool {
        self.payload_left == 0 && self.header.is_empty()
    }

    /// Whether a close frame has passed; nothing may follow it.
    pub fn is_closed(&self) -> bool {
        self.close_seen
    }
}

/// An unmasked close frame with a status code, as a server sends it (RFC 6455 section 7.4.1).
pub fn close_frame(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x80 | CLOSE, 2, high, low]
}

/// An unmasked text frame, as a server sends it; not compressed, which is legal under any extension.
pub fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x80 | TEXT];
    match text.len() {
        length @ 0..126 => frame.push(length as u8),
        length @ 126..65536 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, masked: bool, payload: usize) -> Vec<u8> {
        let mask_bit = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match payload {
            0..126 => frame.push(mask_bit | payload as u8),
            126..65536 => {
                frame.push(mask_bit | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask_bit | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend(std::iter::repeat_n(7, if masked { 4 } else { 0 } + payload));
        frame
    }

    #[test]
    fn a_close_frame_is_recognised_and_a_text_that_looks_like_one_is_not() {
        let mut boundary = Boundary::default();
        let mut text = frame(1, false, 4);
        text[2..].copy_from_slice(&close_frame(1000));
        boundary.advance(&text);
        assert!(!boundary.is_closed() && boundary.is_between_frames());
        boundary.advance(&close_frame(1000));
        assert!(boundary.is_closed() && boundary.is_between_frames());
    }

    #[test]
    fn a_header_is_read_with_all_that_it_says() {
        let read = |bytes: &[u8]| {
            let mut reader = HeaderReader::default();
            let (last, before) = bytes.split_last().unwrap();
            assert!(before.iter().all(|byte| reader.push(*byte).is_none()), "{bytes:x?}");
            reader.push(*last).unwrap()
        };
        let plain = Header { is_final: true, reserved: 0, opcode: 1, mask: None, payload: 5, is_shortest: true };
        assert_eq!(read(&[0x81, 5]), plain);
        assert_eq!(read(&[0xc1, 0x85, 1, 2, 3, 4]), Header { reserved: 4, mask: Some([1, 2, 3, 4]), ..plain });
        assert_eq!(read(&[0x01, 126, 0, 126]), Header { is_final: false, payload: 126, ..plain });
        assert_eq!(read(&[0x81, 126, 0, 125]), Header { payload: 125, is_shortest: false, ..plain });
        assert_eq!(read(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Header { payload: 65536, ..plain });
        assert!(!read(&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255]).is_shortest);
    }

    #[test]
    fn a_text_frame_says_its_length() {
        for length in [0, 125, 126, 65535, 65536] {
            let frame = text_frame(&"x".repeat(length));
            let mut boundary = Boundary::default();
            boundary.advance(&frame[..frame.len() - 1]);
            assert!(!boundary.is_between_frames(), "{length}");
            boundary.advance(&frame[frame.len() - 1..]);
            assert!(boundary.is_between_frames(), "{length}");
        }
    }

    proptest! {
        /// However the stream is cut, a boundary is seen exactly where a frame ended.
        #[test]
        fn boundaries_are_found_in_any_fragmentation(
            frames in proptest::collection::vec((any::<bool>(), prop_oneof![0usize..300, 65530usize..65600]), 1..6),
            cuts in proptest::collection::vec(1usize..5000, 1..40),
        ) {
            let mut stream = Vec::new();
            let mut ends = vec![0];
            for (masked, payload) in frames {
                stream.extend(frame(2, masked, payload));
                ends.push(stream.len());
            }
            let mut boundary = Boundary::default();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let next = (at + cut).min(stream.len());
                boundary.advance(&stream[at..next]);
                at = next;
                prop_assert_eq!(boundary.is_between_frames(), ends.contains(&at));
                if at == stream.len() { break }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut boundary = Boundary::default();
            boundary.advance(&bytes);
            boundary.advance(&bytes);
        }
    }
}
