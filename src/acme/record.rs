//! The one TXT record that stands while the authority looks for it, and its end whatever happens.
//!
//! It is kept outside of the attempt that needs it: an attempt that is dropped half-way cannot wait for a provider.
//!
//! A name and its wildcard have the same record. An authority that has looked at the value for the one may still have it
//! in its cache when it looks for the other, so a name's next value is not told before what was shown has lapsed there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::dns::{Dns, DnsError, Presented};

/// At most one record at a time.
#[derive(Debug)]
pub struct Record {
    state: Mutex<State>,
    /// When each name's last record was withdrawn, for those that may still be in a cache.
    withdrawn: Mutex<HashMap<String, Instant>>,
    lapse: Duration,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    /// Set perhaps, not yet seen.
    Presenting(String),
    Stands(String, Arc<Dns>, Presented),
}

impl Record {
    /// `lapse`: how long a resolver may show what is gone.
    pub fn new(lapse: Duration) -> Self {
        Self { state: Mutex::default(), withdrawn: Mutex::default(), lapse }
    }

    /// Returns once all servers of the zone show the record.
    pub async fn present(&self, dns: &Arc<Dns>, name: &str, value: &str) -> Result<(), DnsError> {
        *self.state.lock() = State::Presenting(name.to_owned());
        let presented = dns.present(name, value).await;
        let (state, result) = match presented {
            Ok(presented) => (State::Stands(name.to_owned(), dns.clone(), presented), Ok(())),
            Err(error) => (State::None, Err(error)),
        };
        *self.state.lock() = state;
        result
    }

    /// Takes the record away, if there is one. A record that stays does no harm but to tidiness: it is logged.
    pub async fn withdraw(&self) {
        let state = std::mem::take(&mut *self.state.lock());
        let (name, dns, presented) = match state {
            State::None => return,
            // Whoever was to wait for it was dropped.
            State::Presenting(name) => {
                log::warn!("acme: broken off while a TXT record was set, it may stay at _acme-challenge.{name}");
                return;
            }
            State::Stands(name, dns, presented) => (name, dns, presented),
        };
        if let Err(error) = dns.withdraw(presented).await {
            log::warn!("acme: the TXT record at _acme-challenge.{name} stays, remove it by hand: {error}");
        }
        let now = Instant::now();
        let mut withdrawn = self.withdrawn.lock();
        withdrawn.retain(|_, at| left(*at, self.lapse, now) > Duration::ZERO);
        withdrawn.insert(name, now);
    }

    /// Returns when no resolver shows an earlier value of `name` any more.
    pub async fn lapsed(&self, name: &str) {
        let at = self.withdrawn.lock().get(name).copied();
        let left = at.map(|at| left(at, self.lapse, Instant::now())).unwrap_or_default();
        if left > Duration::ZERO {
            log::info!("acme: waits until the value shown before is forgotten name={name} seconds={}", left.as_secs());
            tokio::time::sleep(left).await;
        }
    }

    /// The same after an attempt that was broken off, and within the second that a shutdown has.
    pub async fn withdraw_in_haste(&self) {
        let name = match &*self.state.lock() {
            State::None => return,
            State::Presenting(name) | State::Stands(name, ..) => name.clone(),
        };
        let is_standing = matches!(&*self.state.lock(), State::Stands(..));
        let withdrawn = is_standing && tokio::time::timeout(HASTE, self.withdraw()).await.is_ok();
        if !withdrawn {
            log::warn!("acme: stopped while a TXT record was set, it may stay at _acme-challenge.{name}");
        }
    }
}

/// What is left at `now` of the time in which a record that was withdrawn `at` may be seen.
fn left(at: Instant, lapse: Duration, now: Instant) -> Duration {
    lapse.saturating_sub(now.saturating_duration_since(at))
}

/// Our records have a TTL of 60 s, and Let's Encrypt's resolvers keep what they have seen no longer than that
/// (<https://community.letsencrypt.org/t/126670>); five more, because clocks and caches count whole seconds.
pub const LAPSE: Duration = Duration::from_secs(65);
/// What a shutdown waits for a provider.
const HASTE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_lapses_from_its_withdrawal_on() {
        let at = Instant::now();
        let after = |seconds| left(at, LAPSE, at + Duration::from_secs(seconds));
        assert_eq!(after(0), LAPSE);
        assert_eq!(after(64), Duration::from_secs(1));
        assert_eq!((after(65), after(1000)), (Duration::ZERO, Duration::ZERO));
    }

    #[tokio::test]
    async fn only_a_name_that_was_shown_is_waited_for() {
        let lapse = Duration::from_millis(50);
        let record = Record::new(lapse);
        let begin = Instant::now();
        record.withdrawn.lock().insert("ha.example.org".to_owned(), begin);
        record.lapsed("other.example.org").await;
        record.lapsed("ha.example.org").await;
        assert!(begin.elapsed() >= lapse);
    }
}
