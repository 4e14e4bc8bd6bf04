//! What can happen that the operator may want to hear of, and how it is said.
//!
//! Nothing here comes from a client but its address: no path, no name, no text of a stranger's ends up in a notification.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use crate::config::Topic;

/// One thing that has happened. Its JSON is an object with `kind` and the fields below.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    Ban {
        network: IpNet,
        /// `login` or `operator`.
        cause: &'static str,
        #[serde(serialize_with = "rfc3339")]
        until: SystemTime,
        seconds: u64,
        /// Bans of this network that are remembered, this one included.
        strikes: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Why>,
    },
    BanLifted {
        network: IpNet,
    },
    /// Somebody has proven a session who showed nothing that was known.
    NewDevice {
        host: String,
        network: IpNet,
        /// `login`, or the kind of token that was shown.
        proof: &'static str,
    },
    /// Very many logins fail, whoever tries.
    LoginStorm {
        failures: u64,
        seconds: u64,
    },
    CertificateFailed {
        host: String,
        why: Why,
    },
    CertificateExpiresSoon {
        host: String,
        #[serde(serialize_with = "rfc3339")]
        not_after: SystemTime,
    },
    CertificateExpired {
        host: String,
        #[serde(serialize_with = "rfc3339")]
        not_after: SystemTime,
    },
    /// After one of the three above.
    CertificateRecovered {
        host: String,
        #[serde(serialize_with = "rfc3339")]
        not_after: SystemTime,
    },
    ReloadRefused {
        why: Why,
    },
    /// After a refusal.
    ReloadAccepted {
        generation: u64,
    },
    UpstreamDown {
        host: String,
        why: Why,
    },
    UpstreamUp {
        host: String,
    },
    /// The operator wants to know whether messages arrive.
    Test,
}

/// How loud a message is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// All is well again.
    Low,
    Normal,
    /// Somebody should act.
    High,
}

impl Event {
    /// The word in metrics and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ban { .. } => "ban",
            Self::BanLifted { .. } => "ban_lifted",
            Self::NewDevice { .. } => "new_device",
            Self::LoginStorm { .. } => "login_storm",
            Self::CertificateFailed { .. } => "certificate_failed",
            Self::CertificateExpiresSoon { .. } => "certificate_expires_soon",
            Self::CertificateExpired { .. } => "certificate_expired",
            Self::CertificateRecovered { .. } => "certificate_recovered",
            Self::ReloadRefused { .. } => "reload_refused",
            Self::ReloadAccepted { .. } => "reload_accepted",
            Self::UpstreamDown { .. } => "upstream_down",
            Self::UpstreamUp { .. } => "upstream_up",
            Self::Test => "test",
        }
    }

    /// Who is told; `None`: everybody.
    pub fn topic(&self) -> Option<Topic> {
        Some(match self {
            Self::Ban { .. } | Self::BanLifted { .. } => Topic::Bans,
            Self::NewDevice { .. } => Topic::Devices,
            Self::LoginStorm { .. } => Topic::Logins,
            Self::CertificateFailed { .. }
            | Self::CertificateExpiresSoon { .. }
            | Self::CertificateExpired { .. }
            | Self::CertificateRecovered { .. } => Topic::Certificates,
            Self::ReloadRefused { .. } | Self::ReloadAccepted { .. } => Topic::Reloads,
            Self::UpstreamDown { .. } | Self::UpstreamUp { .. } => Topic::Upstreams,
            Self::Test => return None,
        })
    }

    pub fn urgency(&self) -> Urgency {
        match self {
            Self::BanLifted { .. }
            | Self::CertificateRecovered { .. }
            | Self::ReloadAccepted { .. }
            | Self::UpstreamUp { .. } => Urgency::Low,
            Self::Ban { .. } | Self::CertificateExpiresSoon { .. } | Self::Test => Urgency::Normal,
            Self::NewDevice { .. }
            | Self::LoginStorm { .. }
            | Self::CertificateFailed { .. }
            | Self::CertificateExpired { .. }
            | Self::ReloadRefused { .. }
            | Self::UpstreamDown { .. } => Urgency::High,
        }
    }

    /// A symbol for ntfy, by its short code.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::Ban { .. } => "no_entry",
            Self::NewDevice { .. } => "iphone",
            Self::LoginStorm { .. }
            | Self::CertificateFailed { .. }
            | Self::CertificateExpiresSoon { .. }
            | Self::CertificateExpired { .. }
            | Self::ReloadRefused { .. }
            | Self::UpstreamDown { .. } => "warning",
            Self::BanLifted { .. }
            | Self::CertificateRecovered { .. }
            | Self::ReloadAccepted { .. }
            | Self::UpstreamUp { .. }
            | Self::Test => "white_check_mark",
        }
    }

    /// So many of this kind, as the beginning of a sentence.
    pub fn counted(&self, count: u64) -> String {
        let (one, many) = match self {
            Self::Ban { .. } => ("ban", "bans"),
            Self::BanLifted { .. } => ("ban lifted", "bans lifted"),
            Self::NewDevice { .. } => ("new device", "new devices"),
            Self::LoginStorm { .. } => ("login storm", "login storms"),
            Self::CertificateFailed { .. } => ("certificate failure", "certificate failures"),
            Self::CertificateExpiresSoon { .. } => ("certificate expires soon", "certificates expire soon"),
            Self::CertificateExpired { .. } => ("certificate has expired", "certificates have expired"),
            Self::CertificateRecovered { .. } => ("certificate is well again", "certificates are well again"),
            Self::ReloadRefused { .. } => ("reload refused", "reloads refused"),
            Self::ReloadAccepted { .. } => ("reload accepted", "reloads accepted"),
            Self::UpstreamDown { .. } => ("upstream down", "upstreams down"),
            Self::UpstreamUp { .. } => ("upstream up again", "upstreams up again"),
            Self::Test => ("test", "tests"),
        };
        format!("{count} {}", if count == 1 { one } else { many })
    }

    /// What it is about, in a list of its kind.
    pub fn subject(&self) -> String {
        match self {
            Self::Ban { network, .. } | Self::BanLifted { network } => shown(network),
            Self::NewDevice { host, network, .. } => format!("{} at {host}", shown(network)),
            Self::LoginStorm { failures, .. } => format!("{failures} failures"),
            Self::CertificateFailed { host, .. }
            | Self::CertificateExpiresSoon { host, .. }
            | Self::CertificateExpired { host, .. }
            | Self::CertificateRecovered { host, .. }
            | Self::UpstreamDown { host, .. }
            | Self::UpstreamUp { host } => host.clone(),
            Self::ReloadRefused { why } => why.to_string(),
            Self::ReloadAccepted { generation } => format!("generation {generation}"),
            Self::Test => "test".to_owned(),
        }
    }

    /// All of it in one sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Ban { network, cause, until, seconds, strikes, reason } => {
                let why = match (reason, *cause) {
                    (Some(reason), _) => reason.to_string(),
                    (None, "operator") => "by your word".to_owned(),
                    (None, _) if *strikes > 1 => format!("too many failed logins, {strikes} bans lately"),
                    (None, _) => "too many failed logins".to_owned(),
                };
                let span = humantime::format_duration(Duration::from_secs(*seconds));
                format!("{} is banned for {span}, until {}: {why}", shown(network), date(*until))
            }
            Self::BanLifted { network } => format!("{} is no longer banned", shown(network)),
            Self::NewDevice { host, network, proof: "login" } => {
                format!("Somebody has logged in to {host} from {} on a new device", shown(network))
            }
            Self::NewDevice { host, network, proof } => {
                format!("A new device at {host}: {} has shown a token that is good ({proof})", shown(network))
            }
            Self::LoginStorm { failures, seconds } => {
                let span = humantime::format_duration(Duration::from_secs(*seconds));
                format!("{failures} logins have failed within {span}: somebody guesses")
            }
            Self::CertificateFailed { host, why } => format!("No new certificate for {host}: {why}"),
            Self::CertificateExpiresSoon { host, not_after } => {
                format!("The certificate of {host} expires on {}", date(*not_after))
            }
            Self::CertificateExpired { host, not_after } => {
                format!("The certificate of {host} has expired on {}: browsers will warn", date(*not_after))
            }
            Self::CertificateRecovered { host, not_after } => {
                format!("{host} has a new certificate, good until {}", date(*not_after))
            }
            Self::ReloadRefused { why } => {
                format!("The new configuration is refused, the old one goes on: {why}")
            }
            Self::ReloadAccepted { generation } => {
                format!("The configuration is accepted again (generation {generation})")
            }
            Self::UpstreamDown { host, why } => format!("What is behind {host} does not answer: {why}"),
            Self::UpstreamUp { host } => format!("What is behind {host} answers again"),
            Self::Test => "This is a test: messages of the gate arrive here".to_owned(),
        }
    }
}

/// One line of an explanation, at most 300 bytes, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why(String);

impl Why {
    /// Takes the first line of `text`.
    pub fn new(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        let plain: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Self(cut(plain.trim(), MOST_WHY))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `text`, with an ellipsis if it is longer than `most` bytes.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

/// A single address without its prefix.
fn shown(network: &IpNet) -> String {
    let whole = network.max_prefix_len() == network.prefix_len();
    let address: IpAddr = network.addr();
    if whole { address.to_string() } else { network.to_string() }
}

/// `2026-11-23 21:45 UTC`, for people.
fn date(time: SystemTime) -> String {
    let text = stamp(time);
    format!("{} {} UTC", &text[..10], &text[11..16])
}

/// RFC 3339 in seconds; what it cannot express is moved to its nearest end.
pub(super) fn stamp(time: SystemTime) -> String {
    let time = time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST_SECOND);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&stamp(*time))
}

const MOST_WHY: usize = 300;
/// The end of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);
