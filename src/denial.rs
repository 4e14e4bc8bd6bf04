//! Every reason for which the gate itself turns someone away: a closed set of words, each with its status.
//!
//! The word is what metrics and access log carry; what the client reads is written by `proxy/response.rs`.

use http::StatusCode;

/// Why a connection or a request ended at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Not HTTP as RFC 9112 writes it: odd bytes, bare line feeds, folded fields, ambiguous framing.
    Malformed,
    /// No host, two hosts, or one that is no host name.
    BadHost,
    /// A trusted proxy did not name its client legibly.
    BadForwarding,
    /// CONNECT and TRACE.
    Method,
    /// The head did not arrive within `timeouts.request_head`.
    SlowHead,
    /// The body stayed below `limits.body_rate` or stalled longer than `timeouts.body_stall`.
    SlowBody,
    /// Over the host's `body_size`.
    BodySize,
    /// Over `limits.uri_length`.
    UriLength,
    /// Over `limits.head_size`.
    HeadSize,
    /// Over `limits.header_count`.
    HeaderCount,
    /// SNI and Host differ, or the host is not configured.
    Misdirected,
    /// HTTP versions other than 1.0, 1.1 and 2.
    Version,
    /// Over `limits.connections`.
    Connections,
    /// Over `limits.connections_per_client`.
    ConnectionsPerClient,
    /// Over `limits.requests`.
    Requests,
    /// Over `limits.requests_per_client`.
    RequestsPerClient,
    /// Nobody known, in a place that a newcomer needed at the address of a known device.
    MadeRoom,
    /// No PROXY protocol header from a peer that must send one, or a broken one.
    ProxyProtocol,
    /// Not done within `timeouts.tls_handshake`.
    TlsTimeout,
    /// A server name that is not configured, or none.
    TlsName,
    /// Any other handshake that failed.
    TlsHandshake,
    /// Not done within `timeouts.http2_preface`.
    Http2Preface,
    /// Over `limits.http2_resets`.
    Http2Resets,
    /// A client took nothing of an answer for `timeouts.write_stall`.
    WriteStall,
    /// Nothing moved on a WebSocket for `timeouts.websocket_idle`.
    WebSocketIdle,
    /// No next request within `timeouts.keep_alive`: the ordinary end of a connection, counted all the same.
    KeepAlive,
    /// No stream within `timeouts.http2_idle`, or no first one within `timeouts.request_head`; as ordinary.
    Http2Idle,
    /// `limits.requests_per_connection` was reached; as ordinary.
    RequestsPerConnection,
    /// The client's address is banned (`guard.bans`, or the operator's word).
    Banned,
    /// More requests than `guard.rate_limits` allow.
    RateLimit,
    /// Too many failed logins of this client, or too many under way at once (`guard.login`).
    LoginThrottle,
    /// Too many failed logins on this account, by strangers (`guard.login.account_failures`).
    AccountThrottle,
    /// A credential that the application has refused before, `guard.login.repeats` times.
    StaleCredential,
    /// The same of a refresh token.
    StaleGrant,
    /// Needs a proven session, and none was shown (`surface: login`).
    Unproven,
    /// Not among what strangers may reach (`surface: login`).
    NotPublic,
    /// The first set-up of Home Assistant, from outside (`onboarding`).
    Onboarding,
    /// A path spelled as no client spells it, from a stranger.
    OddPath,
    /// A login that is not what Home Assistant understands.
    LoginBody,
    /// A closed host, and no certificate of its authorities' (`client_ca_file`).
    ClientCertificate,
    /// The application could not be asked whether a credential is good.
    Unprovable,
}

impl Denial {
    /// All of them, for metrics that exist before they count.
    pub const ALL: [Self; 41] = [
        Self::Malformed,
        Self::BadHost,
        Self::BadForwarding,
        Self::Method,
        Self::SlowHead,
        Self::SlowBody,
        Self::BodySize,
        Self::UriLength,
        Self::HeadSize,
        Self::HeaderCount,
        Self::Misdirected,
        Self::Version,
        Self::Connections,
        Self::ConnectionsPerClient,
        Self::Requests,
        Self::RequestsPerClient,
        Self::MadeRoom,
        Self::ProxyProtocol,
        Self::TlsTimeout,
        Self::TlsName,
        Self::TlsHandshake,
        Self::Http2Preface,
        Self::Http2Resets,
        Self::WriteStall,
        Self::WebSocketIdle,
        Self::KeepAlive,
        Self::Http2Idle,
        Self::RequestsPerConnection,
        Self::Banned,
        Self::RateLimit,
        Self::LoginThrottle,
        Self::AccountThrottle,
        Self::StaleCredential,
        Self::StaleGrant,
        Self::Unproven,
        Self::NotPublic,
        Self::Onboarding,
        Self::OddPath,
        Self::LoginBody,
        Self::Unprovable,
        Self::ClientCertificate,
    ];

    /// The word in metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadHost => "bad_host",
            Self::BadForwarding => "bad_forwarding",
            Self::Method => "method",
            Self::SlowHead => "slow_head",
            Self::SlowBody => "slow_body",
            Self::BodySize => "body_size",
            Self::UriLength => "uri_length",
            Self::HeadSize => "head_size",
            Self::HeaderCount => "header_count",
            Self::Misdirected => "misdirected",
            Self::Version => "version",
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections_per_client",
            Self::Requests => "requests",
            Self::RequestsPerClient => "requests_per_client",
            Self::MadeRoom => "made_room",
            Self::ProxyProtocol => "proxy_protocol",
            Self::TlsTimeout => "tls_timeout",
            Self::TlsName => "tls_name",
            Self::TlsHandshake => "tls_handshake",
            Self::Http2Preface => "http2_preface",
            Self::Http2Resets => "http2_resets",
            Self::WriteStall => "write_stall",
            Self::WebSocketIdle => "websocket_idle",
            Self::KeepAlive => "keep_alive",
            Self::Http2Idle => "http2_idle",
            Self::RequestsPerConnection => "requests_per_connection",
            Self::Banned => "banned",
            Self::RateLimit => "rate_limit",
            Self::LoginThrottle => "login_throttle",
            Self::AccountThrottle => "account_throttle",
            Self::StaleCredential => "stale_credential",
            Self::StaleGrant => "stale_grant",
            Self::Unproven => "unproven",
            Self::NotPublic => "not_public",
            Self::Onboarding => "onboarding",
            Self::OddPath => "odd_path",
            Self::LoginBody => "login_body",
            Self::Unprovable => "unprovable",
            Self::ClientCertificate => "client_certificate",
        }
    }

    /// The status that says so to the client; those that end a connection without an answer have none.
    pub fn status(self) -> Option<StatusCode> {
        Some(match self {
            Self::Malformed | Self::BadHost | Self::BadForwarding | Self::LoginBody | Self::StaleGrant => {
                StatusCode::BAD_REQUEST
            }
            Self::StaleCredential | Self::Unproven => StatusCode::UNAUTHORIZED,
            Self::Banned | Self::Onboarding => StatusCode::FORBIDDEN,
            Self::NotPublic | Self::OddPath => StatusCode::NOT_FOUND,
            Self::RateLimit | Self::LoginThrottle | Self::AccountThrottle => StatusCode::TOO_MANY_REQUESTS,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowHead | Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::BodySize => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriLength => StatusCode::URI_TOO_LONG,
            Self::HeadSize | Self::HeaderCount => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Connections
            | Self::ConnectionsPerClient
            | Self::Requests
            | Self::RequestsPerClient
            | Self::MadeRoom
            | Self::Unprovable => StatusCode::SERVICE_UNAVAILABLE,
            Self::ProxyProtocol
            | Self::TlsTimeout
            | Self::TlsName
            | Self::TlsHandshake
            | Self::ClientCertificate
            | Self::Http2Preface
            | Self::Http2Resets
            | Self::WriteStall
            | Self::WebSocketIdle
            | Self::KeepAlive
            | Self::Http2Idle
            | Self::RequestsPerConnection => return None,
        })
    }
}
