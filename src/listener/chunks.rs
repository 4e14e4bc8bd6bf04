//! The beginning of a chunked body (RFC 9112 section 7.1), looked at before anyone behind the gate sees it.

use crate::denial::Denial;

/// How far a chunked body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunks {
    /// Well formed so far.
    Partial,
    /// The last chunk and its trailers are there.
    Complete,
}

/// The longest line between two chunks: a size and its extensions, or a trailer.
const LINE_MAX: usize = 1024;
/// 2^60 bytes; longer sizes overflow somewhere.
const SIZE_DIGITS: usize = 15;

/// Walks the chunks in `bytes`, from the first byte of the body. Anything but CRLF, a hexadecimal size and visible
/// extensions is refused: chunk lines that two programs read differently smuggle requests.
pub fn scan(mut bytes: &[u8]) -> Result<Chunks, Denial> {
    loop {
        let Some((line, rest)) = line(bytes)? else { return Ok(Chunks::Partial) };
        let size = size(line)?;
        if size == 0 {
            return trailers(rest);
        }
        let Some(rest) = usize::try_from(size).ok().and_then(|size| rest.get(size..)) else {
            return Ok(Chunks::Partial);
        };
        match rest {
            [b'\r', b'\n', next @ ..] => bytes = next,
            [] | [b'\r'] => return Ok(Chunks::Partial),
            _ => return Err(Denial::Malformed),
        }
    }
}

fn trailers(mut bytes: &[u8]) -> Result<Chunks, Denial> {
    loop {
        match line(bytes)? {
            None => return Ok(Chunks::Partial),
            Some(([], _)) => return Ok(Chunks::Complete),
            Some((_, rest)) => bytes = rest,
        }
    }
}

/// A line without its CRLF, and what follows it.
type Line<'a> = (&'a [u8], &'a [u8]);

/// The first line, if it is complete.
fn line(bytes: &[u8]) -> Result<Option<Line<'_>>, Denial> {
    match bytes.iter().position(|b| !matches!(b, b'\t' | 0x20..=0x7e)) {
        None if bytes.len() > LINE_MAX => Err(Denial::Malformed),
        None => Ok(None),
        Some(end) => match &bytes[end..] {
            [b'\r', b'\n', rest @ ..] if end <= LINE_MAX => Ok(Some((&bytes[..end], rest))),
            [b'\r'] => Ok(None),
            _ => Err(Denial::Malformed),
        },
    }
}

fn size(line: &[u8]) -> Result<u64, Denial> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let well_formed = (1..=SIZE_DIGITS).contains(&digits) && matches!(line.get(digits), None | Some(b';'));
    let hex = std::str::from_utf8(&line[..digits]).ok().filter(|_| well_formed);
    hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()).ok_or(Denial::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn well_formed_chunks_are_followed_to_their_end() {
        for (body, expected) in [
            ("", Chunks::Partial),
            ("5", Chunks::Partial),
            ("5\r", Chunks::Partial),
            ("5\r\nab", Chunks::Partial),
            ("5\r\nabcde", Chunks::Partial),
            ("5\r\nabcde\r\n", Chunks::Partial),
            ("5\r\nabcde\r\n0\r\n", Chunks::Partial),
            ("5\r\nabcde\r\n0\r\n\r\n", Chunks::Complete),
            ("0\r\n\r\n", Chunks::Complete),
            ("A;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\n", Chunks::Complete),
            ("2\r\n\r\n\r\n0\r\n\r\n", Chunks::Complete),
        ] {
            assert_eq!(scan(body.as_bytes()), Ok(expected), "{body:?}");
        }
    }

    #[test]
    fn chunks_that_could_be_read_two_ways_are_refused() {
        for body in [
            "x\r\n",
            "\r\n",
            "5\n",
            "5 \r\n",
            " 5\r\n",
            "+5\r\n",
            "0x5\r\n",
            "5\rx",
            "5\r\nabcdeX",
            "5\r\nabcde\n",
            "5;\x01\r\n",
            "5;\u{e9}\r\n",
            "1000000000000000\r\n",
            "0\r\nX: a\n\r\n",
        ] {
            assert_eq!(scan(body.as_bytes()), Err(Denial::Malformed), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&bytes);
        }

        /// A body that is complete when it is whole is at no earlier point refused or complete.
        #[test]
        fn a_well_formed_body_is_partial_until_its_end(pieces in proptest::collection::vec("[a-z\r\n]{1,40}", 0..5)) {
            let mut body = String::new();
            for piece in &pieces {
                body.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
            }
            body.push_str("0\r\n\r\n");
            for end in 0..body.len() {
                prop_assert_eq!(scan(&body.as_bytes()[..end]), Ok(Chunks::Partial));
            }
            prop_assert_eq!(scan(body.as_bytes()), Ok(Chunks::Complete));
        }
    }
}
