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
use super::access::{is_host_ours, is_token_right};
use super::certificates::Renew;
use super::guard::{self, BanTarget, MOST_BANS};
use crate::config::Secret;

/// Everything that answers are made of.
pub(super) struct Answers {
    pub(super) control: Arc<dyn Control>,
    pub(super) registry: Registry,
    pub(super) token: Option<Secret>,
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
}

type Answer = Response<Full<Bytes>>;

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
        if let (Door::Network(_), Endpoint::Metrics, Some(token)) = (door, endpoint, &self.token)
            && !is_token_right(request.headers(), token.expose())
        {
            return Err(Refusal::WrongToken);
        }
        Ok(endpoint)
    }
}

/// Why a request is turned away before anything is done for it.
enum Refusal {
    ForeignHost,
    NotFound,
    WrongMethod(Endpoint),
    WrongToken,
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
        }
    }
}

impl Endpoint {
    fn at(path: &str, door: Door) -> Option<Self> {
        match (path, door) {
            ("/metrics", _) => Some(Self::Metrics),
            ("/healthz", _) => Some(Self::Healthz),
            ("/readyz", _) => Some(Self::Readyz),
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
            Self::Metrics | Self::Healthz | Self::Readyz | Self::Status | Self::Explain => &[Method::GET, Method::HEAD],
            Self::Reload => &[Method::POST],
            Self::Certificates => &[Method::GET, Method::HEAD, Method::POST],
            Self::Bans => &[Method::GET, Method::HEAD, Method::POST, Method::DELETE],
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

fn line(status: StatusCode, text: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n").into())
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    let fields = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    answer.headers_mut().extend(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer
}

fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// From the head of a request to its answer.
pub(super) const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// A ban with the longest reason, or the longest name; no other endpoint takes a body, there it is read and forgotten.
const BODY_BYTES: usize = 1024;
