//! A certificate authority for tests: speaks as much ACME as an order takes, looks at the challenges that are answered,
//! and fails as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::acme::challenges::Challenges;

/// How it fails.
#[derive(Default)]
pub(super) struct Plan {
    /// Answers to the next requests at a path that begins so, instead of those that are due.
    pub answers: VecDeque<(&'static str, u16, &'static str, Option<u64>)>,
    /// Does not find what these challenges ask for.
    pub blind_to: Vec<&'static str>,
    /// Forgets the accounts that it has made so far.
    pub forgets_accounts: bool,
    /// Has its hands full, for so many answers, from the moment on that it shall look for a challenge.
    pub busy_while_looking: usize,
    /// Has the field for renewals in its directory, and ignores what an order says that it replaces.
    pub ignores_replaces: bool,
    /// So many of its first orders never end.
    pub stuck_orders: usize,
    /// Leaves a name out of each certificate.
    pub leaves_out: Option<&'static str>,
}

pub(super) struct FakeAuthority {
    pub address: SocketAddr,
    pub challenges: Arc<Challenges>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plan: Plan,
    /// What was asked for, and of each challenge its kind.
    log: Vec<String>,
    accounts: usize,
    forgotten: usize,
    orders: Vec<Order>,
}

struct Order {
    names: Vec<String>,
    /// `pending`, `valid` or `invalid`, one for each name.
    names_status: Vec<&'static str>,
    chain: Option<String>,
}

struct Key(Vec<u8>);

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

type Answer = Response<Full<Bytes>>;

impl FakeAuthority {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let authority = Arc::new(Self { address, challenges: Arc::default(), state: Mutex::default() });
        let serving = Arc::downgrade(&authority);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Some(authority) = serving.upgrade() else { return };
                let service = service_fn(move |request| authority.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        authority
    }

    pub fn directory(&self) -> String {
        self.url("/directory")
    }

    pub fn plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.state.lock().plan);
    }

    /// What was asked for since the last time.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().log)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, std::convert::Infallible> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut state = self.state.lock();
        let planned = state.plan.answers.iter().position(|(prefix, ..)| path.starts_with(prefix));
        let mut answer = match planned.and_then(|at| state.plan.answers.remove(at)) {
            Some((_, status, kind, retry_after)) => {
                state.log.push(format!("{path} {kind}"));
                let mut answer = problem(status, kind);
                if let Some(seconds) = retry_after {
                    answer.headers_mut().insert("retry-after", seconds.into());
                }
                answer
            }
            None => self.decide(&mut state, &path, &body),
        };
        answer.headers_mut().insert("replay-nonce", "bm9uY2U".parse().unwrap());
        Ok(answer)
    }

    fn decide(&self, state: &mut State, path: &str, body: &[u8]) -> Answer {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let part = |name: &str| -> Value {
            let bytes = URL_SAFE_NO_PAD.decode(request[name].as_str().unwrap_or_default()).unwrap();
            serde_json::from_slice(&bytes).unwrap_or_default()
        };
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let number = |at: usize| segments[at].parse::<usize>().unwrap();
        let account = part("protected")["kid"].as_str().and_then(|kid| kid.rsplit('/').next()?.parse::<usize>().ok());
        if std::mem::take(&mut state.plan.forgets_accounts) {
            state.forgotten = state.accounts;
        }
        if account.is_some_and(|account| account <= state.forgotten) {
            return problem(400, "accountDoesNotExist");
        }
        match segments[0] {
            "directory" => json_of(&json!({
                "newNonce": self.url("/nonce"), "newAccount": self.url("/account"), "newOrder": self.url("/order"),
                "renewalInfo": state.plan.ignores_replaces.then(|| self.url("/renewal")),
            })),
            "renewal" => problem(404, "malformed"),
            "nonce" => Response::new(Full::default()),
            "account" => {
                state.log.push("account".to_owned());
                state.accounts += 1;
                let mut answer = json_of(&json!({"status": "valid"}));
                let url = self.url(&format!("/account/{}", state.accounts));
                answer.headers_mut().insert("location", url.parse().unwrap());
                answer
            }
            "order" if segments.len() == 1 => {
                let identifiers = part("payload")["identifiers"].as_array().unwrap().clone();
                let names: Vec<_> = identifiers.iter().map(|it| it["value"].as_str().unwrap().to_owned()).collect();
                state.log.push(format!("order {}", names.join(" ")));
                let names_status = vec!["pending"; names.len()];
                state.orders.push(Order { names, names_status, chain: None });
                let id = state.orders.len() - 1;
                let mut answer = self.order(state, id);
                let url = self.url(&format!("/order/{id}"));
                answer.headers_mut().insert("location", url.parse().unwrap());
                answer
            }
            "order" => self.order(state, number(1)),
            "authorization" => self.authorization(state, number(1), number(2)),
            "challenge" => {
                self.look(state, number(1), number(2), segments[3]);
                json_of(&json!({"type": segments[3], "url": self.url(path), "status": "processing", "token": "t"}))
            }
            "finalize" => {
                state.log.push("finalize".to_owned());
                let csr = part("payload")["csr"].as_str().unwrap().to_owned();
                let order = &mut state.orders[number(1)];
                let left_out = state.plan.leaves_out;
                let names = order.names.iter().filter(|name| Some(name.as_str()) != left_out).cloned();
                order.chain = Some(issue(&URL_SAFE_NO_PAD.decode(csr).unwrap(), names.collect()));
                self.order(state, number(1))
            }
            "certificate" => {
                state.log.push("certificate".to_owned());
                Response::new(Full::from(state.orders[number(1)].chain.clone().unwrap()))
            }
            other => panic!("nothing is at {other}"),
        }
    }

    fn order(&self, state: &State, id: usize) -> Answer {
        let order = &state.orders[id];
        let has = |status: &str| order.names_status.contains(&status);
        let status = match (&order.chain, has("invalid"), has("pending")) {
            (Some(_), ..) if id < state.plan.stuck_orders => "processing",
            (Some(_), ..) => "valid",
            (None, true, _) => "invalid",
            (None, false, true) => "pending",
            (None, false, false) => "ready",
        };
        let names = 0..order.names.len();
        json_of(&json!({
            "status": status,
            "authorizations": names.map(|at| self.url(&format!("/authorization/{id}/{at}"))).collect::<Vec<_>>(),
            "finalize": self.url(&format!("/finalize/{id}")),
            "certificate": order.chain.as_ref().map(|_| self.url(&format!("/certificate/{id}"))),
        }))
    }

    fn authorization(&self, state: &State, id: usize, at: usize) -> Answer {
        let order = &state.orders[id];
        let status = order.names_status[at];
        let challenges = ["dns-01", "tls-alpn-01", "http-01"].map(|kind| {
            let mut challenge = json!({
                "type": kind, "url": self.url(&format!("/challenge/{id}/{at}/{kind}")), "status": "pending",
                "token": format!("token-{at}"),
            });
            if status == "invalid" {
                challenge["status"] = "invalid".into();
                challenge["error"] = json!({"type": format!("{ACME_ERROR}connection"), "detail": format!("no {kind}")});
            }
            challenge
        });
        let identifier = json!({"type": "dns", "value": order.names[at]});
        json_of(&json!({"identifier": identifier, "status": status, "challenges": challenges}))
    }

    /// Looks for what a challenge asks for, in the place where the gate would answer it.
    fn look(&self, state: &mut State, id: usize, at: usize, kind: &str) {
        let busy = std::iter::repeat_n(("/authorization", 503, "serverInternal", None), state.plan.busy_while_looking);
        state.plan.answers.extend(busy);
        let order = &mut state.orders[id];
        let name = &order.names[at];
        state.log.push(format!("{kind} {name}"));
        let is_answered = match kind {
            "http-01" => self.challenges.http(name, &format!("token-{at}")).is_some(),
            "tls-alpn-01" => self.challenges.tls_alpn(name).is_some(),
            _ => false,
        };
        let is_found = is_answered && !state.plan.blind_to.contains(&kind);
        order.names_status[at] = if is_found { "valid" } else { "invalid" };
    }
}

fn json_of(value: &Value) -> Answer {
    Response::new(Full::from(value.to_string()))
}

fn problem(status: u16, kind: &str) -> Answer {
    let body = json!({"type": format!("{ACME_ERROR}{kind}"), "detail": "as planned"}).to_string();
    Response::builder().status(status).body(Full::from(body)).unwrap()
}

/// A chain of one, for the key in the request, valid from an hour ago for 90 days.
fn issue(request: &[u8], names: Vec<String>) -> String {
    let (_, request) = X509CertificationRequest::from_der(request).unwrap();
    let key = Key(request.certification_request_info.subject_pki.subject_public_key.data.to_vec());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(authority, KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(names).unwrap();
    params.use_authority_key_identifier_extension = true;
    let begin = SystemTime::now() - Duration::from_secs(3600);
    params.not_before = begin.into();
    params.not_after = (begin + Duration::from_secs(90 * 86_400)).into();
    params.signed_by(&key, &issuer).unwrap().pem()
}

const ACME_ERROR: &str = "urn:ietf:params:acme:error:";
