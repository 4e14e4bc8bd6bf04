//! Telling the operator what happens: bans, new devices, certificates, reloads, upstreams.
//!
//! [`Events::tell`] never waits. Each destination has a bounded queue and a task of its own, which gathers what happens
//! within a moment, keeps its distance between two messages, and tries again for ten minutes when nobody answers; so a
//! destination that is slow or gone costs neither a request nor another destination anything. What does not fit and what
//! cannot be delivered is counted. Nothing is kept on disk.

mod backlog;
mod certificates;
mod courier;
mod event;
mod format;
mod message;
mod storm;
mod target;
#[cfg(test)]
mod tests;
mod upstreams;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::Topic;
use crate::metrics::Metrics;
use certificates::Certificates;
use courier::Courier;
pub use event::{Event, Urgency, Why};
pub use message::{Batch, Message, Told};
pub use storm::Storm;
pub use target::{Target, Undelivered};
pub use upstreams::{Fare, Upstreams};

/// Where events are told; cheap to clone.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    clock: Clock,
    metrics: Arc<Metrics>,
    listeners: ArcSwap<Vec<Listener>>,
    couriers: Mutex<JoinSet<()>>,
    certificates: Mutex<Certificates>,
}

/// The near end of a courier's queue; the courier ends when the last clone is gone.
#[derive(Clone)]
struct Listener {
    target: Arc<ArcSwap<Target>>,
    topics: Vec<Topic>,
    queue: Sender<Arc<Told>>,
}

impl Events {
    /// Tells nobody yet.
    pub fn new(clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner {
            clock,
            metrics,
            listeners: ArcSwap::default(),
            couriers: Mutex::default(),
            certificates: Mutex::default(),
        }))
    }

    /// Tells everybody who wants to hear of it. Never waits: what does not fit into a queue is dropped and counted.
    pub fn tell(&self, event: Event) {
        self.0.metrics.events.happened(event.kind());
        let topic = event.topic();
        let told = Arc::new(Told { at: SystemTime::now(), event });
        for listener in self.0.listeners.load().iter() {
            let wants = topic.is_none_or(|topic| listener.topics.contains(&topic));
            if wants && listener.queue.try_send(told.clone()).is_err() {
                self.0.metrics.events.dropped(1);
            }
        }
    }

    /// A host's certificate could not be had, renewed or read. Told once a day for each host.
    pub fn certificate_failed(&self, host: &str, why: &str) {
        let now = self.0.clock.now();
        let news = self.0.certificates.lock().failed(host, why, now);
        self.tell_all(news);
    }

    /// A host's certificate is near its end. Told once a day.
    pub fn certificate_expires_soon(&self, host: &str, not_after: SystemTime) {
        let now = self.0.clock.now();
        let news = self.0.certificates.lock().expires_soon(host, not_after, now);
        self.tell_all(news);
    }

    /// A host's certificate is past its end. Told once a day.
    pub fn certificate_expired(&self, host: &str, not_after: SystemTime) {
        let now = self.0.clock.now();
        let news = self.0.certificates.lock().expired(host, not_after, now);
        self.tell_all(news);
    }

    /// A host has a new certificate. Told if there was trouble before.
    pub fn certificate_renewed(&self, host: &str, not_after: SystemTime) {
        let news = self.0.certificates.lock().renewed(host, not_after);
        self.tell_all(news);
    }

    /// Tells each of them.
    pub fn tell_all(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// From now on these are told. A destination that stays as it was keeps what waits for it; one that goes is tried once
    /// more. Starts tasks: for a runtime's thread.
    pub fn set_targets(&self, targets: Vec<Target>) {
        let current = self.0.listeners.load_full();
        let mut couriers = self.0.couriers.lock();
        while couriers.try_join_next().is_some() {}
        let listeners = targets.into_iter().map(|target| {
            let same = current.iter().find(|listener| listener.target.load().destination == target.destination);
            match same {
                Some(listener) => {
                    // Its authorities may have changed on disk.
                    listener.target.store(Arc::new(target));
                    listener.clone()
                }
                None => self.listener(target, &mut couriers),
            }
        });
        self.0.listeners.store(Arc::new(listeners.collect()));
    }

    fn listener(&self, target: Target, couriers: &mut JoinSet<()>) -> Listener {
        let (queue, heard) = mpsc::channel(QUEUE);
        let topics = target.destination.tell.clone();
        let target = Arc::new(ArcSwap::from_pointee(target));
        let (clock, metrics) = (self.0.clock, self.0.metrics.clone());
        couriers.spawn(Courier { target: target.clone(), queue: heard, clock, metrics }.run());
        Listener { target, topics, queue }
    }

    /// Tells nobody anything more, and gives what waits a second to be delivered.
    pub async fn close(&self) {
        self.0.listeners.store(Arc::default());
        let mut couriers = std::mem::take(&mut *self.0.couriers.lock());
        let all = async { while couriers.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            couriers.shutdown().await;
        }
    }
}

/// Sends one test message to a destination, past queue and pace.
///
/// # Errors
///
/// If it did not arrive.
pub async fn test(target: &Target) -> Result<u16, Undelivered> {
    let mut batch = Batch::default();
    batch.add(Arc::new(Told { at: SystemTime::now(), event: Event::Test }));
    target.deliver(&batch.into_message()).await.map(|status| status.as_u16())
}

/// Events that may wait for one courier: it takes them as they come, so only a stalled runtime fills it.
const QUEUE: usize = 1024;
const LAST_WORDS: Duration = Duration::from_secs(1);
