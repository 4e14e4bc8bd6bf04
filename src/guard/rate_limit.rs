//! How many requests a client may send: the generic cell rate algorithm (ITU-T I.371), exact, in eight bytes a client.

use std::time::Duration;

use super::table::{Lapse, Table};
use super::{Policy, Who};
use crate::clock::Moment;
use crate::config::RequestClass;

/// So many requests per time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The time in which one request becomes free again.
    pub interval: Duration,
    /// Requests at once after a pause.
    pub burst: u32,
}

impl Limit {
    /// `count` requests per `per`, and `burst` at once.
    pub fn new(count: u32, per: Duration, burst: u32) -> Self {
        Self { interval: per / count.max(1), burst: burst.max(1) }
    }

    /// From a pause to a full burst.
    fn tolerance(self) -> Duration {
        self.interval * (self.burst - 1)
    }
}

/// When a client would have used up its requests if they had come evenly (the theoretical arrival time).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket(Moment);

impl Lapse for Bucket {
    /// A bucket that has filled up again is as good as a new one.
    fn lapses(&self) -> Moment {
        self.0
    }
}

impl Bucket {
    /// Takes one request.
    ///
    /// # Errors
    ///
    /// How long until one is free.
    pub fn take(&mut self, limit: Limit, now: Moment) -> Result<(), Duration> {
        let due = self.0.max(now);
        let wait = now.until(due).saturating_sub(limit.tolerance());
        if !wait.is_zero() {
            return Err(wait);
        }
        self.0 = due + limit.interval;
        Ok(())
    }

    /// Requests that are free now.
    pub fn left(&self, limit: Limit, now: Moment) -> u32 {
        let used = now.until(self.0).as_nanos().div_ceil(limit.interval.as_nanos().max(1));
        limit.burst.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }
}

/// What is counted apart: who, what kind of request, and for which host if that has limits of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketKey {
    who: Who,
    /// The host's id, so that a reload which reorders hosts mixes up nothing.
    scope: u32,
    class: RequestClass,
}

impl BucketKey {
    pub fn new(who: Who, class: RequestClass, policy: &Policy) -> Self {
        let scope = if policy.has_own_limits { policy.host_id } else { SHARED };
        Self { who, scope, class }
    }
}

/// The scope of all hosts that have no limits of their own; no host's id.
const SHARED: u32 = 0;

/// The buckets of all clients. Forgetting a full one loses nothing, so a flood of addresses refuses nobody.
pub type Buckets = Table<BucketKey, Bucket>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::START + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_then_one_per_interval() {
        let limit = Limit::new(10, Duration::from_secs(1), 5);
        let mut bucket = Bucket::default();
        for request in 0..5 {
            assert_eq!(bucket.left(limit, at(1000)), 5 - request);
            assert_eq!(bucket.take(limit, at(1000)), Ok(()));
        }
        assert_eq!(bucket.take(limit, at(1000)), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(limit, at(1099)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(limit, at(1100)), Ok(()));
        assert_eq!(bucket.take(limit, at(1100)), Err(Duration::from_millis(100)));
        assert_eq!(bucket.left(limit, at(60_000)), 5);
    }

    proptest! {
        /// In any stretch of time no more pass than the burst and what became free, and nobody is refused who kept to it.
        #[test]
        fn no_more_than_the_rate_and_no_less(
            gaps in proptest::collection::vec(0u64..300, 1..200), burst in 1u32..20, per_second in 1u32..50,
        ) {
            let limit = Limit::new(per_second, Duration::from_secs(1), burst);
            let mut bucket = Bucket::default();
            let (mut now, mut tokens) = (1_000u64, f64::from(burst));
            for gap in gaps {
                now += gap;
                let interval = limit.interval.as_secs_f64() * 1000.0;
                tokens = (tokens + gap as f64 / interval).min(f64::from(burst));
                let passed = bucket.take(limit, at(now)).is_ok();
                // A microsecond is the resolution of a moment.
                if tokens >= 1.001 { prop_assert!(passed) }
                if tokens <= 0.999 { prop_assert!(!passed) }
                if passed { tokens -= 1.0 }
            }
        }
    }
}
