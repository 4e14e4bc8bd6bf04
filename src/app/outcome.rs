//! What an answer says of the guess that it answers.

use std::time::Duration;

use super::AttemptKind;
use crate::config::Secret;

/// The application's verdict on one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A wrong guess, of this kind.
    Failed(AttemptKind),
    /// The client is who it says.
    Succeeded(Proof),
    /// A login went on: it was begun, or its password was right and a code is wanted.
    Advanced(Flow),
    /// Nothing was guessed: malformed, in conflict, right but not allowed from there, or the application's own trouble.
    Harmless,
    /// It looks like success and cannot be read: to be counted as failed unless the caller knows better.
    Unknown,
}

/// Where a login stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub id: Secret,
    pub stage: Stage,
}

/// What a login asks for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The first form, which asks for a password mostly.
    Start,
    /// The password was right; which of several modules will be asked?
    ModuleChoice,
    /// The password was right; a code is wanted.
    SecondFactor,
}

/// What a client that succeeded has in hand now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A login came to its end; the code is good for one exchange.
    Login {
        code: Secret,
    },
    Token(Tokens),
    /// The credential that was sent is a session's.
    Session,
}

/// An answer to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    pub access: Secret,
    /// Only for a code; a refresh token stays what it was.
    pub refresh: Option<Secret>,
    /// How long the access token is good.
    pub expires_in: Duration,
}
