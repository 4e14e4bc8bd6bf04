//! Whoever comes to a guarded gate: from an address of its own, and with what it shows as proof of a session.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::gate::Dial;
use super::household::{OWNER, PASSWORD};
use super::websocket::WebSocket;
use super::{Answer, Client, Gate, Household, Setup, within};

/// Whose word about clients is believed in `X-Forwarded-For`.
pub const PROXY: &str = "198.51.100.1";

/// A gate before `household` to which clients come from any address (a PROXY protocol header says so); `guard` is the
/// section in YAML, without its braces. Nobody is exempt from bans unless it says so.
pub fn guarded(household: &Household, guard: &str) -> Setup {
    let exempt = if guard.contains("never_ban") { "" } else { "never_ban: [192.0.2.0/24], " };
    Setup::new(household.address)
        .key("app: home_assistant")
        .listen("proxy_protocol_from: [127.0.0.1/32]")
        .section(&format!("trusted_proxies: {{networks: [{PROXY}/32]}}"))
        .section(&format!("guard: {{{exempt}{guard}}}"))
}

#[derive(Clone)]
pub struct Guest<'g> {
    gate: &'g Gate,
    ip: String,
    fields: String,
}

/// What a login has earned.
#[derive(Debug, Clone)]
pub struct Session {
    pub access: String,
    pub refresh: String,
    /// As a browser sends it back.
    pub cookie: String,
}

impl<'g> Guest<'g> {
    pub fn at(gate: &'g Gate, ip: &str) -> Self {
        Self { gate, ip: ip.into(), fields: String::new() }
    }

    /// Adds a field, such as `Accept: text/html`, to every request.
    pub fn with(mut self, field: &str) -> Self {
        self.fields += &format!("{field}\r\n");
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.with(&format!("Authorization: Bearer {token}"))
    }

    pub fn dial(&self) -> Dial<'g> {
        let family = if self.ip.contains(':') { "TCP6" } else { "TCP4" };
        let own = if self.ip.contains(':') { "2001:db8::443" } else { "192.0.2.1" };
        self.gate.dial().announce(format!("PROXY {family} {} {own} 4242 443\r\n", self.ip).as_bytes())
    }

    pub async fn connect(&self) -> Client {
        self.dial().client().await
    }

    /// A request as bytes.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let length = if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: ha.test\r\n{}{length}\r\n", self.fields);
        [head.as_bytes(), body].concat()
    }

    /// Asks on a connection of its own.
    pub async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let request = self.request(method, path, body);
        self.connect().await.exchange(request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, b"").await
    }

    pub async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask("POST", path, body.as_ref()).await
    }

    /// The connection ends before a byte of TLS.
    pub async fn is_shut_out(&self) -> bool {
        let mut client = Client::new(self.dial().tcp().await);
        // The beginning of a handshake, so that a gate that listens would have to answer.
        let _ = client.try_send(CLIENT_HELLO).await;
        client.rest().await.is_empty()
    }

    /// Begins a login.
    pub async fn begin(&self) -> String {
        let answer = self.post("/auth/login_flow", START).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        json_of(&answer)["flow_id"].as_str().unwrap().to_owned()
    }

    /// Tries a password of the owner's.
    pub async fn try_password(&self, flow: &str, password: &str) -> Answer {
        self.post(&format!("/auth/login_flow/{flow}"), password_of(OWNER, password)).await
    }

    /// Tries this password in a login of its own; the status of the answer.
    pub async fn guess(&self, password: &str) -> u16 {
        let flow = self.begin().await;
        self.try_password(&flow, password).await.status
    }

    /// Exchanges a code or a refresh token.
    pub async fn exchange(&self, grant: &str, secret: &str) -> Answer {
        let name = if grant == "refresh_token" { "refresh_token" } else { "code" };
        let body = format!("grant_type={grant}&{name}={secret}&client_id=https%3A%2F%2Fha.test%2F");
        self.clone().with(FORM).post("/auth/token", body).await
    }

    pub async fn refresh(&self, token: &str) -> Answer {
        self.exchange("refresh_token", token).await
    }

    /// Logs in as the owner.
    pub async fn log_in(&self) -> Session {
        let flow = self.begin().await;
        let entry = json_of(&self.try_password(&flow, PASSWORD).await);
        let answer = self.exchange("authorization_code", entry["result"].as_str().unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let tokens = json_of(&answer);
        let token = |name: &str| tokens[name].as_str().unwrap().to_owned();
        let cookie = answer.field("set-cookie").unwrap_or_default().split(';').next().unwrap().to_owned();
        Session { access: token("access_token"), refresh: token("refresh_token"), cookie }
    }

    /// Opens a WebSocket, up to its 101.
    pub async fn upgrade(&self, path: &str) -> Result<WebSocket, Error> {
        let stream = self.dial().tls().await.map_err(Error::Io)?;
        let mut request = format!("ws://ha.test{path}").into_client_request()?;
        for (name, value) in self.fields.lines().filter_map(|line| line.split_once(": ")) {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let opened = within("a WebSocket handshake", tokio_tungstenite::client_async(request, stream)).await?;
        Ok(WebSocket(opened.0))
    }

    /// Opens a WebSocket and shows a token; the socket, and the type of the verdict if there was one.
    pub async fn show(&self, token: &str) -> (WebSocket, Option<String>) {
        let mut socket = self.upgrade("/api/websocket").await.unwrap();
        socket.send(Message::text(auth(token))).await;
        let verdict = socket.verdict().await;
        (socket, verdict)
    }
}

impl WebSocket {
    /// The type of the first message that is no greeting.
    pub async fn verdict(&mut self) -> Option<String> {
        loop {
            let Some(Message::Text(text)) = self.next().await else { return None };
            let kind = serde_json::from_str::<Value>(&text).unwrap()["type"].as_str().unwrap().to_owned();
            if kind != "auth_required" {
                return Some(kind);
            }
        }
    }
}

/// The first message of a WebSocket.
pub fn auth(token: &str) -> String {
    json!({"type": "auth", "access_token": token}).to_string()
}

/// The body of a login's first step.
pub fn password_of(account: &str, password: &str) -> String {
    json!({"client_id": "https://ha.test/", "username": account, "password": password}).to_string()
}

pub fn code(code: &str) -> String {
    json!({"client_id": "https://ha.test/", "code": code}).to_string()
}

pub fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{} is no JSON", answer.body.escape_ascii()))
}

pub const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
pub const START: &str =
    r#"{"client_id":"https://ha.test/","handler":["homeassistant",null],"redirect_uri":"https://ha.test/"}"#;

/// A TLS record with too little in it: whoever reads it answers with an alert.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
