//! Who is banned, until when, and what outlives a restart.
//!
//! [`BanList`] is asked by every connection and every request: it lies in memory, is bounded, and decides with the
//! moment it is given. [`BanStore`] writes down what has changed behind its back, and never makes it wait. Whom to ban
//! is decided by others; so is what a ban does to connections that are open, for which each ban is returned to the
//! caller.

mod escalation;
mod file;
mod list;
mod pending;
mod row;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::Moment;
pub use escalation::Escalation;
pub use list::BanList;
pub use store::{BanStore, FILE_NAME, StoreError};

/// One network that is turned away for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Without host bits, at least one bit wide, IPv4 never in its IPv6-mapped form.
    pub network: IpNet,
    /// From this moment on the network is free again.
    pub until: Moment,
    /// How long it is in all, at most [`LONGEST`]. Its beginning on the wall clock is its end less this.
    pub lasts: Duration,
    /// How many automatic bans of this network are remembered, this one included; at most [`MOST_STRIKES`].
    pub strikes: u32,
    pub cause: Cause,
    pub reason: Option<Reason>,
}

impl Ban {
    /// When it began; [`Moment::START`] if that was before the gate did.
    pub fn since(&self) -> Moment {
        Moment::after_start(self.until.since(Moment::START).saturating_sub(self.lasts))
    }

    /// Whether it holds at `now`; no longer at the very moment it ends.
    pub fn is_active(&self, now: Moment) -> bool {
        now < self.until
    }
}

/// Who wanted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The gate: too many failed logins.
    Login,
    /// The operator, by command.
    Operator,
}

impl Cause {
    /// All of them, for metrics that exist before they count.
    pub const ALL: [Self; 2] = [Self::Login, Self::Operator];

    /// The word for metrics, logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Operator => "operator",
        }
    }
}

/// What the operator noted beside a ban: 1 to 200 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Arc<String>);

impl Reason {
    /// Takes `text` without the blanks around it.
    pub fn new(text: &str) -> Result<Self, RefusedBan> {
        let text = text.trim();
        match text.chars().count() {
            0 => Err(RefusedBan::EmptyReason),
            1..=REASON_CHARS if text.contains(char::is_control) => Err(RefusedBan::ControlCharacter),
            1..=REASON_CHARS => Ok(Self(Arc::new(text.to_owned()))),
            _ => Err(RefusedBan::LongReason),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the operator's ban was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBan {
    #[error("a ban of everybody (/0) would include you: name the networks")]
    Everybody,
    #[error("a ban lasts at least a second and at most 366 days")]
    Duration,
    #[error("a reason has at most {REASON_CHARS} characters")]
    LongReason,
    #[error("a reason must not be empty: leave it out instead")]
    EmptyReason,
    #[error("a reason must not contain line breaks or other control characters")]
    ControlCharacter,
}

/// No ban lasts longer: a network changes hands in that time.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The store counts in seconds; a ban below one would not outlive it.
const SHORTEST: Duration = Duration::from_secs(1);

/// More strikes are not remembered, so that good conduct clears anybody in a bounded time.
pub const MOST_STRIKES: u8 = 32;

/// How many bans there are at most, unless configured otherwise.
pub const DEFAULT_CAPACITY: usize = 100_000;

const REASON_CHARS: usize = 200;
