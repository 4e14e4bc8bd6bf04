//! Whether so many logins fail that somebody must be guessing, however many addresses they come from.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::Event;
use crate::clock::Moment;

/// Looks at a counter of failed logins again and again.
#[derive(Debug, Default)]
pub struct Storm {
    /// The looks of the last minute, the oldest first.
    looks: VecDeque<(Moment, u64)>,
    told: Option<Moment>,
}

impl Storm {
    /// `failures` is how many there have been in all. Says at most once in 15 minutes that there are too many.
    pub fn look(&mut self, failures: u64, now: Moment) -> Option<Event> {
        while self.looks.len() >= MOST_LOOKS || self.looks.front().is_some_and(|(at, _)| now.since(*at) > WINDOW) {
            self.looks.pop_front();
        }
        self.looks.push_back((now, failures));
        let recent = failures.saturating_sub(self.looks.front().map_or(failures, |(_, then)| *then));
        let is_quiet = self.told.is_some_and(|told| now.since(told) < QUIET);
        if recent < MANY || is_quiet {
            return None;
        }
        self.told = Some(now);
        Some(Event::LoginStorm { failures: recent, seconds: WINDOW.as_secs() })
    }
}

const WINDOW: Duration = Duration::from_secs(60);
/// A household does not mistype so often.
const MANY: u64 = 30;
const QUIET: Duration = Duration::from_secs(15 * 60);
/// However often somebody looks.
const MOST_LOOKS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    #[test]
    fn only_a_burst_is_a_storm_and_it_is_told_once_in_a_while() {
        let mut storm = Storm::default();
        // One failure each five seconds is no storm, for however long.
        for look in 0..1000 {
            assert_eq!(storm.look(look, at(5 * look)), None);
        }
        let told = storm.look(1050, at(5001)).unwrap();
        assert_eq!(told, Event::LoginStorm { failures: 61, seconds: 60 });
        assert_eq!(storm.look(9000, at(5006)), None);
        assert_eq!(storm.look(9000, at(5900)), None);
        assert_eq!(storm.look(9029, at(5902)), None, "one too few");
        assert_eq!(storm.look(9030, at(5905)).unwrap().kind(), "login_storm");
    }

    #[test]
    fn whoever_looks_too_often_costs_no_memory() {
        let mut storm = Storm::default();
        for look in 0..10_000 {
            storm.look(0, Moment::START + Duration::from_millis(look));
        }
        assert!(storm.looks.len() <= MOST_LOOKS);
    }
}
