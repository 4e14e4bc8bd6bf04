//! What the gate knows of the applications behind it: pure functions of requests and answers.

mod credential;
mod endpoint;
pub mod generic;
pub mod home_assistant;
mod outcome;

pub use credential::Credential;
pub use endpoint::{AttemptKind, Endpoint, Presented, Question, Reach};
pub use outcome::{Flow, Outcome, Proof, Stage, Tokens};

use http::header::ACCEPT;
use http::{HeaderMap, Method, StatusCode};

use crate::config::App;

/// Reads a request's head: `target` is path and query as sent.
pub fn classify<'a>(
    app: App,
    method: &Method,
    target: &'a str,
    headers: &'a HeaderMap,
    is_upgrade: bool,
) -> Endpoint<'a> {
    match app {
        App::HomeAssistant => home_assistant::classify(method, target, headers, is_upgrade),
        App::Generic => generic::classify(method, headers, is_upgrade),
    }
}

/// Judges the answer to `question`. `body` is the whole decoded body, `None` if it could not be had.
pub fn judge(app: App, question: Question, status: StatusCode, body: Option<&[u8]>) -> Outcome {
    match app {
        App::HomeAssistant => home_assistant::judge(question, status, body),
        App::Generic => generic::judge(question, status),
    }
}

/// How long an answer may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Ordinary,
    /// Events, pictures or segments that come when there is something to tell.
    Stream,
}

/// Tells streams from ordinary answers before the answer is there.
pub fn pace(app: App, path: &str, headers: &HeaderMap) -> Pace {
    let asks_for_events =
        headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|v| v.contains("text/event-stream"));
    let known_stream = match app {
        App::HomeAssistant => home_assistant::is_stream(path),
        App::Generic => false,
    };
    if asks_for_events || known_stream { Pace::Stream } else { Pace::Ordinary }
}
