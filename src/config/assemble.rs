//! Every section but `hosts` and `guard`: keys, bounds, defaults and what contradicts what.
//!
//! Defaults live beside the types in `sections`. A bad value was reported and is replaced by its
//! default here; nobody sees the result, since a reader with findings yields no configuration.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::acme;
use super::dns;
use super::dynamic_dns;
use super::events;
use super::guard;
use super::hosts;
use super::node::Node;
use super::read::{Reader, Section};
use super::values::{self, ANY_SIZE, Zero};
use super::{AccessLog, Admin, ByteSize, Config, Limits, Listen, Reload, Timeouts, TrustedProxies};

/// Reads the whole tree.
pub(super) fn config(reader: &Reader<'_>, root: &Node) -> Config {
    let mut top = reader.root(root);
    let (listen, sockets) = listen(top.section("listen"));
    let state_directory = top.path("state_directory").unwrap_or_else(|| PathBuf::from(STATE_DIRECTORY));
    let admin = admin(top.section("admin"), &state_directory, &sockets);
    let trusted_proxies = trusted_proxies(top.section("trusted_proxies"));
    let limits = limits(top.section("limits"));
    let timeouts = timeouts(top.section("timeouts"));
    let access_log = access_log(top.section("access_log"));
    let reload = reload(top.section("reload"));
    let guard = guard::read::guard(top.section("guard"));
    let acme = acme::acme(top.section("acme"));
    let dns = dns::accounts(top.section("dns"));
    let dynamic_dns = dynamic_dns::dynamic_dns(top.section("dynamic_dns"), &dns);
    let events = events::destinations(top.section("events"));
    let means = acme::Means { terms: &acme.terms, dns: !dns.is_empty(), http: !listen.http.is_empty() };
    let (hosts, top) = hosts::hosts(top, &guard.rate_limits, means);
    if !top.is_broken() {
        top.finish();
    }
    Config {
        listen,
        admin,
        state_directory,
        trusted_proxies,
        limits,
        timeouts,
        access_log,
        reload,
        guard,
        acme,
        dns,
        dynamic_dns,
        events,
        hosts,
    }
}

/// The key that claimed each public socket.
type Sockets = HashMap<SocketAddr, &'static str>;

fn listen(mut section: Section<'_>) -> (Listen, Sockets) {
    let default = Listen::default();
    let mut sockets = Sockets::new();
    let https = listeners(&mut section, "https", default.https, &mut sockets);
    let http = listeners(&mut section, "http", default.http, &mut sockets);
    if https.is_empty() {
        section.conflict("https", &["https"], "an empty list leaves nothing to serve: name at least one address");
    }
    let networks = section.list("proxy_protocol_from", values::network).unwrap_or_default();
    let public_port = section.read("public_port", values::number(1..=u16::MAX));
    section.finish();
    let proxy_protocol_from = networks.into_iter().map(|(_, network)| network).collect();
    (Listen { https, http, proxy_protocol_from, public_port }, sockets)
}

fn listeners(
    section: &mut Section<'_>,
    key: &'static str,
    default: Vec<SocketAddr>,
    sockets: &mut Sockets,
) -> Vec<SocketAddr> {
    let Some(listed) = section.list(key, values::socket_address) else {
        // A list with a mistake claims nothing; an absent one claims its defaults.
        if !section.has(key) {
            for address in &default {
                claim(section, key, &section.path_of(key), None, *address, sockets);
            }
        }
        return default;
    };
    for (index, (node, address)) in listed.iter().enumerate() {
        let path = format!("{}[{index}]", section.path_of(key));
        claim(section, key, &path, Some(node), *address, sockets);
    }
    listed.into_iter().map(|(_, address)| address).collect()
}

fn claim(
    section: &Section<'_>,
    key: &'static str,
    path: &str,
    node: Option<&Node>,
    address: SocketAddr,
    sockets: &mut Sockets,
) {
    // Port 0 is a different port each time.
    if address.port() == 0 {
        return;
    }
    let Some(other) = sockets.insert(address, key) else { return };
    let message = format!("`{address}` is already in `listen.{other}`");
    match node {
        Some(node) => section.reader().problem(node.id, path, message),
        None => section.conflict(key, &[], format!("{message}: its default; write `{key}: []` or other addresses")),
    }
}

fn admin(mut section: Section<'_>, state_directory: &Path, sockets: &Sockets) -> Admin {
    let listen = section.read("listen", values::socket_address_or_off).unwrap_or(Some(ADMIN_LISTEN));
    let token = section.secret("token");
    let file_token = section.secret_file("token_file");
    let socket = section.path("socket").unwrap_or_else(|| state_directory.join("admin.sock"));
    if section.has("token") && section.has("token_file") {
        section.conflict("token_file", &[], "`token` and `token_file` exclude each other: keep one");
    }
    if let Some(address) = listen {
        let open = !address.ip().to_canonical().is_loopback();
        if open && !section.has("token") && !section.has("token_file") {
            let message = format!("`{address}` is not loopback: add `token_file` or `token`, or listen on 127.0.0.1");
            section.conflict("listen", &["listen"], message);
        }
        if let (Some(other), true) = (sockets.get(&address), address.port() != 0) {
            section.conflict("listen", &["listen"], format!("`{address}` is already in `listen.{other}`"));
        }
    }
    section.finish();
    Admin { listen, token: token.or(file_token), socket }
}

fn trusted_proxies(mut section: Section<'_>) -> TrustedProxies {
    let networks = section.list("networks", values::network).unwrap_or_default();
    let header = section.read("header", values::forwarded_header).unwrap_or(TrustedProxies::default().header);
    section.finish();
    TrustedProxies { networks: networks.into_iter().map(|(_, network)| network).collect(), header }
}

fn limits(mut section: Section<'_>) -> Limits {
    let default = Limits::default();
    let kib = ByteSize::from_kib;
    let limits = Limits {
        connections: section.read("connections", values::number(1..=1_000_000)).unwrap_or(default.connections),
        connections_per_client: section
            .read("connections_per_client", values::number(1..=1_000_000))
            .unwrap_or(default.connections_per_client),
        requests: section.read("requests", values::number(1..=1_000_000)).unwrap_or(default.requests),
        requests_per_client: section
            .read("requests_per_client", values::number(1..=1_000_000))
            .unwrap_or(default.requests_per_client),
        head_size: section.read("head_size", values::size(kib(1)..=kib(1024))).unwrap_or(default.head_size),
        header_count: section.read("header_count", values::number(1..=256)).unwrap_or(default.header_count),
        uri_length: section.read("uri_length", values::size(kib(1)..=kib(64))).unwrap_or(default.uri_length),
        http2_streams: section.read("http2_streams", values::number(1..=10_000)).unwrap_or(default.http2_streams),
        http2_resets: section.read("http2_resets", values::number(1..=1_000_000)).unwrap_or(default.http2_resets),
        requests_per_connection: section
            .read("requests_per_connection", values::number(1..=u32::MAX))
            .unwrap_or(default.requests_per_connection),
        body_rate: section
            .read("body_rate", values::size(ByteSize::from_bytes(0)..=ANY_SIZE))
            .unwrap_or(default.body_rate),
    };
    refuse_crossed_limits(&section, &limits);
    section.finish();
    limits
}

fn refuse_crossed_limits(section: &Section<'_>, limits: &Limits) {
    let crossed = [
        ("connections_per_client", "connections", limits.connections_per_client > limits.connections),
        ("requests_per_client", "requests", limits.requests_per_client > limits.requests),
        ("uri_length", "head_size", limits.uri_length > limits.head_size),
    ];
    for (part, whole, _) in crossed.into_iter().filter(|(.., crossed)| *crossed) {
        // The default of the other key may be the smaller or larger one: report what is written.
        let at = if section.has(part) { part } else { whole };
        section.conflict(at, &[part, whole], format!("`{part}` would be more than `{whole}`: it is a part of it"));
    }
}

fn timeouts(mut section: Section<'_>) -> Timeouts {
    let default = Timeouts::default();
    let mut span = |key, default| section.read(key, values::duration(TICK, Zero::Refused)).unwrap_or(default);
    let mut timeouts = Timeouts {
        tls_handshake: span("tls_handshake", default.tls_handshake),
        request_head: span("request_head", default.request_head),
        http2_preface: span("http2_preface", default.http2_preface),
        keep_alive: span("keep_alive", default.keep_alive),
        http2_idle: span("http2_idle", default.http2_idle),
        body_stall: span("body_stall", default.body_stall),
        body_grace: span("body_grace", default.body_grace),
        write_stall: span("write_stall", default.write_stall),
        websocket_idle: span("websocket_idle", default.websocket_idle),
        upstream_connect: span("upstream_connect", default.upstream_connect),
        upstream_response: span("upstream_response", default.upstream_response),
        upstream_stream: span("upstream_stream", default.upstream_stream),
        upstream_keep_alive: span("upstream_keep_alive", default.upstream_keep_alive),
        drain: default.drain,
    };
    // Zero is meaningful here alone: close everything at once.
    timeouts.drain = section.read("drain", values::duration(TICK, Zero::Allowed)).unwrap_or(default.drain);
    section.finish();
    timeouts
}

fn access_log(mut section: Section<'_>) -> AccessLog {
    let default = AccessLog::default();
    let log = AccessLog {
        enabled: section.read("enabled", values::boolean).unwrap_or(default.enabled),
        file: section.path("file"),
        redact: section.read("redact", values::boolean).unwrap_or(default.redact),
        queue: section.read("queue", values::number(1..=1_000_000)).unwrap_or(default.queue),
    };
    section.finish();
    log
}

fn reload(mut section: Section<'_>) -> Reload {
    let default = Reload::default();
    let reload = Reload {
        watch: section.read("watch", values::boolean).unwrap_or(default.watch),
        interval: section.read("interval", values::duration(TICK, Zero::Refused)).unwrap_or(default.interval),
    };
    section.finish();
    reload
}

const STATE_DIRECTORY: &str = "/var/lib/hearthgate";
const ADMIN_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9180);
/// Less is a typing mistake: no client or disk answers in that time.
const TICK: Duration = Duration::from_millis(100);
