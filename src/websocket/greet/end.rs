//! The ways in which a greeting ends without an accepted login, and what the client is told in each.

use crate::websocket::frames::{close_frame, text_frame};
use crate::websocket::message::Unreadable;
use crate::websocket::relay::GOING_AWAY;

/// Why a greeting ended without an accepted login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The client left.
    Client,
    /// The upstream left.
    Upstream,
    /// The gate is shutting down; the client got a close frame 1001.
    Shutdown,
    /// There was no verdict in time; 1013.
    Deadline,
    /// A stream broke.
    Broken,
    /// The upstream refused the login.
    Refused,
    /// The doorkeeper did, in the upstream's words; 1000.
    RefusedAsInvalid,
    /// The doorkeeper did, for now; 1013.
    RefusedForNow,
    /// The doorkeeper did, without a word.
    Dropped,
    /// The doorkeeper banned the client; 1008.
    Banned,
    /// The first message is no text; 1008.
    NotText,
    /// The first message is too long; 1009.
    TooLong,
    /// The client breaks the protocol; 1002.
    Protocol,
    /// The upstream breaks it, or judges what it was not given; 1011.
    UpstreamUnreadable,
}

impl End {
    /// All of them, for metrics.
    pub const ALL: [Self; 14] = [
        Self::Client,
        Self::Upstream,
        Self::Shutdown,
        Self::Deadline,
        Self::Broken,
        Self::Refused,
        Self::RefusedAsInvalid,
        Self::RefusedForNow,
        Self::Dropped,
        Self::Banned,
        Self::NotText,
        Self::TooLong,
        Self::Protocol,
        Self::UpstreamUnreadable,
    ];

    /// The word in metrics and logs; where a relay ends for the same reason, the same word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Shutdown => "shutdown",
            Self::Deadline => "login_deadline",
            Self::Broken => "broken",
            Self::Refused => "login_refused",
            Self::RefusedAsInvalid => "refused_as_invalid",
            Self::RefusedForNow => "refused_for_now",
            Self::Dropped => "dropped",
            Self::Banned => "banned",
            Self::NotText => "not_text",
            Self::TooLong => "too_long",
            Self::Protocol => "protocol",
            Self::UpstreamUnreadable => "upstream_unreadable",
        }
    }

    /// The client's last frames, unless a close frame of the upstream's has passed; empty for none.
    pub(super) fn last_words(self, invalid: &str) -> Vec<u8> {
        let code = match self {
            Self::Upstream | Self::Broken | Self::Dropped => return Vec::new(),
            Self::RefusedAsInvalid => return [text_frame(invalid).as_slice(), &close_frame(NORMAL)].concat(),
            Self::Client | Self::Refused => NORMAL,
            Self::Shutdown => GOING_AWAY,
            Self::Protocol => PROTOCOL_ERROR,
            Self::Banned | Self::NotText => POLICY_VIOLATION,
            Self::TooLong => TOO_BIG,
            Self::UpstreamUnreadable => INTERNAL_ERROR,
            Self::Deadline | Self::RefusedForNow => TRY_AGAIN_LATER,
        };
        close_frame(code).to_vec()
    }
}

impl From<Unreadable> for End {
    /// For the client's side.
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Protocol | Unreadable::Deflate | Unreadable::TooManyControls => Self::Protocol,
            Unreadable::NotUtf8 => Self::NotText,
            Unreadable::TooLong => Self::TooLong,
        }
    }
}

// RFC 6455 section 7.4.1 and the registry that it founded.
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const POLICY_VIOLATION: u16 = 1008;
const TOO_BIG: u16 = 1009;
const INTERNAL_ERROR: u16 = 1011;
const TRY_AGAIN_LATER: u16 = 1013;
