//! What the Unix socket says: the outcome of a reload and the state of the gate, as JSON.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The answer to `POST /reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    pub outcome: ReloadOutcome,
    /// The generation that serves now.
    pub generation: u64,
    /// Rendered for the operator; empty unless refused.
    pub errors: Vec<String>,
    /// Key paths whose change only a restart can bring about.
    pub keys_needing_restart: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadOutcome {
    /// The new configuration serves.
    Accepted,
    /// The files say what already serves.
    Unchanged,
    /// The old configuration goes on serving.
    Refused,
}

impl ReloadOutcome {
    /// As written in JSON and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// The answer to `GET /status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// Counts accepted configurations; the first one is 1.
    pub generation: u64,
    pub uptime_seconds: u64,
    /// `None` until the first reload.
    pub last_reload: Option<LastReload>,
    pub listeners: Listeners,
    /// Client connections, WebSockets included.
    pub connections_open: u64,
    pub websockets_open: u64,
    pub bans_active: u64,
    /// The private address that nearly all clients show: a router's, most likely, that hides who they are.
    #[serde(default)]
    pub clients_hidden_behind: Option<IpAddr>,
    /// In the order of the configuration.
    pub hosts: Vec<HostStatus>,
    /// `None` without names that are kept pointed at this home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_dns: Option<DynamicDnsStatus>,
    /// Numbers since the start, by name.
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    #[serde(with = "super::rfc3339")]
    pub at: SystemTime,
    pub outcome: ReloadOutcome,
    /// Rendered for the operator; empty unless refused.
    #[serde(default)]
    pub errors: Vec<String>,
}

/// The sockets as they are bound, with real ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    pub https: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    pub name: String,
    /// As a URL.
    pub upstream: String,
    /// For people: `up`, `down since ...`, `not asked yet`.
    pub health: String,
    /// `None` if it has not been asked yet.
    #[serde(default)]
    pub is_up: Option<bool>,
    /// What to do, if anything is wrong.
    #[serde(default)]
    pub advice: Option<String>,
    /// `None` if no certificate is served for the host.
    pub certificate: Option<Certificate>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    #[serde(with = "super::rfc3339")]
    pub not_after: SystemTime,
    pub self_signed: bool,
}

/// How the names fare that follow the home's address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicDnsStatus {
    pub names: Vec<DynamicName>,
    /// Why an address of the home is not known, each a sentence.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicName {
    pub name: String,
    /// What its records hold, as far as the gate knows.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// When the gate has set them last; `None` if not since its start.
    #[serde(with = "super::rfc3339::optional")]
    pub last_change: Option<SystemTime>,
    /// The last update has failed.
    pub failure: Option<DynamicNameFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicNameFailure {
    /// What the provider has said.
    pub error: String,
    #[serde(with = "super::rfc3339")]
    pub next_attempt: SystemTime,
}
