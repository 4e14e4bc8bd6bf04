//! How long the next ban lasts, and when old ones are forgotten: pure arithmetic.

use std::time::Duration;

use super::{LONGEST, MOST_STRIKES};

/// How bans grow. Travels with each call, because it comes from the configuration in force; the strikes stay in the
/// list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escalation {
    /// The first ban of a network.
    pub first: Duration,
    /// Each further one is so many times longer.
    pub factor: u32,
    /// But never longer than this, nor than [`LONGEST`].
    pub max: Duration,
    /// After a ban has ended, each such span without a strike takes one back. Zero forgets at once.
    pub clean_period: Duration,
}

impl Default for Escalation {
    /// 15 minutes, 1 hour, 4, 16, 64 hours, then 7 days; a strike is forgotten per clean day.
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Self { first: Duration::from_secs(15 * 60), factor: 4, max: hours(7 * 24), clean_period: hours(24) }
    }
}

impl Escalation {
    /// How long a ban lasts that follows `strikes` earlier ones.
    pub(super) fn lasts(&self, strikes: u8) -> Duration {
        let times = self.factor.max(1).saturating_pow(strikes.into());
        self.first.saturating_mul(times).min(self.max).min(LONGEST)
    }

    /// What is left of `strikes` when the last ban ended `clean` ago.
    pub(super) fn left(&self, strikes: u8, clean: Duration) -> u8 {
        let periods = clean.as_micros().checked_div(self.clean_period.as_micros()).unwrap_or(u128::MAX);
        strikes.saturating_sub(u8::try_from(periods).unwrap_or(u8::MAX))
    }

    /// One more.
    pub(super) fn next(strikes: u8) -> u8 {
        strikes.saturating_add(1).min(MOST_STRIKES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn each_ban_is_four_times_as_long_up_to_a_week() {
        for (strikes, minutes) in [(0, 15), (1, 60), (2, 240), (3, 960), (4, 3840), (5, 10_080), (32, 10_080)] {
            assert_eq!(Escalation::default().lasts(strikes), MINUTE * minutes, "{strikes}");
        }
    }

    #[test]
    fn extreme_parameters_stay_within_bounds() {
        let usual = Escalation::default();
        for (escalation, strikes, expected) in [
            (Escalation { factor: 1, ..usual }, 9, MINUTE * 15),
            (Escalation { factor: 0, ..usual }, 9, MINUTE * 15),
            (Escalation { factor: u32::MAX, max: Duration::MAX, ..usual }, 9, LONGEST),
            (Escalation { first: Duration::MAX, ..usual }, 0, DAY * 7),
            (Escalation { max: MINUTE, ..usual }, 0, MINUTE),
        ] {
            assert_eq!(escalation.lasts(strikes), expected, "{escalation:?}");
        }
    }

    #[test]
    fn a_clean_period_takes_one_strike_back() {
        let instant = Duration::from_micros(1);
        for (strikes, clean, left) in [
            (3, Duration::ZERO, 3),
            (3, DAY - instant, 3),
            (3, DAY, 2),
            (3, DAY * 2 - instant, 2),
            (3, DAY * 2, 1),
            (3, DAY * 3, 0),
            (3, DAY * 400, 0),
            (32, Duration::MAX, 0),
        ] {
            assert_eq!(Escalation::default().left(strikes, clean), left, "{strikes} after {clean:?}");
        }
        let forgetful = Escalation { clean_period: Duration::ZERO, ..Escalation::default() };
        assert_eq!(forgetful.left(32, Duration::ZERO), 0);
    }

    #[test]
    fn strikes_end_somewhere() {
        assert_eq!(Escalation::next(0), 1);
        assert_eq!(Escalation::next(MOST_STRIKES - 1), MOST_STRIKES);
        assert_eq!(Escalation::next(MOST_STRIKES), MOST_STRIKES);
    }
}
