//! What the Unix socket says and hears about bans, as JSON, and which bans an operator may ask for.
//!
//! Whatever is read here is checked by the same rules on both sides: the command line refuses a slip
//! before it asks, and the gate refuses it from everybody else.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::client::ClientAddr;
use crate::config;

/// The answer to `GET /bans`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanList {
    /// Bans in force, shown or not.
    pub total: u64,
    /// The newest first, at most [`MOST_BANS`].
    pub bans: Vec<BanReport>,
}

/// One ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanReport {
    pub network: IpNet,
    #[serde(with = "super::rfc3339")]
    pub since: SystemTime,
    #[serde(with = "super::rfc3339")]
    pub until: SystemTime,
    /// Up to `until`, when the answer was made.
    pub remaining_seconds: u64,
    pub cause: BanCause,
    /// In words, for people: of the operator, or of the gate.
    pub reason: Option<String>,
    /// Bans of this client that are not forgotten yet, this one included.
    pub strikes: u32,
}

/// Who or what a ban comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BanCause {
    /// The client's own failed logins.
    Failures,
    /// Failed logins of many clients in this IPv6 network.
    Neighbours,
    /// `hearthgate bans add`.
    Operator,
}

/// A ban that an operator asks for, within bounds: `POST /bans`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wanted", into = "Wanted")]
pub struct NewBan {
    network: IpNet,
    length: Duration,
    reason: Option<String>,
}

/// The same as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    network: String,
    seconds: u64,
    #[serde(default)]
    reason: Option<String>,
}

/// Which bans are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BanTarget {
    /// The ban of exactly this network: no host bits, not everyone, IPv6 no longer than the /64 of a client.
    Network(IpNet),
    /// Every ban that covers this address, which is in canonical form.
    Address(IpAddr),
}

/// The answer to `DELETE /bans`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The networks that are no longer banned; empty if there was no such ban.
    pub removed: Vec<IpNet>,
}

/// The answer to `GET /explain`: what the gate knows of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub address: IpAddr,
    /// The network that is one client here: the address itself, or its /64.
    pub counted_as: IpNet,
    pub standing: Standing,
    /// The network or host name in `guard.never_ban` that keeps the client from being banned.
    pub never_ban: Option<String>,
    pub ban: Option<BanReport>,
    pub failures: FailureCount,
    /// Logins whose answer is awaited; they count like failures until then.
    pub attempts_in_flight: u32,
    /// Seconds until the client may try a login again; `None` if it may now.
    pub login_retry_seconds: Option<u64>,
    /// The limits that the client has drawn on; the others are full.
    pub rate_limits: Vec<RateLimitState>,
    pub requests_open: u64,
    pub connections_open: u64,
    pub last_refusal: Option<Refusal>,
}

/// Whether a session has been proven from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Lately: see `guard.proof_extends_to_address`.
    Known,
    Unknown,
}

/// Failed logins of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCount {
    /// Distinct credentials.
    pub count: u32,
    pub limit: u32,
    pub window_seconds: u64,
    /// The key of the configuration that sets the limit.
    pub key: String,
}

/// What is left of one rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitState {
    /// As in the configuration: `static`, `page`, ...
    pub class: String,
    /// Requests that may come at once now.
    pub remaining: u32,
    pub burst: u32,
    /// As in the configuration: `5/s`.
    pub rate: String,
    pub dry_run: bool,
    /// The key of the configuration that sets the limit.
    pub key: String,
}

/// The last time that a client was turned away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    #[serde(with = "super::rfc3339")]
    pub at: SystemTime,
    /// The word of the access log and of `hearthgate_denials_total`.
    pub reason: String,
    /// As configured; `None` before a host was known.
    pub host: Option<String>,
    /// The key of the configuration that made the difference, if there is one.
    pub key: Option<String>,
}

/// Bans in one answer: more than anybody reads, and no burden for the gate.
pub const MOST_BANS: usize = 10_000;

impl NewBan {
    /// Bans a network, or the client that an address belongs to.
    ///
    /// # Errors
    ///
    /// If `length` is not from 1 second to 366 days, or `reason` is longer than 200 characters or more than one line.
    pub fn new(target: BanTarget, length: Duration, reason: Option<String>) -> Result<Self, String> {
        if length < SHORTEST || length > LONGEST {
            return Err("a ban lasts from 1 second to 366 days".to_owned());
        }
        if let Some(reason) = &reason {
            if reason.chars().count() > MOST_REASON {
                return Err(format!("a reason has at most {MOST_REASON} characters"));
            }
            if reason.contains(char::is_control) {
                return Err("a reason is one line, without control characters".to_owned());
            }
        }
        let network = match target {
            BanTarget::Network(network) => network,
            BanTarget::Address(address) => ClientAddr::new(address).key().network(),
        };
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        Ok(Self { network, length, reason })
    }

    /// Without host bits, never everyone, IPv6 no longer than /64.
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// From 1 second to 366 days.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// One line of at most 200 characters.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl TryFrom<Wanted> for NewBan {
    type Error = String;

    fn try_from(wanted: Wanted) -> Result<Self, String> {
        Self::new(BanTarget::parse(&wanted.network)?, Duration::from_secs(wanted.seconds), wanted.reason)
    }
}

impl From<NewBan> for Wanted {
    fn from(ban: NewBan) -> Self {
        Self { network: ban.network.to_string(), seconds: ban.length.as_secs(), reason: ban.reason }
    }
}

impl BanTarget {
    /// Reads `203.0.113.0/24` or `203.0.113.9`; the error says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('/') {
            return address(text).map(Self::Address);
        }
        let network = text.parse::<IpNet>().map_err(|_| format!("{} is not a network: {NETWORK}", quoted(text)))?;
        let refused = |why: &str, instead: IpNet| Err(format!("{} {why}: write `{instead}`", quoted(text)));
        if let Some(network) = config::unmapped(network) {
            return refused("stands for IPv4", network);
        }
        if network.prefix_len() == 0 {
            return Err(format!("{} is everyone: close the router's port instead", quoted(text)));
        }
        if let IpNet::V6(longer) = network
            && longer.prefix_len() > CLIENT_PREFIX
        {
            let client = Ipv6Net::new_assert(longer.addr(), CLIENT_PREFIX).trunc();
            return refused("is a part of one client, which may use all of its /64", client.into());
        }
        if network != network.trunc() {
            return refused("has bits beyond its prefix", network.trunc());
        }
        Ok(Self::Network(network))
    }
}

impl fmt::Display for BanTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Reads one address into its canonical form; the error says what to write instead.
pub fn address(text: &str) -> Result<IpAddr, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical());
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Err(format!("{} is a network: name one address, such as `{}`", quoted(text), network.addr()));
    }
    Err(format!("{} is not an address: write one such as `203.0.113.9` or `2001:db8::9`", quoted(text)))
}

/// Shows what was asked for, whoever asked: short and without control characters.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(MOST_QUOTED).flat_map(char::escape_debug).collect();
    format!("`{shown}`")
}

const NETWORK: &str = "write one such as `203.0.113.0/24` or `2001:db8::/56`";
const MOST_QUOTED: usize = 60;
const MOST_REASON: usize = 200;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// What is one client in IPv6; see [`ClientKey`](crate::client::ClientKey).
const CLIENT_PREFIX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn banned(text: &str) -> Result<String, String> {
        NewBan::new(BanTarget::parse(text)?, Duration::from_secs(1), None).map(|ban| ban.network().to_string())
    }

    #[test]
    fn a_ban_is_of_a_network_or_of_a_whole_client() {
        for (text, network) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("203.0.113.9", "203.0.113.9/32"),
            ("203.0.113.9/32", "203.0.113.9/32"),
            ("::ffff:203.0.113.9", "203.0.113.9/32"),
            ("2001:db8::/56", "2001:db8::/56"),
            ("2001:db8::/64", "2001:db8::/64"),
            ("2001:db8::9", "2001:db8::/64"),
        ] {
            assert_eq!(banned(text).as_deref(), Ok(network), "{text}");
        }
    }

    #[test]
    fn slips_are_refused_with_what_to_write() {
        for (text, part) in [
            ("203.0.113.9/24", "has bits beyond its prefix: write `203.0.113.0/24`"),
            ("2001:db8::9/64", "has bits beyond its prefix: write `2001:db8::/64`"),
            ("2001:db8::9/128", "all of its /64: write `2001:db8::/64`"),
            ("::ffff:203.0.113.0/120", "stands for IPv4: write `203.0.113.0/24`"),
            ("0.0.0.0/0", "is everyone"),
            ("::/0", "is everyone"),
            ("203.0.113.0/33", "is not a network"),
            ("203.0.113/24", "is not a network"),
            ("ha.example.org", "is not an address"),
            ("", "`` is not an address"),
            ("x\u{7}", "`x\\u{7}` is not an address"),
        ] {
            let refusal = banned(text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
        assert!(address("203.0.113.0/24").unwrap_err().contains("is a network: name one address"));
        assert_eq!(address("::ffff:203.0.113.9"), Ok(IpAddr::from([203, 0, 113, 9])));
    }

    #[test]
    fn length_and_reason_have_bounds() {
        let target = BanTarget::parse("203.0.113.9").unwrap();
        let ban = |length, reason: Option<&str>| NewBan::new(target, length, reason.map(str::to_owned));
        assert!(ban(SHORTEST, None).is_ok() && ban(LONGEST, None).is_ok());
        assert!(ban(SHORTEST - Duration::from_nanos(1), None).is_err());
        assert!(ban(LONGEST + Duration::from_nanos(1), None).is_err());
        assert!(ban(SHORTEST, Some(&"ü".repeat(200))).is_ok());
        assert!(ban(SHORTEST, Some(&"ü".repeat(201))).unwrap_err().contains("at most 200"));
        assert!(ban(SHORTEST, Some("a\nb")).unwrap_err().contains("one line"));
        assert_eq!(ban(SHORTEST, Some(" ")).unwrap().reason(), None);
    }

    #[test]
    fn json_keeps_the_same_bounds() {
        let ban = r#"{"network":"203.0.113.0/24","seconds":604800,"reason":"scans"}"#;
        let read: NewBan = serde_json::from_str(ban).unwrap();
        assert_eq!((read.length(), read.reason()), (Duration::from_secs(604_800), Some("scans")));
        assert_eq!(serde_json::to_string(&read).unwrap(), ban);
        for (json, part) in [
            (r#"{"network":"203.0.113.9/24","seconds":1}"#, "write `203.0.113.0/24`"),
            (r#"{"network":"203.0.113.9","seconds":0}"#, "from 1 second"),
            (r#"{"network":"203.0.113.9","seconds":-1}"#, "invalid value"),
            (r#"{"network":"203.0.113.9"}"#, "missing field `seconds`"),
            (r#"{"network":"203.0.113.9","seconds":1,"for":2}"#, "unknown field `for`"),
        ] {
            let refusal = serde_json::from_str::<NewBan>(json).unwrap_err().to_string();
            assert!(refusal.contains(part), "{json}: {refusal}");
        }
    }
}
