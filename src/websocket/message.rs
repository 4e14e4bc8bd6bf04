//! The messages in one direction of a WebSocket, read as the bytes come and within bounds.
//!
//! Stricter than most readers, on purpose: what two programs could read differently is an error here, so that what was
//! judged is what the upstream sees. It keeps the message in hand and, under permessage-deflate, one window.

use super::deflate::Inflater;
use super::frames::{BINARY, CLOSE, CONTINUATION, Header, HeaderReader, PING, PONG, TEXT};

/// No message is longer, compressed or inflated. A login's are some hundred bytes; Home Assistant's own bound is the same.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// No reader passes over more pings and pongs.
pub const CONTROLS_MAX: u32 = 32;

/// Who writes a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Its frames are masked.
    Client,
    /// Its frames are not.
    Server,
}

/// What a direction says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    Text(String),
    Binary,
    /// A close frame; nothing may follow it.
    Close,
}

/// Why a direction cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("a frame breaks the rules of RFC 6455")]
    Protocol,
    #[error("a compressed message breaks the rules of RFC 7692")]
    Deflate,
    #[error("a text is not UTF-8")]
    NotUtf8,
    #[error("a message is longer than {MESSAGE_MAX} bytes")]
    TooLong,
    #[error("more than {CONTROLS_MAX} control frames")]
    TooManyControls,
}

/// Reads one direction.
pub(super) struct Reader {
    writer: Writer,
    /// Present when permessage-deflate has been agreed on.
    inflater: Option<Inflater>,
    header: HeaderReader,
    frame: Option<Frame>,
    message: Option<Message>,
    controls: u32,
}

/// The frame whose payload comes.
struct Frame {
    header: Header,
    /// Payload bytes that have come.
    seen: usize,
}

/// The message whose frames come.
struct Message {
    is_text: bool,
    is_compressed: bool,
    payload: Vec<u8>,
}

const RSV1: u8 = 0b100;
const CONTROL_PAYLOAD_MAX: u64 = 125;

impl Reader {
    pub fn new(writer: Writer, inflater: Option<Inflater>) -> Self {
        let header = HeaderReader::default();
        Self { writer, inflater, header, frame: None, message: None, controls: 0 }
    }

    /// Reads until something has been said; also how many of `bytes` that took, to the last byte of its last frame.
    /// Without an item all of them were taken.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(usize, Option<Item>), Unreadable> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.frame.is_some() {
                at += self.payload(&bytes[at..]);
            } else {
                at += 1;
                if let Some(header) = self.header.push(byte) {
                    self.begin(header)?;
                }
            }
            let item = self.end_of_frame()?;
            if item.is_some() {
                return Ok((at, item));
            }
        }
        Ok((at, None))
    }

    /// Checks a header, and makes room for what it announces.
    fn begin(&mut self, header: Header) -> Result<(), Unreadable> {
        let is_masked_right = header.mask.is_some() == (self.writer == Writer::Client);
        if !is_masked_right || !header.is_shortest {
            return Err(Unreadable::Protocol);
        }
        match header.opcode {
            TEXT | BINARY => self.begin_message(&header)?,
            CONTINUATION if self.message.is_none() || header.reserved != 0 => return Err(Unreadable::Protocol),
            CONTINUATION => {}
            CLOSE | PING | PONG => self.begin_control(&header)?,
            _ => return Err(Unreadable::Protocol),
        }
        let so_far = self.message.as_ref().map_or(0, |message| message.payload.len()) as u64;
        if !header.is_control() && header.payload.saturating_add(so_far) > MESSAGE_MAX as u64 {
            return Err(Unreadable::TooLong);
        }
        self.frame = Some(Frame { header, seen: 0 });
        Ok(())
    }

    fn begin_message(&mut self, header: &Header) -> Result<(), Unreadable> {
        let is_compressed = header.reserved == RSV1 && self.inflater.is_some();
        if self.message.is_some() || (header.reserved != 0 && !is_compressed) {
            return Err(Unreadable::Protocol);
        }
        self.message = Some(Message { is_text: header.opcode == TEXT, is_compressed, payload: Vec::new() });
        Ok(())
    }

    fn begin_control(&mut self, header: &Header) -> Result<(), Unreadable> {
        if !header.is_final || header.reserved != 0 || header.payload > CONTROL_PAYLOAD_MAX {
            return Err(Unreadable::Protocol);
        }
        // aiohttp 3.11 forgets over a control frame that the fragments around it are compressed, and would read another
        // text than we do. Nobody sends a login like that.
        if self.writer == Writer::Client && self.message.as_ref().is_some_and(|message| message.is_compressed) {
            return Err(Unreadable::Protocol);
        }
        self.controls += 1;
        if self.controls > CONTROLS_MAX { Err(Unreadable::TooManyControls) } else { Ok(()) }
    }

    /// Takes payload of the frame in hand; how much.
    fn payload(&mut self, bytes: &[u8]) -> usize {
        let Some(frame) = &mut self.frame else { return 0 };
        // Checked in `begin`: no payload is longer than a message.
        let left = usize::try_from(frame.header.payload).unwrap_or(usize::MAX) - frame.seen;
        let taken = left.min(bytes.len());
        if let Some(message) = self.message.as_mut().filter(|_| !frame.header.is_control()) {
            let mask = frame.header.mask.unwrap_or_default();
            let key = mask.iter().cycle().skip(frame.seen % 4);
            message.payload.extend(bytes[..taken].iter().zip(key).map(|(byte, key)| byte ^ key));
        }
        frame.seen += taken;
        taken
    }

    /// What has been said by a frame of which everything has come.
    fn end_of_frame(&mut self) -> Result<Option<Item>, Unreadable> {
        let Some(frame) = self.frame.take_if(|frame| frame.seen as u64 == frame.header.payload) else {
            return Ok(None);
        };
        match frame.header.opcode {
            CLOSE => Ok(Some(Item::Close)),
            PING | PONG => Ok(None),
            _ if !frame.header.is_final => Ok(None),
            _ => self.message.take().map(|message| self.end_of_message(message)).transpose(),
        }
    }

    fn end_of_message(&mut self, message: Message) -> Result<Item, Unreadable> {
        let payload = match &mut self.inflater {
            // A binary message is inflated as well: later ones may lean on it.
            Some(inflater) if message.is_compressed => inflater.inflate(&message.payload)?,
            _ => message.payload,
        };
        if !message.is_text {
            return Ok(Item::Binary);
        }
        String::from_utf8(payload).map(Item::Text).map_err(|_| Unreadable::NotUtf8)
    }
}

#[cfg(test)]
mod tests;
