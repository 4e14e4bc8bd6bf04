//! Numbers, spans and moments as people read them on the page.

use std::time::{Duration, SystemTime};

/// Three digits at most: `0`, `0.03`, `4.2`, `318`, `12k`.
pub(super) fn number(value: f32) -> String {
    match value {
        v if v <= 0.0 => "0".into(),
        v if v < 0.095 => format!("{v:.2}"),
        v if v < 9.95 => format!("{v:.1}").trim_end_matches(".0").to_owned(),
        v if v < 9999.5 => format!("{v:.0}"),
        v => format!("{:.0}k", v / 1000.0),
    }
}

/// `0`, `0.5 ms`, `12 ms`, `1.4 s`.
pub(super) fn seconds(value: f32) -> String {
    match value {
        v if v <= 0.0 => "0".into(),
        v if v < 0.9995 => format!("{} ms", number(v * 1000.0)),
        v => format!("{} s", number(v)),
    }
}

/// The greatest unit: `40 seconds`, `14 minutes`, `3 hours`, `62 days`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// `2026-11-23T21:30:00Z`, for machines.
pub(super) fn stamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// `21:30:00 UTC`, or with its day if that was another one.
pub(super) fn clock(time: SystemTime, now: SystemTime) -> String {
    let (stamp, today) = (stamp(time), stamp(now));
    match (stamp.split_once('T'), today.split_once('T')) {
        (Some((day, hour)), Some((this_day, _))) if day == this_day => format!("{} UTC", hour.trim_end_matches('Z')),
        (Some((day, hour)), _) => format!("{day} {} UTC", hour.get(..5).unwrap_or(hour)),
        _ => stamp,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (-1.0, "0"),
            (0.0, "0"),
            (0.034, "0.03"),
            (0.5, "0.5"),
            (9.94, "9.9"),
            (9.96, "10"),
            (318.4, "318"),
            (12_345.0, "12k"),
        ] {
            assert_eq!(number(value), expected, "{value}");
        }
        for (value, expected) in
            [(0.0, "0"), (0.0005, "0.5 ms"), (0.012, "12 ms"), (0.9999, "1 s"), (1.44, "1.4 s"), (60.0, "60 s")]
        {
            assert_eq!(seconds(value), expected, "{value}");
        }
    }

    #[test]
    fn moments_of_another_day_say_so() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_469_400);
        assert_eq!(clock(now - Duration::from_secs(60), now), "21:29:00 UTC");
        assert_eq!(clock(now - Duration::from_secs(86_400), now), "2026-11-22 21:30 UTC");
        assert_eq!(span(Duration::from_secs(61)), "1 minute");
    }
}
