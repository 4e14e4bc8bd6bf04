//! The servers behind the gate: where they are, how to reach them, and how they fare.

mod dial;
pub mod health;
mod probe;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;

pub use dial::DialError;
use health::{Condition, Trouble};
pub use watch::watch;

use crate::config::{self, App, UpstreamScheme};
use crate::metrics::{Metrics, UpstreamHealth};

/// One upstream of one host. Lives as long as a configuration names it, over any number of reloads.
#[derive(Debug)]
pub struct Upstream {
    /// Never used twice in the life of the process.
    pub id: u64,
    /// The host it serves, for logs and metrics.
    pub host: Arc<str>,
    pub app: App,
    pub config: config::Upstream,
    connect_timeout: Duration,
    /// Present for https.
    tls: Option<Arc<ClientConfig>>,
    /// The authorities for Pingora's own connections, DER; empty leaves it to the system's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What the name last resolved to; the old addresses stay when a look-up fails.
    addresses: ArcSwap<Vec<SocketAddr>>,
    /// Moves on when an address cannot be reached.
    preferred: AtomicUsize,
    condition: Mutex<Condition>,
    /// No configuration names it any more; what its last requests and its watcher still learn is not told.
    retired: AtomicBool,
    /// Asks for a look at the upstream's health now.
    suspicion: Notify,
    metrics: Arc<Metrics>,
}

/// How an https upstream is spoken to.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// For connections of our own.
    pub client: Arc<ClientConfig>,
    /// The same trust for Pingora's: DER, known to parse.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Upstream {
    /// Makes an upstream of which nothing is known yet. `tls` is needed for https.
    pub fn new(
        id: u64,
        host: Arc<str>,
        app: App,
        config: config::Upstream,
        connect_timeout: Duration,
        tls: Option<UpstreamTls>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let literal = config.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, config.port));
        let (tls, authorities) = tls.map(|tls| (tls.client, tls.authorities)).unzip();
        Self {
            id,
            host,
            app,
            connect_timeout,
            tls,
            authorities: authorities.unwrap_or_default(),
            addresses: ArcSwap::from_pointee(literal.into_iter().collect()),
            preferred: AtomicUsize::new(0),
            condition: Mutex::new(Condition::Unknown),
            retired: AtomicBool::new(false),
            suspicion: Notify::new(),
            metrics,
            config,
        }
    }

    /// Whether a reload may keep this one, with all it has learnt.
    pub fn serves(&self, host: &str, app: App, config: &config::Upstream, connect_timeout: Duration) -> bool {
        *self.host == *host && self.app == app && self.config == *config && self.connect_timeout == connect_timeout
    }

    /// The address to use next; `None` while the name has never resolved.
    pub fn address(&self) -> Option<SocketAddr> {
        let addresses = self.addresses.load();
        let at = self.preferred.load(Relaxed).checked_rem(addresses.len())?;
        addresses.get(at).copied()
    }

    /// How many addresses there are to try.
    pub fn address_count(&self) -> usize {
        self.addresses.load().len()
    }

    /// `address` could not be reached: the next request begins with another one, if there is one.
    pub fn avoid(&self, address: SocketAddr) {
        if self.address() == Some(address) {
            self.preferred.fetch_add(1, Relaxed);
        }
    }

    /// Host and port as in a URL.
    pub fn authority(&self) -> String {
        let config::Upstream { host, port, .. } = &self.config;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    pub fn is_tls(&self) -> bool {
        self.config.scheme == UpstreamScheme::Https
    }

    /// A reload has put another one in its place.
    pub fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// Says in the metrics how it fared last.
    pub fn publish(&self) {
        let health = match self.condition() {
            Condition::Unknown => UpstreamHealth::Unknown,
            Condition::Healthy => UpstreamHealth::Up,
            Condition::Trouble(_) => UpstreamHealth::Down,
            Condition::Distrusts { .. } => UpstreamHealth::Distrusts,
        };
        self.metrics.upstream_health(&self.host, health);
        self.metrics.upstream_may_fail(&self.host, Trouble::ALL.iter().map(|trouble| trouble.as_str()));
    }

    /// How it fared last.
    pub fn condition(&self) -> Condition {
        *self.condition.lock()
    }

    /// It looks as if the upstream did not trust this gate; the watcher will make sure.
    pub fn suspect(&self) {
        self.suspicion.notify_one();
    }

    /// Takes note of how it fares. Changes are logged, once, here.
    pub fn report(&self, now: Condition) {
        let before = std::mem::replace(&mut *self.condition.lock(), now);
        if before == now || self.retired.load(Relaxed) {
            return;
        }
        self.publish();
        let (host, upstream) = (&self.host, self.authority());
        match now {
            Condition::Unknown => {}
            Condition::Healthy => log::info!("upstream answers host={host} upstream={upstream}"),
            Condition::Trouble(trouble) => {
                log::error!("upstream does not answer: {} host={host} upstream={upstream}", trouble.advice());
            }
            Condition::Distrusts { gate } => log::error!("{} host={host}", health::distrust_advice(gate)),
        }
    }

    /// Takes note of an answer to a request: it is reachable, whatever it said.
    pub fn answered(&self) {
        // The watcher alone decides that distrust has ended: it compares two requests, a single answer cannot.
        if !matches!(self.condition(), Condition::Healthy | Condition::Distrusts { .. }) {
            self.report(Condition::Healthy);
        }
    }

    /// Takes note of a request that failed.
    pub fn failed(&self, trouble: Trouble) {
        self.metrics.upstream_failed(&self.host, trouble.as_str());
        self.report(Condition::Trouble(trouble));
    }

    /// Looks the name up; keeps the old addresses when that fails.
    pub async fn resolve(&self) {
        if self.config.host.parse::<IpAddr>().is_ok() {
            return;
        }
        let name = (self.config.host.as_str(), self.config.port);
        match tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(name)).await {
            Ok(Ok(found)) => {
                let found: Vec<_> = found.take(MAX_ADDRESSES).collect();
                if !found.is_empty() && found != **self.addresses.load() {
                    log::info!("upstream resolved host={} upstream={} addresses={found:?}", self.host, name.0);
                    self.addresses.store(Arc::new(found));
                }
            }
            Ok(Err(_)) | Err(_) if self.address().is_none() => self.report(Condition::Trouble(Trouble::Dns)),
            Ok(Err(error)) => {
                log::warn!("upstream name not resolved, keeping its addresses host={}: {error}", self.host)
            }
            Err(_) => log::warn!("upstream name not resolved in time, keeping its addresses host={}", self.host),
        }
    }
}

/// More addresses than any home server has.
const MAX_ADDRESSES: usize = 16;
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
