//! The background task of one upstream: looks its name up again and again, and asks how it fares.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Upstream;
use super::health::Condition;

/// How often a name is looked up. Home routers hand out addresses with such lifetimes, and the system's resolver
/// caches what it may.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// While something is wrong, so that the all-clear comes soon.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks at a suspected distrust, however many requests suspect it.
const SUSPICION_INTERVAL: Duration = Duration::from_secs(2);

/// Runs until the last configuration that names this upstream is gone.
pub async fn watch(upstream: Weak<Upstream>) {
    let mut resolved = Instant::now();
    loop {
        let Some(current) = upstream.upgrade() else { return };
        if resolved.elapsed() >= RESOLVE_INTERVAL || current.address().is_none() {
            current.resolve().await;
            resolved = Instant::now();
        }
        let wanted =
            !current.config.health_check.is_zero() || matches!(current.condition(), Condition::Distrusts { .. });
        if wanted && current.address().is_some() {
            let condition = current.probe().await;
            current.report(condition);
        }
        wait(&current).await;
    }
}

/// Waits for the next look, or for a suspicion.
async fn wait(upstream: &Arc<Upstream>) {
    let pause = match upstream.condition() {
        Condition::Healthy | Condition::Unknown if upstream.config.health_check.is_zero() => RESOLVE_INTERVAL,
        Condition::Healthy | Condition::Unknown => upstream.config.health_check.min(RESOLVE_INTERVAL),
        Condition::Trouble(_) | Condition::Distrusts { .. } => TROUBLE_INTERVAL,
    };
    tokio::select! {
        () = sleep(pause) => {}
        () = upstream.suspicion.notified() => {
            if let probed @ Condition::Distrusts { .. } = upstream.probe().await {
                upstream.report(probed);
            }
            sleep(SUSPICION_INTERVAL).await;
        }
    }
}
