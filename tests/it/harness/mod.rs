//! What the tests are told with: a gate, clients and fake upstreams.

pub mod authority;
pub mod client;
pub mod gate;
pub mod guest;
pub mod home_assistant;
pub mod household;
pub mod http2;
pub mod raw_http2;
pub mod raw_upstream;
pub mod websocket;

use std::future::Future;
use std::time::{Duration, Instant};

pub use authority::Authority;
pub use client::{Answer, Client};
pub use gate::{Gate, Setup};
pub use guest::{Guest, guarded};
pub use home_assistant::FakeHomeAssistant;
pub use household::Household;
pub use raw_upstream::RawUpstream;

/// Longer than anything takes on a busy machine; only failures wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, but not for ever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("still waiting after {PATIENCE:?}: {what}"))
}

/// Polls until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
