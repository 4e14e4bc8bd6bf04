//! The first words in a WebSocket: the client's `auth`, and Home Assistant's verdict.

use serde::Deserialize;
use serde_json::Value;

use crate::app::{AttemptKind, Credential, Outcome, Proof};
use crate::config::Secret;

/// What the client shows in its first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// An access token, by which a known device is known.
    Token(Secret),
    /// The password of releases that are gone; today's refuse it as a wrong one.
    Password(Secret),
    /// Nothing that could be right.
    None,
}

impl Auth {
    /// What is guessed, if anything is.
    pub fn credential(&self) -> Option<Credential> {
        let of = |kind: &str, secret: &Secret| Some(Credential::new(kind).with(Some(secret.expose().as_bytes())));
        match self {
            Self::Token(token) => of("access_token", token),
            Self::Password(password) => of("api_password", password),
            Self::None => None,
        }
    }
}

/// Home Assistant's answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Proven,
    /// A wrong, expired or revoked token, or one that is not good from there.
    Refused,
    /// The message was no `auth`: nothing was guessed.
    Malformed,
}

impl Verdict {
    /// In the words of all other answers.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Proven => Outcome::Succeeded(Proof::Session),
            Self::Refused => Outcome::Failed(AttemptKind::WebSocket),
            Self::Malformed => Outcome::Harmless,
        }
    }
}

/// Reads the client's first message, whole and decompressed.
pub fn read_auth(text: &str) -> Auth {
    #[derive(Deserialize)]
    struct Message {
        access_token: Option<Value>,
        api_password: Option<Value>,
    }
    // A key that is there twice is an error to a struct; Home Assistant takes the last.
    let message = serde_json::from_str::<Value>(text).and_then(serde_json::from_value::<Message>);
    let secret = |value: Option<Value>| match value {
        Some(Value::String(text)) if !text.is_empty() => Some(Secret::new(text)),
        _ => None,
    };
    match message.map(|message| (secret(message.access_token), secret(message.api_password))) {
        Ok((Some(token), _)) => Auth::Token(token),
        Ok((None, Some(password))) => Auth::Password(password),
        Ok((None, None)) | Err(_) => Auth::None,
    }
}

/// Reads a message of Home Assistant's; `None` if it is no verdict, as the greeting is none.
///
/// The words of a refusal vary by release and reason; only those for a malformed message are known by their beginning.
pub fn judge_websocket(text: &str) -> Option<Verdict> {
    #[derive(Deserialize)]
    struct Message {
        #[serde(rename = "type")]
        kind: String,
        message: Option<Value>,
    }
    let message: Message = serde_json::from_str(text).ok()?;
    let words = message.message.as_ref().and_then(Value::as_str).unwrap_or_default();
    match message.kind.as_str() {
        "auth_ok" => Some(Verdict::Proven),
        "auth_invalid" if words.starts_with(MALFORMED) => Some(Verdict::Malformed),
        "auth_invalid" => Some(Verdict::Refused),
        _ => None,
    }
}

const MALFORMED: &str = "Auth message incorrectly formatted";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn verdicts_are_read_in_both_releases() {
        for (text, expected) in [
            (r#"{"type":"auth_required","ha_version":"2025.4.4"}"#, None),
            (r#"{"type":"auth_ok","ha_version":"2026.11.0"}"#, Some(Verdict::Proven)),
            // Row 23.
            (r#"{"type":"auth_invalid","message":"Invalid access token or password"}"#, Some(Verdict::Refused)),
            (r#"{"type":"auth_invalid","message":"User cannot authenticate remotely"}"#, Some(Verdict::Refused)),
            (r#"{"type":"auth_invalid"}"#, Some(Verdict::Refused)),
            // Row 24.
            (
                r#"{"type":"auth_invalid","message":"Auth message incorrectly formatted: extra keys not allowed @ data['z']. Got 1"}"#,
                Some(Verdict::Malformed),
            ),
            (
                r#"{"type":"auth_invalid","message":"Auth message incorrectly formatted: not a valid option at 'z'. Got 1"}"#,
                Some(Verdict::Malformed),
            ),
            (r#"{"id":1,"type":"result","success":true,"result":null}"#, None),
            ("auth_ok", None),
            ("", None),
        ] {
            assert_eq!(judge_websocket(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_message_shows_a_token_or_nothing() {
        let token = |text: &str| Auth::Token(Secret::new(text.to_owned()));
        for (text, expected) in [
            (r#"{"type":"auth","access_token":"eyJ"}"#, token("eyJ")),
            (r#"{"access_token":"\u0065yJ","type":"auth"}"#, token("eyJ")),
            (r#"{"type":"auth","access_token":"a","access_token":"b"}"#, token("b")),
            (r#"{"type":"auth","access_token":"a","z":1}"#, token("a")),
            (r#"{"type":"auth","api_password":"p"}"#, Auth::Password(Secret::new("p".to_owned()))),
            (r#"{"type":"auth","access_token":""}"#, Auth::None),
            (r#"{"type":"auth","access_token":1}"#, Auth::None),
            (r#"{"id":1,"type":"get_states"}"#, Auth::None),
            ("[]", Auth::None),
            ("auth", Auth::None),
        ] {
            assert_eq!(read_auth(text), expected, "{text}");
        }
        assert_eq!(token("a").credential(), token("a").credential());
        assert_ne!(token("a").credential(), token("b").credential());
        assert_eq!(Auth::None.credential(), None);
    }

    proptest! {
        #[test]
        fn anything_is_survived(text in ".{0,200}") {
            read_auth(&text);
            judge_websocket(&text);
        }
    }
}
