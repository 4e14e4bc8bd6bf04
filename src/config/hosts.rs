//! The `hosts` section: names, upstreams, certificates.
//!
//! A name may be given once, as a host or an alias of any host, compared in lower case and without
//! a trailing dot.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::acme::{self, Means};
use super::guard;
use super::node::{Kind, Node};
use super::read::Section;
use super::upstream::{self, Url};
use super::values::{self, ANY_SIZE, Input, Zero};
use super::{App, ByteSize, Host, HostPattern, RateLimits, Upstream, UpstreamScheme, UpstreamVerification};

/// Reads all hosts; those without a usable name or upstream were reported and are left out. `limits` hold for hosts
/// that say nothing else, certificates are had by `means`.
pub(super) fn hosts<'r>(mut top: Section<'r>, limits: &RateLimits, means: Means<'_>) -> (Vec<Host>, Section<'r>) {
    let section = top.section("hosts");
    let mut hosts = Vec::new();
    let mut seen = HashMap::new();
    let entries = section.named_sections();
    if entries.is_empty() && !section.is_broken() && !top.is_broken() {
        top.conflict("hosts", &[], "no hosts: add one, `ha.example.org: {upstream: \"http://192.168.1.20:8123\"}`");
    }
    for (name, key, section) in entries {
        hosts.extend(host(name, key, section, Context { limits, means }, &mut seen));
    }
    (hosts, top)
}

/// The node at which each name was first given.
type Seen = HashMap<HostPattern, usize>;

/// What a host is read against.
#[derive(Clone, Copy)]
struct Context<'a> {
    limits: &'a RateLimits,
    means: Means<'a>,
}

fn host(name: &str, key: &Node, mut section: Section<'_>, context: Context<'_>, seen: &mut Seen) -> Option<Host> {
    let reader = section.reader();
    let path = section.own_path().to_owned();
    let pattern = HostPattern::parse(name).map_err(|message| reader.problem(key.id, &path, message)).ok();
    if let Some(pattern) = &pattern {
        claim(seen, pattern, key.id, |first, message| reader.repetition(key.id, &path, message, first));
    }
    let aliases = aliases(&mut section, seen);
    let upstream = upstream(&mut section);
    let app = section.read("app", app).unwrap_or(App::Generic);
    let names: Vec<_> = pattern.iter().chain(&aliases).cloned().collect();
    let certificate = acme::certificate(&mut section, &names, context.means);
    let body_size = section.read("body_size", values::size(ByteSize::from_bytes(1)..=ANY_SIZE));
    let transport = section.read("strict_transport_security", values::duration(SECOND, Zero::Allowed));
    let security_headers = section.read("security_headers", values::boolean).unwrap_or(true);
    let guard = guard::read::host(&mut section, app, context.limits);
    section.finish();
    Some(Host {
        name: pattern?,
        aliases,
        upstream: upstream?,
        app,
        certificate,
        body_size,
        strict_transport_security: transport.unwrap_or(STRICT_TRANSPORT_SECURITY),
        security_headers,
        surface: guard.surface,
        client_ca_file: guard.client_ca_file,
        onboarding: guard.onboarding,
        public_paths: guard.public_paths,
        rate_limits: guard.rate_limits,
    })
}

fn claim(seen: &mut Seen, pattern: &HostPattern, node: usize, report: impl Fn(usize, String)) {
    if let Some(first) = seen.get(pattern) {
        report(*first, format!("`{pattern}` is named twice"));
    } else {
        seen.insert(pattern.clone(), node);
    }
}

fn aliases(section: &mut Section<'_>, seen: &mut Seen) -> Vec<HostPattern> {
    let expected = "a host name such as `ha.example.org`";
    let read = |input: &Input| {
        input.strict_text(expected)?;
        input.parse(expected, HostPattern::parse)
    };
    let aliases = section.list("aliases", read).unwrap_or_default();
    for (index, (node, alias)) in aliases.iter().enumerate() {
        let path = format!("{}[{index}]", section.path_of("aliases"));
        claim(seen, alias, node.id, |first, message| section.reader().repetition(node.id, &path, message, first));
    }
    aliases.into_iter().map(|(_, alias)| alias).collect()
}

fn app(input: &Input) -> Result<App, String> {
    values::choice(&[("home_assistant", App::HomeAssistant), ("generic", App::Generic)])(input)
}

/// Reads a URL, or a mapping that holds one.
fn upstream(section: &mut Section<'_>) -> Option<Upstream> {
    let Some((key, value)) = section.take("upstream") else {
        section.missing("upstream");
        return None;
    };
    if let Kind::Map(_) = value.kind {
        let path = section.path_of("upstream");
        return upstream_section(Section::new(section.reader(), path, key.id, value));
    }
    let url = section.reader().value(&section.path_of("upstream"), key.id, value, url)?;
    Some(Upstream {
        scheme: url.scheme,
        host: url.host,
        port: url.port,
        verification: UpstreamVerification::System,
        health_check: HEALTH_CHECK,
    })
}

fn upstream_section(mut section: Section<'_>) -> Option<Upstream> {
    let url = section.required("url", url);
    let authority = section.path("ca_file");
    let pin = section.read("certificate_sha256", values::sha256);
    let verify = section.read("verify", values::boolean).unwrap_or(true);
    let health_check = section.read("health_check", values::duration(SECOND, Zero::Allowed)).unwrap_or(HEALTH_CHECK);
    if let Some(url) = &url {
        refuse_tls_over_http(&section, url, verify);
    }
    let verification = verification(&section, authority, pin, verify);
    section.finish();
    let Url { scheme, host, port } = url?;
    Some(Upstream { scheme, host, port, verification, health_check })
}

fn refuse_tls_over_http(section: &Section<'_>, url: &Url, verify: bool) {
    if url.scheme == UpstreamScheme::Https {
        return;
    }
    let switched_off = if verify { None } else { Some("verify") };
    for key in ["ca_file", "certificate_sha256"].into_iter().filter(|key| section.has(key)).chain(switched_off) {
        section.conflict(key, &[], "an http upstream has no certificate: write `https://` in the URL or remove this");
    }
}

fn verification(
    section: &Section<'_>,
    authority: Option<PathBuf>,
    pin: Option<[u8; 32]>,
    verify: bool,
) -> UpstreamVerification {
    if section.has("ca_file") && section.has("certificate_sha256") {
        section.conflict("certificate_sha256", &[], "`ca_file` and `certificate_sha256` exclude each other: keep one");
    }
    if !verify && (section.has("ca_file") || section.has("certificate_sha256")) {
        section.conflict("verify", &[], "`verify: false` would ignore the certificate named here: remove one of them");
    }
    match (pin, authority, verify) {
        (Some(pin), ..) => UpstreamVerification::Pinned(pin),
        (None, Some(file), _) => UpstreamVerification::Authority(file),
        (None, None, true) => UpstreamVerification::System,
        (None, None, false) => UpstreamVerification::None,
    }
}

fn url(input: &Input) -> Result<Url, String> {
    let expected = "a URL such as `http://192.168.1.20:8123`";
    if input.text.is_empty() {
        return Err(input.expected(expected));
    }
    input.parse(expected, upstream::parse)
}

const HEALTH_CHECK: Duration = Duration::from_secs(30);
const STRICT_TRANSPORT_SECURITY: Duration = Duration::from_secs(365 * 86_400);
const SECOND: Duration = Duration::from_secs(1);
