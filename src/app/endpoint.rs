//! What one request is to the application behind: the words in which the guard asks.
//!
//! An [`Endpoint`] is read off a request's head alone. It does not decide: whether a client may reach it, and how often
//! it may guess, is the guard's.

use std::borrow::Cow;
use std::fmt;

use super::Credential;
use crate::config::{RequestClass, Secret};

/// What a client has to be, or to know, to be let through to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Anybody: a login needs it.
    Login,
    /// Whoever knows the target, which has the shape of something that nobody guesses.
    Capability,
    /// Nobody, once the application is set up: the first visitor becomes its owner.
    Onboarding,
    /// Only who has proven a session.
    Session,
    /// Only who has proven a session: two parsers could read the path in two ways, and no client writes it so.
    Odd,
}

impl Reach {
    pub const ALL: [Self; 5] = [Self::Login, Self::Capability, Self::Onboarding, Self::Session, Self::Odd];

    /// As a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Capability => "capability",
            Self::Onboarding => "onboarding",
            Self::Session => "session",
            Self::Odd => "odd",
        }
    }
}

/// What may be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AttemptKind {
    Password,
    /// A code, of whatever module.
    SecondFactor,
    /// A step of a login whose body tells neither; the id of a login that is not.
    LoginFlow,
    /// An authorization code or a refresh token, exchanged for an access token.
    Token,
    Bearer,
    /// The signature in a signed target.
    SignedPath,
    /// A token in a target that opens just this target.
    Capability,
    /// The first message in a WebSocket.
    WebSocket,
    Basic,
}

impl AttemptKind {
    pub const ALL: [Self; 9] = [
        Self::Password,
        Self::SecondFactor,
        Self::LoginFlow,
        Self::Token,
        Self::Bearer,
        Self::SignedPath,
        Self::Capability,
        Self::WebSocket,
        Self::Basic,
    ];

    /// As a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::SecondFactor => "second_factor",
            Self::LoginFlow => "login_flow",
            Self::Token => "token",
            Self::Bearer => "bearer",
            Self::SignedPath => "signed_path",
            Self::Capability => "capability",
            Self::WebSocket => "websocket",
            Self::Basic => "basic",
        }
    }
}

/// What is asked of the application, as far as its answer tells about guesses and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Question {
    /// Begins a login. Nothing can be guessed, but the answer names the flow.
    LoginStart,
    /// A password, a code, or another field of a login's form.
    LoginStep,
    /// An access token, for a code or a refresh token.
    Token,
    /// To forget a token. The answer is the same for every token.
    Revocation,
    /// Judged by its messages, not by its 101.
    WebSocket,
    /// Anything, with a credential of this kind in the head.
    Access(AttemptKind),
    Nothing,
}

impl Question {
    /// Whether the request's body holds what is guessed or given back, and must be read before it is forwarded.
    pub fn is_in_body(self) -> bool {
        match self {
            Self::LoginStart | Self::LoginStep | Self::Token | Self::Revocation => true,
            Self::WebSocket | Self::Access(_) | Self::Nothing => false,
        }
    }

    /// Whether the answer can be judged only with its body.
    pub fn is_answered_in_body(self) -> bool {
        match self {
            Self::LoginStart | Self::LoginStep | Self::Token => true,
            Self::Revocation | Self::WebSocket | Self::Access(_) | Self::Nothing => false,
        }
    }

    /// What an answer could tell to have been guessed.
    pub fn attempt(self) -> Option<AttemptKind> {
        match self {
            Self::LoginStep => Some(AttemptKind::LoginFlow),
            Self::Token => Some(AttemptKind::Token),
            Self::WebSocket => Some(AttemptKind::WebSocket),
            Self::Access(kind) => Some(kind),
            Self::LoginStart | Self::Revocation | Self::Nothing => None,
        }
    }
}

/// The credentials in a request's head on which its answer depends. `Debug` tells only which there are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The value of the first `Authorization`, as sent.
    pub authorization: Option<&'a [u8]>,
    /// The value of `authSig`, decoded.
    pub signature: Option<Cow<'a, str>>,
    /// The token in the query or in a field of its own, decoded.
    pub capability: Option<Cow<'a, str>>,
    /// What the latter two are to open, decoded; `None` without them.
    pub path: Option<Cow<'a, str>>,
}

impl Presented<'_> {
    /// All of them as one guess: whoever repeats one of them while changing another guesses anew.
    ///
    /// What is wrong for one path may be right for another, so the path belongs to it. The rest of the query does not:
    /// the frontend puts the time there.
    pub fn credential(&self) -> Credential {
        Credential::new("presented")
            .with(self.authorization)
            .with(self.signature.as_deref().map(str::as_bytes))
            .with(self.capability.as_deref().map(str::as_bytes))
            .with(self.path.as_deref().map(str::as_bytes))
    }

    /// The one that the application looks at first.
    pub fn kind(&self) -> Option<AttemptKind> {
        match (self.authorization, &self.signature, &self.capability) {
            (Some(value), ..) => Some(scheme(value)),
            (None, Some(_), _) => Some(AttemptKind::SignedPath),
            (None, None, Some(_)) => Some(AttemptKind::Capability),
            (None, None, None) => None,
        }
    }
}

/// Whatever is not Basic is held for a bearer, like an `Authorization` without any scheme.
fn scheme(authorization: &[u8]) -> AttemptKind {
    let is_basic = authorization.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic"));
    if is_basic && matches!(authorization.get(5), None | Some(b' ')) { AttemptKind::Basic } else { AttemptKind::Bearer }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("authorization", &self.authorization.is_some())
            .field("signature", &self.signature.is_some())
            .field("capability", &self.capability.is_some())
            .finish()
    }
}

/// What one request is to the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint<'a> {
    pub(super) class: RequestClass,
    pub(super) reach: Reach,
    pub(super) question: Question,
    pub(super) presented: Presented<'a>,
    pub(super) flow_id: Option<Secret>,
}

impl<'a> Endpoint<'a> {
    /// By which limit it is counted.
    pub fn class(&self) -> RequestClass {
        self.class
    }

    /// Who may ask.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Which reading of bodies and answers it calls for.
    pub fn question(&self) -> Question {
        self.question
    }

    /// What it may be a guess of, as far as the head tells; a login step's body tells more.
    pub fn attempt(&self) -> Option<AttemptKind> {
        self.question.attempt()
    }

    /// The credentials in the head that matter here; none where the answer does not depend on them.
    pub fn presented(&self) -> &Presented<'a> {
        &self.presented
    }

    /// The login that a step, or its end, is of.
    pub fn flow_id(&self) -> Option<&str> {
        self.flow_id.as_ref().map(Secret::expose)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_word_is_its_own() {
        let words: BTreeSet<_> = AttemptKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words.len(), AttemptKind::ALL.len());
        let words: BTreeSet<_> = Reach::ALL.iter().map(|reach| reach.as_str()).collect();
        assert_eq!(words.len(), Reach::ALL.len());
    }

    #[test]
    fn a_new_token_beside_an_old_header_is_a_new_guess() {
        let with = |capability: &'static str| Presented {
            authorization: Some(b"Bearer stale"),
            capability: Some(capability.into()),
            ..Presented::default()
        };
        assert_eq!(with("one").credential(), with("one").credential());
        assert_ne!(with("one").credential(), with("two").credential());
        assert_eq!(with("one").kind(), Some(AttemptKind::Bearer));
        assert!(!format!("{:?}", with("one")).contains("one"));
    }

    #[test]
    fn schemes_are_told_apart() {
        for (value, expected) in [
            ("Basic b3duZXI6bm8=", AttemptKind::Basic),
            ("basic", AttemptKind::Basic),
            ("Basically", AttemptKind::Bearer),
            ("Bearer x", AttemptKind::Bearer),
            ("bearer x", AttemptKind::Bearer),
            ("", AttemptKind::Bearer),
        ] {
            assert_eq!(scheme(value.as_bytes()), expected, "{value}");
        }
    }
}
