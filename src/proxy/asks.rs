//! What a request asks, in the guard's terms: read off its head, and off the body of a login.

use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, header};
use pingora_proxy::Session;

use super::inspect::Accepted;
use crate::app::home_assistant::login::{self, BODY_LIMIT};
use crate::app::home_assistant::token::{self, Grant};
use crate::app::{self, AttemptKind, Question, Reach};
use crate::config::{App, RequestClass};
use crate::denial::Denial;
use crate::exchange::Exchange;
use crate::guard::fingerprint::{Fingerprint, Kind};
use crate::guard::{Asked, Guard, Tried};

/// What is read off a request's head, without borrowing it.
pub(super) struct Asks {
    pub app: App,
    pub question: Question,
    pub is_upgrade: bool,
    /// The login that is gone on with, by its fingerprint; and its id.
    pub flow: Option<u64>,
    /// The `Authorization`, where the answer depends on it.
    pub authorization: Option<HeaderValue>,
    /// The fingerprint of the token in it.
    pub bearer: Option<Fingerprint>,
    /// Everything in the head that may be guessed, as one guess; zero where nothing is asked for by it.
    pub presented: u64,
    /// The gate's own cookie.
    pub cookie: Option<Fingerprint>,
    pub class: RequestClass,
    host: Arc<str>,
    reach: Reach,
    is_read: bool,
    flow_id: Option<String>,
    content_type: Option<String>,
    has_encoding: bool,
    announced: Option<u64>,
}

impl Asks {
    pub fn of(session: &Session, exchange: &Exchange, accepted: &Accepted, guard: &Guard) -> Self {
        let request = session.req_header();
        let headers = &request.headers;
        let target = String::from_utf8_lossy(request.raw_path());
        let is_upgrade = exchange.handover.is_some();
        let route = &accepted.route;
        let host = &*route.name;
        let endpoint = app::classify(route.app, &request.method, &target, headers, is_upgrade);
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let path = target.split('?').next().unwrap_or_default();
        let is_public = is_read && endpoint.reach() == Reach::Session && is_below(path, &route.public_paths);
        let presented = endpoint.presented();
        let guess = || guard.short(Kind::Token, host, secret_of(presented).as_bytes());
        let flow_id = endpoint.flow_id().map(str::to_owned);
        Self {
            app: route.app,
            question: if is_public { Question::Nothing } else { endpoint.question() },
            is_upgrade,
            flow: flow_id.as_ref().map(|id| guard.short(Kind::Flow, host, id.as_bytes())),
            authorization: presented.authorization.and_then(|field| HeaderValue::from_bytes(field).ok()),
            bearer: presented.authorization.map(|field| guard.proof(host, token_in(field))),
            presented: endpoint.question().attempt().map_or(0, |_| guess()),
            cookie: guard.cookie(host, headers),
            host: route.name.clone(),
            reach: if is_public { Reach::Login } else { endpoint.reach() },
            class: endpoint.class(),
            is_read,
            flow_id,
            content_type: text(headers, &header::CONTENT_TYPE),
            has_encoding: headers.contains_key(header::CONTENT_ENCODING),
            announced: text(headers, &header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        }
    }

    /// In the guard's terms.
    pub fn asked(&self) -> Asked {
        Asked {
            class: self.class,
            reach: self.reach,
            is_read: self.is_read,
            is_upgrade: self.is_upgrade,
            says_later: self.question == Question::WebSocket,
            // Only Home Assistant can be asked about a bearer.
            will_be_proven: self.app == App::HomeAssistant && self.bearer.is_some(),
            is_attempt: self.question.attempt().is_some(),
        }
    }
}

/// Whether a head shows a credential of a device that is known at `host`. Asked before the rest of the request is looked
/// at: it costs nothing where nothing is shown, else a hash or two.
pub fn shows_device(guard: &Guard, host: &str, headers: &HeaderMap) -> bool {
    let bearer = headers.get(header::AUTHORIZATION).map(|field| guard.proof(host, token_in(field.as_bytes())));
    let mut shown = [guard.cookie(host, headers), bearer].into_iter().flatten();
    shown.any(|credential| guard.devices().knows(credential, guard.now()))
}

/// The token in an `Authorization`: here and in a WebSocket it is the same credential.
pub(super) fn token_in(authorization: &[u8]) -> &[u8] {
    authorization.strip_prefix(b"Bearer ").unwrap_or(authorization)
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The token or signature in a target. Not its path: a map is thirty pictures with one token.
fn secret_of<'a>(presented: &'a app::Presented<'_>) -> &'a str {
    presented.signature.as_deref().or(presented.capability.as_deref()).unwrap_or_default()
}

/// Whether `path` is one of `prefixes` or lies below one.
fn is_below(path: &str, prefixes: &[String]) -> bool {
    prefixes
        .iter()
        .filter_map(|prefix| path.strip_prefix(prefix.as_str()))
        .any(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn start(start: login::Start) -> Said {
    if start.links_user { Said::Link } else { Said::Nothing }
}

/// What the body of a login says.
pub(super) enum Said {
    Nothing,
    /// Another account is to be linked to one that is logged in.
    Link,
    /// A password, a code, or another field of a login.
    Guess(Tried),
    /// A code or a refresh token for an access token, and the fingerprint of the latter.
    Exchange(Tried),
    /// The end of a token.
    Revocation(Option<Fingerprint>),
}

impl Said {
    /// What it shows as proof of a session.
    pub fn proof(&self) -> Option<Fingerprint> {
        match self {
            Self::Exchange(tried) => tried.proof,
            Self::Nothing | Self::Link | Self::Guess(_) | Self::Revocation(_) => None,
        }
    }
}

/// Reads and understands the body, if the question is in there. It is forwarded later as it came.
///
/// # Errors
///
/// If it is larger than any login, packed, or nothing that Home Assistant understands.
pub(super) async fn read(
    asks: &Asks,
    guard: &Arc<Guard>,
    session: &mut Session,
    exchange: &Exchange,
) -> Result<Said, Denial> {
    if !asks.question.is_in_body() {
        return Ok(Said::Nothing);
    }
    // A packed body says one thing here and another behind, or fills a memory (`home_assistant` unpacks gzip).
    if asks.has_encoding {
        return Err(Denial::LoginBody);
    }
    if asks.announced.is_some_and(|length| length > BODY_LIMIT as u64) {
        return Err(Denial::BodySize);
    }
    invite(session).await?;
    let body = read_body(session, exchange).await?;
    match asks.question {
        Question::LoginStart => login::read_start(&body).map(start).map_err(|_| Denial::LoginBody),
        Question::LoginStep => step(asks, guard, &body),
        Question::Token => Ok(exchange_of_tokens(asks, guard, &body)),
        Question::Revocation => {
            let token = token::read_revocation(asks.content_type.as_deref(), &body);
            Ok(Said::Revocation(token.map(|token| guard.proof(&asks.host, token.expose().as_bytes()))))
        }
        Question::WebSocket | Question::Access(_) | Question::Nothing => Ok(Said::Nothing),
    }
}

/// A client that waits for a 100 gets it from us: the upstream is asked only when the body is there.
async fn invite(session: &mut Session) -> Result<(), Denial> {
    let request = session.req_header_mut();
    let waits = request.version != http::Version::HTTP_10 && request.headers.contains_key(header::EXPECT);
    request.remove_header(&header::EXPECT);
    if waits {
        session.as_mut().write_continue_response().await.map_err(|_| Denial::Malformed)?;
    }
    Ok(())
}

async fn read_body(session: &mut Session, exchange: &Exchange) -> Result<BytesMut, Denial> {
    session.as_mut().enable_retry_buffering();
    if session.as_mut().retry_buffer_truncated() {
        return Err(Denial::BodySize);
    }
    // On HTTP/2 the front door has read the beginning, or all of it, and kept it for the proxy.
    let mut body = BytesMut::from(session.as_mut().get_retry_buffer().unwrap_or_default());
    exchange.progress.body_read(&exchange.connection, body.len(), false);
    // A client that leaves meanwhile hears nothing of this.
    while let Some(piece) = session.as_mut().read_request_body().await.map_err(|_| Denial::Malformed)? {
        exchange.progress.body_read(&exchange.connection, piece.len(), false);
        if body.len() + piece.len() > BODY_LIMIT {
            return Err(Denial::BodySize);
        }
        body.extend_from_slice(&piece);
    }
    exchange.progress.body_replayed();
    Ok(body)
}

fn step(asks: &Asks, guard: &Guard, body: &[u8]) -> Result<Said, Denial> {
    let flow_id = asks.flow_id.as_deref().unwrap_or_default();
    let step = login::read_step(flow_id, body).map_err(|_| Denial::LoginBody)?;
    let flow = asks.flow.and_then(|flow| guard.flows().find(flow));
    let account = step.account.map(|name| guard.short(Kind::Account, &asks.host, name.expose().as_bytes()));
    let kind = match flow {
        Some(flow) if flow.at_second_factor => AttemptKind::SecondFactor,
        _ => step.kind,
    };
    let mut guess = step.credential.expose().to_vec();
    if kind == AttemptKind::SecondFactor {
        // The same digits a moment later are another guess.
        guess.extend_from_slice(&guard.now().since(crate::clock::Moment::START).as_nanos().to_be_bytes());
    }
    Ok(Said::Guess(Tried {
        kind: kind.as_str(),
        guess: guard.short(Kind::Password, &asks.host, &guess),
        account: flow.and_then(|flow| flow.account).or(account),
        proof: None,
        is_shared: false,
    }))
}

fn exchange_of_tokens(asks: &Asks, guard: &Guard, body: &[u8]) -> Said {
    let request = token::read(asks.content_type.as_deref(), body);
    let secret = request.secret.as_ref().map(|secret| guard.proof(&asks.host, secret.expose().as_bytes()));
    if request.grant == Grant::Revocation {
        return Said::Revocation(secret);
    }
    Said::Exchange(Tried {
        kind: AttemptKind::Token.as_str(),
        guess: guard.short(Kind::Token, &asks.host, request.credential.expose()),
        account: None,
        // A code is good once.
        proof: secret.filter(|_| request.grant == Grant::RefreshToken),
        is_shared: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_paths_are_whole_segments() {
        let prefixes = ["/nodered".to_owned(), "/a/b".to_owned()];
        for (path, expected) in [
            ("/nodered", true),
            ("/nodered/ui", true),
            ("/noderedx", false),
            ("/a", false),
            ("/a/b/c", true),
            ("/", false),
        ] {
            assert_eq!(is_below(path, &prefixes), expected, "{path}");
        }
    }

    #[test]
    fn a_bearer_and_its_token_are_one_credential() {
        assert_eq!(token_in(b"Bearer abc"), b"abc");
        assert_eq!(token_in(b"bearer abc"), b"bearer abc");
        assert_eq!(token_in(b"Basic abc"), b"Basic abc");
    }
}
