//! How an upstream fares, in words an operator can act on.

use std::fmt;
use std::net::IpAddr;

/// What was last seen of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing yet.
    Unknown,
    Healthy,
    Trouble(Trouble),
    /// Home Assistant answers 400 to every request that says for whom it is: the gate is not among its trusted
    /// proxies. `gate` is the address it sees us under.
    Distrusts {
        gate: IpAddr,
    },
}

/// Why an upstream gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// Its name does not resolve.
    Dns,
    /// Nothing listens there.
    Refused,
    /// No connection in time, or no route.
    Unreachable,
    /// The TLS handshake failed, or the certificate is not the expected one.
    Tls,
    /// Connected, but no answer in time.
    Silent,
    /// The connection broke, or the answer was no HTTP.
    Broken,
}

impl Trouble {
    /// All of them, for metrics that exist before they count.
    pub const ALL: [Self; 6] = [Self::Dns, Self::Refused, Self::Unreachable, Self::Tls, Self::Silent, Self::Broken];

    /// The word in metrics and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Silent => "timeout",
            Self::Broken => "broken",
        }
    }

    /// What the operator is told.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Dns => "its name does not resolve; check `upstream` and this machine's DNS",
            Self::Refused => "connection refused; is it running, and on this port",
            Self::Unreachable => "no connection in time; check the address, the network and firewalls",
            Self::Tls => "TLS failed; check `ca_file` or `certificate_sha256`, and whether it speaks https at all",
            Self::Silent => "connected, but no answer in time; it hangs or is overloaded",
            Self::Broken => "the connection broke or the answer was not HTTP; is this the right port",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not asked yet"),
            Self::Healthy => f.write_str("healthy"),
            Self::Trouble(trouble) => f.write_str(trouble.as_str()),
            Self::Distrusts { .. } => f.write_str("does not trust this gate"),
        }
    }
}

/// What to do in Home Assistant. Releases up to 2026.7 read the YAML; from 2026.8 on it is imported once and then
/// ignored, and the setting lives in the user interface.
pub fn distrust_advice(gate: IpAddr) -> String {
    format!(
        "Home Assistant does not trust this gate and answers 400 to everything it forwards; in Home Assistant 2026.8 \
         and later open Settings > System > Network > HTTP server, turn on \"Trust X-Forwarded-For\", add {gate} to \
         \"Trusted proxies\" and confirm within five minutes of the restart; in earlier releases set in \
         configuration.yaml `http: {{use_x_forwarded_for: true, trusted_proxies: [{gate}]}}` and restart"
    )
}
