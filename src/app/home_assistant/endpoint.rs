//! What one request is to Home Assistant, read off its head.

use std::borrow::Cow;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};

use super::path::{self, Spelling};
use super::place::{self, LONGEST_TOKEN, Place};
use crate::app::{Endpoint, Presented, Question, Reach};
use crate::config::Secret;

/// Reads a request; `target` is path and query as sent.
///
/// The decoded path decides, so that no spelling of an endpoint escapes; an odd one is told by its [`Reach`] besides.
pub fn classify<'a>(method: &Method, target: &'a str, headers: &'a HeaderMap, is_upgrade: bool) -> Endpoint<'a> {
    let upper = in_upper_case(method);
    let (origin, is_absolute) = without_authority(target);
    let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
    let path = path::decode(path);
    let place = place::place(&path.text);
    let keys = Keys::of(place, query, headers);
    let is_odd = is_absolute || path.spelling == Spelling::Odd || upper.is_some();
    let method = upper.as_ref().unwrap_or(method);
    let reach = if is_odd { Reach::Odd } else { place.reach(method, is_upgrade, keys.is_signed(), keys.has_token()) };
    let mut presented = presented(place, method, keys, headers);
    let question = question(place, method, is_upgrade, &presented);
    let flow_id = match place {
        Place::LoginStep(id) => Some(Secret::new(id.to_owned())),
        _ => None,
    };
    let class = place.class();
    presented.path = (presented.signature.is_some() || presented.capability.is_some()).then_some(path.text);
    Endpoint { class, reach, question, presented, flow_id }
}

/// Methods are written in capitals; one of aiohttp's parsers takes any other spelling for the same.
fn in_upper_case(method: &Method) -> Option<Method> {
    let is_odd = method.as_str().bytes().any(|b| b.is_ascii_lowercase());
    is_odd.then(|| method.as_str().to_ascii_uppercase().parse().ok()).flatten()
}

/// The target from its path on; a client that names scheme and host speaks to a forward proxy.
fn without_authority(target: &str) -> (&str, bool) {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
            (rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("/"), true)
        }
        _ => (target, false),
    }
}

/// What a query holds that opens doors. Home Assistant takes the first of several; no client sends several.
#[derive(Default)]
struct Keys<'a> {
    signature: Option<Cow<'a, str>>,
    token: Option<Cow<'a, str>>,
    is_ambiguous: bool,
}

impl<'a> Keys<'a> {
    fn of(place: Place<'_>, query: &'a str, headers: &'a HeaderMap) -> Self {
        let mut keys = Self::default();
        if !place.is_authenticated() {
            return keys;
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "authSig" => &mut keys.signature,
                "token" if place == Place::Guarded => &mut keys.token,
                _ => continue,
            };
            match slot {
                None => *slot = Some(value),
                Some(_) => keys.is_ambiguous = true,
            }
        }
        if place == Place::Guarded && keys.token.is_none() {
            let field = headers.get("x-map-tiles-token").and_then(|value| value.to_str().ok());
            keys.token = field.map(Cow::Borrowed);
        }
        keys
    }

    fn is_signed(&self) -> bool {
        !self.is_ambiguous && self.signature.as_deref().is_some_and(is_jwt)
    }

    fn has_token(&self) -> bool {
        let is_token =
            |token: &str| (1..=LONGEST_TOKEN).contains(&token.len()) && token.bytes().all(place::is_name_byte);
        !self.is_ambiguous && self.token.as_deref().is_some_and(is_token)
    }
}

/// Three parts of base64url, the first of which is an object: `{"` is `eyJ`.
fn is_jwt(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(place::is_name_byte);
    text.starts_with("eyJ") && text.split('.').count() == 3 && text.split('.').all(is_part)
}

/// Only what the answer depends on; a preflight carries nothing, and a signature counts only in what reads.
fn presented<'a>(place: Place<'_>, method: &Method, keys: Keys<'a>, headers: &'a HeaderMap) -> Presented<'a> {
    if !place.is_authenticated() || *method == Method::OPTIONS {
        return Presented::default();
    }
    let reads = *method == Method::GET || *method == Method::HEAD;
    Presented {
        authorization: headers.get(AUTHORIZATION).map(|value| value.as_bytes()),
        signature: keys.signature.filter(|_| reads),
        capability: keys.token.filter(|token| reads && !token.is_empty()),
        path: None,
    }
}

fn question(place: Place<'_>, method: &Method, is_upgrade: bool, presented: &Presented<'_>) -> Question {
    let posts = *method == Method::POST;
    match place {
        Place::LoginStart if posts => Question::LoginStart,
        Place::LoginStep(_) if posts => Question::LoginStep,
        Place::Token if posts => Question::Token,
        Place::Revocation if posts => Question::Revocation,
        Place::WebSocket if is_upgrade => Question::WebSocket,
        _ => presented.kind().map_or(Question::Nothing, Question::Access),
    }
}

#[cfg(test)]
mod tests;
