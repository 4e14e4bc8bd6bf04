//! One attempt from its beginning to what is remembered of it, whether it ends, panics or is broken off.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use instant_acme::CertificateIdentifier;

use super::{Acme, Surroundings};
use crate::acme::memory::{Held, Request};
use crate::acme::order::Attempt;
use crate::acme::problem::{Failure, Step};
use crate::acme::proof::Tried;
use crate::acme::record;
use crate::acme::schedule::{Luck, Why};
use crate::acme::transport::Transport;
use crate::acme::{Settings, Wanted, aside};

impl Acme {
    pub(super) async fn attempt(&self, wanted: &Wanted, settings: &Settings, gate: &dyn Surroundings) {
        let name = wanted.name();
        let Some((request, held, is_renewal, replaces)) = self.begin(wanted, settings) else { return };
        // Whatever becomes of the process, it is known that this was wanted.
        self.save(wanted, false).await;
        log::info!("acme: a certificate is asked for name={name} why=\"{}\"", self.why(&name));
        let progress = |step: Step| self.with(&name, |kept| kept.step = Some(step));
        let mut attempt = Attempt {
            settings,
            certificate: &wanted.certificate,
            request: request.clone(),
            held,
            is_renewal,
            replaces,
            files: &self.files,
            challenges: &self.challenges,
            record: &self.record,
            progress: &progress,
            transport: Transport::new(settings.authority.http.clone()),
            deadline: Instant::now() + limit(settings, wanted),
            tried: Tried::default(),
        };
        // On the heap: this is by far the largest of the futures here. A panic, be it a library's, costs the attempt and
        // no more: what it has changed is dropped with it.
        let outcome = tokio::select! {
            outcome = AssertUnwindSafe(Box::pin(attempt.run())).catch_unwind() => Some(outcome),
            () = self.superseded(wanted, gate) => None,
        };
        // After a panic and when it was broken off there may be one.
        self.record.withdraw().await;
        let refused = attempt.tried.refused();
        let Some(outcome) = outcome else {
            log::info!("acme: the settings are others, the attempt is broken off name={name}");
            return self.with(&name, |kept| {
                kept.memory.broken_off(refused, SystemTime::now());
                kept.step = None;
            });
        };
        let outcome = outcome.unwrap_or_else(|_| Err(Failure { refused, ..broken() }));
        let (files, certificate) = (self.files.clone(), wanted.certificate.clone());
        let held = aside(move || files.held(&certificate)).await;
        let now = SystemTime::now();
        match &outcome {
            Ok(()) => self.with(&name, |kept| kept.memory.succeeded(request, now)),
            Err(failure) => self.with(&name, |kept| kept.memory.failed(failure, now, luck())),
        }
        match held {
            Ok(Ok(held)) => self.with(&name, |kept| kept.held = held),
            // What was known of it before still holds, or is too old and therefore cautious enough.
            Ok(Err(error)) => log::error!("acme: the certificate that is kept is not seen name={name}: {error}"),
            Err(failure) => {
                log::error!("acme: the certificate that is kept is not seen name={name}: {}", failure.sentence)
            }
        }
        self.save(wanted, outcome.is_ok()).await;
        self.metrics.acme.order(&name, outcome.is_ok());
        if outcome.is_ok() {
            gate.serve().await;
        }
        self.log(&name, &outcome, now);
        // Last: whoever waits for the end of the attempt looks at what has come of it.
        self.with(&name, |kept| {
            kept.look(SystemTime::now());
            (kept.step, kept.attempts) = (None, kept.attempts + 1);
        });
    }

    /// Returns when the attempt for `wanted` is made with settings that are gone, unless it is so far that it may cost a
    /// certificate: what comes then is short.
    async fn superseded(&self, wanted: &Wanted, gate: &dyn Surroundings) {
        loop {
            self.wake.notified().await;
            let settings = gate.settings();
            let all = self.kept.lock();
            let Some(kept) = all.iter().find(|kept| kept.wanted == *wanted) else { return };
            let is_wanted = |settings: &Settings| {
                let own = settings.wanted.iter().find(|other| other.name() == wanted.name());
                own.is_some_and(|own| kept.memory.is_tried_with(settings, &own.certificate))
            };
            let is_early = matches!(kept.step, Some(Step::Account | Step::Order | Step::Name { .. }));
            if is_early && !settings.as_ref().is_some_and(is_wanted) {
                return;
            }
        }
    }

    /// What the attempt begins with.
    fn begin(
        &self,
        wanted: &Wanted,
        settings: &Settings,
    ) -> Option<(Request, Option<Held>, bool, Option<CertificateIdentifier<'static>>)> {
        let salt = u64::from(luck().0) << 32 | u64::from(luck().0);
        let mut all = self.kept.lock();
        let kept = all.iter_mut().find(|kept| kept.wanted == *wanted)?;
        kept.memory.try_with(settings, &wanted.certificate, salt, SystemTime::now());
        kept.step = Some(Step::Account);
        // Only its own authority knows what a certificate replaces.
        let is_foreign = kept.memory.had.as_ref().is_some_and(|had| had.directory() != kept.request.directory());
        let replaces = kept.held.as_ref().filter(|_| !is_foreign).and_then(|held| held.identifier.clone());
        let is_renewal = kept.due.is_some_and(|due| matches!(due.why, Why::Age | Why::Authority));
        Some((kept.request.clone(), kept.held.clone(), is_renewal, replaces))
    }
}

/// How long one attempt may take: each name may wait for its record at all servers, and until an earlier one is
/// forgotten; and each challenge may cost another order.
fn limit(settings: &Settings, wanted: &Wanted) -> Duration {
    let names = u32::try_from(wanted.certificate.names.len()).unwrap_or(u32::MAX);
    let record = settings.authority.config().propagation.timeout + record::LAPSE;
    ATTEMPT_LIMIT + record.saturating_mul(names)
}

fn broken() -> Failure {
    Failure::new(
        Step::Order,
        "the attempt has panicked, the gate has a bug: report it with what stands above in the log",
    )
}

fn luck() -> Luck {
    let mut bytes = [0; 4];
    // Without random bytes there is no TLS either; what is left is a wait without its jitter.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    Luck(u32::from_be_bytes(bytes))
}

/// One attempt, without the time that records take to be seen.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(15 * 60);
