//! What the other rooms find out, as events for the operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ipnet::IpNet;

use super::gate::Gate;
use crate::acme::Report;
use crate::bans::Ban;
use crate::clock::Clock;
use crate::events::{Event, Events, Fare, Storm, Upstreams, Why};
use crate::guard::{Newcomer, Witness};
use crate::snapshot::Snapshot;
use crate::tls::RefreshOutcome;
use crate::upstream::health::Condition;

/// Between two looks at upstreams and failed logins.
const LOOK: Duration = Duration::from_secs(5);
/// Failures in a row that are worth a message.
const REFUSALS: u32 = 2;

/// Hears of things and passes them on.
pub(super) struct Tidings {
    events: Events,
    clock: Clock,
    failed_logins: AtomicU64,
}

impl Tidings {
    pub fn new(events: Events, clock: Clock) -> Self {
        Self { events, clock, failed_logins: AtomicU64::new(0) }
    }

    /// Gives what waits a moment to be told.
    pub async fn close(&self) {
        self.events.close().await;
    }

    /// What a look at the files has brought.
    pub fn of_certificate(&self, outcome: &RefreshOutcome) {
        match outcome {
            RefreshOutcome::Replaced { host, not_after, .. } | RefreshOutcome::Renewed { host, not_after } => {
                self.events.certificate_renewed(host, *not_after);
            }
            RefreshOutcome::Failed { host, error } => self.events.certificate_failed(host, &error.to_string()),
            RefreshOutcome::ExpiresSoon { host, not_after } => self.events.certificate_expires_soon(host, *not_after),
            RefreshOutcome::Expired { host, not_after } => self.events.certificate_expired(host, *not_after),
        }
    }
}

impl Tidings {
    /// Who waits for a certificate and has been refused again: once is a bad hour of the network's.
    fn of_authorities(&self, reports: &[Report]) {
        for report in reports.iter().filter(|report| report.memory.failures >= REFUSALS) {
            let Some(error) = &report.memory.error else { continue };
            report.wanted.hosts.iter().for_each(|host| self.events.certificate_failed(host, &error.sentence));
        }
    }
}

impl Witness for Tidings {
    fn banned(&self, ban: &Ban) {
        let now = self.clock.now();
        self.events.tell(Event::Ban {
            network: ban.network,
            cause: ban.cause.as_str(),
            until: self.clock.wall(ban.until),
            seconds: now.until(ban.until).as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
            strikes: ban.strikes,
            reason: ban.reason.as_ref().map(|reason| Why::new(reason.as_str())),
        });
    }

    fn unbanned(&self, network: IpNet) {
        self.events.tell(Event::BanLifted { network });
    }

    fn met(&self, newcomer: &Newcomer<'_>) {
        let Newcomer { host, client, proof } = *newcomer;
        self.events.tell(Event::NewDevice { host: host.to_owned(), network: client.network(), proof });
    }

    fn login_failed(&self) {
        self.failed_logins.fetch_add(1, Relaxed);
    }
}

/// Looks again and again at what changes too often to be told each time.
pub(super) async fn look_around(gate: Arc<Gate>) {
    let (mut upstreams, mut storm) = (Upstreams::default(), Storm::default());
    loop {
        tokio::time::sleep(LOOK).await;
        let (tidings, now) = (&gate.tidings, gate.tidings.clock.now());
        tidings.of_authorities(&gate.acme.report());
        tidings.events.tell_all(upstreams.look(fares(&gate.snapshot.load()), now));
        tidings.events.tell_all(storm.look(tidings.failed_logins.load(Relaxed), now));
    }
}

fn fares(snapshot: &Snapshot) -> Vec<(String, Fare)> {
    let fare = |condition| match condition {
        Condition::Unknown => Fare::Unknown,
        Condition::Healthy => Fare::Up,
        Condition::Trouble(trouble) => Fare::Down(trouble.advice().to_owned()),
        Condition::Distrusts { gate } => Fare::Down(format!("Home Assistant does not trust {gate} as a proxy")),
    };
    let upstreams = snapshot.upstreams.iter();
    upstreams.map(|upstream| (upstream.host.to_string(), fare(upstream.condition()))).collect()
}
