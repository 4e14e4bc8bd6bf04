//! Reading the `guard` section, and the keys of a host that belong to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{BanAnswer, Bans, DAY, Guard, LoginLimits, NeverBan, RateLimit, RateLimits, RequestClass, Surface};
use crate::config::node::Kind;
use crate::config::rate::{self, Rate};
use crate::config::read::Section;
use crate::config::suggest::suggestion;
use crate::config::values::{self, Input, Zero, quoted};
use crate::config::{App, names};

/// Reads the section; what it leaves out takes its default.
pub(in crate::config) fn guard(mut section: Section<'_>) -> Guard {
    let default = Guard::default();
    let guard = Guard {
        never_ban: never_ban(&mut section).unwrap_or(default.never_ban),
        never_ban_refresh: section
            .read("never_ban_refresh", values::span(10 * SECOND..=DAY, Zero::Refused))
            .unwrap_or(default.never_ban_refresh),
        rate_limits: rate_limits(section.section("rate_limits"), &default.rate_limits),
        login: login(section.section("login")),
        bans: bans(section.section("bans")),
        proof_extends_to_address: section
            .read("proof_extends_to_address", values::span(MINUTE..=30 * DAY, Zero::Allowed))
            .unwrap_or(default.proof_extends_to_address),
        known_device_lifetime: section
            .read("known_device_lifetime", values::span(60 * MINUTE..=YEAR, Zero::Refused))
            .unwrap_or(default.known_device_lifetime),
    };
    section.finish();
    guard
}

/// Reads the classes below `rate_limits`; what they leave out is as in `base`.
pub(in crate::config) fn rate_limits(mut section: Section<'_>, base: &RateLimits) -> RateLimits {
    let mut limit = |class| rate_limit(&mut section, class, base.of(class));
    let limits = RateLimits {
        static_files: limit(RequestClass::Static),
        page: limit(RequestClass::Page),
        api: limit(RequestClass::Api),
        auth: limit(RequestClass::Auth),
        webhook: limit(RequestClass::Webhook),
        websocket: limit(RequestClass::Websocket),
    };
    section.finish();
    limits
}

/// Reads `off`, or a mapping that changes some of `base`.
fn rate_limit(section: &mut Section<'_>, class: RequestClass, base: Option<RateLimit>) -> Option<RateLimit> {
    let Some((key, value)) = section.take(class.as_str()) else { return base };
    let path = section.path_of(class.as_str());
    if !matches!(value.kind, Kind::Map(_) | Kind::Null) {
        section.reader().value(&path, key.id, value, off);
        return None;
    }
    let mut section = Section::new(section.reader(), path, key.id, value);
    // A host may turn on what `guard.rate_limits` turns off.
    let base = base.or(RateLimits::default().of(class))?;
    let limit = RateLimit {
        rate: section.read("rate", read_rate).unwrap_or(base.rate),
        burst: section.read("burst", values::number(1..=1_000_000)).unwrap_or(base.burst),
        dry_run: section.read("dry_run", values::boolean).unwrap_or(base.dry_run),
    };
    section.finish();
    Some(limit)
}

fn off(input: &Input) -> Result<(), String> {
    let expected = "`off`, or a mapping such as `{rate: 5/s, burst: 100}`";
    match input.text.as_str() {
        // YAML 1.1 takes `off` for `false`.
        "off" | "false" => Ok(()),
        _ => Err(input.expected(expected)),
    }
}

fn read_rate(input: &Input) -> Result<Rate, String> {
    input.parse(rate::EXPECTED, |text| {
        Rate::parse(text).map_err(|why| if why.starts_with("expected ") { input.expected(rate::EXPECTED) } else { why })
    })
}

fn login(mut section: Section<'_>) -> LoginLimits {
    let default = LoginLimits::default();
    let window = || values::span(10 * SECOND..=DAY, Zero::Refused);
    let delay = || values::span(SECOND..=DAY, Zero::Refused);
    let login = LoginLimits {
        max_failures: section.read("max_failures", values::number(1..=100)).unwrap_or(default.max_failures),
        window: section.read("window", window()).unwrap_or(default.window),
        account_failures: section
            .read("account_failures", values::number(1..=10_000))
            .unwrap_or(default.account_failures),
        account_window: section.read("account_window", window()).unwrap_or(default.account_window),
        repeats: section.read("repeats", values::number(1..=100)).unwrap_or(default.repeats),
        delay: section.read("delay", delay()).unwrap_or(default.delay),
        max_delay: section.read("max_delay", delay()).unwrap_or(default.max_delay),
        dry_run: section.read("dry_run", values::boolean).unwrap_or(default.dry_run),
    };
    refuse_crossed(&section, ("delay", login.delay), ("max_delay", login.max_delay));
    section.finish();
    login
}

fn bans(mut section: Section<'_>) -> Bans {
    let default = Bans::default();
    let answer = values::choice(&[("close", BanAnswer::Close), ("page", BanAnswer::Page)]);
    let length = || values::span(SECOND..=YEAR, Zero::Refused);
    let forgiven = values::span(MINUTE..=YEAR, Zero::Refused);
    let bans = Bans {
        enabled: section.read("enabled", values::boolean).unwrap_or(default.enabled),
        first: section.read("first", length()).unwrap_or(default.first),
        factor: section.read("factor", values::number(1..=100)).unwrap_or(default.factor),
        max: section.read("max", length()).unwrap_or(default.max),
        forgive_after: section.read("forgive_after", forgiven).unwrap_or(default.forgive_after),
        answer: section.read("answer", answer).unwrap_or(default.answer),
        capacity: section.read("capacity", values::number(1..=1_000_000)).unwrap_or(default.capacity),
    };
    refuse_crossed(&section, ("first", bans.first), ("max", bans.max));
    section.finish();
    bans
}

/// Reports that the first of something is longer than the longest of it.
fn refuse_crossed(section: &Section<'_>, first: (&'static str, Duration), most: (&'static str, Duration)) {
    if first.1 <= most.1 {
        return;
    }
    // The default of the other key may be the shorter or longer one: report what is written.
    let at = if section.has(first.0) { first.0 } else { most.0 };
    let message = format!("`{}` would be longer than `{}`, which is the most it grows to", first.0, most.0);
    section.conflict(at, &[first.0, most.0], message);
}

fn never_ban(section: &mut Section<'_>) -> Option<NeverBan> {
    let mut never_ban = NeverBan { networks: vec![], names: vec![] };
    for (_, exempt) in section.list("never_ban", exempt)? {
        match exempt {
            Exempt::Networks(networks) => networks.into_iter().for_each(|it| add(&mut never_ban.networks, it)),
            Exempt::Name(name) => add(&mut never_ban.names, name),
        }
    }
    if never_ban.names.len() > MAX_NAMES {
        let message = format!("more than {MAX_NAMES} names to look up: name networks instead");
        section.conflict("never_ban", &["never_ban"], message);
    }
    Some(never_ban)
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// One entry of `never_ban`.
enum Exempt {
    Networks(Vec<IpNet>),
    Name(String),
}

fn exempt(input: &Input) -> Result<Exempt, String> {
    input.parse(EXEMPT_EXPECTED, |text| {
        if let Some((_, networks)) = NETWORK_WORDS.iter().find(|(word, _)| *word == text) {
            let networks = networks.iter().map(|(address, prefix)| IpNet::new_assert(*address, *prefix));
            return Ok(Exempt::Networks(networks.collect()));
        }
        let has_only_numbers = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !text.is_empty();
        if has_only_numbers || text.contains([':', '/']) && !text.contains("://") {
            return exempt_network(input).map(|network| Exempt::Networks(vec![network]));
        }
        exempt_name(input, text).map(Exempt::Name)
    })
}

fn exempt_network(input: &Input) -> Result<IpNet, String> {
    let everyone = "is everyone: write `bans: {enabled: false}` if nobody shall be banned";
    values::network_unless(everyone)(input)
        .map_err(|why| if why.starts_with("expected ") { input.expected(EXEMPT_EXPECTED) } else { why })
}

/// A name of one label would be a misspelt word more often than a name.
fn exempt_name(input: &Input, text: &str) -> Result<String, String> {
    if text.contains('*') {
        return Err(format!("{} has no address to look up: write whole names", quoted(text)));
    }
    if !text.contains('.') {
        let similar = suggestion(text, NETWORK_WORDS.iter().map(|(word, _)| *word));
        return Err(format!("{}{similar}", input.expected(EXEMPT_EXPECTED)));
    }
    names::name(text)
}

/// What a host says about the guard.
pub(in crate::config) struct HostGuard {
    pub surface: Surface,
    pub client_ca_file: Option<PathBuf>,
    pub onboarding: bool,
    pub public_paths: Vec<String>,
    pub rate_limits: RateLimits,
}

/// Reads a host's keys; `base` are the limits of hosts that name none.
pub(in crate::config) fn host(section: &mut Section<'_>, app: App, base: &RateLimits) -> HostGuard {
    let surface = section.read("surface", surface).unwrap_or(Surface::default_of(app));
    if app == App::Generic && surface == Surface::Login {
        let message = "`login` needs `app: home_assistant`: of other applications the gate does not know the login";
        section.conflict("surface", &["surface", "app"], message);
    }
    let client_ca_file = section.path("client_ca_file");
    match (surface, section.has("client_ca_file")) {
        (Surface::Closed, false) => {
            section.conflict(
                "surface",
                &["surface"],
                "`closed` needs `client_ca_file`: whose certificates clients must have",
            );
        }
        (Surface::Open | Surface::Login, true) => {
            section.conflict("client_ca_file", &["surface"], "is for `surface: closed` only");
        }
        (Surface::Closed, true) | (Surface::Open | Surface::Login, false) => {}
    }
    let onboarding = section.read("onboarding", values::boolean).unwrap_or(false);
    if app == App::Generic && section.has("onboarding") {
        section.conflict("onboarding", &["app"], "only `app: home_assistant` has an onboarding: remove this");
    }
    let public_paths: Vec<String> =
        section.list("public_paths", public_path).unwrap_or_default().into_iter().map(|(_, path)| path).collect();
    if public_paths.len() > MAX_PUBLIC_PATHS {
        section.conflict("public_paths", &["public_paths"], format!("more than {MAX_PUBLIC_PATHS} paths"));
    }
    let rate_limits = rate_limits(section.section("rate_limits"), base);
    HostGuard { surface, client_ca_file, onboarding, public_paths, rate_limits }
}

fn surface(input: &Input) -> Result<Surface, String> {
    values::choice(&[("open", Surface::Open), ("login", Surface::Login), ("closed", Surface::Closed)])(input)
}

/// A prefix in the one spelling that requests are compared in.
fn public_path(input: &Input) -> Result<String, String> {
    let expected = "a path such as `/nodered`";
    input.strict_text(expected)?;
    input.parse(expected, |text| match path_fault(text) {
        Some(fault) => Err(format!("{} {fault}", quoted(text))),
        None => Ok(text.to_owned()),
    })
}

fn path_fault(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix('/') else {
        return Some("does not begin with `/`: write the path as it is in the address bar".to_owned());
    };
    let fault = if rest.is_empty() {
        "is everything: write `surface: open`, if that is meant"
    } else if text.len() > MAX_PATH_BYTES {
        "is longer than 256 characters"
    } else if text.contains(['*', '?', '#']) {
        "has a `*`, `?` or `#`: write the beginning of the path, all below it belongs to it"
    } else if text.contains(['%', '\\', ';']) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        "has a character that paths are not compared with: letters, digits and `-._~!$&'()+,:@=` are allowed"
    } else if let Some(shorter) = text.strip_suffix('/').filter(|shorter| !shorter.ends_with('/')) {
        return Some(format!("ends with `/`: write {}, all below it belongs to it", quoted(shorter)));
    } else if rest.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        "has `//`, `/./` or `/../` in it: write the path without"
    } else {
        return None;
    };
    Some(fault.to_owned())
}

/// What the words of `never_ban` stand for. Not 100.64.0.0/10: behind a provider's NAT are strangers.
pub(in crate::config) const NETWORK_WORDS: [(&str, &[(IpAddr, u8)]); 3] = [
    ("loopback", &[(v4(127, 0, 0, 0), 8), (v6(0, 1), 128)]),
    ("private", &[(v4(10, 0, 0, 0), 8), (v4(172, 16, 0, 0), 12), (v4(192, 168, 0, 0), 16), (v6(0xfc00, 0), 7)]),
    ("link_local", &[(v4(169, 254, 0, 0), 16), (v6(0xfe80, 0), 10)]),
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// By its first and last 16 bits.
const fn v6(first: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last))
}

const EXEMPT_EXPECTED: &str =
    "`loopback`, `private`, `link_local`, a network such as `203.0.113.0/24`, an address or a host name";
/// Each is a question to the resolver at every refresh.
const MAX_NAMES: usize = 64;
/// Each is compared with every request of a client that has proven nothing.
const MAX_PUBLIC_PATHS: usize = 64;
const MAX_PATH_BYTES: usize = 256;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
