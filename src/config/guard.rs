//! The `guard` section and what hosts say about it: who may ask how often, who is throttled, who is banned.
//!
//! All of it is live but `bans.capacity`. What a host leaves out of its `rate_limits` is filled in
//! here, from this section, so that a host holds the limits that count.

pub(super) mod read;

use std::time::Duration;

use ipnet::IpNet;

use super::{App, Config, Host, Rate};

/// What strangers may try, and what follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    pub never_ban: NeverBan,
    /// How often the names in `never_ban` are looked up; 10 s to 1 day.
    pub never_ban_refresh: Duration,
    /// For hosts that say nothing else.
    pub rate_limits: RateLimits,
    pub login: LoginLimits,
    pub bans: Bans,
    /// How long a proven session lets its address read what the session might; at most 30 days, zero is not at all.
    pub proof_extends_to_address: Duration,
    /// How long a device stays known without being seen, be it by cookie or by refresh token; 1 hour to 1 year.
    pub known_device_lifetime: Duration,
}

/// Clients that are counted, limited and throttled, but never banned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverBan {
    /// With the words `loopback`, `private` and `link_local` written out; each network once, in the order of the file.
    pub networks: Vec<IpNet>,
    /// Lower-case DNS names, whose addresses are looked up again and again; at most 64, each once.
    pub names: Vec<String>,
}

/// What requests are told apart by before they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestClass {
    /// Scripts, styles, icons and fonts.
    Static,
    /// Documents that a browser shows.
    Page,
    Api,
    /// Logins and tokens.
    Auth,
    Webhook,
    /// Upgrades; the messages after one are not counted.
    Websocket,
}

/// One client's limit for each class; `None` (written `off`) is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// The key is `static`, which Rust keeps for itself.
    pub static_files: Option<RateLimit>,
    pub page: Option<RateLimit>,
    pub api: Option<RateLimit>,
    pub auth: Option<RateLimit>,
    pub webhook: Option<RateLimit>,
    pub websocket: Option<RateLimit>,
}

/// So many requests at once, and then so many per time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub rate: Rate,
    /// Requests that may come at once after a rest; 1 to 1 000 000.
    pub burst: u32,
    /// Counts what would have been refused, and refuses nothing.
    pub dry_run: bool,
}

/// When a login is throttled.
#[derive(Debug, Clone, PartialEq)]
pub struct LoginLimits {
    /// Distinct failed credentials of one client within `window`; 1 to 100.
    pub max_failures: u32,
    /// 10 s to 1 day.
    pub window: Duration,
    /// Failures of one account name, over all clients, within `account_window`; 1 to 10 000.
    pub account_failures: u32,
    /// 10 s to 1 day.
    pub account_window: Duration,
    /// How often the upstream is asked about the same bad credential before the gate answers by itself; 1 to 100.
    pub repeats: u32,
    /// The first `Retry-After` of a throttled login, doubled each time; from 1 s.
    pub delay: Duration,
    /// Where the doubling ends; at most 1 day, at least `delay`.
    pub max_delay: Duration,
    /// Counts and logs, and refuses nothing.
    pub dry_run: bool,
}

/// What becomes of clients with more failures than `login.max_failures`.
#[derive(Debug, Clone, PartialEq)]
pub struct Bans {
    pub enabled: bool,
    /// The first ban; from 1 s.
    pub first: Duration,
    /// By which each further ban is longer; 1 to 100.
    pub factor: u32,
    /// The longest ban; at most 1 year, at least `first`.
    pub max: Duration,
    /// The clean period after which one ban is forgotten; 1 minute to 1 year.
    pub forgive_after: Duration,
    pub answer: BanAnswer,
    /// Bans remembered at once, 1 to 1 000 000; then the one that would end first leaves. Needs a restart.
    pub capacity: usize,
}

/// What a banned client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BanAnswer {
    /// Its connections are closed before TLS.
    Close,
    /// A page with status 403.
    Page,
}

/// What a client reaches before it has proven a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// Everything.
    Open,
    /// What a login needs, and `public_paths`.
    Login,
    /// Nothing without a client certificate; with one everything.
    Closed,
}

impl Surface {
    /// What holds for hosts that do not say: only of Home Assistant do we know what a login needs.
    pub const fn default_of(app: App) -> Self {
        match app {
            App::HomeAssistant => Self::Login,
            App::Generic => Self::Open,
        }
    }
}

impl RequestClass {
    /// In the order of the file.
    pub const ALL: [Self; 6] = [Self::Static, Self::Page, Self::Api, Self::Auth, Self::Webhook, Self::Websocket];

    /// The key below `rate_limits`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Page => "page",
            Self::Api => "api",
            Self::Auth => "auth",
            Self::Webhook => "webhook",
            Self::Websocket => "websocket",
        }
    }
}

impl RateLimits {
    /// The limit of a class.
    pub const fn of(&self, class: RequestClass) -> Option<RateLimit> {
        match class {
            RequestClass::Static => self.static_files,
            RequestClass::Page => self.page,
            RequestClass::Api => self.api,
            RequestClass::Auth => self.auth,
            RequestClass::Webhook => self.webhook,
            RequestClass::Websocket => self.websocket,
        }
    }
}

impl Config {
    /// Where the file says, or would say, what holds for a class at `host`, such as `guard.rate_limits.api`.
    pub fn rate_limit_key(&self, host: &Host, class: RequestClass) -> String {
        let shared = format!("guard.rate_limits.{}", class.as_str());
        if host.rate_limits.of(class) == self.guard.rate_limits.of(class) {
            shared
        } else {
            format!("hosts.{}.rate_limits.{}", host.name, class.as_str())
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            never_ban: NeverBan::default(),
            never_ban_refresh: Duration::from_secs(300),
            rate_limits: RateLimits::default(),
            login: LoginLimits::default(),
            bans: Bans::default(),
            proof_extends_to_address: Duration::from_secs(12 * 3600),
            known_device_lifetime: 90 * DAY,
        }
    }
}

impl Default for NeverBan {
    fn default() -> Self {
        let networks = read::NETWORK_WORDS.iter().flat_map(|(_, networks)| *networks);
        Self {
            networks: networks.map(|(address, prefix)| IpNet::new_assert(*address, *prefix)).collect(),
            names: vec![],
        }
    }
}

impl Default for RateLimits {
    /// Four devices that load the whole frontend at once, behind one address, stay below them.
    fn default() -> Self {
        let limit = |count, burst| Some(RateLimit { rate: Rate::per_second(count), burst, dry_run: false });
        Self {
            static_files: limit(100, 1000),
            page: limit(5, 100),
            api: limit(50, 500),
            auth: limit(1, 60),
            webhook: limit(10, 200),
            websocket: limit(2, 60),
        }
    }
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self {
            max_failures: 10,
            window: Duration::from_secs(600),
            account_failures: 20,
            account_window: Duration::from_secs(3600),
            repeats: 3,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(300),
            dry_run: false,
        }
    }
}

impl Default for Bans {
    fn default() -> Self {
        Self {
            enabled: true,
            first: Duration::from_secs(900),
            factor: 4,
            max: 7 * DAY,
            forgive_after: DAY,
            answer: BanAnswer::Close,
            capacity: 100_000,
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
