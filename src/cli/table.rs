//! What tables of several commands share: aligned columns, times and spans of time.

use std::time::{Duration, SystemTime};

/// Lines of cells, each column as wide as its widest cell; the last one has no end.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join(GAP).trim_end())
    };
    rows.iter().map(line).collect()
}

/// `2026-11-23T21:30:00Z`.
pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// `14m`, `3h 20m`, `6d 23h`: rounded to what matters of so long a span.
pub(super) fn brief(span: Duration) -> String {
    let (seconds, minute, hour, day) = (span.as_secs(), 60, 3600, 86_400);
    let rounded = |unit: u64| (seconds + unit / 2) / unit * unit;
    if seconds < minute {
        format!("{seconds}s")
    } else if rounded(minute) < hour {
        format!("{}m", rounded(minute) / minute)
    } else if rounded(minute) < day {
        two(rounded(minute), (hour, "h"), (minute, "m"))
    } else {
        two(rounded(hour), (day, "d"), (hour, "h"))
    }
}

fn two(seconds: u64, great: (u64, &str), small: (u64, &str)) -> String {
    let (whole, rest) = (seconds / great.0, seconds % great.0 / small.0);
    if rest == 0 { format!("{whole}{}", great.1) } else { format!("{whole}{} {rest}{}", great.1, small.1) }
}

/// Text of others for a terminal: one line, no control characters.
pub(super) fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// `1 connection`, `2 connections`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

const GAP: &str = "  ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_to_what_matters() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (89, "1m"),
            (90, "2m"),
            (899, "15m"),
            (3569, "59m"),
            (3570, "1h"),
            (12_000, "3h 20m"),
            (86_369, "23h 59m"),
            (86_370, "1d"),
            (604_799, "7d"),
            (601_200, "6d 23h"),
        ] {
            assert_eq!(brief(Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let text = aligned(&[row(["A", "LONG", "C"]), row(["ünö", "b", ""]), row(["", "b", "the rest of it"])]);
        assert_eq!(text, "A    LONG  C\nünö  b\n     b     the rest of it\n");
    }
}
