//! What an operator is told of a certificate.

use std::time::SystemTime;

use super::Wanted;
use super::memory::{Due, Held, Memory};
use super::problem::Step;

/// One certificate at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub wanted: Wanted,
    pub activity: Activity,
    /// What is in its file; `None` if nothing is.
    pub held: Option<Held>,
    pub memory: Memory,
    /// `None` until it has been looked at for the first time.
    pub due: Option<Due>,
    /// Attempts that have ended since the start.
    pub attempts: u64,
}

/// What is being done for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// Nothing is due.
    Idle,
    /// It is due, and an earlier failure has it wait.
    Waiting,
    /// An attempt is under way, and this far.
    Ordering(Step),
}

impl Activity {
    /// For JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Ordering(_) => "ordering",
        }
    }

    pub fn step(&self) -> Option<String> {
        match self {
            Self::Ordering(step) => Some(step.to_string()),
            Self::Idle | Self::Waiting => None,
        }
    }
}

impl Report {
    /// Who has signed the certificate that is had.
    pub fn issuer(&self) -> Option<&str> {
        self.held.as_ref()?.issuer.as_deref()
    }

    pub fn not_after(&self) -> Option<SystemTime> {
        Some(self.held.as_ref()?.life.not_after)
    }

    /// When the certificate should be renewed.
    pub fn renew_at(&self) -> Option<SystemTime> {
        self.due.map(|due| due.renewal)
    }

    pub fn renew_because(&self) -> Option<&'static str> {
        self.due.map(|due| due.why.as_str())
    }

    /// Where the authority explains its window.
    pub fn explanation_url(&self) -> Option<&str> {
        self.memory.renewal.as_ref()?.window.as_ref()?.explanation.as_deref()
    }

    /// When an attempt is made next, if nothing comes in between.
    pub fn next_attempt(&self) -> Option<SystemTime> {
        self.due.map(|due| due.at)
    }
}
