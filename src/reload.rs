//! From a configuration file to the snapshot in force: the only writer of the snapshot.
//!
//! All or nothing: whatever is wrong with a new configuration, the old one goes on serving, and log, answer and
//! metric say why. Stores, sockets and WebSockets are not touched.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::{Mutex, watch};

use crate::acme::{self, Authority};
use crate::admin::{LastReload, ReloadOutcome, ReloadReport};
use crate::clock::Clock;
use crate::config::{self, CertificateSource, Config, UpstreamScheme, UpstreamVerification};
use crate::dns::Dns;
use crate::events::{Event, Events, Target, Why};
use crate::metrics::{CertificateLife, Metrics};
use crate::snapshot::Snapshot;
use crate::tls::{self, CertificateEntry, CertificateStore, ClientAuth, EntrySource, Prepared};
use crate::upstream::{self, Upstream, UpstreamTls};

/// Makes snapshots from configurations, carrying over what an earlier one has learnt.
pub struct Builder {
    certificates: Arc<CertificateStore>,
    metrics: Arc<Metrics>,
    events: Events,
    next_upstream: AtomicU64,
}

/// A snapshot that is ready to go into force.
pub struct Built {
    snapshot: Snapshot,
    certificates: Prepared,
    targets: Vec<Target>,
}

impl Builder {
    pub fn new(certificates: Arc<CertificateStore>, metrics: Arc<Metrics>, events: Events) -> Self {
        Self { certificates, metrics, events, next_upstream: AtomicU64::new(1) }
    }

    /// Compiles `config` without touching anything that is in force. All errors at once, each a sentence.
    ///
    /// Reads certificates and authorities: not for an async thread.
    pub fn build(&self, config: Config, previous: Option<&Snapshot>) -> Result<Built, Vec<String>> {
        let mut errors = Vec::new();
        let mut upstreams = Vec::with_capacity(config.hosts.len());
        for host in &config.hosts {
            match self.upstream(host, &config, previous) {
                Ok(upstream) => upstreams.push(upstream),
                Err(error) => errors.push(format!("hosts.{}.upstream: {error}", host.name)),
            }
        }
        let mut client_auth = HashMap::new();
        for host in &config.hosts {
            match self.client_auth(host, previous) {
                Ok(auth) => client_auth.extend(auth.map(|auth| (host.name.clone(), auth))),
                Err(error) => errors.push(format!("hosts.{}.client_ca_file: {error}", host.name)),
            }
        }
        let dns = dns(&config, previous).map_err(|error| errors.push(format!("dns: {error}"))).ok();
        let authority = authority(&config).unwrap_or_else(|more| {
            errors.extend(more);
            None
        });
        let targets = Target::load(&config.events).unwrap_or_else(|more| {
            errors.extend(more);
            Vec::new()
        });
        let entries: Vec<_> =
            config.hosts.iter().map(|host| certificate_entry(host, &config.state_directory)).collect();
        match (self.certificates.prepare(&entries, &config.state_directory, SystemTime::now()), dns) {
            (Ok(certificates), Some(dns)) if errors.is_empty() => {
                let generation = previous.map_or(1, |previous| previous.generation + 1);
                Ok(Built {
                    snapshot: Snapshot::new(generation, config, upstreams, &client_auth, dns, authority),
                    certificates,
                    targets,
                })
            }
            (Ok(_), _) => Err(errors),
            (Err(more), _) => {
                errors.extend(more.iter().map(ToString::to_string));
                Err(errors)
            }
        }
    }

    /// The same, on a thread that may wait for the disk.
    async fn build_aside(
        self: &Arc<Self>,
        config: Config,
        previous: Option<Arc<Snapshot>>,
    ) -> Result<Built, Vec<String>> {
        let builder = self.clone();
        let built = tokio::task::spawn_blocking(move || builder.build(config, previous.as_deref()));
        let bug = |_| Err(vec!["the configuration could not be compiled: the gate has a bug".into()]);
        let built = built.await.unwrap_or_else(bug)?;
        // An upstream that is new has an address before its first request, if its name resolves at all.
        let unresolved = built.snapshot.upstreams.iter().filter(|upstream| upstream.address().is_none());
        join_all(unresolved.map(|upstream| upstream.resolve())).await;
        Ok(built)
    }

    /// Puts `built` into force: certificates first, so that no host is routed that cannot be greeted.
    async fn commit(&self, built: Built) -> Arc<Snapshot> {
        let Built { snapshot, certificates, targets } = built;
        let store = self.certificates.clone();
        // Writing a self-signed certificate is the only thing that may take time; failing to is not fatal.
        let _ = tokio::task::spawn_blocking(move || store.commit(certificates)).await;
        self.metrics.configured(snapshot.upstreams.iter().map(|upstream| upstream.host.clone()));
        snapshot.upstreams.iter().for_each(|upstream| upstream.publish());
        record_certificates(&self.metrics, &self.certificates);
        warn_of_unverified(&snapshot.config);
        warn_of_own_hosts(&snapshot, &targets);
        self.events.set_targets(targets);
        Arc::new(snapshot)
    }

    /// The first snapshot of the process.
    pub async fn first(self: &Arc<Self>, config: Config) -> Result<Arc<Snapshot>, Unusable> {
        let built = self.build_aside(config, None).await.map_err(Unusable)?;
        let snapshot = self.commit(built).await;
        self.metrics.reload_accepted(snapshot.generation, since_epoch());
        Ok(snapshot)
    }

    /// What a closed host demands of its clients; as long as that is the same, the settings in force stay.
    fn client_auth(
        &self,
        host: &config::Host,
        previous: Option<&Snapshot>,
    ) -> Result<Option<Arc<ClientAuth>>, tls::TlsError> {
        let Some(file) = &host.client_ca_file else { return Ok(None) };
        let auth = ClientAuth::load(file, self.certificates.clone())?;
        let in_force = previous.and_then(|previous| previous.routes.named(&host.name)?.client_auth.clone());
        Ok(Some(in_force.filter(|known| known.is_like(&auth)).unwrap_or_else(|| Arc::new(auth))))
    }

    fn upstream(
        &self,
        host: &config::Host,
        config: &Config,
        previous: Option<&Snapshot>,
    ) -> Result<Arc<Upstream>, tls::TlsError> {
        let name = host.name.to_string();
        let connect_timeout = config.timeouts.upstream_connect;
        let known = previous.into_iter().flat_map(|snapshot| &snapshot.upstreams);
        let verification = &host.upstream.verification;
        // The same path may hold other authorities by now.
        let authorities = match verification {
            UpstreamVerification::Authority(_) => tls::authorities(verification)?,
            _ => Vec::new(),
        };
        for upstream in known {
            let same_trust = authorities.is_empty() || upstream.authorities == authorities;
            if same_trust && upstream.serves(&name, host.app, &host.upstream, connect_timeout) {
                return Ok(upstream.clone());
            }
        }
        let tls = match host.upstream.scheme {
            UpstreamScheme::Http => None,
            UpstreamScheme::Https => Some(UpstreamTls {
                client: tls::client_config(verification)?,
                authorities: tls::authorities(verification)?,
            }),
        };
        let id = self.next_upstream.fetch_add(1, Relaxed);
        let metrics = self.metrics.clone();
        let upstream = Upstream::new(id, name.into(), host.app, host.upstream.clone(), connect_timeout, tls, metrics);
        Ok(Arc::new(upstream))
    }
}

/// The accounts of `dns`; as long as they are the same, those in force stay, with their connections.
fn dns(config: &Config, previous: Option<&Snapshot>) -> Result<Arc<Dns>, tls::TlsError> {
    let is_same = |known: &&Snapshot| {
        (&known.config.dns, &known.config.acme.propagation) == (&config.dns, &config.acme.propagation)
    };
    match previous.filter(is_same) {
        Some(known) => Ok(known.dns.clone()),
        None => Ok(Arc::new(Dns::new(&config.dns, &config.acme.propagation)?)),
    }
}

/// Whom certificates are asked of, if any host wants one.
fn authority(config: &Config) -> Result<Option<Arc<Authority>>, Vec<String>> {
    if acme::wanted(config)?.is_empty() {
        return Ok(None);
    }
    match Authority::new(&config.acme) {
        Ok(authority) => Ok(Some(Arc::new(authority))),
        Err(error) => Err(vec![format!("acme.ca_file: {error}")]),
    }
}

fn certificate_entry(host: &config::Host, state_directory: &Path) -> CertificateEntry {
    CertificateEntry {
        names: std::iter::once(&host.name).chain(&host.aliases).cloned().collect(),
        source: match &host.certificate {
            CertificateSource::SelfSigned => EntrySource::SelfSigned,
            CertificateSource::Files(files) => EntrySource::Files(files.clone()),
            CertificateSource::Acme(certificate) => EntrySource::Issued {
                file: acme::certificate_file(state_directory, certificate),
                until_then: certificate.terms.on_failure,
            },
        },
    }
}

fn warn_of_unverified(config: &Config) {
    for host in &config.hosts {
        if host.upstream.scheme == UpstreamScheme::Https && host.upstream.verification == UpstreamVerification::None {
            log::warn!("upstream certificate is not verified: whoever is in between can read along host={}", host.name);
        }
    }
}

/// Home Assistant hears webhooks from the home network only, and the gate would count its own messages.
fn warn_of_own_hosts(snapshot: &Snapshot, targets: &[Target]) {
    for target in
        targets.iter().filter(|target| target.host().is_some_and(|host| snapshot.routes.find(&host).is_some()))
    {
        let name = &target.destination.name;
        log::warn!("events go through the gate itself: write the address behind it in events.{name}.url");
    }
}

/// A configuration that is right in itself, but names certificates or authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Unusable(pub Vec<String>);

/// What a start with this configuration would stumble over: the path of a reload, without the swap. Nothing is written
/// and nothing listens.
pub fn check(config: Config) -> Result<(), Unusable> {
    tls::install_provider();
    let metrics = Arc::new(Metrics::new());
    let events = Events::new(Clock::start(), metrics.clone());
    let builder = Builder::new(Arc::new(CertificateStore::new()), metrics, events);
    builder.build(config, None).map(drop).map_err(Unusable)
}

/// Takes over what the certificate store knows.
pub fn record_certificates(metrics: &Metrics, certificates: &CertificateStore) {
    let facts = certificates.facts();
    let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let lives = facts.iter().map(|fact| CertificateLife {
        host: &fact.host,
        not_before: seconds(fact.not_before),
        not_after: seconds(fact.not_after),
    });
    metrics.certificates(lives, facts.iter().filter(|fact| fact.last_error.is_some()).count());
}

/// Reads the file on a thread that may wait for the disk.
async fn load_aside(file: PathBuf) -> Result<Config, String> {
    match tokio::task::spawn_blocking(move || Config::load(&file)).await {
        Ok(loaded) => loaded.map_err(|error| error.to_string()),
        Err(_) => Err("the configuration could not be read: the gate has a bug".into()),
    }
}

/// `None` while there is no such file.
fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// What there is to tell of a reload: refusals, and the first success after one.
fn news(report: &ReloadReport, before: Option<ReloadOutcome>) -> Option<Event> {
    match report.outcome {
        ReloadOutcome::Refused => {
            let restart = || format!("a restart is needed for {}", report.keys_needing_restart.join(", "));
            let why = report.errors.first().map_or_else(restart, Clone::clone);
            Some(Event::ReloadRefused { why: Why::new(&why) })
        }
        ReloadOutcome::Accepted | ReloadOutcome::Unchanged if before == Some(ReloadOutcome::Refused) => {
            Some(Event::ReloadAccepted { generation: report.generation })
        }
        ReloadOutcome::Accepted | ReloadOutcome::Unchanged => None,
    }
}

/// Reads the file again and swaps the snapshot.
pub struct Reloader {
    /// `None` for a configuration that came from no file.
    file: Option<PathBuf>,
    builder: Arc<Builder>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    one_at_a_time: Mutex<()>,
    last_reload: parking_lot::Mutex<Option<LastReload>>,
    /// The state of the file at the start.
    first_stamp: Option<Stamp>,
    /// The generation in force.
    generation: watch::Sender<u64>,
}

/// Lines of the last refusal that are remembered.
const ERRORS_KEPT: usize = 20;

/// What tells one state of a file from another without reading it: when it was written, its size and its inode.
pub type Stamp = (SystemTime, u64, u64);

impl Reloader {
    pub fn new(
        file: Option<PathBuf>,
        builder: Arc<Builder>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            first_stamp: file.as_deref().and_then(stamp),
            generation: watch::Sender::new(snapshot.load().generation),
            file,
            builder,
            snapshot,
            metrics,
            one_at_a_time: Mutex::default(),
            last_reload: parking_lot::Mutex::default(),
        }
    }

    /// Reloads when the file changes, for ever.
    ///
    /// Polls instead of asking inotify: an editor's rename, a bind mount and a network file system all look the same.
    pub async fn watch(&self, interval: Duration) {
        let Some(file) = &self.file else { return };
        let mut seen = self.first_stamp;
        loop {
            tokio::time::sleep(interval).await;
            let now = stamp(file);
            if now.is_some() && now != seen {
                seen = now;
                self.reload().await;
            }
        }
    }

    /// Tells when another configuration has gone into force, by its generation.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// How the last reload ended.
    pub fn last_reload(&self) -> Option<LastReload> {
        self.last_reload.lock().clone()
    }

    /// Reads, checks, builds and swaps.
    pub async fn reload(&self) -> ReloadReport {
        let _held = self.one_at_a_time.lock().await;
        let report = self.attempt().await;
        let now = LastReload {
            at: SystemTime::now(),
            outcome: report.outcome,
            errors: report.errors.iter().chain(&report.keys_needing_restart).take(ERRORS_KEPT).cloned().collect(),
        };
        let before = self.last_reload.lock().replace(now).map(|last| last.outcome);
        self.builder.events.tell_all(news(&report, before));
        match report.outcome {
            ReloadOutcome::Accepted | ReloadOutcome::Unchanged => {
                self.metrics.reload_accepted(report.generation, since_epoch());
                log::info!("configuration {} generation={}", report.outcome.as_str(), report.generation);
            }
            ReloadOutcome::Refused => {
                self.metrics.reload_refused();
                let why = report.errors.join("; ");
                log::error!(
                    "configuration refused, the old one goes on serving generation={}: {why}",
                    report.generation
                );
            }
        }
        report
    }

    async fn attempt(&self) -> ReloadReport {
        let current = self.snapshot.load_full();
        let refused = |errors, keys_needing_restart| ReloadReport {
            outcome: ReloadOutcome::Refused,
            generation: current.generation,
            errors,
            keys_needing_restart,
        };
        let Some(file) = &self.file else {
            return refused(vec!["this gate was started without a configuration file".into()], Vec::new());
        };
        let config = match load_aside(file.clone()).await {
            Ok(config) => config,
            Err(error) => return refused(vec![error], Vec::new()),
        };
        let keys: Vec<_> = current.config.keys_needing_restart(&config).into_iter().map(String::from).collect();
        if !keys.is_empty() {
            return refused(Vec::new(), keys);
        }
        let built = match self.builder.build_aside(config, Some(current.clone())).await {
            Ok(built) => built,
            Err(errors) => return refused(errors, Vec::new()),
        };
        let unchanged = built.snapshot.is_like(&current);
        let outcome = if unchanged { ReloadOutcome::Unchanged } else { ReloadOutcome::Accepted };
        let snapshot = self.builder.commit(built).await;
        let generation = if unchanged { current.generation } else { snapshot.generation };
        if !unchanged {
            let is_in =
                |upstream: &Arc<Upstream>, other: &Snapshot| other.upstreams.iter().any(|u| Arc::ptr_eq(u, upstream));
            for gone in current.upstreams.iter().filter(|upstream| !is_in(upstream, &snapshot)) {
                gone.retire();
            }
            for new in snapshot.upstreams.iter().filter(|upstream| !is_in(upstream, &current)) {
                tokio::spawn(upstream::watch(Arc::downgrade(new)));
            }
            self.snapshot.store(snapshot);
            self.generation.send_replace(generation);
        }
        ReloadReport { outcome, generation, errors: Vec::new(), keys_needing_restart: Vec::new() }
    }
}
