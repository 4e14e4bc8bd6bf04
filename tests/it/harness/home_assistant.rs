//! A fake Home Assistant: it answers everything, echoes WebSockets, minds forwarded requests if told to, and remembers
//! what it was asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

pub struct FakeHomeAssistant {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    distrusts: AtomicBool,
    name: &'static str,
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub target: String,
    pub fields: HeaderMap,
    pub body_bytes: usize,
    /// The body if it is short.
    pub body: Vec<u8>,
}

impl Seen {
    /// All values of a field.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

/// The path of which the answer never comes.
pub const NEVER: &str = "/never";

const SHORT: usize = 64 * 1024;

impl FakeHomeAssistant {
    pub async fn start() -> Self {
        Self::named("home").await
    }

    /// Answers with `name`, so that it is known who answered.
    pub async fn named(name: &'static str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), name, None)
    }

    pub async fn with_tls(config: ServerConfig) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), "home", Some(config))
    }

    pub fn on(listener: TcpListener, name: &'static str, tls: Option<ServerConfig>) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { name, ..State::default() });
        let acceptor = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
        tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    state.connections.fetch_add(1, SeqCst);
                    let (state, acceptor) = (state.clone(), acceptor.clone());
                    tokio::spawn(async move {
                        match acceptor {
                            None => serve(state, TokioIo::new(socket)).await,
                            Some(acceptor) => {
                                if let Ok(socket) = acceptor.accept(socket).await {
                                    serve(state, TokioIo::new(socket)).await;
                                }
                            }
                        }
                    });
                }
            }
        });
        Self { address, state }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().clone()
    }

    /// The only request so far.
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// The last request so far.
    pub fn last(&self) -> Seen {
        self.seen().pop().unwrap()
    }

    /// The targets of all requests so far.
    pub fn targets(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.target).collect()
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// Whether it minds `X-Forwarded-For`.
    pub fn distrust(&self, distrusts: bool) {
        self.state.distrusts.store(distrusts, SeqCst);
    }
}

async fn serve(state: Arc<State>, io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static) {
    let service = service_fn(move |request| answer(state.clone(), request));
    // A gate that goes away is no failure of the test.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
}

async fn answer(state: Arc<State>, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if state.distrusts.load(SeqCst) && request.headers().contains_key("x-forwarded-for") {
        return Ok(plain(StatusCode::BAD_REQUEST, "400: Bad Request"));
    }
    let upgrade = request.headers().contains_key("sec-websocket-key").then(|| hyper::upgrade::on(&mut request));
    let (head, mut body) = request.into_parts();
    let mut seen = Seen { target: head.uri.to_string(), fields: head.headers, body_bytes: 0, body: Vec::new() };
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            seen.body_bytes += data.len();
            if seen.body.len() < SHORT {
                seen.body.extend_from_slice(&data);
            }
        }
    }
    let path = seen.target.clone();
    let key = seen.fields.get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes()));
    state.seen.lock().push(seen);
    if let (Some(key), Some(upgrade)) = (key, upgrade) {
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                echo(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await).await;
            }
        });
        let switch = Response::builder()
            .status(101)
            .header("upgrade", "websocket")
            .header("connection", "upgrade")
            .header("sec-websocket-accept", key)
            .header("server", "Python/3.13 aiohttp/3.11.16");
        return Ok(switch.body(Full::default()).unwrap());
    }
    if path == NEVER {
        return std::future::pending().await;
    }
    if path.ends_with("/bad") {
        return Ok(plain(StatusCode::BAD_REQUEST, "400: Bad Request"));
    }
    Ok(plain(StatusCode::OK, state.name))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let response = Response::builder()
        .status(status)
        .header("content-type", "text/plain; charset=utf-8")
        .header("server", "Python/3.13 aiohttp/3.11.16");
    response.body(Full::from(text)).unwrap()
}

/// Every message goes back as it came; pings are answered by the library.
async fn echo(mut socket: WebSocketStream<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>) {
    while let Some(Ok(message)) = socket.next().await {
        let data = message.is_text() || message.is_binary();
        if data && socket.send(message).await.is_err() {
            return;
        }
    }
}
