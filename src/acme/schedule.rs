//! When a certificate is due, and how long to wait after a failure. Pure: time and chance are arguments.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The life of a certificate, and the luck that was drawn for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Drawn once for a certificate, so that its moment stays the same however often it is asked for.
    pub luck: Luck,
}

/// A part of a span, evenly distributed: spreads over time what many gates do alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Luck(pub u32);

/// When the authority would like a certificate to be renewed (RFC 9773, section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub start: SystemTime,
    pub end: SystemTime,
    /// A page that explains an unusual window, of the authority's making.
    pub explanation: Option<String>,
}

/// Why a certificate is due at its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is none, or none that can be used.
    Missing,
    /// It was had for other names, from another authority or with another profile.
    Changed,
    /// The operator has asked.
    Asked,
    /// The authority suggests it.
    Authority,
    /// A third of its life is left.
    Age,
}

/// What has to be known to tell when a failed attempt may be followed by another.
#[derive(Debug, Clone, Copy)]
pub struct Failures<'a> {
    /// In a row, at least 1.
    pub count: u32,
    /// When the authority found that a name is not ours, the oldest first; those of the last attempt included.
    pub refused: &'a [SystemTime],
    /// How many of them the last attempt has cost.
    pub last_refused: usize,
    /// When the authority says that it may be asked again.
    pub retry_after: Option<SystemTime>,
    /// The authority has made a certificate that was then of no use: its allowance of those is small.
    pub is_issued: bool,
}

impl Luck {
    /// So much of `span`, less than all of it.
    pub fn of(self, span: Duration) -> Duration {
        let nanos = span.as_nanos() * u128::from(self.0) / (u128::from(u32::MAX) + 1);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Why {
    /// For people and for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "there is no certificate yet",
            Self::Changed => "the configuration has changed",
            Self::Asked => "the operator has asked",
            Self::Authority => "the authority suggests it",
            Self::Age => "a third of its life is left",
        }
    }
}

/// When a certificate that is had, for what is wanted, shall be renewed.
///
/// The authority's window counts if there is one, but never beyond the last tenth of the life: an authority that
/// forgets, or whose clock is wrong, must not cost us the certificate.
pub fn renewal(life: Life, window: Option<&Window>) -> (SystemTime, Why) {
    let span = life.not_after.duration_since(life.not_before).unwrap_or_default();
    let before_end = |left: Duration| life.not_after.checked_sub(left).unwrap_or(life.not_before);
    if let Some(window) = window {
        let width = window.end.duration_since(window.start).unwrap_or_default();
        let moment = window.start.checked_add(life.luck.of(width)).unwrap_or(window.start);
        return (moment.min(before_end(span / LAST_CHANCE)), Why::Authority);
    }
    (before_end(span / 3 + life.luck.of(span / EARLIER)), Why::Age)
}

/// The earliest moment for the renewal of a certificate, the last ones having been had at `successes`, the oldest first.
///
/// A certificate may be due again at once: it was revoked. But that every one is means that a clock or the authority's
/// window is wrong, and without a pause order would follow order. Few in a part of a life, and no more than five a week.
pub fn after_successes(life: Life, successes: &[SystemTime], now: SystemTime) -> Option<SystemTime> {
    let first = successes.len().checked_sub(MOST_SUCCESSES).map(|at| successes[at])?;
    let span = life.not_after.duration_since(life.not_before).unwrap_or_default();
    (first <= now).then(|| first + (span * 2 / 5).min(AFTER_ISSUED * 4))
}

/// `moment`, or what comes after the wait that a failure has cost.
///
/// A wait that ends later than any that we impose is from a time when the clock was wrong.
pub fn not_before(moment: SystemTime, wait_until: Option<SystemTime>, now: SystemTime) -> SystemTime {
    match wait_until {
        Some(until) if until > moment && until.duration_since(now).is_ok_and(|left| left > LONGEST_WAIT) => moment,
        Some(until) => until.max(moment),
        None => moment,
    }
}

/// The earliest moment for the next attempt, after one that has failed at `now`.
///
/// Doubles from a minute to half a day. On top of that holds what the strictest known authority allows (Let's Encrypt:
/// five refused names an hour, five certificates with the same names a week), and what the authority itself says.
pub fn after_failure(failures: Failures<'_>, now: SystemTime, luck: Luck) -> SystemTime {
    let doublings = failures.count.saturating_sub(1).min(16);
    let mut wait = (FIRST_WAIT * (1 << doublings)).min(LONGEST_BACKOFF);
    if failures.is_issued {
        wait = wait.max(AFTER_ISSUED);
    }
    wait += luck.of(wait / 10);
    let mut until = now + wait;
    // Room for as many refusals as last time: those that fill it must have lapsed by then.
    let room = REFUSALS.saturating_sub(failures.last_refused.clamp(1, REFUSALS));
    if failures.last_refused > 0
        && let Some(filling) = failures.refused.len().checked_sub(room + 1)
    {
        let lapsed = failures.refused[filling] + REFUSALS_WITHIN;
        until = until.max(lapsed.min(now + REFUSALS_WITHIN) + luck.of(FIRST_WAIT));
    }
    match failures.retry_after {
        Some(allowed) => until.max(allowed.min(now + LONGEST_WAIT)),
        None => until,
    }
}

/// When an attempt that begins now may begin again if its end is never heard of, `before` it being as many like that.
pub fn after_unended(before: u32, now: SystemTime) -> Option<SystemTime> {
    let doublings = before.checked_sub(1)?.min(16);
    Some(now + (AFTER_ABORT * (1 << doublings)).min(LONGEST_BACKOFF))
}

/// Those of `refused` that still count.
pub fn still_counting(refused: &[SystemTime], now: SystemTime) -> Vec<SystemTime> {
    let counts = |at: &&SystemTime| match now.duration_since(**at) {
        Ok(ago) => ago < REFUSALS_WITHIN,
        // The clock has been set back: an hour from now they are gone either way.
        Err(ahead) => ahead.duration() < REFUSALS_WITHIN,
    };
    let mut counting: Vec<_> = refused.iter().filter(counts).copied().collect();
    counting.sort_unstable();
    counting.drain(..counting.len().saturating_sub(MOST_REMEMBERED));
    counting
}

/// When the authority is asked about its window again, `hint` being its `Retry-After` (RFC 9773, section 4.3.2).
pub fn next_poll(hint: Option<Duration>, now: SystemTime) -> SystemTime {
    now + hint.unwrap_or(POLL).clamp(SHORTEST_POLL, LONGEST_POLL)
}

/// Whether a poll is due; one far ahead is from a time when the clock was wrong.
pub fn is_poll_due(next: Option<SystemTime>, now: SystemTime) -> bool {
    next.is_none_or(|next| next <= now || next.duration_since(now).is_ok_and(|left| left > LONGEST_POLL))
}

/// Whether a failed renewal is the operator's business by now: a third of what was left at its moment is gone.
pub fn is_urgent(life: Option<Life>, now: SystemTime) -> bool {
    life.is_some_and(|life| {
        let span = life.not_after.duration_since(life.not_before).unwrap_or_default();
        life.not_after.duration_since(now).unwrap_or_default() < span / 9
    })
}

/// Half a day keeps well within everybody's limits, and still renews in time.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(12 * HOUR);
/// No authority makes us wait longer, whatever its `Retry-After` says.
pub const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * HOUR);
/// After the second attempt in a row that was cut off; doubles with each further one, up to [`LONGEST_BACKOFF`].
const AFTER_ABORT: Duration = Duration::from_secs(120);
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// Five in a week with the same names: one in 34 hours.
const AFTER_ISSUED: Duration = Duration::from_secs(34 * HOUR);
/// As many follow each other as fast as they are due.
pub const MOST_SUCCESSES: usize = 4;
/// Refused names within an hour.
const REFUSALS: usize = 5;
const REFUSALS_WITHIN: Duration = Duration::from_secs(HOUR);
/// A name can be refused once by each challenge in one attempt.
const MOST_REMEMBERED: usize = 16;
/// The renewal by age is spread over this part of the life.
const EARLIER: u32 = 33;
/// The part of the life by which even the authority's window has to have passed.
const LAST_CHANCE: u32 = 10;
const POLL: Duration = Duration::from_secs(6 * HOUR);
const SHORTEST_POLL: Duration = Duration::from_secs(HOUR);
const LONGEST_POLL: Duration = Duration::from_secs(24 * HOUR);
const HOUR: u64 = 3600;

#[cfg(test)]
mod tests;
