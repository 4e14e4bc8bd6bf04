//! Spans of time: `250ms`, `10s`, `1h 30m`, or a plain number of seconds.
//!
//! The units are those of the humantime crate; what it displays parses to the same span again.

use std::time::Duration;

/// Reads a span of at most ten years; the error says what to write instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.is_empty() || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("expected {EXPECTED}"));
    }
    if text.len() > MAX_TEXT || longest_number(text) > MAX_DIGITS {
        return Err(TOO_LONG.to_owned());
    }
    let span = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).map_err(explain)?,
    };
    if span > MAX { Err(TOO_LONG.to_owned()) } else { Ok(span) }
}

fn longest_number(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0)
}

fn explain(error: humantime::DurationError) -> String {
    match error {
        humantime::DurationError::UnknownUnit { unit, .. } if !unit.is_empty() => {
            format!("unknown unit of time `{unit}`: write ms, s, m, h or d")
        }
        humantime::DurationError::NumberOverflow => "too long or too precise for a duration".to_owned(),
        _ => format!("expected {EXPECTED}"),
    }
}

/// What a duration looks like, for messages.
pub(super) const EXPECTED: &str = "a duration such as `10s`, `1h 30m` or a number of seconds";

const TOO_LONG: &str = "longer than 10 years";
const MAX: Duration = Duration::from_secs(10 * 31_557_600);

/// humantime 2.4 adds seconds up to `u64::MAX` and panics on the carry of the nanoseconds; numbers
/// this short in a text this short cannot come near that.
const MAX_DIGITS: usize = 10;
const MAX_TEXT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_units_and_plain_seconds() {
        for (text, milliseconds) in [
            ("0", 0),
            ("10", 10_000),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h 30m", 5_400_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            ("10years", 315_576_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_with_what_to_write() {
        for (text, part) in [
            ("", "expected a duration such as `10s`"),
            ("soon", "expected a duration"),
            ("-5s", "expected a duration"),
            ("1.5", "expected a duration"),
            ("10 parsecs", "unknown unit of time `parsecs`"),
            ("10years 1s", "longer than 10 years"),
            ("315576001", "longer than 10 years"),
            ("99999999999999999999", "longer than 10 years"),
            // Panics inside humantime 2.4.0 if it gets there.
            ("18446744073709551615s 1000ms", "longer than 10 years"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn displayed_durations_parse_back(milliseconds in 0u64..315_576_000_000) {
            let span = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&humantime::format_duration(span).to_string()), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-z .µ]{0,80}|.*") {
            let _ = parse(&text);
        }
    }
}
