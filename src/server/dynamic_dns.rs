//! Dynamic DNS in the running gate: its task, and what the operator is shown of it.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::gate::Gate;
use crate::admin::{DynamicDnsStatus, DynamicName, DynamicNameFailure};
use crate::clock::Clock;
use crate::dynamic_dns::{DynamicDns, NameReport, Settings};

/// Starts to keep the names of the configuration in force pointed at this home.
pub(super) fn tend(tasks: &mut JoinSet<()>, gate: &Arc<Gate>) {
    let gate = gate.clone();
    let clock = gate.guard.clock();
    tasks.spawn(async move {
        let settings = || {
            let snapshot = gate.snapshot.load();
            Settings { config: snapshot.config.dynamic_dns.clone(), dns: snapshot.dns.clone() }
        };
        gate.dynamic_dns.tend(settings, || clock.now()).await;
    });
}

/// `None` without names.
pub(super) fn status(dynamic_dns: &DynamicDns, clock: Clock) -> Option<DynamicDnsStatus> {
    let report = dynamic_dns.report();
    let names = report.names.into_iter().map(|name| shown(name, clock)).collect::<Vec<_>>();
    (!names.is_empty()).then_some(DynamicDnsStatus { names, problems: report.problems })
}

fn shown(name: NameReport, clock: Clock) -> DynamicName {
    let failure = |(error, next_attempt)| DynamicNameFailure { error, next_attempt: clock.wall(next_attempt) };
    DynamicName {
        name: name.name,
        ipv4: name.records.ipv4,
        ipv6: name.records.ipv6,
        last_change: name.last_change.map(|at| clock.wall(at)),
        failure: name.trouble.map(failure),
    }
}
