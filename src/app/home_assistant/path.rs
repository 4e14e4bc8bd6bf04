//! A path as Home Assistant reads it, and whether anybody else could read it otherwise.
//!
//! aiohttp decodes percent-encoding once and matches the result, case and all. Published ways around a check in front
//! of it lived in what is decoded twice, resolved later or cut off earlier: dot segments, encoded slashes, tabs. No
//! client of Home Assistant's sends any of these, so they are told by their [`Spelling`] and not repaired.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Whether all parsers read a path alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    Plain,
    /// `.` and `..` segments, empty segments, encoded slashes, backslashes, `;`, control bytes, a percent sign that is
    /// encoded itself or begins no sequence, bytes that are no UTF-8; each raw or encoded.
    Odd,
}

/// A path, decoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<'a> {
    pub text: Cow<'a, str>,
    pub spelling: Spelling,
}

/// Decodes `path`, which has no query. What is no UTF-8 becomes U+FFFD, and is odd.
pub fn decode(path: &str) -> Path<'_> {
    let decoded = percent_decode_str(path);
    match decoded.clone().decode_utf8() {
        Err(_) => Path { text: decoded.decode_utf8_lossy(), spelling: Spelling::Odd },
        Ok(text) => {
            let is_odd = !path.starts_with('/') || has_odd_escapes(path) || has_odd_signs(&text) || has_detours(&text);
            Path { text, spelling: if is_odd { Spelling::Odd } else { Spelling::Plain } }
        }
    }
}

/// `%2F`, `%25`, and what is no escape at all.
fn has_odd_escapes(path: &str) -> bool {
    let bytes = path.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut signs = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    signs.any(|(at, _)| matches!((digit(at + 1), digit(at + 2)), (None, _) | (_, None) | (Some(2), Some(0xF | 5))))
}

/// Raw or encoded: what ends a path, a parameter or a line somewhere else.
fn has_odd_signs(text: &str) -> bool {
    text.chars().any(|sign| sign.is_control() || matches!(sign, '\\' | ';'))
}

/// Segments that lead elsewhere, also where blanks around them are cut off.
fn has_detours(text: &str) -> bool {
    let mut segments = text.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_empty = segment.is_empty() && segments.peek().is_some();
        if is_empty || matches!(segment.trim(), "." | "..") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_clients_send_is_plain() {
        for (path, expected) in [
            ("/", "/"),
            ("/auth/token", "/auth/token"),
            ("/%61uth/token", "/auth/token"),
            ("/lovelace/", "/lovelace/"),
            ("/media/local/My%20Song%20(1).mp3", "/media/local/My Song (1).mp3"),
            ("/media/local/Caf%C3%A9.mp3", "/media/local/Café.mp3"),
            ("/media/local/Café.mp3", "/media/local/Café.mp3"),
            ("/media/local/a+b@c:d,e=f&g.mp3", "/media/local/a+b@c:d,e=f&g.mp3"),
            ("/media/local/what%3F.mp3", "/media/local/what?.mp3"),
            ("/media/local/...and%20more.mp3", "/media/local/...and more.mp3"),
            ("/.well-known/change-password", "/.well-known/change-password"),
            ("/api/image/serve/..x/y..", "/api/image/serve/..x/y.."),
        ] {
            assert_eq!(decode(path), Path { text: expected.into(), spelling: Spelling::Plain }, "{path}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_odd() {
        let odd = [
            "",
            "*",
            "api/states",
            "/..",
            "/.",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/a/%2e%2e/b",
            "/a/.%2E/b",
            "/a/%2e/b",
            "/a/..%20/b",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a\0",
            "/a%09b",
            "/a\tb",
            "/a%0d%0ab",
            "/a%7f",
            "/a%C2%85",
            "/a%25",
            "/a%252e",
            "/a%2525",
            "/100%",
            "/a%2",
            "/a%zz",
            "/a%u0041",
            "/a%FF",
            "/a%C3",
            "/a;b",
            "/a%3Bb",
        ];
        for path in odd {
            assert_eq!(decode(path).spelling, Spelling::Odd, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(path in ".{0,60}") {
            decode(&path);
        }

        /// A naive model: whatever is left of an odd sign after decoding twice, the path was odd.
        #[test]
        fn nothing_plain_changes_when_it_is_decoded_again_or_resolved(path in "/[a-z0-9%./;\\\\ 2EeFf5Cc]{0,24}") {
            let once = decode(&path);
            if once.spelling == Spelling::Plain {
                let twice = percent_decode_str(&once.text).decode_utf8_lossy().into_owned();
                prop_assert_eq!(&twice, &*once.text);
                let last = twice.split('/').count() - 1;
                for (at, segment) in twice.split('/').enumerate().skip(1) {
                    prop_assert!(!matches!(segment, "." | "..") && (at == last || !segment.is_empty()));
                }
                prop_assert_eq!(path.matches('/').count(), twice.matches('/').count());
            }
        }
    }
}
