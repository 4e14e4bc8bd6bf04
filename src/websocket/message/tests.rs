use proptest::prelude::*;

use super::super::deflate::Inflater;
use super::super::fixtures::{COMPRESSED, Deflater, FINAL, frame, ping, text};
use super::*;

const AUTH: &str = r#"{"type":"auth","access_token":"abc"}"#;

fn reader(writer: Writer, with_deflate: bool) -> Reader {
    Reader::new(writer, with_deflate.then(|| Inflater::new(false)))
}

/// Everything a stream says when it comes in pieces of these lengths, each with the offset at which it was said.
fn said(mut reader: Reader, stream: &[u8], cuts: &[usize]) -> Result<Vec<(usize, Item)>, Unreadable> {
    let (mut at, mut items) = (0, Vec::new());
    for cut in cuts.iter().cycle() {
        let end = (at + cut).min(stream.len());
        while at < end {
            let (taken, item) = reader.read(&stream[at..end])?;
            assert!(taken > 0 && (item.is_some() || taken == end - at));
            at += taken;
            items.extend(item.map(|item| (at, item)));
        }
        if at == stream.len() {
            break;
        }
    }
    Ok(items)
}

fn client_says(frames: &[Vec<u8>], with_deflate: bool) -> Result<Vec<Item>, Unreadable> {
    let items = said(reader(Writer::Client, with_deflate), &frames.concat(), &[usize::MAX >> 1])?;
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

#[test]
fn fragments_are_joined_around_control_frames() {
    let frames = [
        ping(true),
        frame(TEXT, true, &AUTH.as_bytes()[..10]),
        ping(true),
        frame(CONTINUATION, true, b""),
        frame(FINAL | PONG, true, b""),
        frame(FINAL | CONTINUATION, true, &AUTH.as_bytes()[10..]),
        frame(FINAL | BINARY, true, b"\x00"),
        text(true, ""),
        frame(FINAL | CLOSE, true, &[3, 232]),
    ];
    let expected = [Item::Text(AUTH.into()), Item::Binary, Item::Text(String::new()), Item::Close];
    assert_eq!(client_says(&frames, false).unwrap(), expected);
}

#[test]
fn compressed_messages_are_inflated_in_order_fragmented_or_not() {
    let mut deflater = Deflater::new(false, 15);
    let binary = frame(FINAL | COMPRESSED | BINARY, true, &deflater.message(AUTH.as_bytes()));
    let whole = deflater.text(true, AUTH);
    let cut = deflater.message(AUTH.as_bytes());
    let frames = [
        binary,
        whole,
        frame(COMPRESSED | TEXT, true, &cut[..3]),
        frame(FINAL | CONTINUATION, true, &cut[3..]),
        // A sender may leave a message as it is.
        text(true, "plain"),
        deflater.text(true, AUTH),
    ];
    let auth = || Item::Text(AUTH.into());
    assert_eq!(client_says(&frames, true).unwrap(), [Item::Binary, auth(), auth(), Item::Text("plain".into()), auth()]);
}

#[test]
fn what_could_be_read_in_two_ways_is_not_read() {
    let mut masked = text(true, AUTH);
    masked[1] = 0x80 | 126;
    masked.splice(2..2, [0, AUTH.len() as u8]);
    let rows: [(&str, Vec<u8>, bool); 15] = [
        ("unmasked", text(false, AUTH), false),
        ("rsv1 without deflate", frame(FINAL | COMPRESSED | TEXT, true, b"x"), false),
        ("rsv2", frame(FINAL | 0x20 | TEXT, true, b"x"), true),
        ("rsv3", frame(FINAL | 0x10 | TEXT, true, b"x"), true),
        ("rsv1 and rsv2", frame(FINAL | 0x60 | TEXT, true, b"x"), true),
        ("rsv1 on a continuation", [frame(TEXT, true, b"x"), frame(FINAL | COMPRESSED, true, b"x")].concat(), true),
        ("rsv1 on a ping", frame(FINAL | COMPRESSED | PING, true, b""), true),
        ("a continuation of nothing", frame(FINAL | CONTINUATION, true, b"x"), false),
        ("a message inside a message", [frame(TEXT, true, b"x"), text(true, "y")].concat(), false),
        ("a ping among compressed fragments", [frame(COMPRESSED | TEXT, true, b"x"), ping(true)].concat(), true),
        ("a fragmented ping", frame(PING, true, b""), false),
        ("a long ping", frame(FINAL | PING, true, &[0; 126]), false),
        ("an unknown data opcode", frame(FINAL | 0x3, true, b""), false),
        ("an unknown control opcode", frame(FINAL | 0xb, true, b""), false),
        ("a length in more bytes than it needs", masked, false),
    ];
    for (what, stream, with_deflate) in rows {
        assert_eq!(client_says(&[stream], with_deflate), Err(Unreadable::Protocol), "{what}");
    }
    let mut server = reader(Writer::Server, false);
    assert_eq!(server.read(&text(true, AUTH)), Err(Unreadable::Protocol));
    assert_eq!(client_says(&[frame(FINAL | TEXT, true, b"\xff")], false), Err(Unreadable::NotUtf8));
    assert_eq!(client_says(&[frame(FINAL | COMPRESSED | TEXT, true, b"\xff\xff")], true), Err(Unreadable::Deflate));
}

#[test]
fn a_message_has_a_bound_however_it_is_cut() {
    let full = "x".repeat(MESSAGE_MAX);
    assert_eq!(client_says(&[text(true, &full)], false).unwrap(), [Item::Text(full.clone())]);
    // Said by the header, before any of it has come.
    let over = text(true, &format!("{full}x"));
    assert_eq!(reader(Writer::Client, false).read(&over[..14]), Err(Unreadable::TooLong));
    let endless = [&[0x81, 0xff], [0xff; 8].as_slice(), &[0; 4]].concat();
    assert_eq!(reader(Writer::Client, false).read(&endless), Err(Unreadable::TooLong));
    let parts = [frame(TEXT, true, full.as_bytes()), frame(FINAL, true, b"x")];
    assert_eq!(client_says(&parts, false), Err(Unreadable::TooLong));
    let bomb = Deflater::new(false, 15).text(true, &"a".repeat(30 << 20));
    assert!(bomb.len() < MESSAGE_MAX);
    assert_eq!(client_says(&[bomb], true), Err(Unreadable::TooLong));
}

#[test]
fn control_frames_have_a_bound() {
    let mut frames = vec![ping(true); CONTROLS_MAX as usize];
    assert_eq!(client_says(&frames, false), Ok(Vec::new()));
    frames.push(ping(true));
    assert_eq!(client_says(&frames, false), Err(Unreadable::TooManyControls));
}

/// What Home Assistant 2026.11.0 sends first, as isal and as zlib compress it.
#[test]
fn the_upstreams_own_frames_are_read() {
    const ISAL: [&str; 2] = [
        "aa562aa92c4855b2524a2c2dc9882f4a2d2ccd2c4a4d51d251ca488c2f4b2d2acecccf53b25232323032d33334d43350aa0500",
        "42d5909f8d472900",
    ];
    const ZLIB: [&str; 2] = [
        "aa562aa92c4855b2524a2c2dc9882f4a2d2ccd2c4a4d51d251ca488c2f4b2d2acecccf034a1a191899e9191aea1928d50200",
        "aa46d1909f8d472900",
    ];
    for messages in [ISAL, ZLIB] {
        let mut inflater = Inflater::new(false);
        let texts = messages.map(|hex| {
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
            String::from_utf8(inflater.inflate(&bytes).unwrap()).unwrap()
        });
        let expected =
            ["auth_required", "auth_ok"].map(|kind| format!(r#"{{"type":"{kind}","ha_version":"2026.11.0"}}"#));
        assert_eq!(texts, expected);
    }
}

/// A message, whether it is compressed, and the lengths of its fragments.
fn message() -> impl Strategy<Value = (String, bool, Vec<usize>)> {
    ("[a-c\"ß]{0,400}", any::<bool>(), proptest::collection::vec(0usize..200, 0..4))
}

fn written(
    messages: &[(String, bool, Vec<usize>)],
    masked: bool,
    deflater: &mut Deflater,
) -> (Vec<u8>, Vec<(usize, Item)>) {
    let (mut stream, mut items) = (Vec::new(), Vec::new());
    for (text, compress, lengths) in messages {
        let payload = if *compress { deflater.message(text.as_bytes()) } else { text.as_bytes().to_vec() };
        let mut first = TEXT | if *compress { COMPRESSED } else { 0 };
        let mut rest = payload.as_slice();
        for length in lengths {
            let (part, left) = rest.split_at((*length).min(rest.len()));
            stream.extend(frame(first, masked, part));
            if !(masked && *compress) {
                stream.extend(ping(masked));
            }
            (first, rest) = (CONTINUATION, left);
        }
        stream.extend(frame(FINAL | first, masked, rest));
        items.push((stream.len(), Item::Text(text.clone())));
    }
    (stream, items)
}

proptest! {
    /// However messages are fragmented and the stream is cut, the same is said at the same places.
    #[test]
    fn any_cutting_says_the_same(
        messages in proptest::collection::vec(message(), 1..6),
        no_context_takeover: bool,
        bits in 9u8..=15,
        from_client: bool,
        cuts in proptest::collection::vec(1usize..300, 1..40),
    ) {
        let mut deflater = Deflater::new(no_context_takeover, bits);
        let (stream, items) = written(&messages, from_client, &mut deflater);
        let writer = if from_client { Writer::Client } else { Writer::Server };
        for cuts in [cuts.as_slice(), &[1]] {
            let reader = Reader::new(writer, Some(Inflater::new(no_context_takeover)));
            prop_assert_eq!(&said(reader, &stream, cuts).unwrap(), &items);
        }
    }

    /// Nonsense ends the same way whole and byte by byte, and never in a panic.
    #[test]
    fn arbitrary_bytes_are_read_or_refused(
        first in prop_oneof![any::<u8>(), Just(0xc1)],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        with_deflate: bool,
    ) {
        let stream = [&[first, 0x85], bytes.as_slice()].concat();
        let whole = said(reader(Writer::Client, with_deflate), &stream, &[usize::MAX >> 1]);
        prop_assert_eq!(said(reader(Writer::Client, with_deflate), &stream, &[1]), whole);
    }
}
