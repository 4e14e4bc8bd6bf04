//! Tends to all certificates: looks what is due, does it, and sleeps until the next.

mod attempt;
#[cfg(test)]
mod fixtures;
mod poll;

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::aside;
use super::challenges::Challenges;
use super::files::Files;
use super::memory::{Due, Held, Memory, Request};
use super::problem::{Failure, Step, date};
use super::record::{self, Record};
use super::report::{Activity, Report};
use super::schedule;
use super::{Settings, Wanted};
use crate::metrics::{CertificateState, Metrics};

/// All certificates of one gate.
#[derive(Debug)]
pub struct Acme {
    files: Files,
    challenges: Arc<Challenges>,
    metrics: Arc<Metrics>,
    record: Record,
    wake: Notify,
    /// In the order of the configuration.
    kept: Mutex<Vec<Kept>>,
}

/// What the certificates need of the gate around them.
#[async_trait::async_trait]
pub trait Surroundings: Send + Sync {
    /// As they are in force; `None`: no certificate is wanted.
    fn settings(&self) -> Option<Settings>;

    /// Returns when the certificates in the files are those that are served.
    async fn serve(&self);
}

/// An attempt whose end somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// The certificate's.
    pub name: String,
    /// [`Report::attempts`] when it has ended.
    pub attempts: u64,
}

#[derive(Debug)]
struct Kept {
    wanted: Wanted,
    request: Request,
    memory: Memory,
    held: Option<Held>,
    due: Option<Due>,
    step: Option<Step>,
    attempts: u64,
}

/// What comes next.
enum Task {
    Order(Wanted),
    /// Asking the authority when it would like the certificate to be renewed.
    Poll(Wanted, Held),
    Sleep(Duration),
}

impl Acme {
    pub fn new(state_directory: &std::path::Path, challenges: Arc<Challenges>, metrics: Arc<Metrics>) -> Self {
        Self {
            files: Files::new(state_directory),
            challenges,
            metrics,
            record: Record::new(record::LAPSE),
            wake: Notify::new(),
            kept: Mutex::default(),
        }
    }

    /// Does what is due, for ever. May be dropped at any moment; [`Acme::stop`] then tidies up.
    pub async fn tend(&self, gate: &dyn Surroundings) {
        loop {
            let settings = gate.settings();
            self.adopt(settings.as_ref()).await;
            let task = self.next_task(SystemTime::now());
            match (task, &settings) {
                (Task::Order(wanted), Some(settings)) => {
                    self.attempt(&wanted, settings, gate).await;
                }
                (Task::Poll(wanted, held), Some(settings)) => {
                    let polled = AssertUnwindSafe(Box::pin(self.poll(&wanted, &held, settings))).catch_unwind().await;
                    if polled.is_err() {
                        log::error!("acme: asking when to renew has panicked, the gate has a bug");
                        self.sleep(LONGEST_SLEEP).await;
                    }
                }
                (Task::Sleep(length), _) => self.sleep(length).await,
                (Task::Order(_) | Task::Poll(..), None) => self.sleep(LONGEST_SLEEP).await,
            }
        }
    }

    /// The configuration may be another one.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// After [`Acme::tend`] was dropped: takes away what an attempt has left with a provider, in a second at most.
    pub async fn stop(&self) {
        self.record.withdraw_in_haste().await;
    }

    /// Asks for attempts now: for the certificate called `name`, or that has it among its names or hosts, or for all of
    /// them. An attempt that is under way already will do. Empty: there is no such certificate.
    pub fn renew(&self, name: Option<&str>) -> Vec<Awaited> {
        let mut awaited = Vec::new();
        for kept in self.kept.lock().iter_mut().filter(|kept| name.is_none_or(|name| kept.wanted.is_called(name))) {
            if kept.step.is_none() {
                kept.memory.ask();
            }
            awaited.push(Awaited { name: kept.wanted.name(), attempts: kept.attempts + 1 });
        }
        self.wake.notify_one();
        awaited
    }

    /// All certificates, in the order of the configuration.
    pub fn report(&self) -> Vec<Report> {
        self.kept.lock().iter().map(Kept::report).collect()
    }

    async fn sleep(&self, length: Duration) {
        let woken = pin!(self.wake.notified());
        // No longer than a minute at once: the wall clock may be set meanwhile.
        let _ = tokio::time::timeout(length.min(LONGEST_SLEEP), woken).await;
    }

    /// Takes over what is wanted now, with what is remembered of it.
    async fn adopt(&self, settings: Option<&Settings>) {
        let wanted = settings.map(|settings| settings.wanted.as_slice()).unwrap_or_default();
        let is_known = |wanted: &&Wanted| self.kept.lock().iter().any(|kept| kept.wanted.name() == wanted.name());
        let new: Vec<Wanted> = wanted.iter().filter(|wanted| !is_known(wanted)).cloned().collect();
        let files = self.files.clone();
        let load = move || -> Vec<_> {
            let load = |wanted: Wanted| {
                let loaded =
                    files.memory(&wanted.certificate).and_then(|memory| Ok((memory, files.held(&wanted.certificate)?)));
                // It is tried again in a minute. Taken for none, it would cost an order, and the memory of all others.
                let loaded = loaded.inspect_err(|error| log::error!("acme: name={} waits: {error}", wanted.name()));
                Some((loaded.ok()?, wanted))
            };
            new.into_iter().filter_map(load).collect()
        };
        let loaded = if wanted.is_empty() { Vec::new() } else { aside(load).await.unwrap_or_default() };
        let mut kept = self.kept.lock();
        let mut before = std::mem::take(&mut *kept);
        let Some(settings) = settings else { return self.measure(&[]) };
        let directory = &settings.authority.config().directory;
        for ((memory, held), wanted) in loaded {
            let request = Request::new(&wanted.certificate, directory);
            before.push(Kept { wanted, request, memory, held, due: None, step: None, attempts: 0 });
        }
        for wanted in &settings.wanted {
            let Some(at) = before.iter().position(|kept| kept.wanted.name() == wanted.name()) else { continue };
            let mut known = before.swap_remove(at);
            known.request = Request::new(&wanted.certificate, directory);
            known.memory.forgive_if_changed(settings, &wanted.certificate);
            known.wanted = wanted.clone();
            kept.push(known);
        }
    }

    fn next_task(&self, now: SystemTime) -> Task {
        let mut kept = self.kept.lock();
        for kept in kept.iter_mut() {
            kept.look(now);
        }
        self.measure(&kept);
        let earliest = kept.iter().filter_map(|kept| Some((kept.due?.at, kept))).min_by_key(|(at, _)| *at);
        if let Some((at, kept)) = earliest
            && at <= now
        {
            return Task::Order(kept.wanted.clone());
        }
        for kept in kept.iter() {
            if let Some(held) = kept.held.as_ref().filter(|held| kept.memory.is_poll_due(held, now)) {
                return Task::Poll(kept.wanted.clone(), held.clone());
            }
        }
        let left = earliest.and_then(|(at, _)| at.duration_since(now).ok());
        Task::Sleep(left.unwrap_or(LONGEST_SLEEP))
    }

    async fn save(&self, wanted: &Wanted, is_over: bool) {
        let Some(memory) = self.kept.lock().iter().find(|kept| kept.wanted == *wanted).map(|kept| kept.memory.clone())
        else {
            return;
        };
        let (files, certificate) = (self.files.clone(), wanted.certificate.clone());
        let saving = aside(move || {
            if let Err(error) = files.save_memory(&certificate, &memory) {
                log::error!(
                    "acme: what is remembered of a certificate cannot be written, a restart forgets it: {error}"
                );
            }
            if is_over {
                files.drop_pending(&certificate);
            }
        });
        // It has said all there is to say.
        let _ = saving.await;
    }

    fn with(&self, name: &str, change: impl FnOnce(&mut Kept)) {
        if let Some(kept) = self.kept.lock().iter_mut().find(|kept| kept.wanted.name() == name) {
            change(kept);
        }
    }

    fn why(&self, name: &str) -> &'static str {
        let kept = self.kept.lock();
        let due = kept.iter().find(|kept| kept.wanted.name() == name).and_then(|kept| kept.due);
        due.map_or("", |due| due.why.as_str())
    }

    fn log(&self, name: &str, outcome: &Result<(), Failure>, now: SystemTime) {
        let kept = self.kept.lock();
        let Some(kept) = kept.iter().find(|kept| kept.wanted.name() == name) else { return };
        let life = kept.held.as_ref().map(|held| held.life);
        match outcome {
            Ok(()) => {
                let not_after = life.map_or_else(String::new, |life| date(life.not_after));
                log::info!("acme: a certificate is had and served name={name} not_after={not_after}");
            }
            Err(failure) => {
                let again = kept.memory.wait_until.map_or_else(String::new, date);
                let level = if schedule::is_urgent(life, now) { log::Level::Error } else { log::Level::Warn };
                let left = life.map_or_else(|| "none".to_owned(), |life| date(life.not_after));
                log::log!(
                    level,
                    "acme: no certificate name={name} step=\"{}\" failures={} next_attempt={again} served_until={left}: {}",
                    failure.step,
                    kept.memory.failures,
                    failure.sentence
                );
            }
        }
    }

    fn measure(&self, kept: &[Kept]) {
        self.metrics.acme.certificates(kept.iter().map(|kept| CertificateState {
            certificate: kept.wanted.name(),
            last_success: kept.memory.last_success,
            next_attempt: kept.due.map(|due| due.at),
            failures: kept.memory.failures,
        }));
    }
}

impl Kept {
    /// What is due, and when.
    fn look(&mut self, now: SystemTime) {
        let due = self.memory.due(self.held.as_ref(), &self.request, now);
        if due.is_too_soon && !self.due.is_some_and(|before| before.is_too_soon) {
            log::warn!(
                "acme: a certificate is due again right after it was had, it waits; check this machine's clock \
                 name={} why=\"{}\" next_attempt={}",
                self.wanted.name(),
                due.why.as_str(),
                date(due.at)
            );
        }
        self.due = Some(due);
    }

    fn report(&self) -> Report {
        let activity = match &self.step {
            Some(step) => Activity::Ordering(step.clone()),
            None if self.due.is_some_and(|due| due.at > due.renewal) && self.memory.failures > 0 => Activity::Waiting,
            None => Activity::Idle,
        };
        Report {
            wanted: self.wanted.clone(),
            activity,
            held: self.held.clone(),
            memory: self.memory.clone(),
            due: self.due,
            attempts: self.attempts,
        }
    }
}

impl Wanted {
    fn is_called(&self, name: &str) -> bool {
        let names = self.certificate.names.iter().map(ToString::to_string);
        names.chain(self.hosts.iter().cloned()).any(|own| own.eq_ignore_ascii_case(name))
    }
}

const LONGEST_SLEEP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
