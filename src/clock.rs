//! Moments that decisions are made at: time is an argument, and only [`Clock`] reads it.
//!
//! A [`Moment`] is monotonic: a step of the wall clock (a Raspberry Pi sets its own minutes after it has started) neither
//! frees nor locks out anybody. What outlives the process is converted at the edge, with [`Clock::wall`].

use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime};

/// Microseconds on a scale that begins long before the gate; eight bytes, because stores hold hundreds of thousands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// Earlier than any other: what is known of it is that it is long ago.
    pub const START: Self = Self(0);
    /// Later than any other.
    pub const NEVER: Self = Self(u64::MAX);

    /// So long after [`START`](Self::START); what does not fit is [`NEVER`](Self::NEVER).
    pub fn after_start(span: Duration) -> Self {
        Self(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }

    /// How long ago `earlier` was; zero if it is yet to come.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The time until `later`; zero if that has passed.
    pub fn until(self, later: Self) -> Duration {
        later.since(self)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(Self::after_start(span).0))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(Self::after_start(span).0))
    }
}

/// Reads the time. Made once, by the composition root.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

/// How much earlier than the process moments begin: what an earlier process has written down has its place, for longer than
/// anything is remembered.
const BEFORE: Duration = Duration::from_secs(400 * 24 * 3600);

impl Clock {
    /// Starts counting.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment::after_start(BEFORE + self.start.elapsed())
    }

    /// What the wall clock shows at `moment`, by what it shows now.
    pub fn wall(&self, moment: Moment) -> SystemTime {
        let (now, wall) = (self.now(), SystemTime::now());
        let there =
            if moment >= now { wall.checked_add(now.until(moment)) } else { wall.checked_sub(now.since(moment)) };
        there.unwrap_or(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate_at_both_ends() {
        let second = Moment::START + Duration::from_secs(1);
        assert_eq!(second.since(Moment::START), Duration::from_secs(1));
        assert_eq!(Moment::START.since(second), Duration::ZERO);
        assert_eq!(Moment::START.until(second), Duration::from_secs(1));
        assert_eq!(Moment::START - Duration::from_secs(1), Moment::START);
        assert_eq!(second - Duration::from_secs(1), Moment::START);
        assert_eq!(Moment::START + Duration::MAX, Moment::NEVER);
        assert_eq!(Moment::NEVER + Duration::from_secs(1), Moment::NEVER);
    }

    #[test]
    fn the_wall_clock_is_read_at_the_edge() {
        let clock = Clock::start();
        let hour = Duration::from_secs(3600);
        let ahead = clock.wall(clock.now() + hour).duration_since(SystemTime::now()).unwrap();
        assert!(ahead > hour - Duration::from_secs(60) && ahead < hour + Duration::from_secs(60), "{ahead:?}");
        let ago = SystemTime::now().duration_since(clock.wall(clock.now() - 365 * 24 * hour)).unwrap();
        assert!(ago > 364 * 24 * hour && ago < 366 * 24 * hour, "{ago:?}");
    }
}
