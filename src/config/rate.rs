//! How often something may happen: `100/s`, `30/m`, `10/h`.
//!
//! A whole number per second, minute or hour; nothing else, so that two people read the same. What
//! [`Rate`] displays parses to the same rate again.

use std::fmt;
use std::time::Duration;

use super::values::quoted;

/// A number of times in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// From 1 to 1 000 000.
    pub count: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

impl Rate {
    /// So many times a second.
    pub const fn per_second(count: u32) -> Self {
        Self { count, per: Duration::from_secs(1) }
    }

    /// The span from one time to the next if they are evenly spread; from a microsecond to an hour.
    pub fn interval(self) -> Duration {
        self.per / self.count.max(1)
    }

    /// Reads `100/s`, `30/m` or `10/h`; the error says what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((count, unit)) = text.split_once('/') else { return Err(format!("expected {EXPECTED}")) };
        let (count, unit) = (count.trim(), unit.trim());
        let per = span(unit).ok_or_else(|| unknown_unit(count, unit))?;
        if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
            return Err(not_whole(count));
        }
        let count = count.parse().ok().filter(|count| (1..=MAX_COUNT).contains(count));
        let count = count.ok_or_else(|| format!("the number of a rate must be from 1 to {MAX_COUNT}"))?;
        Ok(Self { count, per })
    }
}

fn span(unit: &str) -> Option<Duration> {
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, seconds)| Duration::from_secs(*seconds))
}

fn unknown_unit(count: &str, unit: &str) -> String {
    let letter = unit.trim_start_matches(|c: char| c.is_ascii_digit()).chars().next().map(|c| c.to_ascii_lowercase());
    let letter = letter.filter(|letter| matches!(letter, 's' | 'm' | 'h')).unwrap_or('s');
    let count = if count.bytes().all(|b| b.is_ascii_digit()) { count } else { "100" };
    let example = quoted(&format!("{count}/{letter}"));
    format!("unknown unit of a rate {}: write s, m or h, such as {example}", quoted(unit))
}

fn not_whole(count: &str) -> String {
    let is_fraction = count.contains('.') && count.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if is_fraction {
        "a rate has no fraction: write `30/m` for `0.5/s`".to_owned()
    } else {
        format!("expected {EXPECTED}")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.per.as_secs();
        match UNITS.iter().find(|(_, length)| *length == seconds) {
            Some((unit, _)) => write!(f, "{}/{unit}", self.count),
            // No file can say this.
            None => write!(f, "{}/{}", self.count, humantime::format_duration(self.per)),
        }
    }
}

/// What a rate looks like, for messages.
pub(super) const EXPECTED: &str = "a rate such as `100/s`, `30/m` or `10/h`";

const MAX_COUNT: u32 = 1_000_000;
const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_a_number_and_a_unit() {
        for (text, count, seconds) in [
            ("1/s", 1, 1),
            ("100/s", 100, 1),
            ("30/m", 30, 60),
            ("10/h", 10, 3600),
            (" 5 / m ", 5, 60),
            ("1000000/h", 1_000_000, 3600),
        ] {
            assert_eq!(Rate::parse(text), Ok(Rate { count, per: Duration::from_secs(seconds) }), "{text}");
        }
        assert_eq!(Rate::per_second(50).interval(), Duration::from_millis(20));
        assert_eq!(Rate::parse("30/m").map(Rate::interval), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn refusals_say_what_to_write() {
        for (text, part) in [
            ("", "expected a rate such as `100/s`"),
            ("100", "expected a rate"),
            ("/s", "expected a rate"),
            ("-1/s", "expected a rate"),
            ("many/s", "expected a rate"),
            ("0.5/s", "no fraction: write `30/m`"),
            ("0/s", "from 1 to 1000000"),
            ("1000001/s", "from 1 to 1000000"),
            ("99999999999999999999/s", "from 1 to 1000000"),
            ("5/", "unknown unit of a rate ``: write s, m or h, such as `5/s`"),
            ("5/min", "such as `5/m`"),
            ("5/Hour", "such as `5/h`"),
            ("5/d", "unknown unit of a rate `d`"),
            ("5/10s", "unknown unit of a rate `10s`: write s, m or h, such as `5/s`"),
        ] {
            let refusal = Rate::parse(text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn displayed_rates_parse_back(count in 1..=MAX_COUNT, unit in 0..UNITS.len()) {
            let rate = Rate { count, per: Duration::from_secs(UNITS[unit].1) };
            prop_assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));
        }

        #[test]
        fn no_text_panics(text in "[0-9smh/. -]{0,30}|.*") {
            let _ = Rate::parse(&text);
        }
    }
}
