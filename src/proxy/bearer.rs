//! Bearers that nobody knows yet: Home Assistant is asked about each once, before anything else of it is forwarded.
//!
//! So no path behind the login is reached with a token that is made up, and a guess costs Home Assistant one cheap
//! question however many requests carry it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::asks::token_in;
use super::inspect::Accepted;
use crate::app::Outcome as Answer;
use crate::app::home_assistant::{judge_api_root, token};
use crate::denial::Denial;
use crate::guard::fingerprint::Fingerprint;
use crate::guard::{Attempt, Guard, Outcome, Refusal};

/// How long an access token is believed without asking again; Home Assistant's own live as long.
pub(super) const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// By how much less than it says: clocks differ, and an answer takes its time.
const MARGIN: Duration = Duration::from_secs(10);
/// When a client may come again whose bearer could not be asked about.
const TROUBLE_WAIT: Duration = Duration::from_secs(5);

/// Lets the requests that carry one unknown bearer wait for one answer. Bounded by the requests in flight.
#[derive(Default)]
pub(super) struct Bearers(Arc<Mutex<HashMap<Fingerprint, Arc<Turn<()>>>>>);

/// Whose turn it is to ask; ends when it is dropped.
pub(super) struct TurnGuard {
    turns: Arc<Mutex<HashMap<Fingerprint, Arc<Turn<()>>>>>,
    bearer: Fingerprint,
    guard: Option<OwnedMutexGuard<()>>,
}

/// How long a token that was accepted is believed: not beyond its own end, so that who is refused with it afterwards was
/// signed out.
pub(super) fn lifetime(token: &[u8], guard: &Guard) -> Duration {
    let now = guard.clock().wall(guard.now());
    token::end(token).map_or(LIFETIME, |end| short_of(end.duration_since(now).unwrap_or_default()).min(LIFETIME))
}

/// What is believed of a lifetime that the application has named.
pub(super) fn short_of(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(MARGIN)
}

impl Bearers {
    /// Waits until no other request asks about this bearer.
    pub async fn turn(&self, bearer: Fingerprint) -> TurnGuard {
        let turn = self.0.lock().entry(bearer).or_default().clone();
        // Made before the wait: who gives up waiting cleans up as well.
        let mut place = TurnGuard { turns: self.0.clone(), bearer, guard: None };
        place.guard = Some(turn.lock_owned().await);
        place
    }

    /// Asks Home Assistant.
    ///
    /// # Errors
    ///
    /// If it refuses the bearer, or does not answer.
    pub async fn prove(&self, attempt: Attempt, field: &HeaderValue, accepted: &Accepted) -> Result<(), Refusal> {
        match ask(field, accepted).await {
            Answer::Succeeded(_) => {
                let lifetime = lifetime(token_in(field.as_bytes()), attempt.guard());
                attempt.finish(Outcome::Succeeded { lifetime });
                Ok(())
            }
            Answer::Failed(_) => {
                attempt.finish(Outcome::Failed);
                Err(Denial::StaleCredential.into())
            }
            Answer::Advanced(_) | Answer::Harmless | Answer::Unknown => {
                attempt.finish(Outcome::Unjudged);
                Err(Refusal { denial: Denial::Unprovable, retry_after: Some(TROUBLE_WAIT) })
            }
        }
    }
}

/// What Home Assistant says to a bearer at the one address whose answer means only that.
pub(super) async fn ask(field: &HeaderValue, accepted: &Accepted) -> Answer {
    let upstream = &accepted.route.upstream;
    match upstream.ask_about(field, accepted.client, &accepted.authority).await {
        Ok(status) => judge_api_root(status),
        Err(trouble) => {
            upstream.failed(trouble);
            Answer::Harmless
        }
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        let mut turns = self.turns.lock();
        drop(self.guard.take());
        // The map's own and nobody else's: nobody waits.
        if turns.get(&self.bearer).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.bearer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::fingerprint::{Fingerprints, Kind};

    #[tokio::test]
    async fn one_asks_at_a_time_and_nothing_is_left_behind() {
        let keys = Fingerprints::new(&[1; 32]);
        let (one, other) = (keys.of(Kind::Token, "ha", b"one"), keys.of(Kind::Token, "ha", b"other"));
        let bearers = Arc::new(Bearers::default());
        let turn = bearers.turn(one).await;
        let waiting = tokio::spawn({
            let bearers = bearers.clone();
            async move { drop(bearers.turn(one).await) }
        });
        drop(bearers.turn(other).await);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(turn);
        waiting.await.unwrap();
        assert!(bearers.0.lock().is_empty());
    }
}
