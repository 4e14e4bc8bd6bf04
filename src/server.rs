//! The composition root: makes everything, gives everyone exactly what it uses, and ends it in order.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use listenfd::ListenFd;
use pingora_core::apps::{HttpServerApp, HttpServerOptions};
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::access_log::{AccessLog, AccessLogWriter};
use crate::admin::{
    AdminServer, BanList, BanReport, BanTarget, Certificate, Control, Explanation, FailureCount, HostStatus, Listeners,
    NewBan, ReloadReport, Removal, Standing, Status,
};
use crate::client::ClientAddr;
use crate::config::{Config, UpstreamScheme};
use crate::denial::Denial;
use crate::listener::{Door, Places, Role, accept};
use crate::metrics::Metrics;
use crate::proxy::Gateway;
use crate::reload::{self, Builder, Reloader};
use crate::snapshot::Snapshot;
use crate::tls::{self, CertificateStore};
use crate::upstream;

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
    gate: Arc<Gate>,
    admin_server: AdminServer,
    draining: watch::Sender<bool>,
    closing: watch::Sender<bool>,
    acceptors: JoinSet<()>,
    tasks: JoinSet<()>,
    proxy: Arc<HttpProxy<Gateway>>,
    access_log: AccessLogWriter,
}

/// What the operator may see and do.
struct Gate {
    started: Instant,
    listeners: Listeners,
    snapshot: Arc<ArcSwap<Snapshot>>,
    certificates: Arc<CertificateStore>,
    connections: Arc<Places>,
    requests: Arc<Places>,
    metrics: Arc<Metrics>,
    reloader: Reloader,
    draining: watch::Receiver<bool>,
}

/// Starts the gate. `file` is what a reload reads.
///
/// # Errors
///
/// If a socket cannot be bound, a certificate not loaded, or the state directory not written.
pub async fn start(config: Config, file: Option<PathBuf>, options: StartOptions) -> anyhow::Result<Running> {
    tls::install_provider();
    raise_file_limit(&config);
    let metrics = Arc::new(Metrics::new());
    let certificates = Arc::new(CertificateStore::new());
    let (access_log, access_log_writer) = AccessLog::start(&config.access_log, metrics.access_log_dropped.clone())
        .context("cannot open the access log (access_log.file)")?;
    let mut sockets = Sockets::bind(&config, &options).await?;
    let builder = Arc::new(Builder::new(certificates.clone(), metrics.clone()));
    let first = builder.first(config).await?;
    let config = first.config.clone();
    let snapshot = Arc::new(ArcSwap::new(first));
    let (draining, is_draining) = watch::channel(false);
    let (closing, is_closing) = watch::channel(false);
    let proxy = proxy(Gateway::new(snapshot.clone(), metrics.clone(), access_log.clone()));
    let connections = Arc::new(Places::new(Denial::Connections, Denial::ConnectionsPerClient));
    let requests = Arc::new(Places::new(Denial::Requests, Denial::RequestsPerClient));
    let listeners = sockets.addresses()?;
    let door = Arc::new(Door {
        snapshot: snapshot.clone(),
        proxy: proxy.clone(),
        tls: tls::server_config(certificates.clone())?,
        connections: connections.clone(),
        requests: requests.clone(),
        metrics: metrics.clone(),
        access_log,
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
        draining: is_draining,
    });
    let admin_server =
        AdminServer::start(&config.admin, sockets.admin.take(), metrics.registry().clone(), gate.clone())
            .await
            .with_context(|| cannot_serve_socket(&config.admin.socket))?;
    let acceptors = sockets.serve(&door);
    let tasks = background_tasks(&gate);
    announce(&listeners);
    Ok(Running {
        listeners,
        metrics,
        gate,
        admin_server,
        draining,
        closing,
        acceptors,
        tasks,
        proxy,
        access_log: access_log_writer,
    })
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

/// A socket for each client and one for each request in flight or WebSocket behind it.
fn raise_file_limit(config: &Config) {
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

/// Every listening TCP socket, bound.
struct Sockets {
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
    admin: Option<TcpListener>,
}

impl Sockets {
    async fn bind(config: &Config, options: &StartOptions) -> anyhow::Result<Self> {
        let mut given = if options.socket_activation { activated()? } else { Vec::new() };
        let mut sockets = Self { https: Vec::new(), http: Vec::new(), admin: None };
        for address in &config.listen.https {
            sockets.https.push(take_or_bind(&mut given, *address, "listen.https").await?);
        }
        for address in &config.listen.http {
            sockets.http.push(take_or_bind(&mut given, *address, "listen.http").await?);
        }
        if let Some(address) = config.admin.listen {
            sockets.admin = Some(take_or_bind(&mut given, address, "admin.listen").await?);
        }
        if let Some((address, _)) = given.first() {
            bail!("systemd passes a socket on {address}, which is neither in listen.https nor in listen.http");
        }
        Ok(sockets)
    }

    fn addresses(&self) -> io::Result<Listeners> {
        let all = |sockets: &[TcpListener]| sockets.iter().map(TcpListener::local_addr).collect::<io::Result<_>>();
        let admin = self.admin.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Listeners { https: all(&self.https)?, http: all(&self.http)?, admin })
    }

    fn serve(self, door: &Arc<Door>) -> JoinSet<()> {
        let mut acceptors = JoinSet::new();
        let roles =
            self.https.into_iter().map(|s| (s, Role::Https)).chain(self.http.into_iter().map(|s| (s, Role::Redirect)));
        for (socket, role) in roles {
            acceptors.spawn(accept(door.clone(), socket, role));
        }
        acceptors
    }
}

type Activated = Vec<(SocketAddr, std::net::TcpListener)>;

/// The sockets that systemd has bound for us, told apart by their addresses.
fn activated() -> anyhow::Result<Activated> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..passed.len() {
        let socket = passed.take_tcp_listener(index).context("systemd passes a socket that is not TCP")?;
        let socket = socket.context("systemd passes fewer sockets than it says")?;
        sockets.push((socket.local_addr()?, socket));
    }
    Ok(sockets)
}

async fn take_or_bind(given: &mut Activated, address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    if let Some(at) = given.iter().position(|(bound, _)| *bound == address) {
        let (_, socket) = given.swap_remove(at);
        socket.set_nonblocking(true)?;
        return Ok(TcpListener::from_std(socket)?);
    }
    bind(address).with_context(|| {
        let hint = if address.port() < 1024 { "; ports below 1024 need root or CAP_NET_BIND_SERVICE" } else { "" };
        format!("{key}: cannot listen on {address}{hint}")
    })
}

/// Longer than any burst of a home's devices; the kernel caps it at net.core.somaxconn.
const BACKLOG: u32 = 4096;

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] are two sockets here, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Inherited by every accepted connection: a client that vanished is noticed within minutes.
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG as i32)?;
    TcpListener::from_std(socket.into())
}

const KEEPALIVE: Duration = Duration::from_secs(60);

fn background_tasks(gate: &Arc<Gate>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let snapshot = gate.snapshot.load();
    for upstream in &snapshot.upstreams {
        tasks.spawn(upstream::watch(Arc::downgrade(upstream)));
    }
    let interval = snapshot.config.reload.interval;
    tasks.spawn(refresh_certificates(gate.clone(), interval));
    if snapshot.config.reload.watch {
        let gate = gate.clone();
        tasks.spawn(async move { gate.reloader.watch(interval).await });
    }
    tasks
}

async fn refresh_certificates(gate: Arc<Gate>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let certificates = gate.certificates.clone();
        let news = tokio::task::spawn_blocking(move || certificates.refresh(SystemTime::now())).await;
        if news.is_ok_and(|news| !news.is_empty()) {
            reload::record_certificates(&gate.metrics, &gate.certificates);
        }
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
        self.access_log.close();
        log::info!("stopped");
    }
}

#[async_trait]
impl Control for Gate {
    async fn reload(&self) -> ReloadReport {
        self.reloader.reload().await
    }

    fn status(&self) -> Status {
        let snapshot = self.snapshot.load();
        let facts = self.certificates.facts();
        let hosts = snapshot.upstreams.iter().map(|upstream| {
            let certificate = facts.iter().find(|fact| fact.host == *upstream.host);
            let scheme = match upstream.config.scheme {
                UpstreamScheme::Http => "http",
                UpstreamScheme::Https => "https",
            };
            HostStatus {
                name: upstream.host.to_string(),
                upstream: format!("{scheme}://{}", upstream.authority()),
                health: upstream.condition().to_string(),
                certificate: certificate
                    .map(|fact| Certificate { not_after: fact.not_after, self_signed: fact.self_signed }),
            }
        });
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            generation: snapshot.generation,
            uptime_seconds: self.started.elapsed().as_secs(),
            last_reload: self.reloader.last_reload(),
            listeners: self.listeners.clone(),
            connections_open: self.connections.open() as u64,
            websockets_open: self.metrics.websockets_open.get().try_into().unwrap_or(0),
            hosts: hosts.collect(),
            counters: self.metrics.denial_counts(),
        }
    }

    fn ready(&self) -> Result<(), String> {
        if *self.draining.borrow() { Err("shutting down".into()) } else { Ok(()) }
    }
    // Stand-ins for these four until the guard answers them: nobody is banned, and nothing is known of a client but
    // what is configured and open.

    fn bans(&self, _most: usize) -> BanList {
        BanList::default()
    }

    fn add_ban(&self, _ban: NewBan) -> Result<BanReport, String> {
        Err("this gate does not ban yet".into())
    }

    fn remove_bans(&self, _target: BanTarget) -> Removal {
        Removal::default()
    }

    fn explain(&self, address: IpAddr) -> Explanation {
        let snapshot = self.snapshot.load();
        let guard = &snapshot.config.guard;
        let key = ClientAddr::new(address).key();
        let exempt = guard.never_ban.networks.iter().find(|network| network.contains(&address));
        Explanation {
            address,
            counted_as: key.network(),
            standing: Standing::Unknown,
            never_ban: exempt.map(ToString::to_string),
            ban: None,
            failures: FailureCount {
                count: 0,
                limit: guard.login.max_failures,
                window_seconds: guard.login.window.as_secs(),
                key: "guard.login.max_failures".into(),
            },
            attempts_in_flight: 0,
            login_retry_seconds: None,
            rate_limits: Vec::new(),
            requests_open: self.requests.open_of(key) as u64,
            connections_open: self.connections.open_of(key) as u64,
            last_refusal: None,
        }
    }
}
