//! Brings messages to one destination, one at a time: the only place where an event causes I/O.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::sync::mpsc::Receiver;

use super::backlog::{Backlog, Fate};
use super::message::Told;
use super::target::{Target, Undelivered};
use crate::clock::{Clock, Moment};
use crate::metrics::Metrics;

/// What a courier works with.
pub(super) struct Courier {
    pub target: Arc<ArcSwap<Target>>,
    pub queue: Receiver<Arc<Told>>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

type Delivery = Pin<Box<dyn Future<Output = Result<StatusCode, Undelivered>> + Send>>;

impl Courier {
    /// Runs until nobody can tell it anything more; then tries once what is left.
    pub async fn run(mut self) {
        let mut backlog = Backlog::default();
        let mut under_way: Option<Delivery> = None;
        loop {
            let due = backlog.due(self.target.load().pace());
            tokio::select! {
                told = self.queue.recv() => match told {
                    Some(told) => backlog.add(told, self.clock.now()),
                    None => break,
                },
                () = until(due, self.clock) => under_way = self.send(&mut backlog),
                outcome = finished(&mut under_way) => {
                    under_way = None;
                    self.settle(&mut backlog, outcome);
                }
            }
        }
        if let Some(delivery) = under_way {
            let outcome = delivery.await;
            self.settle(&mut backlog, outcome);
        }
        while let Some(delivery) = self.send(&mut backlog) {
            match delivery.await {
                Ok(status) => self.settle(&mut backlog, Ok(status)),
                Err(error) => self.lost(&error.to_string(), backlog.refused()),
            }
        }
    }

    fn send(&self, backlog: &mut Backlog) -> Option<Delivery> {
        let message = backlog.take(self.clock.now())?;
        let target = self.target.load_full();
        Some(Box::pin(async move { target.deliver(&message).await }))
    }

    fn settle(&self, backlog: &mut Backlog, outcome: Result<StatusCode, Undelivered>) {
        let name = self.name();
        match outcome {
            Ok(_) => {
                self.metrics.events.message(&name, "sent");
                if backlog.arrived() > 0 {
                    log::info!("events delivered again destination={name}");
                }
            }
            Err(error) if error.is_final => {
                self.metrics.events.message(&name, "refused");
                self.lost(&error.to_string(), backlog.refused());
            }
            Err(error) => match backlog.failed(self.clock.now()) {
                Fate::Again { after } => {
                    self.metrics.events.message(&name, "retried");
                    let after = humantime::format_duration(after);
                    log::warn!("events not delivered, trying again in {after}: destination={name} reason={error}");
                }
                Fate::GivenUp { events } => {
                    self.metrics.events.message(&name, "given_up");
                    self.lost(&error.to_string(), events);
                }
            },
        }
    }

    fn lost(&self, why: &str, events: u64) {
        self.metrics.events.dropped(events);
        log::error!("events lost: destination={} events={events} reason={why}", self.name());
    }

    fn name(&self) -> String {
        self.target.load().destination.name.clone()
    }
}

async fn until(due: Option<Moment>, clock: Clock) {
    match due {
        Some(due) => tokio::time::sleep(clock.now().until(due)).await,
        None => pending().await,
    }
}

async fn finished(under_way: &mut Option<Delivery>) -> Result<StatusCode, Undelivered> {
    match under_way {
        Some(delivery) => delivery.await,
        None => pending().await,
    }
}
