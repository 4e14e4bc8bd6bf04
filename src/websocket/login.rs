//! A WebSocket from its 101 to the verdict on its login, as a state machine over the bytes of both directions.
//!
//! The client's bytes are held from the first one on. When its first message is complete the caller decides, and
//! [`Login::release`] gives that message's bytes out, with whatever pings came before it, exactly as they came. What
//! the client sends behind it stays here until the verdict. The upstream's bytes are not held, only read along.

use bytes::BytesMut;

use super::deflate::{Deflate, Inflater};
use super::message::{Item, MESSAGE_MAX, Reader, Unreadable, Writer};

/// No more of a client's bytes are held: a first message of full length, and as much behind it.
pub const HELD_MAX: usize = 2 * MESSAGE_MAX;

/// What a client begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// Its first message; the caller decides about it, and releases it or ends the connection.
    Message(String),
    /// A message that is not text.
    NotText,
    /// A close frame instead of a message.
    Close,
}

/// Both directions until the verdict. Holds at most [`HELD_MAX`] raw bytes of the client's, and of each direction one
/// message and one window.
pub struct Login {
    client: Client,
    upstream: Reader,
    /// Raw bytes of the client's that the upstream has not seen.
    held: BytesMut,
}

enum Client {
    /// Nothing is known yet.
    Opening(Reader),
    /// The first message is complete, and this many of the held bytes.
    Asking(usize),
    /// The upstream has been given the first message.
    Waiting,
}

impl Login {
    pub fn new(deflate: Option<Deflate>) -> Self {
        let client = deflate.map(|deflate| Inflater::new(deflate.client_no_context_takeover));
        let server = deflate.map(|deflate| Inflater::new(deflate.server_no_context_takeover));
        Self {
            client: Client::Opening(Reader::new(Writer::Client, client)),
            upstream: Reader::new(Writer::Server, server),
            held: BytesMut::new(),
        }
    }

    /// How many bytes of the client's may still come; at 0 the caller stops reading.
    pub fn room(&self) -> usize {
        HELD_MAX.saturating_sub(self.held.len())
    }

    /// Takes bytes of the client's, no more than there is [`room`](Self::room) for. Answers once, when its first
    /// message is complete.
    pub fn client_bytes(&mut self, bytes: &[u8]) -> Result<Option<Opening>, Unreadable> {
        let before = self.held.len();
        self.held.extend_from_slice(bytes);
        let Client::Opening(reader) = &mut self.client else { return Ok(None) };
        let (taken, item) = reader.read(bytes)?;
        let Some(item) = item else {
            // A message of legal length in so many frames that it does not fit.
            return if self.room() == 0 { Err(Unreadable::TooLong) } else { Ok(None) };
        };
        self.client = Client::Asking(before + taken);
        Ok(Some(match item {
            Item::Text(text) => Opening::Message(text),
            Item::Binary => Opening::NotText,
            Item::Close => Opening::Close,
        }))
    }

    /// The first message may pass: the bytes to send upstream. Nothing before there is one, and nothing twice.
    pub fn release(&mut self) -> BytesMut {
        let Client::Asking(end) = self.client else { return BytesMut::new() };
        self.client = Client::Waiting;
        self.held.split_to(end)
    }

    /// Whether the upstream has been given a message that it has not judged.
    pub fn is_waiting(&self) -> bool {
        matches!(self.client, Client::Waiting)
    }

    /// Reads along with the upstream up to the end of a text message; also how many of `bytes` that took. Without a
    /// text all of them were taken.
    pub fn upstream_bytes(&mut self, bytes: &[u8]) -> Result<(usize, Option<String>), Unreadable> {
        let mut at = 0;
        while at < bytes.len() {
            let (taken, item) = self.upstream.read(&bytes[at..])?;
            at += taken;
            match item {
                Some(Item::Text(text)) => return Ok((at, Some(text))),
                // Its end follows as the end of the stream.
                Some(Item::Binary | Item::Close) | None => {}
            }
        }
        Ok((at, None))
    }

    /// The verdict has come: what the client has sent and the upstream not seen.
    pub fn into_held(self) -> BytesMut {
        self.held
    }
}

#[cfg(test)]
mod tests;
