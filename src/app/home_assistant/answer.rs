//! What Home Assistant answers to a guess.
//!
//! It says 200 to a wrong password and to a wrong code, so the body decides; it says 400 and 403 to much that is no
//! guess, so the status alone decides little. All of this was captured from releases 2025.4.4 and 2026.11.0.

use std::io::Read;
use std::time::Duration;

use flate2::read::{GzDecoder, ZlibDecoder};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::app::{AttemptKind, Flow, Outcome, Proof, Question, Stage, Tokens};
use crate::config::Secret;

/// The largest answer to a login that is read, packed or not; the real ones are below 2 KiB.
pub const ANSWER_LIMIT: usize = 64 * 1024;

/// Packed in a way that was not asked for, or in none, or larger than any answer to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer's body cannot be decoded")]
pub struct Undecodable;

/// Unpacks an answer's whole body by its `Content-Encoding`.
///
/// `deflate` is the zlib format, as in RFC 9110 and in aiohttp.
pub fn decode(encoding: Option<&str>, body: &[u8]) -> Result<Vec<u8>, Undecodable> {
    match encoding.unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => within(body),
        "gzip" => within(GzDecoder::new(body)),
        "deflate" => within(ZlibDecoder::new(body)),
        _ => Err(Undecodable),
    }
}

fn within(body: impl Read) -> Result<Vec<u8>, Undecodable> {
    let mut out = Vec::new();
    body.take(ANSWER_LIMIT as u64 + 1).read_to_end(&mut out).map_err(|_| Undecodable)?;
    if out.len() > ANSWER_LIMIT { Err(Undecodable) } else { Ok(out) }
}

/// Judges the answer to `question`. `body` is the whole decoded body, or `None` if it could not be had; it is looked at
/// only where [`Question::is_answered_in_body`].
///
/// A 401 to the valid token of somebody who is no administrator looks like one to a bad token: whether the token is
/// good is to be asked elsewhere ([`judge_api_root`]). A WebSocket is judged by its messages.
pub fn judge(question: Question, status: StatusCode, body: Option<&[u8]>) -> Outcome {
    match question {
        Question::LoginStart => login_start(status, body),
        Question::LoginStep => login_step(status, body),
        Question::Token => token(status, body),
        Question::Access(kind) => access(kind, status),
        Question::Revocation | Question::WebSocket | Question::Nothing => Outcome::Harmless,
    }
}

/// Judges the answer to `GET /api/` with a bearer: the one question whose answer says whether a token is a session's.
pub fn judge_api_root(status: StatusCode) -> Outcome {
    match status {
        StatusCode::OK => Outcome::Succeeded(Proof::Session),
        StatusCode::UNAUTHORIZED => Outcome::Failed(AttemptKind::Bearer),
        _ => Outcome::Harmless,
    }
}

fn login_start(status: StatusCode, body: Option<&[u8]>) -> Outcome {
    if status.is_success() { flow_result(body) } else { Outcome::Harmless }
}

/// A 404 is a guess at a login's id, unless it is about the provider. Everything else that is no 200 was refused before
/// the fields were looked at, or after they were found right.
fn login_step(status: StatusCode, body: Option<&[u8]>) -> Outcome {
    if status.is_success() {
        return flow_result(body);
    }
    let is_about_handler = || message(body).is_some_and(|text| text == "Invalid handler specified");
    if status == StatusCode::NOT_FOUND && !is_about_handler() {
        return Outcome::Failed(AttemptKind::LoginFlow);
    }
    Outcome::Harmless
}

#[derive(Deserialize)]
struct FlowResult {
    #[serde(rename = "type")]
    kind: String,
    flow_id: Option<String>,
    step_id: Option<String>,
    errors: Option<Value>,
    reason: Option<String>,
    result: Option<String>,
}

fn flow_result(body: Option<&[u8]>) -> Outcome {
    let Some(answer) = body.and_then(|body| serde_json::from_slice::<FlowResult>(body).ok()) else {
        return Outcome::Unknown;
    };
    match answer.kind.as_str() {
        "create_entry" => match answer.result {
            Some(code) => Outcome::Succeeded(Proof::Login { code: Secret::new(code) }),
            None => Outcome::Unknown,
        },
        "form" => form(answer),
        "abort" => abort(answer.reason.as_deref()),
        _ => Outcome::Unknown,
    }
}

fn form(answer: FlowResult) -> Outcome {
    let stage = match answer.step_id.as_deref() {
        Some("mfa") => Stage::SecondFactor,
        Some("select_mfa_module") => Stage::ModuleChoice,
        _ => Stage::Start,
    };
    match (error(answer.errors.as_ref()), answer.flow_id) {
        // Which module was asked for is no secret.
        (None | Some("invalid_auth_module"), Some(id)) => Outcome::Advanced(Flow { id: Secret::new(id), stage }),
        (None | Some("invalid_auth_module"), None) => Outcome::Unknown,
        (Some(_), _) => Outcome::Failed(match stage {
            Stage::SecondFactor => AttemptKind::SecondFactor,
            Stage::Start | Stage::ModuleChoice => AttemptKind::Password,
        }),
    }
}

/// The first error of a form; a kind of `errors` that nobody sends counts as one.
fn error(errors: Option<&Value>) -> Option<&str> {
    match errors {
        None | Some(Value::Null) => None,
        Some(Value::Object(errors)) if errors.is_empty() => None,
        Some(Value::Object(errors)) => Some(errors.get("base").and_then(Value::as_str).unwrap_or_default()),
        Some(_) => Some(""),
    }
}

fn abort(reason: Option<&str>) -> Outcome {
    match reason {
        // The fifth wrong code, which Home Assistant itself does not count.
        Some("too_many_retry") => Outcome::Failed(AttemptKind::SecondFactor),
        // Too late; a module that could not begin; a network from which nobody is trusted.
        Some("login_expired" | "unknown_error" | "not_allowed") => Outcome::Harmless,
        _ => Outcome::Unknown,
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: u64,
}

/// A 403 says that the token was right and its user may not come from there. A 400 without an `error` is not from
/// the token's view: aiohttp's own, or Home Assistant's distrust of the proxy, which strikes everybody.
fn token(status: StatusCode, body: Option<&[u8]>) -> Outcome {
    match (status, body) {
        (status, None) if status.is_success() || status == StatusCode::BAD_REQUEST => Outcome::Unknown,
        // `action=revoke` is answered with nothing, whatever the token was.
        (StatusCode::OK, Some(b"")) => Outcome::Harmless,
        (status, Some(body)) if status.is_success() => match serde_json::from_slice::<TokenAnswer>(body) {
            Ok(answer) => Outcome::Succeeded(Proof::Token(Tokens {
                access: Secret::new(answer.access_token),
                refresh: answer.refresh_token.map(Secret::new),
                expires_in: Duration::from_secs(answer.expires_in),
            })),
            Err(_) => Outcome::Unknown,
        },
        (StatusCode::BAD_REQUEST, Some(body)) if text_in(body, "error").is_some() => {
            Outcome::Failed(AttemptKind::Token)
        }
        _ => Outcome::Harmless,
    }
}

/// A success proves nothing here: a camera's picture may be due to its token, not to the bearer beside it.
fn access(kind: AttemptKind, status: StatusCode) -> Outcome {
    match (kind, status) {
        (_, StatusCode::UNAUTHORIZED) => Outcome::Failed(kind),
        (AttemptKind::Capability, StatusCode::FORBIDDEN) => Outcome::Failed(kind),
        _ => Outcome::Harmless,
    }
}

fn message(body: Option<&[u8]>) -> Option<String> {
    text_in(body?, "message")
}

fn text_in(body: &[u8], key: &str) -> Option<String> {
    match serde_json::from_slice::<Value>(body).ok()?.get_mut(key)?.take() {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
