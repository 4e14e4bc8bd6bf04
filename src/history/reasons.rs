//! Forty reasons to turn somebody away, in the five groups that a glance tells apart.

use serde::{Deserialize, Serialize};

use crate::denial::Denial;

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Banned.
    Ban,
    /// Logins that failed too often, or cannot be any.
    Login,
    /// What a stranger may not reach.
    Surface,
    /// More requests than allowed.
    RateLimit,
    /// Not HTTP, not TLS, not for us, too much, too slow.
    Malformed,
}

impl Group {
    /// In the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Ban, Self::Login, Self::Surface, Self::RateLimit, Self::Malformed];

    /// What people read.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ban => "banned",
            Self::Login => "logins",
            Self::Surface => "not public",
            Self::RateLimit => "rate limit",
            Self::Malformed => "malformed, limits",
        }
    }

    /// `None` for the ordinary end of a connection, which turns nobody away.
    pub fn of(denial: Denial) -> Option<Self> {
        Some(match denial {
            Denial::Banned => Self::Ban,
            Denial::LoginThrottle
            | Denial::AccountThrottle
            | Denial::StaleCredential
            | Denial::StaleGrant
            | Denial::LoginBody
            | Denial::Unprovable => Self::Login,
            Denial::Unproven | Denial::NotPublic | Denial::Onboarding | Denial::OddPath | Denial::ClientCertificate => {
                Self::Surface
            }
            Denial::RateLimit => Self::RateLimit,
            Denial::Malformed
            | Denial::BadHost
            | Denial::BadForwarding
            | Denial::Method
            | Denial::SlowHead
            | Denial::SlowBody
            | Denial::BodySize
            | Denial::UriLength
            | Denial::HeadSize
            | Denial::HeaderCount
            | Denial::Misdirected
            | Denial::Version
            | Denial::Connections
            | Denial::ConnectionsPerClient
            | Denial::Requests
            | Denial::RequestsPerClient
            | Denial::MadeRoom
            | Denial::ProxyProtocol
            | Denial::TlsTimeout
            | Denial::TlsName
            | Denial::TlsHandshake
            | Denial::Http2Preface
            | Denial::Http2Resets
            | Denial::WriteStall => Self::Malformed,
            Denial::WebSocketIdle | Denial::KeepAlive | Denial::Http2Idle | Denial::RequestsPerConnection => {
                return None;
            }
        })
    }
}
