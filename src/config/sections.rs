//! The sections of the configuration and their defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::{
    Acme, ByteSize, CertificateSource, DnsAccount, DynamicDns, EventDestination, Guard, RateLimits, Secret, Surface,
};

/// One accepted configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub listen: Listen,
    pub admin: Admin,
    /// Where self-signed certificates, keys and durable state live (`state_directory`).
    pub state_directory: PathBuf,
    pub trusted_proxies: TrustedProxies,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub access_log: AccessLog,
    pub reload: Reload,
    pub guard: Guard,
    pub acme: Acme,
    /// In the order of the file.
    pub dns: Vec<DnsAccount>,
    pub dynamic_dns: DynamicDns,
    /// In the order of the file.
    pub events: Vec<EventDestination>,
    /// In the order of the file; at least one.
    pub hosts: Vec<Host>,
}

/// The sockets that strangers reach. Changing any of it needs a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    pub https: Vec<SocketAddr>,
    /// Answers nothing but redirects to https; empty leaves plain HTTP out.
    pub http: Vec<SocketAddr>,
    /// Peers that must begin each connection with a PROXY protocol header (v1 or v2).
    pub proxy_protocol_from: Vec<IpNet>,
    /// The port in redirects to https; `None` is the port of the first https listener.
    pub public_port: Option<u16>,
}

/// Metrics, health and the command line's socket. Changing any of it needs a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// `None` (written `listen: off`) leaves the TCP listener out.
    pub listen: Option<SocketAddr>,
    /// Bearer token for `/metrics`; required when `listen` is not a loopback address.
    pub token: Option<Secret>,
    /// The Unix socket of `hearthgate reload` and `hearthgate status`.
    pub socket: PathBuf,
}

/// Proxies in front of the gate whose word about the client's address is believed.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustedProxies {
    pub networks: Vec<IpNet>,
    pub header: ForwardedHeader,
}

/// The request field in which a trusted proxy names its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// A list; the rightmost address that is not itself a trusted proxy is the client.
    XForwardedFor,
    /// RFC 7239, read the same way.
    Forwarded,
    /// Any field that holds exactly one address, such as `CF-Connecting-IP`.
    Single(HeaderName),
}

/// Bounds on what strangers may send. Each one has a metric that counts when it bites.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Open client connections in all, WebSockets included.
    pub connections: usize,
    /// Open connections of one client: an IPv4 address or an IPv6 /64.
    pub connections_per_client: usize,
    /// Requests in flight in all, each with a connection to an upstream; WebSockets do not count.
    pub requests: usize,
    /// Requests in flight of one client.
    pub requests_per_client: usize,
    /// All bytes of one request head.
    pub head_size: ByteSize,
    /// Fields in one request head; at most 256, which is where Pingora's parser ends.
    pub header_count: usize,
    /// Bytes of one request target.
    pub uri_length: ByteSize,
    /// Concurrent HTTP/2 streams on one connection.
    pub http2_streams: u32,
    /// HTTP/2 streams that a client may reset or have refused on one connection, per minute.
    pub http2_resets: u32,
    /// Requests on one connection before it is closed politely.
    pub requests_per_connection: u32,
    /// The least bytes per second of a request body, after `timeouts.body_grace`.
    pub body_rate: ByteSize,
}

/// Deadlines. None of them applies to a WebSocket but `websocket_idle`.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    /// From accept to the end of the TLS handshake, a PROXY protocol header included.
    pub tls_handshake: Duration,
    /// From the first byte of a request head to its last; also the wait for the first request.
    pub request_head: Duration,
    /// From the TLS handshake to the end of the HTTP/2 preface and first SETTINGS.
    pub http2_preface: Duration,
    /// An HTTP/1.1 connection between two requests.
    pub keep_alive: Duration,
    /// An HTTP/2 connection without an open stream.
    pub http2_idle: Duration,
    /// A request body of which no byte arrives.
    pub body_stall: Duration,
    /// How long a request body may stay below `limits.body_rate`.
    pub body_grace: Duration,
    /// A client that takes no byte of an answer.
    pub write_stall: Duration,
    /// A WebSocket on which no byte moves either way.
    pub websocket_idle: Duration,
    /// TCP and TLS to the upstream.
    pub upstream_connect: Duration,
    /// The upstream's silence before and during an answer.
    pub upstream_response: Duration,
    /// The same for answers known to be streams (events, camera pictures).
    pub upstream_stream: Duration,
    /// An idle connection to the upstream kept for the next request.
    pub upstream_keep_alive: Duration,
    /// From SIGTERM to the end: what is still open then is closed.
    pub drain: Duration,
}

/// One JSON line per request.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    pub enabled: bool,
    /// `None` writes to standard output.
    pub file: Option<PathBuf>,
    /// Hides query values and webhook ids.
    pub redact: bool,
    /// Lines that may wait for the disk; more are dropped and counted.
    pub queue: usize,
}

/// When the file is read again.
#[derive(Debug, Clone, PartialEq)]
pub struct Reload {
    /// Reload by itself when the file changes.
    pub watch: bool,
    /// How often files (configuration if watched, certificates always) are looked at.
    pub interval: Duration,
}

/// A lower-case DNS name without trailing dot, or `*.` and one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Exact(String),
    /// Holds what follows `*.`; matches names with exactly one more label.
    Wildcard(String),
}

/// One entry below `hosts:`.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    pub name: HostPattern,
    pub aliases: Vec<HostPattern>,
    pub upstream: Upstream,
    pub app: App,
    pub certificate: CertificateSource,
    /// The largest request body; `None` is no limit.
    pub body_size: Option<ByteSize>,
    /// `max-age` of `Strict-Transport-Security`; zero sends none.
    pub strict_transport_security: Duration,
    /// Adds the usual security headers where the upstream sets none.
    pub security_headers: bool,
    /// What a client reaches before it has proven a session.
    pub surface: Surface,
    /// The authorities whose certificates clients of a closed host must have, as PEM.
    pub client_ca_file: Option<PathBuf>,
    /// Home Assistant may be set up through the gate.
    pub onboarding: bool,
    /// What clients may GET besides, these paths and all below them; at most 64, none ends with `/`.
    pub public_paths: Vec<String>,
    /// Those of `guard.rate_limits` with what the host changes.
    pub rate_limits: RateLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum App {
    HomeAssistant,
    Generic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub chain_file: PathBuf,
    pub key_file: PathBuf,
}

/// Where a host's requests go: `upstream: http://192.168.1.20:8123`, or the same as a mapping with `url`.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    pub scheme: UpstreamScheme,
    /// A DNS name or an IP address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
    /// Matters for https only.
    pub verification: UpstreamVerification,
    /// Between two looks at the upstream's health; zero looks only at the traffic.
    pub health_check: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamScheme {
    Http,
    Https,
}

/// Why an https upstream is believed to be the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamVerification {
    /// By the system's certificate authorities.
    System,
    /// By the authorities in this PEM file only (`ca_file`).
    Authority(PathBuf),
    /// By the SHA-256 of the certificate (`certificate_sha256`), name and dates unchecked.
    Pinned([u8; 32]),
    /// Not at all (`verify: false`); logged as a warning at each load.
    None,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            https: vec![([0, 0, 0, 0], 443).into(), ([0u16; 8], 443).into()],
            http: vec![([0, 0, 0, 0], 80).into(), ([0u16; 8], 80).into()],
            proxy_protocol_from: Vec::new(),
            public_port: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_client: 256,
            requests: 4096,
            requests_per_client: 512,
            head_size: ByteSize::from_kib(64),
            header_count: 100,
            uri_length: ByteSize::from_kib(24),
            http2_streams: 100,
            http2_resets: 1000,
            requests_per_connection: 10_000,
            body_rate: ByteSize::from_bytes(100),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tls_handshake: seconds(10),
            request_head: seconds(10),
            http2_preface: seconds(10),
            keep_alive: seconds(60),
            http2_idle: seconds(60),
            body_stall: seconds(30),
            body_grace: seconds(10),
            write_stall: seconds(60),
            websocket_idle: seconds(3600),
            upstream_connect: seconds(5),
            upstream_response: seconds(120),
            upstream_stream: seconds(3600),
            upstream_keep_alive: seconds(60),
            drain: seconds(30),
        }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { enabled: true, file: None, redact: true, queue: 4096 }
    }
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: false, interval: Duration::from_secs(2) }
    }
}

impl Default for TrustedProxies {
    fn default() -> Self {
        Self { networks: Vec::new(), header: ForwardedHeader::XForwardedFor }
    }
}
