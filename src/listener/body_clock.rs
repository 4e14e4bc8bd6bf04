//! Whether a client still sends its request body, or merely holds a connection open.
//!
//! Pure: fed once a second, it tells time by what it is told.

use std::time::Duration;

/// The bounds of one request body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// No byte at all for so long.
    pub stall: Duration,
    /// Fewer than `rate` bytes a second, once waiting has lasted longer than `grace`.
    pub grace: Duration,
    pub rate: u64,
}

/// Counts only the time in which the gate waits for the client: an upstream that reads slowly is not its fault.
///
/// That excuse holds for ten stalls in all. On HTTP/2 it rests on a count that a client can confuse, by leaving bytes on
/// streams that nobody reads any more.
#[derive(Debug, Default)]
pub struct BodyClock {
    bytes: u64,
    waited: Duration,
    still: Duration,
    excused: Duration,
    window: Window,
}

/// The last stretch of waiting: a good beginning does not pay for a drip behind it.
#[derive(Debug, Default)]
struct Window {
    waited: Duration,
    bytes_before: u64,
}

impl Window {
    /// Whether a stretch has ended with too few bytes. It is so long that the longest pause allowed fits in.
    fn is_too_slow(&mut self, bytes: u64, limits: &BodyLimits) -> bool {
        if self.waited < limits.stall + limits.grace {
            return false;
        }
        let due = limits.rate.saturating_mul(self.waited.as_secs());
        let came = bytes - self.bytes_before;
        *self = Self { waited: Duration::ZERO, bytes_before: bytes };
        came < due
    }
}

const EXCUSED_STALLS: u32 = 10;

impl BodyClock {
    /// `elapsed` since the last call, `bytes` of body so far, and whether the gate waits for more.
    /// Answers whether the client has used up its time.
    pub fn tick(&mut self, elapsed: Duration, bytes: u64, waiting: bool, limits: &BodyLimits) -> bool {
        let excused = !waiting && self.excused < EXCUSED_STALLS * limits.stall;
        if excused {
            self.excused += elapsed;
        }
        if bytes != self.bytes {
            self.bytes = bytes;
            self.still = Duration::ZERO;
        } else if !excused {
            self.still += elapsed;
        }
        if !excused {
            self.waited += elapsed;
            self.window.waited += elapsed;
        }
        let due = limits.rate.saturating_mul(self.waited.as_secs());
        let is_slow = self.window.is_too_slow(bytes, limits) || (self.waited > limits.grace && bytes < due);
        is_slow || self.still >= limits.stall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits { stall: Duration::from_secs(30), grace: Duration::from_secs(10), rate: 100 };

    /// The second in which a body that grows by `per_second` is cut, if within `seconds`.
    fn cut_after(seconds: u64, per_second: u64, waiting: bool) -> Option<u64> {
        let mut clock = BodyClock::default();
        (1..=seconds).find(|second| clock.tick(Duration::from_secs(1), second * per_second, waiting, &LIMITS))
    }

    #[test]
    fn a_body_below_the_rate_ends_after_its_grace_and_one_above_never() {
        assert_eq!(cut_after(3600, 1, true), Some(11));
        assert_eq!(cut_after(3600, 99, true), Some(11));
        assert_eq!(cut_after(3600, 100, true), None);
    }

    #[test]
    fn a_body_that_began_fast_and_stalls_ends_at_the_stall() {
        let mut clock = BodyClock::default();
        assert!(!clock.tick(Duration::from_secs(1), 1_000_000, true, &LIMITS));
        let cut = (1..100).find(|_| clock.tick(Duration::from_secs(1), 1_000_000, true, &LIMITS));
        assert_eq!(cut, Some(30));
    }

    #[test]
    fn a_good_beginning_does_not_pay_for_a_drip_behind_it() {
        let drips = |second: u64| 1_000_000 + second;
        let mut clock = BodyClock::default();
        let cut = (1..1000).find(|second| clock.tick(Duration::from_secs(1), drips(*second), true, &LIMITS));
        assert_eq!(cut, Some(80));
        // A pause just within the stall, again and again, with something between.
        let pauses = |second: u64| 100_000 * (1 + second / 29);
        let mut clock = BodyClock::default();
        let cut = (1..1000).find(|second| clock.tick(Duration::from_secs(1), pauses(*second), true, &LIMITS));
        assert_eq!(cut, None);
    }

    #[test]
    fn a_slow_upstream_is_not_the_clients_fault_within_reason() {
        assert_eq!(cut_after(300, 0, false), None);
        assert_eq!(cut_after(3600, 0, false), Some(311));
        assert_eq!(cut_after(36_000, 100, false), None);
    }
}
