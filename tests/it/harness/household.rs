//! A fake Home Assistant with accounts: it answers logins, tokens, bearers and the login inside a WebSocket with the
//! bodies of the real one (2025.4.4), and remembers what it was asked.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The account with a password only, and the one with a second factor as well.
pub const OWNER: &str = "owner";
pub const TESS: &str = "tess";
pub const PASSWORD: &str = "correct horse";
pub const CODE: &str = "757941";
/// A long-lived access token, good from the beginning.
pub const LONG_LIVED: &str = "long-lived";
/// Refuses even good tokens: its user is no administrator.
pub const ADMIN_VIEW: &str = "/api/error_log";
/// An add-on's own WebSocket, which begins without a login.
pub const INGRESS: &str = "/api/hassio_ingress/abc/ws";

pub struct Household {
    pub address: SocketAddr,
    home: Arc<Home>,
}

#[derive(Default)]
struct Home {
    book: Mutex<Book>,
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct Book {
    seen: Vec<Seen>,
    flows: HashMap<String, Flow>,
    codes: HashSet<String>,
    access: HashSet<String>,
    refresh: HashSet<String>,
    websocket_tokens: Vec<String>,
    issued: u32,
    lifetime: u64,
}

struct Flow {
    address: String,
    at_second_factor: bool,
    tries: u32,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub target: String,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Household {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let home = Arc::new(Home::default());
        home.book.lock().access.insert(LONG_LIVED.into());
        home.book.lock().lifetime = 1800;
        let address = listener.local_addr().unwrap();
        let shared = home.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let home = shared.clone();
                let service = service_fn(move |request| answer(home.clone(), request));
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(socket), service).with_upgrades());
            }
        });
        Self { address, home }
    }

    /// An access token that was issued behind the gate's back.
    pub fn issue_access(&self) -> String {
        let mut book = self.home.book.lock();
        let token = book.access_token();
        book.access.insert(token.clone());
        token
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.home.book.lock().seen.clone()
    }

    /// The last request so far.
    pub fn last(&self) -> Seen {
        self.seen().pop().unwrap()
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.home.book.lock().seen.iter().filter(|seen| seen.target == path).count()
    }

    /// Passwords and codes that were tried, right or wrong.
    pub fn guesses(&self) -> usize {
        let seen = &self.home.book.lock().seen;
        seen.iter().filter(|seen| seen.target.starts_with("/auth/login_flow/") && seen.method == Method::POST).count()
    }

    /// The tokens that were shown in WebSockets.
    pub fn websocket_tokens(&self) -> Vec<String> {
        self.home.book.lock().websocket_tokens.clone()
    }

    /// An access token is no longer good.
    pub fn expire(&self, token: &str) {
        assert!(self.home.book.lock().access.remove(token), "{token} was not good");
    }

    /// For how many seconds the access tokens say that they are good.
    pub fn tokens_last(&self, seconds: u64) {
        self.home.book.lock().lifetime = seconds;
    }

    /// Answers to logins, tokens and bearers wait until [`release`](Self::release).
    pub fn hold(&self) {
        self.home.held.send_replace(true);
    }

    pub fn release(&self) {
        self.home.held.send_replace(false);
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(home: Arc<Home>, mut request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let upgrade = request.headers().contains_key("sec-websocket-key").then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let target = head.uri.to_string();
    home.book.lock().seen.push(Seen {
        method: head.method.clone(),
        target: target.clone(),
        fields: head.headers.clone(),
        body: body.to_vec(),
    });
    if let Some(upgrade) = upgrade {
        let path = head.uri.path().to_owned();
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let io = TokioIo::new(upgraded);
                converse(home, path, WebSocketStream::from_raw_socket(io, Role::Server, None).await).await;
            }
        });
        return Ok(switch(&head.headers));
    }
    if head.uri.path().starts_with("/auth/") || head.headers.contains_key("authorization") {
        let _ = home.held.subscribe().wait_for(|held| !held).await;
    }
    Ok(home.book.lock().answer(&head, &body))
}

fn switch(fields: &HeaderMap) -> Answer {
    Response::builder()
        .status(101)
        .header("upgrade", "websocket")
        .header("connection", "upgrade")
        .header("sec-websocket-accept", derive_accept_key(fields["sec-websocket-key"].as_bytes()))
        .body(Full::default())
        .unwrap()
}

/// The login, then an echo; the echo alone where an add-on answers.
async fn converse(
    home: Arc<Home>,
    path: String,
    mut socket: WebSocketStream<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>,
) {
    if path == "/api/websocket" {
        let greeting = json!({"type": "auth_required", "ha_version": "2025.4.4"});
        if socket.send(Message::text(greeting.to_string())).await.is_err() {
            return;
        }
        let Some(Ok(Message::Text(first))) = socket.next().await else { return };
        let token = serde_json::from_str::<Value>(&first).ok();
        let token = token.and_then(|auth| auth["access_token"].as_str().map(str::to_owned)).unwrap_or_default();
        home.book.lock().websocket_tokens.push(token.clone());
        let _ = home.held.subscribe().wait_for(|held| !held).await;
        let is_good = home.book.lock().access.contains(&token);
        let verdict = match is_good {
            true => json!({"type": "auth_ok", "ha_version": "2025.4.4"}),
            false => json!({"type": "auth_invalid", "message": "Invalid access token or password"}),
        };
        if socket.send(Message::text(verdict.to_string())).await.is_err() || !is_good {
            let _ = socket.close(None).await;
            return;
        }
    }
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

impl Book {
    fn answer(&mut self, head: &Parts, body: &[u8]) -> Answer {
        let path = percent_decode_str(head.uri.path()).decode_utf8().unwrap();
        let posts = head.method == Method::POST;
        match &*path {
            "/auth/login_flow" if posts => self.begin(head),
            "/auth/token" if posts => self.token(body),
            "/auth/revoke" if posts => self.revoke(body),
            "/" | "/lovelace" => plain(StatusCode::OK, "the frontend"),
            _ => match path.strip_prefix("/auth/login_flow/") {
                Some(id) if posts => self.step(id, head, body),
                _ if path.starts_with("/auth/") || path.starts_with("/static/") => plain(StatusCode::OK, "public"),
                _ if path.starts_with("/api/webhook/") => plain(StatusCode::OK, ""),
                _ => self.view(&path, &head.headers),
            },
        }
    }

    /// A view behind the login.
    fn view(&self, path: &str, fields: &HeaderMap) -> Answer {
        let field = fields.get("authorization").map(|value| value.to_str().unwrap());
        let is_good = field.and_then(|field| field.strip_prefix("Bearer ")).is_some_and(|it| self.access.contains(it));
        match path {
            ADMIN_VIEW => plain(StatusCode::UNAUTHORIZED, "401: Unauthorized"),
            _ if !is_good => plain(StatusCode::UNAUTHORIZED, "401: Unauthorized"),
            "/api/" => spoken(StatusCode::OK, &json!({"message": "API running."})),
            _ => plain(StatusCode::OK, "inside"),
        }
    }

    fn begin(&mut self, head: &Parts) -> Answer {
        self.issued += 1;
        let id = format!("{:032x}", self.issued);
        let address = head.headers["x-forwarded-for"].to_str().unwrap().to_owned();
        let answer = form(&id, "init", &json!({}));
        self.flows.insert(id, Flow { address, at_second_factor: false, tries: 0 });
        answer
    }

    fn step(&mut self, id: &str, head: &Parts, body: &[u8]) -> Answer {
        let Some(flow) = self.flows.get_mut(id) else {
            return spoken(StatusCode::NOT_FOUND, &json!({"message": "Invalid flow specified"}));
        };
        if head.headers["x-forwarded-for"] != flow.address {
            return spoken(StatusCode::BAD_REQUEST, &json!({"message": "IP address changed"}));
        }
        let fields: Value = serde_json::from_slice(body).unwrap();
        if flow.at_second_factor && fields["code"] != CODE {
            flow.tries += 1;
            if flow.tries < 5 {
                return form(id, "mfa", &json!({"base": "invalid_code"}));
            }
            self.flows.remove(id);
            return result(id, "abort", "reason", "too_many_retry");
        }
        if !flow.at_second_factor {
            if fields["password"] != PASSWORD {
                return form(id, "init", &json!({"base": "invalid_auth"}));
            }
            if fields["username"] == TESS {
                flow.at_second_factor = true;
                return form(id, "mfa", &json!({}));
            }
        }
        self.flows.remove(id);
        let code = self.issue("code");
        self.codes.insert(code.clone());
        result(id, "create_entry", "result", &code)
    }

    fn token(&mut self, body: &[u8]) -> Answer {
        let fields: HashMap<_, _> = form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        let mut tokens = match field("grant_type").as_str() {
            "authorization_code" if self.codes.remove(&field("code")) => {
                let refresh = self.issue("refresh");
                self.refresh.insert(refresh.clone());
                json!({"refresh_token": refresh, "ha_auth_provider": "homeassistant"})
            }
            "authorization_code" => {
                let error = json!({"error": "invalid_request", "error_description": "Invalid code"});
                return spoken(StatusCode::BAD_REQUEST, &error);
            }
            _ if self.refresh.contains(&field("refresh_token")) => json!({}),
            _ => return spoken(StatusCode::BAD_REQUEST, &json!({"error": "invalid_grant"})),
        };
        let access = self.access_token();
        self.access.insert(access.clone());
        tokens["access_token"] = access.into();
        tokens["token_type"] = "Bearer".into();
        tokens["expires_in"] = self.lifetime.into();
        spoken(StatusCode::OK, &tokens)
    }

    /// Takes the access tokens along, as the real one does.
    fn revoke(&mut self, body: &[u8]) -> Answer {
        let fields: HashMap<_, _> = form_urlencoded::parse(body).into_owned().collect();
        if self.refresh.remove(fields.get("token").map_or("", String::as_str)) {
            self.access.retain(|token| token == LONG_LIVED);
        }
        plain(StatusCode::OK, "")
    }

    fn access_token(&mut self) -> String {
        let ends = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + self.lifetime;
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let claims = json!({"iss": self.issue("refresh"), "exp": ends});
        format!("{}.{}.c2lnbmVk", part(json!({"alg": "HS256", "typ": "JWT"})), part(claims))
    }

    fn issue(&mut self, kind: &str) -> String {
        self.issued += 1;
        format!("{kind}-{}", self.issued)
    }
}

fn form(id: &str, step: &str, errors: &Value) -> Answer {
    let form = json!({
        "type": "form", "flow_id": id, "handler": ["homeassistant", null], "data_schema": [], "errors": errors,
        "description_placeholders": null, "last_step": null, "preview": null, "step_id": step,
    });
    spoken(StatusCode::OK, &form)
}

fn result(id: &str, kind: &str, key: &str, value: &str) -> Answer {
    let result = json!({
        "type": kind, "flow_id": id, "handler": ["homeassistant", null], "description_placeholders": null, key: value,
    });
    spoken(StatusCode::OK, &result)
}

fn spoken(status: StatusCode, body: &Value) -> Answer {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Full::from(body.to_string())).unwrap()
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let response = Response::builder().status(status).header("content-type", "text/plain; charset=utf-8");
    response.body(Full::from(text)).unwrap()
}
