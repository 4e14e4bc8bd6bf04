//! Messages compressed with permessage-deflate (RFC 7692): what was agreed in the 101, and how to inflate them.

use flate2::{Decompress, FlushDecompress, Status};
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_EXTENSIONS};

use super::message::{MESSAGE_MAX, Unreadable};

/// permessage-deflate as a 101 has agreed on it. The windows' sizes are checked and forgotten: a window of 15 bits reads
/// what was written with a smaller one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deflate {
    /// Each message of the client's begins with an empty window.
    pub client_no_context_takeover: bool,
    /// Each message of the upstream's begins with an empty window.
    pub server_no_context_takeover: bool,
}

/// A 101 agrees on something that the gate cannot read: the upgrade must be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer agrees on a WebSocket extension other than permessage-deflate")]
pub struct Unsupported;

/// What the `Sec-WebSocket-Extensions` of a 101 agrees on; `None` for no extension at all.
///
/// Whatever is not exactly one valid permessage-deflate is an error: bytes under an unknown extension mean nothing here,
/// so nobody could say what passes.
pub fn negotiated(value: Option<&HeaderValue>) -> Result<Option<Deflate>, Unsupported> {
    let Some(value) = value else { return Ok(None) };
    let mut parts = value.to_str().map_err(|_| Unsupported)?.split(';').map(trim);
    match parts.next() {
        Some(name) if name.eq_ignore_ascii_case("permessage-deflate") => parameters(parts).map(Some),
        // An empty value names no extension (RFC 7230 section 7 lets a list's elements be empty).
        Some("") if parts.next().is_none() => Ok(None),
        _ => Err(Unsupported),
    }
}

/// [`negotiated`] for the head of an answer, which may hold that field once (RFC 6455 section 11.3.2).
pub fn negotiated_in(headers: &HeaderMap) -> Result<Option<Deflate>, Unsupported> {
    let mut values = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    match (values.next(), values.next()) {
        (value, None) => negotiated(value),
        (_, Some(_)) => Err(Unsupported),
    }
}

/// Each of the four may come once (RFC 7692 section 7.1).
fn parameters<'a>(parameters: impl Iterator<Item = &'a str>) -> Result<Deflate, Unsupported> {
    let mut deflate = Deflate::default();
    let (mut server_bits, mut client_bits) = (false, false);
    for parameter in parameters {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (trim(name), Some(trim(value))),
            None => (parameter, None),
        };
        let (seen, is_valid) = match name.to_ascii_lowercase().as_str() {
            "server_no_context_takeover" => (&mut deflate.server_no_context_takeover, value.is_none()),
            "client_no_context_takeover" => (&mut deflate.client_no_context_takeover, value.is_none()),
            "server_max_window_bits" => (&mut server_bits, value.is_some_and(is_window)),
            "client_max_window_bits" => (&mut client_bits, value.is_some_and(is_window)),
            _ => return Err(Unsupported),
        };
        if *seen || !is_valid {
            return Err(Unsupported);
        }
        *seen = true;
    }
    Ok(deflate)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// 8 to 15, as a token or a quoted string, without leading zeros.
fn is_window(value: &str) -> bool {
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    matches!(bare, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
}

/// What a sender takes off the end of each message (RFC 7692 section 7.2.1).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Inflates the messages of one direction, in order. From the first compressed message on it costs some 9 KiB, and up to
/// 40 KiB when its window is full.
pub(super) struct Inflater {
    no_context_takeover: bool,
    inflate: Option<Decompress>,
}

impl Inflater {
    pub fn new(no_context_takeover: bool) -> Self {
        Self { no_context_takeover, inflate: None }
    }

    /// One whole message; at most [`MESSAGE_MAX`] bytes, and never much more than that while at work.
    pub fn inflate(&mut self, compressed: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let no_context_takeover = self.no_context_takeover;
        let inflate = self.inflate.get_or_insert_with(|| Decompress::new(false));
        let mut message = Vec::new();
        for input in [compressed, &TAIL] {
            feed(inflate, input, &mut message)?;
        }
        if no_context_takeover {
            inflate.reset(false);
        }
        Ok(message)
    }
}

fn feed(inflate: &mut Decompress, mut input: &[u8], message: &mut Vec<u8>) -> Result<(), Unreadable> {
    loop {
        if message.len() == message.capacity() {
            message.reserve_exact(message.len().clamp(1024, MESSAGE_MAX / 4));
        }
        let (taken, made) = (inflate.total_in(), message.len());
        let status = inflate.decompress_vec(input, message, FlushDecompress::Sync).map_err(|_| Unreadable::Deflate)?;
        let taken = usize::try_from(inflate.total_in() - taken).unwrap_or(usize::MAX);
        input = input.get(taken..).unwrap_or_default();
        if message.len() > MESSAGE_MAX {
            return Err(Unreadable::TooLong);
        }
        let is_stuck = taken == 0 && message.len() == made;
        match status {
            // A final block ends the whole stream, and what stands behind it is read by some and skipped by others.
            // Nobody sends one; a message that two parsers read differently must not pass.
            Status::StreamEnd => return Err(Unreadable::Deflate),
            Status::Ok | Status::BufError if input.is_empty() && message.len() < message.capacity() => return Ok(()),
            Status::Ok | Status::BufError if is_stuck => return Err(Unreadable::Deflate),
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::super::fixtures::Deflater;
    use super::*;

    #[test]
    fn only_what_can_be_read_is_agreed_to() {
        let plain = Deflate::default();
        let server = Deflate { server_no_context_takeover: true, ..plain };
        let both = Deflate { client_no_context_takeover: true, ..server };
        let rows = [
            ("", Ok(None)),
            ("permessage-deflate", Ok(Some(plain))),
            (" Permessage-Deflate ", Ok(Some(plain))),
            ("permessage-deflate; server_no_context_takeover", Ok(Some(server))),
            ("permessage-deflate;client_no_context_takeover ;\tserver_no_context_takeover", Ok(Some(both))),
            ("permessage-deflate; server_max_window_bits=8; client_max_window_bits = \"15\"", Ok(Some(plain))),
            ("permessage-deflate; server_max_window_bits=7", Err(Unsupported)),
            ("permessage-deflate; server_max_window_bits=16", Err(Unsupported)),
            ("permessage-deflate; server_max_window_bits=08", Err(Unsupported)),
            ("permessage-deflate; client_max_window_bits", Err(Unsupported)),
            ("permessage-deflate; server_no_context_takeover=1", Err(Unsupported)),
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", Err(Unsupported)),
            ("permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", Err(Unsupported)),
            ("permessage-deflate; mystery", Err(Unsupported)),
            ("permessage-deflate;", Err(Unsupported)),
            ("permessage-deflate, permessage-deflate", Err(Unsupported)),
            ("permessage-bzip2", Err(Unsupported)),
            ("x-webkit-deflate-frame", Err(Unsupported)),
            (";", Err(Unsupported)),
        ];
        for (value, expected) in rows {
            assert_eq!(negotiated(Some(&HeaderValue::from_static(value))), expected, "{value}");
        }
        assert_eq!(negotiated(None), Ok(None));
        assert_eq!(negotiated(Some(&HeaderValue::from_bytes(b"permessage-deflate\xff").unwrap())), Err(Unsupported));
    }

    #[test]
    fn the_field_may_come_once() {
        let mut headers = HeaderMap::new();
        assert_eq!(negotiated_in(&headers), Ok(None));
        headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static("permessage-deflate"));
        assert_eq!(negotiated_in(&headers), Ok(Some(Deflate::default())));
        headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(""));
        assert_eq!(negotiated_in(&headers), Err(Unsupported));
    }

    #[test]
    fn a_later_message_leans_on_an_earlier_one() {
        let text = b"{\"type\":\"auth\",\"access_token\":\"a rather long one that comes twice\"}";
        let mut deflater = Deflater::new(false, 15);
        let (first, second) = (deflater.message(text), deflater.message(text));
        assert!(second.len() < first.len() / 2);
        let mut inflater = Inflater::new(false);
        assert_eq!(inflater.inflate(&first).unwrap(), text);
        assert_eq!(inflater.inflate(&second).unwrap(), text);
        assert!(Inflater::new(false).inflate(&second).is_err());
    }

    #[test]
    fn a_bomb_is_given_up_at_the_bound() {
        let mut deflater = Deflater::new(false, 15);
        let most = deflater.message(&vec![b'a'; MESSAGE_MAX]);
        assert_eq!(Inflater::new(false).inflate(&most).unwrap().len(), MESSAGE_MAX);
        let mut deflater = Deflater::new(false, 15);
        let bomb = deflater.message(&vec![b'a'; MESSAGE_MAX + 1]);
        assert_eq!(Inflater::new(false).inflate(&bomb), Err(Unreadable::TooLong));
        let mut deflater = Deflater::new(false, 15);
        let bomb = deflater.message(&vec![b'a'; 40 << 20]);
        assert!(bomb.len() <= MESSAGE_MAX, "{}", bomb.len());
        assert_eq!(Inflater::new(false).inflate(&bomb), Err(Unreadable::TooLong));
    }

    #[test]
    fn a_stream_that_ends_itself_is_refused() {
        let mut compress = Compress::new(Compression::default(), false);
        let mut ended = Vec::with_capacity(1024);
        compress.compress_vec(b"{}", &mut ended, FlushCompress::Finish).unwrap();
        assert_eq!(Inflater::new(false).inflate(&ended), Err(Unreadable::Deflate));
        ended.push(0);
        assert_eq!(Inflater::new(false).inflate(&ended), Err(Unreadable::Deflate));
    }

    proptest! {
        #[test]
        fn what_was_deflated_is_inflated(
            messages in proptest::collection::vec(proptest::collection::vec(0u8..8, 0..5000), 1..5),
            no_context_takeover: bool,
            bits in 9u8..=15,
        ) {
            let mut deflater = Deflater::new(no_context_takeover, bits);
            let mut inflater = Inflater::new(no_context_takeover);
            for message in messages {
                prop_assert_eq!(inflater.inflate(&deflater.message(&message)).unwrap(), message);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic_nor_grow(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut inflater = Inflater::new(false);
            if let Ok(message) = inflater.inflate(&bytes) {
                prop_assert!(message.len() <= MESSAGE_MAX);
            }
        }
    }
}
