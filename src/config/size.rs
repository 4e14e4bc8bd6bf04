//! Numbers of bytes: `64KiB`, `10MB`, `512`.
//!
//! Parsing is exact: no fractions, no guesses between powers of 1000 and 1024. What [`ByteSize`]
//! displays parses to the same number again.

use std::fmt;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// That many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many times 1024 bytes; stops at the largest number there is.
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1024))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory; stops at `usize::MAX` on small machines.
    pub const fn as_usize(self) -> usize {
        if self.0 > usize::MAX as u64 { usize::MAX } else { self.0 as usize }
    }

    /// Reads `64KiB`, `10 MB`, `512B` or `512`; the error says what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(format!("expected {EXPECTED}"));
        }
        let number: u64 = number.parse().map_err(|_| "too large for a size".to_owned())?;
        let factor = factor(unit.trim())?;
        number.checked_mul(factor).map(Self).ok_or_else(|| "too large for a size".to_owned())
    }
}

fn factor(unit: &str) -> Result<u64, String> {
    if unit.is_empty() {
        return Ok(1);
    }
    if let Some((_, factor)) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
        return Ok(*factor);
    }
    if let "k" | "m" | "g" | "t" = unit.to_ascii_lowercase().as_str() {
        let letter = unit.to_ascii_uppercase();
        return Err(format!("unit `{unit}` is ambiguous: write `{letter}iB` (1024) or `{letter}B` (1000)"));
    }
    if unit.starts_with('.') {
        return Err("a size has no fraction: write the next smaller unit".to_owned());
    }
    Err(format!("expected {EXPECTED}"))
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, factor): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*factor);
        match UNITS.iter().find(exact) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// What a size looks like, for messages.
pub(super) const EXPECTED: &str = "a size such as `64KiB`, `10MB` or a number of bytes";

/// Binary units first: they win where both would be exact.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_units_of_both_kinds() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("10MB", 10_000_000),
            ("1GiB", 1 << 30),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(ByteSize::parse(text), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_guesses_fractions_and_overflow() {
        for (text, part) in [
            ("", "expected a size"),
            ("KiB", "expected a size"),
            ("-1", "expected a size"),
            ("10 apples", "expected a size"),
            ("10k", "write `KiB` (1024) or `KB` (1000)"),
            ("1.5MiB", "no fraction"),
            ("18446744073709551616", "too large"),
            ("16777216TiB", "too large"),
        ] {
            let refusal = ByteSize::parse(text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    #[test]
    fn displays_the_largest_exact_unit() {
        for (bytes, text) in
            [(0, "0B"), (1, "1B"), (1000, "1KB"), (1024, "1KiB"), (10_000_000, "10MB"), (1025, "1025B")]
        {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn displayed_sizes_parse_back(bytes: u64, shift in 0u32..64) {
            let size = ByteSize(bytes >> shift);
            prop_assert_eq!(ByteSize::parse(&size.to_string()), Ok(size));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = ByteSize::parse(&text);
        }
    }
}
