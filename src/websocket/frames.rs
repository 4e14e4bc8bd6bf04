//! Frame boundaries of a WebSocket stream (RFC 6455 section 5.2), found without keeping any of it.

/// Follows one direction of a stream and knows whether it stands between two frames.
#[derive(Debug, Default)]
pub struct Boundary {
    /// Bytes of the current frame's payload (and mask) still to come.
    payload_left: u64,
    header: [u8; 14],
    header_len: usize,
    close_seen: bool,
}

const OPCODE_CLOSE: u8 = 0x8;

impl Boundary {
    /// Takes note of bytes that passed.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skip = usize::try_from(self.payload_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload_left -= skip as u64;
                bytes = &bytes[skip..];
                continue;
            }
            self.header[self.header_len] = bytes[0];
            self.header_len += 1;
            bytes = &bytes[1..];
            if let Some(payload) = self.payload_of_complete_header() {
                self.close_seen |= self.header[0] & 0x0f == OPCODE_CLOSE;
                self.payload_left = payload;
                self.header_len = 0;
            }
        }
    }

    /// Whether the last byte seen was the last of a frame.
    pub fn is_between_frames(&self) -> bool {
        self.payload_left == 0 && self.header_len == 0
    }

    /// Whether a close frame has passed; nothing may follow it.
    pub fn is_closed(&self) -> bool {
        self.close_seen
    }

    /// The payload length, once the header with its extended length and mask is complete.
    fn payload_of_complete_header(&self) -> Option<u64> {
        let second = *self.header[..self.header_len].get(1)?;
        let mask_len = if second & 0x80 == 0 { 0 } else { 4 };
        let extended_len = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.header_len < 2 + extended_len + mask_len {
            return None;
        }
        let extended = &self.header[2..2 + extended_len];
        Some(match extended_len {
            0 => u64::from(second & 0x7f),
            _ => extended.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        })
    }
}

/// An unmasked close frame with a status code, as a server sends it (RFC 6455 section 7.4.1).
pub fn close_frame(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x80 | OPCODE_CLOSE, 2, high, low]
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
