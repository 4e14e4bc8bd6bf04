use proptest::prelude::*;

use super::super::fixtures::{Deflater, FINAL, frame, ping, text};
use super::super::frames::{BINARY, CLOSE, CONTINUATION, TEXT};
use super::*;

const AUTH: &str = r#"{"type":"auth","access_token":"abc"}"#;

fn message(text: &str) -> Result<Option<Opening>, Unreadable> {
    Ok(Some(Opening::Message(text.into())))
}

#[test]
fn the_first_message_is_released_with_its_pings_and_what_is_behind_it_stays() {
    let (opening, behind) = ([ping(true), text(true, AUTH)].concat(), text(true, "{\"id\":1}"));
    let mut login = Login::new(None);
    assert_eq!(login.client_bytes(&opening[..9]), Ok(None));
    assert!(login.release().is_empty(), "nobody has decided about it");
    assert_eq!(login.client_bytes(&[&opening[9..], &behind[..3]].concat()), message(AUTH));
    assert!(!login.is_waiting());
    assert_eq!(login.release(), opening);
    assert!(login.is_waiting() && login.release().is_empty());
    assert_eq!(login.client_bytes(&behind[3..]), Ok(None));
    assert_eq!(login.into_held(), behind);
}

#[test]
fn an_opening_that_is_no_message_is_told_as_what_it_is() {
    let rows = [
        (frame(FINAL | BINARY, true, AUTH.as_bytes()), Ok(Some(Opening::NotText))),
        (frame(FINAL | CLOSE, true, &[3, 232]), Ok(Some(Opening::Close))),
        (text(false, AUTH), Err(Unreadable::Protocol)),
        (frame(FINAL | TEXT, true, b"\xc3"), Err(Unreadable::NotUtf8)),
    ];
    for (bytes, expected) in rows {
        assert_eq!(Login::new(None).client_bytes(&bytes), expected);
    }
}

#[test]
fn a_client_is_held_up_to_the_bound() {
    let mut login = Login::new(None);
    login.client_bytes(&text(true, AUTH)).unwrap();
    login.release();
    assert_eq!(login.room(), HELD_MAX);
    login.client_bytes(&vec![0; HELD_MAX]).unwrap();
    assert_eq!(login.room(), 0);
}

#[test]
fn a_message_in_too_many_frames_is_too_long() {
    let mut login = Login::new(None);
    let mut outcome = login.client_bytes(&frame(TEXT, true, b""));
    let empty = frame(CONTINUATION, true, b"");
    while outcome == Ok(None) {
        let piece = &empty[..empty.len().min(login.room())];
        outcome = login.client_bytes(piece);
    }
    assert_eq!(outcome, Err(Unreadable::TooLong));
    assert!(login.into_held().len() <= HELD_MAX);
}

#[test]
fn the_upstream_is_read_text_by_text() {
    let mut login = Login::new(Some(Deflate::default()));
    let mut deflater = Deflater::new(false, 15);
    let stream =
        [ping(false), frame(FINAL | BINARY, false, b"x"), deflater.text(false, "one"), deflater.text(false, "two")];
    let second = stream[3].len();
    let stream = stream.concat();
    assert_eq!(login.upstream_bytes(&stream), Ok((stream.len() - second, Some("one".into()))));
    assert_eq!(login.upstream_bytes(&stream[stream.len() - second..]), Ok((second, Some("two".into()))));
    assert_eq!(login.upstream_bytes(b""), Ok((0, None)));
    assert_eq!(login.upstream_bytes(&text(true, "three")), Err(Unreadable::Protocol));
}

proptest! {
    /// However a client's stream is cut, the same message is asked about, and every byte goes up once and in order.
    #[test]
    fn any_cutting_asks_the_same_and_loses_nothing(
        first in "[a-d]{0,300}",
        second in "[a-d]{0,300}",
        pings in 0usize..4,
        compress: bool,
        cuts in proptest::collection::vec(1usize..100, 1..20),
    ) {
        let mut deflater = Deflater::new(false, 15);
        let mut write = |said: &str| if compress { deflater.text(true, said) } else { text(true, said) };
        let opening = [ping(true).repeat(pings), write(&first)].concat();
        let stream = [opening.as_slice(), &write(&second)].concat();
        let mut login = Login::new(Some(Deflate::default()));
        let (mut at, mut up, mut openings) = (0, Vec::new(), Vec::new());
        for cut in cuts.iter().cycle().take(stream.len()) {
            let end = (at + cut).min(stream.len());
            openings.extend(login.client_bytes(&stream[at..end]).unwrap());
            at = end;
            up.extend(login.release());
        }
        prop_assert_eq!(openings, [Opening::Message(first)]);
        prop_assert_eq!(&up, &opening);
        up.extend(login.into_held());
        prop_assert_eq!(up, stream);
    }
}
