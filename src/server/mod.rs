//! The composition root: makes everything, gives everyone exactly what it uses, and ends it in order.

mod certificates;
mod dynamic_dns;
mod gate;
mod kept;
mod sampling;
mod sockets;
mod tidings;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use pingora_core::apps::{HttpServerApp, HttpServerOptions};
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::access_log::{AccessLog, AccessLogWriter};
use crate::acme::{Acme, Challenges};
use crate::admin::{AdminServer, Control, Listeners, ReloadReport, Status};
use crate::clock::Clock;
use crate::config::Config;
use crate::denial::Denial;
use crate::dynamic_dns::DynamicDns;
use crate::events::Events;
use crate::history::History;
use crate::listener::{Door, Places};
use crate::metrics::Metrics;
use crate::proxy::Gateway;
use crate::reload::{Builder, Reloader};
use crate::tls::{self, CertificateStore};
use crate::upstream;
use gate::Gate;
use kept::Kept;
use sockets::Sockets;

/// Idle connections kept to all upstreams together.
const UPSTREAM_POOL: usize = 256;
/// Tries of one request, each on another connection; only those that are safe are repeated.
const UPSTREAM_TRIES: usize = 4;
/// How often shutdown looks whether everything has ended.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// File descriptors that are no client's: log, certificates, admin, the runtime's own.
const SPARE_FILES: u64 = 256;

/// How to start.
#[derive(Debug, Default)]
pub struct StartOptions {
    /// Take listening sockets from systemd if it has passed any.
    pub socket_activation: bool,
}

/// A gate that serves.
pub struct Running {
    /// The sockets as they are bound, with real ports.
    pub listeners: Listeners,
    pub metrics: Arc<Metrics>,
    /// What certificate authorities are answered.
    pub challenges: Arc<Challenges>,
    gate: Arc<Gate>,
    admin_server: AdminServer,
    draining: watch::Sender<bool>,
    closing: watch::Sender<bool>,
    acceptors: JoinSet<()>,
    tasks: JoinSet<()>,
    proxy: Arc<HttpProxy<Gateway>>,
    access_log: AccessLogWriter,
    kept: Kept,
}

/// Starts the gate. `file` is what a reload reads.
///
/// # Errors
///
/// If a socket cannot be bound, a certificate not loaded, or the state directory not written.
pub async fn start(config: Config, file: Option<PathBuf>, options: StartOptions) -> anyhow::Result<Running> {
    prepare_process(&config);
    let clock = Clock::start();
    let metrics = Arc::new(Metrics::new());
    let certificates = Arc::new(CertificateStore::new());
    let (access_log, access_log_writer) = AccessLog::start(&config.access_log, metrics.access_log_dropped.clone())
        .context("cannot open the access log (access_log.file)")?;
    let mut sockets = Sockets::bind(&config, &options).await?;
    let events = Events::new(clock, metrics.clone());
    let builder = Arc::new(Builder::new(certificates.clone(), metrics.clone(), events.clone()));
    let first = builder.first(config).await?;
    let config = first.config.clone();
    let snapshot = Arc::new(ArcSwap::new(first));
    let (draining, is_draining) = watch::channel(false);
    let (closing, is_closing) = watch::channel(false);
    let kept = Kept::open(&config, clock, &metrics, &events)?;
    let proxy = proxy(Gateway::new(snapshot.clone(), metrics.clone(), access_log.clone(), kept.guard.clone()));
    let (connections, requests) = places();
    let listeners = sockets.addresses()?;
    let door = Arc::new(Door {
        snapshot: snapshot.clone(),
        proxy: proxy.clone(),
        tls: tls::server_config(certificates.clone())?,
        challenges: Arc::default(),
        connections: connections.clone(),
        requests: requests.clone(),
        metrics: metrics.clone(),
        access_log: access_log.clone(),
        guard: kept.guard.clone(),
        presence: kept.presence.clone(),
        proxy_protocol_from: config.listen.proxy_protocol_from.clone(),
        public_port: config.listen.public_port.or(listeners.https.first().map(SocketAddr::port)).unwrap_or(443),
        draining: is_draining.clone(),
        closing: is_closing,
    });
    let gate = Arc::new(Gate {
        started: Instant::now(),
        listeners: listeners.clone(),
        snapshot: snapshot.clone(),
        certificates,
        connections,
        requests,
        metrics: metrics.clone(),
        reloader: Reloader::new(file, builder, snapshot, metrics.clone()),
        guard: kept.guard.clone(),
        tidings: kept.tidings.clone(),
        acme: Arc::new(Acme::new(&config.state_directory, door.challenges.clone(), metrics.clone())),
        dynamic_dns: Arc::new(DynamicDns::new(metrics.clone())),
        history: History::new(access_log.refusals()),
        draining: is_draining,
    });
    let admin_server = admin_server(&config, sockets.admin.take(), &gate).await?;
    let acceptors = sockets.serve(&door);
    let tasks = background_tasks(&gate, &kept);
    announce(&listeners);
    Ok(Running {
        listeners,
        metrics,
        challenges: door.challenges.clone(),
        gate,
        admin_server,
        draining,
        closing,
        acceptors,
        tasks,
        proxy,
        access_log: access_log_writer,
        kept,
    })
}

/// For connections, and for requests in flight.
fn places() -> (Arc<Places>, Arc<Places>) {
    let connections = Places::new(Denial::Connections, Denial::ConnectionsPerClient);
    let requests = Places::new(Denial::Requests, Denial::RequestsPerClient);
    (Arc::new(connections), Arc::new(requests))
}

async fn admin_server(config: &Config, tcp: Option<TcpListener>, gate: &Arc<Gate>) -> anyhow::Result<AdminServer> {
    let started = AdminServer::start(&config.admin, tcp, gate.metrics.registry().clone(), gate.clone()).await;
    started.with_context(|| cannot_serve_socket(&config.admin.socket))
}

fn cannot_serve_socket(socket: &Path) -> String {
    // Longer paths do not fit into sockaddr_un (unix(7)).
    let too_long = socket.as_os_str().len() >= 108;
    let hint = if too_long { ": the path is too long, name one of at most 107 bytes" } else { "" };
    format!("cannot serve admin.socket {}{hint}", socket.display())
}

fn proxy(gateway: Gateway) -> Arc<HttpProxy<Gateway>> {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        max_retries: UPSTREAM_TRIES,
        ..ServerConf::default()
    };
    // Pingora would answer CONNECT with a page of its own that nobody counts; the gateway refuses it itself.
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    let mut proxy = http_proxy(&Arc::new(conf), gateway);
    proxy.server_options = Some(options);
    Arc::new(proxy)
}

/// The TLS provider, and files for all: a socket for each client and one for each request in flight or WebSocket behind
/// it.
fn prepare_process(config: &Config) {
    tls::install_provider();
    let wanted = (2 * config.limits.connections + config.limits.requests) as u64 + SPARE_FILES;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => log::warn!(
            "file descriptors may run out: limits.connections={} needs {wanted}, the system allows {limit}; raise LimitNOFILE",
            config.limits.connections
        ),
        Err(error) => log::warn!("the limit of file descriptors could not be raised: {error}"),
    }
}

fn announce(listeners: &Listeners) {
    let list = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    log::info!(
        "hearthgate {} serves https={} http={} admin={}",
        env!("CARGO_PKG_VERSION"),
        list(&listeners.https),
        list(&listeners.http),
        listeners.admin.map_or_else(|| "off".into(), |address| address.to_string()),
    );
}

fn background_tasks(gate: &Arc<Gate>, kept: &Kept) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let snapshot = gate.snapshot.load();
    for upstream in &snapshot.upstreams {
        tasks.spawn(upstream::watch(Arc::downgrade(upstream)));
    }
    let interval = snapshot.config.reload.interval;
    tasks.spawn(refresh_certificates(gate.clone(), interval));
    dynamic_dns::tend(&mut tasks, gate);
    if snapshot.config.reload.watch {
        let gate = gate.clone();
        tasks.spawn(async move { gate.reloader.watch(interval).await });
    }
    kept.tend(&mut tasks, gate);
    certificates::tend(gate, &mut tasks);
    tasks.spawn(sampling::sample(gate.clone()));
    tasks
}

async fn refresh_certificates(gate: Arc<Gate>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        certificates::look(&gate).await;
    }
}

impl Running {
    /// Reads the configuration again.
    pub async fn reload(&self) -> ReloadReport {
        self.gate.reloader.reload().await
    }

    /// A picture of this moment.
    pub fn status(&self) -> Status {
        self.gate.status()
    }

    /// Serves until SIGTERM or SIGINT, reloads at SIGHUP; then drains. A second signal ends at once.
    ///
    /// Tells the service manager, if there is one, that the gate is ready: from now on signals are heard.
    pub async fn wait_for_signals(mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        // Without a service manager there is nobody to tell.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    let gate = self.gate.clone();
                    // Aside, so that a slow disk keeps no SIGTERM waiting.
                    self.tasks.spawn(async move { drop(gate.reloader.reload().await) });
                }
                Some(ended) = self.tasks.join_next() => {
                    // Some end by themselves. One that has panicked serves nobody, but the gate still does.
                    if ended.is_err_and(|error| error.is_panic()) {
                        log::error!("a background task has panicked, restart soon: the gate has a bug");
                    }
                }
                Some(_) = self.acceptors.join_next() => {
                    log::error!("a listener has ended by itself, stopping: the gate has a bug");
                    break;
                }
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        log::info!("shutting down connections={}", self.gate.connections.open());
        let closing = self.closing.clone();
        tokio::select! {
            () = self.stop() => {}
            _ = terminate.recv() => { closing.send_replace(true); }
            _ = interrupt.recv() => { closing.send_replace(true); }
        }
        Ok(())
    }

    /// Accepts nothing new, lets requests finish, tells HTTP/2 clients and WebSockets to go, and closes what is left
    /// at the drain deadline.
    pub async fn stop(mut self) {
        self.draining.send_replace(true);
        let deadline = Instant::now() + self.gate.snapshot.load().config.timeouts.drain;
        while self.acceptors.join_next().await.is_some() {}
        self.tasks.shutdown().await;
        self.gate.acme.stop().await;
        while self.gate.connections.open() > 0 && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_TICK).await;
        }
        let left = self.gate.connections.open();
        if left > 0 {
            log::warn!("closing what has not ended by itself connections={left}");
        }
        self.closing.send_replace(true);
        self.proxy.http_cleanup().await;
        self.admin_server.stop().await;
        self.kept.close().await;
        self.access_log.close();
        log::info!("stopped");
    }
}
