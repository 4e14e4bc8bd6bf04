//! The last hour, in memory: how much was asked, refused and failed, and how it felt.
//!
//! A fixed number of series in a fixed number of samples: less than 32 KiB, whatever traffic comes. Nobody here reads a
//! clock or counts anything; a background task hands in [`Totals`] every ten seconds, and what is kept are the
//! differences. It is for the status page and `hearthgate top`; what must last goes to Prometheus.

mod quantile;
mod reasons;
mod refusals;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::denial::Denial;
use crate::metrics::Totals;
pub use reasons::Group;
pub use refusals::{Refusals, Refused};

/// From one sample to the next.
pub const STEP: Duration = Duration::from_secs(10);
/// An hour of them.
pub const SAMPLES: usize = 360;

/// What happened within one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Answers a second with a status below 400.
    pub fine: f32,
    /// With 4xx, by the gate or behind it.
    pub client_errors: f32,
    /// With 5xx.
    pub server_errors: f32,
    /// Turned away by the gate, each second, in the order of [`Group::ALL`].
    pub refused: [f32; Group::ALL.len()],
    /// Logins that failed, in all.
    pub failed_logins: f32,
    /// Seconds to the head of an answer; `None` if nothing was forwarded.
    pub latency: Option<Latency>,
    /// What the gate itself added to 19 of 20 requests, at most, in seconds.
    #[serde(default)]
    pub own_p95: Option<f32>,
    /// Open at the end of the step, WebSockets included.
    pub connections: u32,
    pub websockets: u32,
    pub upstreams: u32,
    pub upstreams_up: u32,
}

/// Of the upstream's answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half were faster, in seconds.
    pub p50: f32,
    /// All but one of twenty were.
    pub p95: f32,
}

/// The last hour as it is looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hour {
    /// The oldest first, one for each step; `None` where the gate did not run or did not look.
    pub samples: Vec<Option<Sample>>,
}

/// The samples of the last hour, and who was turned away lately.
#[derive(Debug, Default)]
pub struct History {
    ring: Mutex<Ring>,
    refusals: Arc<Refusals>,
}

#[derive(Debug, Default)]
struct Ring {
    /// The oldest first, at most [`SAMPLES`].
    samples: VecDeque<(Moment, Sample)>,
    last: Option<(Moment, Totals)>,
}

impl History {
    /// Nothing yet, but for `refusals`, of which the access log takes note.
    pub fn new(refusals: Arc<Refusals>) -> Self {
        Self { ring: Mutex::default(), refusals }
    }

    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Takes note of what has been counted until `now`; the first call only begins.
    pub fn observe(&self, now: Moment, totals: Totals, connections: u32) {
        let mut ring = self.ring.lock();
        if let Some((then, before)) = &ring.last {
            let sample = difference(before, &totals, now.since(*then), connections);
            if ring.samples.len() == SAMPLES {
                ring.samples.pop_front();
            }
            ring.samples.push_back((now, sample));
        }
        ring.last = Some((now, totals));
    }

    /// The hour that ends at `now`.
    pub fn hour(&self, now: Moment) -> Hour {
        let mut samples = vec![None; SAMPLES];
        for (at, sample) in &self.ring.lock().samples {
            // Rounded, for a task is never quite in time.
            let age = (now.since(*at) + STEP / 2).as_secs() / STEP.as_secs();
            let place = usize::try_from(age).ok().and_then(|age| (SAMPLES - 1).checked_sub(age));
            if let Some(place) = place.and_then(|place| samples.get_mut(place)) {
                *place = Some(*sample);
            }
        }
        Hour { samples }
    }
}

impl Hour {
    /// The newest sample.
    pub fn latest(&self) -> Option<&Sample> {
        self.samples.iter().rev().flatten().next()
    }

    /// What `of` says of each step.
    pub fn series(&self, of: impl Fn(&Sample) -> Option<f32>) -> Vec<Option<f32>> {
        self.samples.iter().map(|sample| sample.as_ref().and_then(&of)).collect()
    }

    /// All there was in the hour of what `of` says comes each second.
    pub fn total(&self, of: impl Fn(&Sample) -> f32) -> f32 {
        self.samples.iter().flatten().map(of).sum::<f32>() * STEP.as_secs_f32()
    }
}

impl Sample {
    /// Answers a second.
    pub fn answers(&self) -> f32 {
        self.fine + self.client_errors + self.server_errors
    }
}

fn difference(before: &Totals, after: &Totals, span: Duration, connections: u32) -> Sample {
    // A host that is configured no more takes its counts along.
    let grown = |before: f64, after: f64| (after - before).max(0.0) as f32;
    let seconds = span.as_secs_f32().max(f32::EPSILON);
    let mut refused = [0.0; Group::ALL.len()];
    for (at, denial) in Denial::ALL.iter().enumerate() {
        let count = |totals: &Totals| totals.denials.get(at).copied().unwrap_or_default();
        let grown = count(after).saturating_sub(count(before)) as f32;
        let place = Group::of(*denial).and_then(|group| Group::ALL.iter().position(|other| *other == group));
        if let Some(sum) = place.and_then(|place| refused.get_mut(place)) {
            *sum += grown / seconds;
        }
    }
    let quantile = |q| quantile::quantile(&before.latency, &after.latency, q);
    Sample {
        fine: grown(before.fine, after.fine) / seconds,
        client_errors: grown(before.client_errors, after.client_errors) / seconds,
        server_errors: grown(before.server_errors, after.server_errors) / seconds,
        refused,
        failed_logins: grown(before.failed_logins, after.failed_logins),
        latency: quantile(0.5).zip(quantile(0.95)).map(|(p50, p95)| Latency { p50, p95 }),
        own_p95: quantile::quantile(&before.own, &after.own, 0.95),
        connections,
        websockets: after.websockets_open,
        upstreams: after.upstreams,
        upstreams_up: after.upstreams_up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Buckets;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    fn totals(fine: f64) -> Totals {
        Totals { fine, denials: vec![0; Denial::ALL.len()], ..Totals::default() }
    }

    #[test]
    fn samples_are_differences_by_the_second() {
        let history = History::default();
        history.observe(at(100), totals(1000.0), 3);
        assert_eq!(history.hour(at(100)).latest(), None, "one look is no difference");
        let mut now = totals(1050.0);
        let denied = |denial: Denial| Denial::ALL.iter().position(|other| *other == denial).unwrap();
        now.denials[denied(Denial::RateLimit)] = 20;
        now.denials[denied(Denial::KeepAlive)] = 500;
        now.failed_logins = 2.0;
        now.latency = Buckets(vec![(1.0, 10), (f64::INFINITY, 10)]);
        history.observe(at(110), now, 7);
        let hour = history.hour(at(110));
        let sample = hour.latest().unwrap();
        assert_eq!((sample.fine, sample.connections, sample.failed_logins), (5.0, 7, 2.0));
        assert_eq!(sample.refused, [0.0, 0.0, 0.0, 2.0, 0.0], "the end of an idle connection turns nobody away");
        assert_eq!(sample.latency, Some(Latency { p50: 0.5, p95: 0.95 }));
        assert_eq!(hour.total(Sample::answers), 50.0);
    }

    #[test]
    fn an_hour_has_360_places_and_forgets_what_is_older() {
        let history = History::default();
        for step in 0..1000 {
            history.observe(at(step * 10), totals(step as f64), step as u32);
        }
        let hour = history.hour(at(9990));
        assert_eq!(hour.samples.len(), SAMPLES);
        assert!(hour.samples.iter().all(Option::is_some));
        assert_eq!(hour.samples[0].unwrap().connections, 640);
        assert_eq!(hour.latest().unwrap().connections, 999);
        assert_eq!(history.hour(at(9990 + 1800)).samples.iter().flatten().count(), 180);
        assert_eq!(history.hour(at(9990 + 7200)).latest(), None);
        assert_eq!(history.ring.lock().samples.len(), SAMPLES, "the memory is fixed");
        assert!(size_of::<(Moment, Sample)>() * SAMPLES <= 32 * 1024);
    }

    #[test]
    fn a_late_look_keeps_its_place_and_a_gap_is_a_gap() {
        let history = History::default();
        for second in [0, 10, 21, 30, 90] {
            history.observe(at(second), totals(f64::from(second as u32)), second as u32);
        }
        let hour = history.hour(at(91));
        let tail: Vec<_> = hour.series(|sample| Some(sample.connections as f32)).split_off(SAMPLES - 9);
        let (known, gap) = (Some, None);
        assert_eq!(tail, [known(10.0), known(21.0), known(30.0), gap, gap, gap, gap, gap, known(90.0)]);
    }

    #[test]
    fn a_counter_that_has_shrunk_is_no_negative_rate() {
        let history = History::default();
        history.observe(at(0), totals(100.0), 0);
        history.observe(at(10), totals(5.0), 0);
        assert_eq!(history.hour(at(10)).latest().unwrap().fine, 0.0);
    }
}
