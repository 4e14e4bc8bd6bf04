//! The task that looks every ten seconds at what has been counted, for the history of the last hour.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use super::gate::Gate;
use crate::history::STEP;

pub(super) async fn sample(gate: Arc<Gate>) {
    let mut ticks = interval(STEP);
    // After the machine has slept, one look makes up for all that were missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let connections = u32::try_from(gate.connections.open()).unwrap_or(u32::MAX);
        gate.history.observe(gate.guard.now(), gate.metrics.totals(), connections);
    }
}
