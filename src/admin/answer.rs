//! From a request on either door to its answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::{Body, Incoming};
use prometheus::{Encoder, Registry, TextEncoder};
use serde::Serialize;

use super::Control;
use super::access::{is_host_ours, is_token_right, is_token_right_in_browser};
use super::certificates::Renew;
use super::guard::{self, BanTarget, MOST_BANS};
use crate::config::Secret;

/// Everything that answers are made of.
pub(super) struct Answers {
    pub(super) control: Arc<dyn Control>,
    pub(super) registry: Registry,
    pub(super) token: Option<Secret>,
    /// What the status page's forms must hold.
    pub(super) form_token: String,
}

/// Where a request came in; each door opens to more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The TCP listener, with its address: the token and the `Host` field are checked.
    Network(std::net::IpAddr),
    /// The Unix socket: whoever got in is root or the gate's user, and may do everything.
    Socket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Metrics,
    Healthz,
    Readyz,
    Reload,
    Status,
    Bans,
    Explain,
    Certificates,
    Overview,
    Page,
    Style,
    Script,
    Unban,
}

pub(super) type Answer = Response<Full<Bytes>>;

impl Answers {
    /// Answers within ten seconds. A reload that takes longer is not broken off, only not waited for.
    pub(super) async fn answer(self: Arc<Self>, door: Door, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let work = tokio::spawn(async move { self.decide(door, request).await });
        Ok(match tokio::time::timeout(REQUEST_PATIENCE, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => line(StatusCode::INTERNAL_SERVER_ERROR, "failed, see the log"),
            Err(_) => line(StatusCode::GATEWAY_TIMEOUT, "still at work, not waiting any longer"),
        })
    }

    async fn decide(&self, door: Door, request: Request<Incoming>) -> Answer {
        let endpoint = match self.admit(door, &request) {
            Ok(endpoint) => endpoint,
            Err(refusal) => return refusal.answer(),
        };
        let (head, body) = request.into_parts();
        let Some(body) = tiny(body).await else {
            return line(StatusCode::PAYLOAD_TOO_LARGE, "body too large");
        };
        match endpoint {
            Endpoint::Metrics => metrics(self.registry.clone()).await,
            Endpoint::Healthz => line(StatusCode::OK, "ok"),
            Endpoint::Readyz => match self.control.ready() {
                Ok(()) => line(StatusCode::OK, "ready"),
                Err(why) => line(StatusCode::SERVICE_UNAVAILABLE, &in_one_line(&why)),
            },
            Endpoint::Reload => json(&self.control.reload().await),
            Endpoint::Status => json(&self.control.status()),
            Endpoint::Bans => self.bans(&head, &body),
            Endpoint::Certificates => self.certificates(&head, &body),
            Endpoint::Overview => json(&self.control.overview()),
            Endpoint::Page => self.page(),
            Endpoint::Style => Self::style(),
            Endpoint::Script => Self::script(),
            Endpoint::Unban => self.unban(&head, &body),
            Endpoint::Explain => match named(&head, "address").and_then(guard::address) {
                Ok(address) => json(&self.control.explain(address)),
                Err(why) => line(StatusCode::BAD_REQUEST, &why),
            },
        }
    }

    fn bans(&self, head: &Parts, body: &[u8]) -> Answer {
        if head.method == Method::POST {
            return self.add_ban(body);
        }
        if head.method == Method::DELETE {
            return match named(head, "network").and_then(BanTarget::parse) {
                Ok(target) => json(&self.control.remove_bans(target)),
                Err(why) => line(StatusCode::BAD_REQUEST, &why),
            };
        }
        json(&self.control.bans(MOST_BANS))
    }

    fn certificates(&self, head: &Parts, body: &[u8]) -> Answer {
        if head.method != Method::POST {
            return json(&self.control.certificates());
        }
        match serde_json::from_slice::<Renew>(body).map(|wanted| self.control.renew(wanted.name.as_deref())) {
            Ok(Ok(renewal)) => json(&renewal),
            Ok(Err(why)) => line(StatusCode::CONFLICT, &in_one_line(&why)),
            Err(error) => line(StatusCode::BAD_REQUEST, &in_one_line(&error.to_string())),
        }
    }

    fn add_ban(&self, body: &[u8]) -> Answer {
        match serde_json::from_slice(body).map(|ban| self.control.add_ban(ban)) {
            Ok(Ok(report)) => json(&report),
            Ok(Err(why)) => line(StatusCode::CONFLICT, &in_one_line(&why)),
            Err(error) => line(StatusCode::BAD_REQUEST, &in_one_line(&error.to_string())),
        }
    }

    /// Cheapest first; what a stranger learns is no more than that something answers here.
    fn admit(&self, door: Door, request: &Request<Incoming>) -> Result<Endpoint, Refusal> {
        if let (Door::Network(address), None) = (door, &self.token)
            && !is_host_ours(request.uri(), request.headers(), address)
        {
            return Err(Refusal::ForeignHost);
        }
        let endpoint = Endpoint::at(request.uri().path(), door).ok_or(Refusal::NotFound)?;
        if !endpoint.methods().contains(request.method()) {
            return Err(Refusal::WrongMethod(endpoint));
        }
        let (Door::Network(_), Some(token)) = (door, &self.token) else { return Ok(endpoint) };
        let (fields, token) = (request.headers(), token.expose());
        match endpoint.asks_for() {
            Proof::Nothing => Ok(endpoint),
            Proof::Bearer if is_token_right(fields, token) => Ok(endpoint),
            Proof::Bearer => Err(Refusal::WrongToken),
            Proof::Password if is_token_right_in_browser(fields, token) => Ok(endpoint),
            Proof::Password => Err(Refusal::WrongPassword),
        }
    }
}

/// Why a request is turned away before anything is done for it.
enum Refusal {
    ForeignHost,
    NotFound,
    WrongMethod(Endpoint),
    WrongToken,
    WrongPassword,
}

/// How the token is to be shown over TCP, where there is one.
enum Proof {
    Nothing,
    Bearer,
    /// As a bearer, or by a browser as a password.
    Password,
}

impl Refusal {
    fn answer(self) -> Answer {
        match self {
            Self::ForeignHost => line(StatusCode::MISDIRECTED_REQUEST, "not a name of this listener"),
            Self::NotFound => line(StatusCode::NOT_FOUND, "not found"),
            Self::WrongMethod(endpoint) => {
                let allowed: Vec<_> = endpoint.methods().iter().map(Method::as_str).collect();
                with(line(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"), ALLOW, &allowed.join(", "))
            }
            Self::WrongToken => {
                let answer = line(StatusCode::UNAUTHORIZED, "bearer token missing or wrong");
                with(answer, WWW_AUTHENTICATE, "Bearer realm=\"hearthgate\"")
            }
            Self::WrongPassword => {
                let answer = line(StatusCode::UNAUTHORIZED, "the password is admin.token; the user does not matter");
                with(answer, WWW_AUTHENTICATE, "Basic realm=\"hearthgate\", charset=\"UTF-8\"")
            }
        }
    }
}

impl Endpoint {
    fn at(path: &str, door: Door) -> Option<Self> {
        match (path, door) {
            ("/metrics", _) => Some(Self::Metrics),
            ("/healthz", _) => Some(Self::Healthz),
            ("/readyz", _) => Some(Self::Readyz),
            ("/", Door::Network(_)) => Some(Self::Page),
            ("/status.css", Door::Network(_)) => Some(Self::Style),
            ("/status.js", Door::Network(_)) => Some(Self::Script),
            ("/bans/remove", Door::Network(_)) => Some(Self::Unban),
            ("/overview", Door::Socket) => Some(Self::Overview),
            ("/reload", Door::Socket) => Some(Self::Reload),
            ("/status", Door::Socket) => Some(Self::Status),
            ("/bans", Door::Socket) => Some(Self::Bans),
            ("/explain", Door::Socket) => Some(Self::Explain),
            ("/certificates", Door::Socket) => Some(Self::Certificates),
            _ => None,
        }
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Self::Metrics
            | Self::Healthz
            | Self::Readyz
            | Self::Status
            | Self::Explain
            | Self::Overview
            | Self::Page
            | Self::Style
            | Self::Script => &[Method::GET, Method::HEAD],
            Self::Reload | Self::Unban => &[Method::POST],
            Self::Certificates => &[Method::GET, Method::HEAD, Method::POST],
            Self::Bans => &[Method::GET, Method::HEAD, Method::POST, Method::DELETE],
        }
    }
}

impl Endpoint {
    fn asks_for(self) -> Proof {
        match self {
            Self::Metrics => Proof::Bearer,
            Self::Page | Self::Style | Self::Script | Self::Unban => Proof::Password,
            // Health tells nothing; the others are behind the Unix socket.
            Self::Healthz
            | Self::Readyz
            | Self::Reload
            | Self::Status
            | Self::Bans
            | Self::Explain
            | Self::Certificates
            | Self::Overview => Proof::Nothing,
        }
    }
}

/// The body; `None` if it is larger than any that an endpoint has a use for.
async fn tiny(body: Incoming) -> Option<Bytes> {
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return None;
    }
    Limited::new(body, BODY_BYTES).collect().await.ok().map(Collected::to_bytes)
}

/// The value of a query of one pair. Addresses and networks need no escaping there (RFC 3986 section 3.4).
fn named<'h>(head: &'h Parts, name: &str) -> Result<&'h str, String> {
    let value = head.uri.query().and_then(|query| query.split_once('=')).filter(|(key, _)| *key == name);
    value.map(|(_, value)| value).ok_or_else(|| format!("`?{name}=` is missing"))
}

fn in_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

async fn metrics(registry: Registry) -> Answer {
    // Process metrics read /proc, which takes its time with thousands of open files.
    let text = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).map(|()| text)
    });
    match text.await {
        Ok(Ok(text)) => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
        Ok(Err(error)) => {
            log::error!("metrics cannot be rendered error={error}");
            line(StatusCode::INTERNAL_SERVER_ERROR, "failed, see the log")
        }
        Err(_) => line(StatusCode::INTERNAL_SERVER_ERROR, "failed, see the log"),
    }
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(text) => answer(StatusCode::OK, "application/json", text),
        Err(error) => {
            log::error!("answer cannot be rendered error={error}");
            line(StatusCode::INTERNAL_SERVER_ERROR, "failed, see the log")
        }
    }
}

pub(super) fn line(status: StatusCode, text: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n").into())
}

pub(super) fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let fields = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    answer.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer
}

pub(super) fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// From the head of a request to its answer.
pub(super) const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// A ban with the longest reason, the longest name, or the form that lifts a ban; elsewhere it is read and forgotten.
const BODY_BYTES: usize = 1024;
