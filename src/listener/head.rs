//! The head of an HTTP/1 request, read more strictly than any parser behind the gate reads it.
//!
//! Nothing is repaired: a byte that two programs could understand differently ends the request here (RFC 9112
//! sections 2.2, 3, 5 and 6). What passes is handed on byte for byte.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::denial::Denial;
use crate::request::is_target;
use crate::routing::normal_host;

/// Bounds of one head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes in all.
    pub size: usize,
    /// Bytes of the request target.
    pub uri: usize,
    /// Number of fields.
    pub fields: usize,
}

/// What the connection loop needs to know of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    /// As sent.
    pub target: String,
    pub version: Version,
    /// Host and port as sent.
    pub authority: String,
    /// The host of `authority` in normal form.
    pub host: String,
    pub body: Body,
    /// A WebSocket upgrade, complete enough to be one.
    pub upgrade: bool,
    /// The client waits for a 100 before it sends its body.
    pub expects_continue: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// How the end of a request's body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
}

/// Looks for the end of a head in the bytes so far.
///
/// `scanned` is where the last look ended. Refuses as soon as it is certain, so that a hopeless head does not hold a
/// connection until its deadline.
pub fn find_end(bytes: &[u8], scanned: usize, limits: &HeadLimits) -> Result<Option<usize>, Denial> {
    // httparse behind us skips leading line ends, which would let a head without end look finished.
    if bytes.first().is_some_and(|first| !first.is_ascii_uppercase()) {
        return Err(Denial::Malformed);
    }
    for at in scanned..bytes.len() {
        if bytes[at] != b'\n' {
            continue;
        }
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Denial::Malformed);
        }
        if at >= 3 && &bytes[at - 3..=at] == b"\r\n\r\n" {
            let end = at + 1;
            return if end > limits.size { Err(Denial::HeadSize) } else { Ok(Some(end)) };
        }
    }
    let line_ended = bytes.contains(&b'\n');
    // Method, version and blanks around the target are at most 40 bytes of what we accept.
    if !line_ended && bytes.len() > limits.uri + 40 {
        return Err(Denial::UriLength);
    }
    if bytes.len() >= limits.size {
        return Err(Denial::HeadSize);
    }
    Ok(None)
}

/// Reads a complete head, ending with its empty line.
pub fn parse(bytes: &[u8], limits: &HeadLimits) -> Result<Head, Denial> {
    let mut lines = Lines(bytes);
    let (method, target, version) = request_line(lines.next().ok_or(Denial::Malformed)?, limits)?;
    let mut fields = Fields::default();
    for line in lines {
        if line.is_empty() {
            break;
        }
        fields.count += 1;
        if fields.count > limits.fields {
            return Err(Denial::HeaderCount);
        }
        fields.read(line)?;
    }
    if method == "CONNECT" || method == "TRACE" {
        return Err(Denial::Method);
    }
    let body = fields.body(version)?;
    let authority = fields.host.take().ok_or(Denial::BadHost)?;
    let host = normal_host(&authority).ok_or(Denial::BadHost)?;
    if let Some(target_authority) = absolute_authority(&target) {
        // RFC 9112 section 3.2: a client writes the same in both; Pingora refuses any difference, without a record.
        if target_authority != authority {
            return Err(Denial::BadHost);
        }
    }
    let upgrade = version == Version::Http11 && method == "GET" && body == Body::None && fields.is_websocket_upgrade();
    Ok(Head { method, target, version, authority, host, body, upgrade, expects_continue: fields.expects_continue })
}

/// The fields in which clients show who they are, of a head that was read.
pub fn credentials(bytes: &[u8]) -> HeaderMap {
    let fields = Lines(bytes).skip(1).filter_map(|line| {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        let name = [AUTHORIZATION, COOKIE].into_iter().find(|it| name.eq_ignore_ascii_case(it.as_str().as_bytes()))?;
        Some((name, HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?))
    });
    let mut credentials = HeaderMap::new();
    fields.for_each(|(name, value)| {
        credentials.append(name, value);
    });
    credentials
}

/// Splits at CRLF; the bytes are known to hold no bare LF.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.windows(2).position(|pair| pair == b"\r\n")?;
        let line = &self.0[..end];
        self.0 = &self.0[end + 2..];
        Some(line)
    }
}

fn request_line(line: &[u8], limits: &HeadLimits) -> Result<(String, String, Version), Denial> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Denial::Malformed);
    };
    if target.len() > limits.uri {
        return Err(Denial::UriLength);
    }
    let is_method = (1..=20).contains(&method.len()) && method.iter().all(|b| b.is_ascii_uppercase() || *b == b'-');
    if !is_method {
        return Err(Denial::Malformed);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Denial::Version);
        }
        _ => return Err(Denial::Malformed),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // CONNECT has a target of its own form and is refused by name, not by form.
    if method != b"CONNECT" && !is_target(target, method) {
        return Err(Denial::Malformed);
    }
    Ok((text(method), text(target), version))
}

fn absolute_authority(target: &str) -> Option<&str> {
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"))?;
    rest.split(['/', '?']).next()
}

#[derive(Default)]
struct Fields {
    count: usize,
    host: Option<String>,
    length: Option<u64>,
    chunked: bool,
    upgrade_websocket: bool,
    connection_upgrade: bool,
    websocket_key: bool,
    expects_continue: bool,
}

impl Fields {
    fn read(&mut self, line: &[u8]) -> Result<(), Denial> {
        // No token, hence no line, begins with a blank: a folded field (RFC 9112 section 5.2) fails here.
        let colon = line.iter().position(|b| *b == b':').ok_or(Denial::Malformed)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
            return Err(Denial::Malformed);
        }
        if !value.iter().all(|b| matches!(b, b'\t' | 0x20..=0x7e | 0x80..)) {
            return Err(Denial::Malformed);
        }
        self.note(&name.to_ascii_lowercase(), value)
    }

    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Denial> {
        match name {
            b"host" => {
                let host = std::str::from_utf8(value).map_err(|_| Denial::BadHost)?;
                if self.host.replace(host.to_owned()).is_some() {
                    return Err(Denial::BadHost);
                }
            }
            b"content-length" => {
                // A list of equal values is legal to mend; refusing it is legal too, and simpler to agree on.
                let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
                let length = digits.then(|| value.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')));
                if self.length.replace(length.ok_or(Denial::Malformed)?).is_some() {
                    return Err(Denial::Malformed);
                }
            }
            b"transfer-encoding" => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Denial::Malformed);
                }
                self.chunked = true;
            }
            b"upgrade" => self.upgrade_websocket |= value.eq_ignore_ascii_case(b"websocket"),
            b"connection" => self.connection_upgrade |= has_token(value, b"upgrade"),
            b"sec-websocket-key" => self.websocket_key = true,
            b"expect" => self.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        Ok(())
    }

    fn body(&self, version: Version) -> Result<Body, Denial> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Denial::Malformed),
            (true, None) if version == Version::Http10 => Err(Denial::Malformed),
            (true, None) => Ok(Body::Chunked),
            (false, None | Some(0)) => Ok(Body::None),
            (false, Some(length)) => Ok(Body::Length(length)),
        }
    }

    fn is_websocket_upgrade(&self) -> bool {
        self.upgrade_websocket && self.connection_upgrade && self.websocket_key
    }
}

fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|element| element.trim_ascii().eq_ignore_ascii_case(token))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits { size: 1024, uri: 200, fields: 8 };

    fn read(head: &[u8]) -> Result<Head, Denial> {
        match find_end(head, 0, &LIMITS)? {
            Some(end) => parse(&head[..end], &LIMITS),
            None => panic!("incomplete: {}", head.escape_ascii()),
        }
    }

    fn with_fields(fields: &str) -> Result<Head, Denial> {
        read(format!("POST /x HTTP/1.1\r\nHost: ha.test\r\n{fields}\r\n").as_bytes())
    }

    #[test]
    fn an_ordinary_head_is_read() {
        let head = read(b"GET /a?b=c HTTP/1.1\r\nhOst: HA.test:8443\r\nX: \xc3\xa9\r\n\r\n").unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str(), head.host.as_str()), ("GET", "/a?b=c", "ha.test"));
        assert_eq!((head.version, head.body, head.upgrade), (Version::Http11, Body::None, false));
        assert_eq!(read(b"GET http://ha.test/x HTTP/1.1\r\nHost: ha.test\r\n\r\n").unwrap().host, "ha.test");
        assert!(read(b"OPTIONS * HTTP/1.1\r\nHost: ha.test\r\n\r\n").is_ok());
        assert!(read(b"GET / HTTP/1.0\r\nHost: ha.test\r\n\r\n").is_ok());
    }

    #[test]
    fn request_lines_that_could_be_read_two_ways_are_refused() {
        for line in [
            "GET  / HTTP/1.1",
            "GET / x HTTP/1.1",
            "GET /\tx HTTP/1.1",
            "GET /x",
            "get / HTTP/1.1",
            "GET x HTTP/1.1",
            "GET * HTTP/1.1",
            "GET /a\\b HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /\u{1} HTTP/1.1",
            "GET ftp://ha.test/ HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1.1 ",
        ] {
            let head = format!("{line}\r\nHost: ha.test\r\n\r\n");
            assert_eq!(read(head.as_bytes()), Err(Denial::Malformed), "{line:?}");
        }
        assert_eq!(read(b"GET / HTTP/1.2\r\nHost: ha.test\r\n\r\n"), Err(Denial::Version));
        assert_eq!(read(b"GET / HTTP/3.0\r\nHost: ha.test\r\n\r\n"), Err(Denial::Version));
        assert!(read(b"GET /a%5Cb?q={|}^` HTTP/1.1\r\nHost: ha.test\r\n\r\n").is_ok());
        assert_eq!(read(b"GET /?q=<x> HTTP/1.1\r\nHost: ha.test\r\n\r\n"), Err(Denial::Malformed));
    }

    #[test]
    fn line_ends_are_crlf_only_and_known_bad_at_once() {
        for head in ["GET / HTTP/1.1\nHost: x\n\n", "GET / HTTP/1.1\r\nHost: x\n", "\r\n", "\nGET /", " GET /", "get"] {
            assert_eq!(find_end(head.as_bytes(), 0, &LIMITS), Err(Denial::Malformed), "{head:?}");
        }
        assert_eq!(find_end(b"GET / HTTP/1.1\r\nHost: x\r\n", 0, &LIMITS), Ok(None));
        assert_eq!(with_fields("X: a\rb\r\n"), Err(Denial::Malformed));
    }

    #[test]
    fn fields_are_a_token_a_colon_and_visible_bytes() {
        for field in ["X : a", " X: a", "X", ": a", "X Y: a", "X\": a", "X: a\0b", "X: a\x07", "X: a\r\n folded: b"] {
            assert_eq!(with_fields(&format!("{field}\r\n")), Err(Denial::Malformed), "{field:?}");
        }
        for field in ["X:a", "X: ", "X:\ta b\t", "x-!#$%&'*+.^_`|~: a:b"] {
            assert!(with_fields(&format!("{field}\r\n")).is_ok(), "{field:?}");
        }
    }

    #[test]
    fn exactly_one_host_names_a_host() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", Err(Denial::BadHost)),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Err(Denial::BadHost)),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Err(Denial::BadHost)),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Err(Denial::BadHost)),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(Denial::BadHost)),
            ("GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(Denial::BadHost)),
            ("GET http://a:80/ HTTP/1.1\r\nHost: a:80\r\n\r\n", Ok("a".to_owned())),
            ("GET / HTTP/1.1\r\nHost: A.\r\n\r\n", Ok("a".to_owned())),
        ] {
            assert_eq!(read(head.as_bytes()).map(|h| h.host), expected, "{head:?}");
        }
    }

    #[test]
    fn the_end_of_a_body_is_never_ambiguous() {
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 9223372036854775808\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
        ] {
            assert_eq!(with_fields(fields), Err(Denial::Malformed), "{fields:?}");
        }
        let chunked_in_http10 = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(chunked_in_http10), Err(Denial::Malformed));
        assert_eq!(with_fields("Content-Length: 007\r\n").map(|h| h.body), Ok(Body::Length(7)));
        assert_eq!(with_fields("Content-Length: 0\r\n").map(|h| h.body), Ok(Body::None));
        assert_eq!(with_fields("Transfer-Encoding: Chunked\r\n").map(|h| h.body), Ok(Body::Chunked));
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let uri = |n: usize| read(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n - 1)).as_bytes());
        assert!(uri(200).is_ok());
        assert_eq!(uri(201), Err(Denial::UriLength));
        assert_eq!(find_end(format!("GET /{}", "x".repeat(300)).as_bytes(), 0, &LIMITS), Err(Denial::UriLength));

        let fields = |n: usize| with_fields(&"X: y\r\n".repeat(n - 1));
        assert!(fields(8).is_ok());
        assert_eq!(fields(9), Err(Denial::HeaderCount));

        let sized = |n: usize| {
            let fixed = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
            read(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(n - fixed)).as_bytes())
        };
        assert!(sized(1024).is_ok());
        assert_eq!(sized(1025), Err(Denial::HeadSize));
    }

    #[test]
    fn connect_and_trace_are_refused_by_name() {
        assert_eq!(read(b"CONNECT ha.test:443 HTTP/1.1\r\nHost: ha.test\r\n\r\n"), Err(Denial::Method));
        assert_eq!(read(b"TRACE / HTTP/1.1\r\nHost: ha.test\r\n\r\n"), Err(Denial::Method));
        assert!(read(b"PROPFIND / HTTP/1.1\r\nHost: ha.test\r\n\r\n").is_ok());
    }

    #[test]
    fn credentials_are_found_however_they_are_written() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nCOOKIE:a=1\r\nX-Cookie: no\r\nauthorization: Bearer x \r\nCookie: b=2\r\n\r\n";
        let found = credentials(head);
        assert_eq!(found.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert_eq!((found[AUTHORIZATION].as_bytes(), found.len()), (b"Bearer x".as_slice(), 3));
    }

    #[test]
    fn an_upgrade_is_complete_or_none() {
        let full = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: x\r\n";
        let get = |fields: &str| read(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap().upgrade;
        assert!(get(full));
        assert!(!get("Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n"));
        assert!(!get("Connection: Upgrade\r\nSec-WebSocket-Key: x\r\n"));
        assert!(!get("Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n"));
        assert!(!with_fields(full).unwrap().upgrade);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(Some(end)) = find_end(&bytes, 0, &LIMITS) {
                let _ = parse(&bytes[..end], &LIMITS);
            }
        }

        /// A target that passes here is never refused by Pingora, which would do so without a record.
        #[test]
        fn what_is_a_target_here_is_one_to_pingora(target in "/[!-~]{0,20}") {
            if is_target(target.as_bytes(), b"GET") {
                prop_assert!(pingora::http::RequestHeader::build("GET", target.as_bytes(), None).is_ok(), "{target}");
            }
        }

        /// Where a head ends does not depend on how it arrived.
        #[test]
        fn fragmentation_changes_nothing(text in "[A-Z]{1,5} /[a-z\r\n :]{0,60}\r\n\r\n", cut in 1usize..40) {
            let bytes = text.as_bytes();
            let whole = find_end(bytes, 0, &LIMITS);
            let mut scanned = 0;
            let mut pieces = Ok(None);
            for end in (cut..).step_by(cut).map(|end| end.min(bytes.len())) {
                pieces = find_end(&bytes[..end], scanned, &LIMITS);
                scanned = end;
                if pieces != Ok(None) || end == bytes.len() { break }
            }
            prop_assert_eq!(pieces, whole);
        }
    }
}
