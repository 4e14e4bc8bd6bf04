//! What an error of Pingora's means: whose fault it was, what the client is told, what the operator reads.

use http::StatusCode;
use pingora_core::{Error, ErrorSource, ErrorType};

use super::peer::UNRESOLVED;
use super::response::Answer;
use crate::upstream::health::Trouble;

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The client has gone; nobody is left to answer.
    ClientGone,
    /// The client's request turned out malformed after its head.
    ClientMalformed,
    /// The client took nothing of the answer for too long.
    ClientStalled,
    /// The upstream.
    Upstream(Trouble),
    /// The gate's own.
    Internal,
}

impl Failure {
    /// Reads Pingora's error.
    pub fn of(error: &Error) -> Self {
        match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, ErrorType::WriteTimedout) => Self::ClientStalled,
            (
                ErrorSource::Downstream,
                ErrorType::ReadError
                | ErrorType::WriteError
                | ErrorType::ConnectionClosed
                | ErrorType::ReadTimedout
                | ErrorType::H2Error,
            ) => Self::ClientGone,
            (ErrorSource::Downstream, _) => Self::ClientMalformed,
            (ErrorSource::Upstream, kind) => Self::Upstream(trouble(kind)),
            (ErrorSource::Internal | ErrorSource::Unset, _) => Self::Internal,
        }
    }

    /// The word in metrics and access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::ClientMalformed => "malformed",
            Self::ClientStalled => "write_stall",
            Self::Upstream(trouble) => trouble.as_str(),
            Self::Internal => "internal",
        }
    }

    /// What the client is told, if anyone is there to hear it.
    pub fn answer(self) -> Option<Answer> {
        let (status, message, retry_after) = match self {
            Self::ClientGone | Self::ClientStalled => return None,
            Self::ClientMalformed => (StatusCode::BAD_REQUEST, "The request could not be understood.", None),
            Self::Upstream(Trouble::Silent) => {
                (StatusCode::GATEWAY_TIMEOUT, "The home server is not answering right now.", Some(10))
            }
            Self::Upstream(Trouble::Refused | Trouble::Dns | Trouble::Unreachable) => {
                (StatusCode::BAD_GATEWAY, "The home server cannot be reached. It may be restarting.", Some(5))
            }
            Self::Upstream(Trouble::Tls | Trouble::Broken) => {
                (StatusCode::BAD_GATEWAY, "The home server gave no usable answer. It may be restarting.", Some(5))
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong at the gate.", None),
        };
        Some(Answer { status, message, retry_after, error: None })
    }
}

/// What a failure on the way to or at the upstream says about it.
pub fn trouble(kind: &ErrorType) -> Trouble {
    match kind {
        unresolved if *unresolved == UNRESOLVED => Trouble::Dns,
        ErrorType::ConnectRefused => Trouble::Refused,
        ErrorType::ConnectTimedout
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError
        | ErrorType::BindError => Trouble::Unreachable,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => Trouble::Tls,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Trouble::Silent,
        _ => Trouble::Broken,
    }
}
