//! Takes what opens doors out of a request target before anybody writes it down.
//!
//! Hidden are: all values of a query, whatever their keys; items without `=`, which may be a bare
//! token; fragments; userinfo of an absolute-form target; the unguessable part of those Home
//! Assistant paths whose knowledge is the whole authentication. Percent-encoded spellings (also
//! encoded twice) and detours over `.` and `..` are seen through. The price is that a harmless
//! `?kiosk` is hidden too.
//!
//! The rule reads from left to right, so a target that was cut shows nothing that the whole one hides.

/// Hides the secrets of a request target; see the module for what counts as one.
///
/// Keys of a query stay, cut after 64 characters.
pub fn redact(target: &str) -> String {
    let mut out = String::with_capacity(target.len());
    let (before, after) = split_at_query(target);
    redact_path(without_userinfo(before, &mut out), &mut out);
    if let Some((mark, rest)) = after {
        out.push_str(mark);
        redact_after_path(mark, rest, &mut out);
    }
    out
}

/// Writes the scheme, if there is one, and returns what follows the userinfo.
fn without_userinfo<'a>(before: &'a str, out: &mut String) -> &'a str {
    if before.starts_with('/') {
        return before;
    }
    let start = match before.find("://") {
        Some(colon) if !before[..colon].contains('/') => colon + 3,
        _ => 0,
    };
    let (scheme, rest) = before.split_at(start);
    out.push_str(scheme);
    let authority = rest.find(['/', '\\']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => &rest[at + 1..],
        None => rest,
    }
}

fn redact_path(mut path: &str, out: &mut String) {
    // The decoded names walked through so far, as a server that resolves `..` would see them.
    let mut names: Vec<String> = Vec::new();
    loop {
        let (segment, separator, after) = split_segment(path);
        let name = decoded_name(segment);
        match name.as_str() {
            "" | "." => out.push_str(segment),
            ".." => {
                names.pop();
                out.push_str(segment);
            }
            _ => match secret_below(&names) {
                None => {
                    push_visible(segment, out);
                    names.push(without_parameters(name));
                }
                Some(Reach::Rest) => return out.push_str(REDACTED),
                Some(Reach::Segment) => {
                    out.push_str(REDACTED);
                    names.push(name);
                    // An encoded slash does not end a secret: only a plain one does.
                    let Some(slash) = path.find('/') else { return };
                    path = &path[slash..];
                    continue;
                }
            },
        }
        if separator.is_empty() {
            return;
        }
        out.push_str(separator);
        path = after;
    }
}

/// An `=` in a path belongs to `;session=...` or to a query that lost its question mark.
fn push_visible(segment: &str, out: &mut String) {
    match find_sign(segment, b"=") {
        None => out.push_str(segment),
        Some((at, length)) => {
            out.push_str(&segment[..at + length]);
            out.push_str(REDACTED);
        }
    }
}

fn redact_after_path(mark: &str, rest: &str, out: &mut String) {
    if rest.is_empty() {
        return;
    }
    if mark == "#" || mark.ends_with("23") {
        return out.push_str(REDACTED);
    }
    for (index, item) in rest.split('&').enumerate() {
        if index > 0 {
            out.push('&');
        }
        redact_item(item, out);
    }
}

fn redact_item(item: &str, out: &mut String) {
    let Some((key, value)) = item.split_once('=') else {
        if !item.is_empty() {
            out.push_str(REDACTED);
        }
        return;
    };
    // A key with an encoded `&` or `=` in it is a query within a query.
    if find_sign(key, b"&=?#;").is_some() {
        out.push_str(REDACTED);
    } else {
        push_key(key, out);
    }
    out.push('=');
    if !value.is_empty() {
        out.push_str(REDACTED);
    }
}

fn push_key(key: &str, out: &mut String) {
    match key.char_indices().nth(KEY_LIMIT) {
        None => out.push_str(key),
        Some((end, _)) => {
            out.push_str(&key[..end]);
            out.push('…');
        }
    }
}

/// How much of the path below a known prefix is secret.
#[derive(Clone, Copy)]
enum Reach {
    /// Up to the next slash; what follows says nothing but helps the operator.
    Segment,
    Rest,
}

fn secret_below(names: &[String]) -> Option<Reach> {
    let ends_with = |prefix: &[&str]| {
        names.len() >= prefix.len() && names.iter().rev().zip(prefix.iter().rev()).all(|(name, word)| name == word)
    };
    SECRET_PATHS.iter().find(|(prefix, _)| ends_with(prefix)).map(|(_, reach)| *reach)
}

/// Splits at the first slash or backslash in any spelling: before, the separator as written, after.
fn split_segment(path: &str) -> (&str, &str, &str) {
    match find_sign(path, b"/\\") {
        None => (path, "", ""),
        Some((at, length)) => (&path[..at], &path[at..at + length], &path[at + length..]),
    }
}

fn split_at_query(target: &str) -> (&str, Option<(&str, &str)>) {
    match find_sign(target, b"?#") {
        None => (target, None),
        Some((at, length)) => (&target[..at], Some((&target[at..at + length], &target[at + length..]))),
    }
}

/// The first of `signs` in `text`, written plainly or percent-encoded once or more: place and length.
fn find_sign(text: &str, signs: &[u8]) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().find_map(|(at, byte)| {
        let (sign, length) = if *byte == b'%' { encoded_byte(bytes.get(at..)?)? } else { (*byte, 1) };
        signs.contains(&sign).then_some((at, length))
    })
}

/// Reads `%2F`, `%252F`, `%25252F` and so on: the byte meant in the end and the length of its spelling.
fn encoded_byte(bytes: &[u8]) -> Option<(u8, usize)> {
    let mut at = 1;
    while bytes.get(at..at + 2) == Some(b"25") && bytes.len() > at + 2 {
        at += 2;
    }
    let digit = |index: usize| char::from(*bytes.get(index)?).to_digit(16);
    let value = digit(at)? * 16 + digit(at + 1)?;
    Some((u8::try_from(value).ok()?, at + 2))
}

/// `webhook;x` is `webhook` to some servers.
fn without_parameters(mut name: String) -> String {
    name.truncate(name.find(';').unwrap_or(name.len()));
    name
}

/// A segment as a lenient server might read it: decoded, in lower case.
fn decoded_name(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut name = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let (byte, length) = match byte {
            b'%' => bytes.get(at..).and_then(encoded_byte).unwrap_or((b'%', 1)),
            byte => (*byte, 1),
        };
        name.push(byte.to_ascii_lowercase());
        at += length;
    }
    String::from_utf8_lossy(&name).into_owned()
}

const REDACTED: &str = "REDACTED";

/// Characters of a query's key that are kept.
const KEY_LIMIT: usize = 64;

/// Home Assistant paths whose next part is itself the key to what lies there.
const SECRET_PATHS: [(&[&str], Reach); 8] = [
    (&["api", "webhook"], Reach::Rest),
    (&["api", "tts_proxy"], Reach::Rest),
    (&["api", "hls"], Reach::Segment),
    (&["api", "hassio_ingress"], Reach::Segment),
    (&["api", "image", "serve"], Reach::Segment),
    (&["api", "esphome", "ffmpeg_proxy"], Reach::Rest),
    (&["api", "assist_satellite", "connection_test"], Reach::Rest),
    (&["api", "generic", "preview_flow_image"], Reach::Rest),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::redact;

    #[test]
    fn secrets_are_hidden_and_their_neighbours_stay() {
        let table = [
            ("/", "/"),
            ("", ""),
            ("*", "*"),
            ("/lovelace/0", "/lovelace/0"),
            ("/api/websocket", "/api/websocket"),
            ("/api/webhooks/abc", "/api/webhooks/abc"),
            ("/local/webhook/abc", "/local/webhook/abc"),
            ("/api/webhook/", "/api/webhook/"),
            ("/api/webhook/abc", "/api/webhook/REDACTED"),
            ("/api/webhook/abc/more", "/api/webhook/REDACTED"),
            ("/api/%77ebhook/abc", "/api/%77ebhook/REDACTED"),
            ("/%61pi/%2577ebhook/abc", "/%61pi/%2577ebhook/REDACTED"),
            ("/api%2Fwebhook%2fabc", "/api%2Fwebhook%2fREDACTED"),
            ("//api//webhook//abc", "//api//webhook//REDACTED"),
            ("/api/x/../webhook/./abc", "/api/x/../webhook/./REDACTED"),
            ("/api/webhook/;abc", "/api/webhook/REDACTED"),
            ("/api/webhook/..;abc", "/api/webhook/REDACTED"),
            ("/API/Webhook;x/abc", "/API/Webhook;x/REDACTED"),
            ("/api/hls/abc/playlist.m3u8?_HLS_msn=3", "/api/hls/REDACTED/playlist.m3u8?_HLS_msn=REDACTED"),
            ("/api/hls/ab%2Fcd/x", "/api/hls/REDACTED/x"),
            ("/api/tts_proxy/abc.mp3", "/api/tts_proxy/REDACTED"),
            ("/api/hassio_ingress/abc/index.html", "/api/hassio_ingress/REDACTED/index.html"),
            ("/api/image/serve/abc/512x512", "/api/image/serve/REDACTED/512x512"),
            ("/api/camera_proxy/camera.door?token=abc", "/api/camera_proxy/camera.door?token=REDACTED"),
            ("/x?access_token=abc&b=&c", "/x?access_token=REDACTED&b=&REDACTED"),
            ("/x?&&", "/x?&&"),
            ("/x?a=1?b=2", "/x?a=REDACTED"),
            ("/x%3Ftoken=abc", "/x%3Ftoken=REDACTED"),
            ("/x%3Ftoken%3Dabc", "/x%3FREDACTED"),
            ("/x?a%26b%3Dabc=1", "/x?REDACTED=REDACTED"),
            ("/x&access_token=abc/y", "/x&access_token=REDACTED/y"),
            ("/x;session=abc", "/x;session=REDACTED"),
            ("/x#abc", "/x#REDACTED"),
            ("http://user:pass@home.example/x?y=z", "http://home.example/x?y=REDACTED"),
            ("http://home.example/api/webhook/abc", "http://home.example/api/webhook/REDACTED"),
            ("user:pass@home.example:443", "home.example:443"),
            ("home.example:443", "home.example:443"),
            ("/at@sign", "/at@sign"),
            ("/odd%", "/odd%"),
            ("/odd%2", "/odd%2"),
            ("/odd%25", "/odd%25"),
        ];
        for (target, expected) in table {
            assert_eq!(redact(target), expected, "{target}");
        }
    }

    #[test]
    fn a_long_key_is_cut_on_a_character() {
        let key = "é".repeat(65);
        assert_eq!(redact(&format!("/?{key}=x")), format!("/?{}…=REDACTED", "é".repeat(64)));
        let key = "k".repeat(64);
        assert_eq!(redact(&format!("/?{key}=x")), format!("/?{key}=REDACTED"));
    }

    /// Some characters percent-encoded, as chosen by `mask`.
    fn spelled(text: &str, mask: u64) -> String {
        let spell = |(index, char): (usize, char)| match (mask >> (index % 64)) & 1 {
            1 => format!("%{:02x}", u32::from(char)),
            _ => char.to_string(),
        };
        text.chars().enumerate().map(spell).collect()
    }

    proptest! {
        #[test]
        fn no_value_of_a_query_comes_out(
            path in "(/[a-z%.]{0,9}){1,4}",
            items in prop::collection::vec(("[a-z_\\[\\]%0-9]{0,80}", "[^&]{0,9}"), 0..5),
            place in 0..6_usize,
            tail in "[^&]{0,20}",
        ) {
            let mut query: Vec<_> = items.iter().map(|(key, value)| format!("{key}={value}")).collect();
            query.insert(place.min(query.len()), format!("key={SECRET}{tail}"));
            let shown = redact(&format!("{path}?{}", query.join("&")));
            prop_assert!(!shown.contains(SECRET), "{shown}");
        }

        #[test]
        fn no_webhook_id_comes_out(
            before in "(/[a-z]{0,5}){0,3}",
            prefix in prop::sample::select(vec!["/api/webhook/", "/api/tts_proxy/", "/api/hls/", "/api/hassio_ingress/"]),
            mask in any::<u64>(),
            around in "[a-z0-9%=;]{0,6}",
            after in "(/[a-z.?]{0,6}){0,3}",
        ) {
            let prefix = spelled(prefix, mask);
            let shown = redact(&format!("{before}/{}{around}x{SECRET}{after}", prefix.trim_start_matches('/')));
            prop_assert!(!shown.contains(SECRET), "{shown}");
        }

        #[test]
        fn a_cut_target_shows_no_part_of_the_secret(
            place in prop::sample::select(vec!["/api/webhook/", "/api/%77ebhook/", "/x?y=", "/x?y=z&token=", "/api/hls/"]),
            cut in 0..60_usize,
        ) {
            let target = format!("{place}{SECRET}");
            let shown = redact(&target[..cut.min(target.len())]);
            prop_assert!(!shown.contains(&SECRET[..3]), "{shown}");
        }

        #[test]
        fn anything_is_survived(target in ".{0,200}") {
            redact(&target);
        }
    }

    const SECRET: &str = "Zq8SECRETqZ";
}
