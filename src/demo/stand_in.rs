//! An upstream for the demo and for tests: says what it sees and echoes what it hears.
//!
//! | target | answer |
//! |---|---|
//! | `/` | the page |
//! | `/api/echo-headers` | JSON: peer, method, target, fields in order, length of the body |
//! | `/api/websocket` | a WebSocket that greets first and then echoes |
//! | `/away` | 204 and nothing else |
//! | everything else | 404 |

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::page::{Seen, render};

type Answer = Response<Full<Bytes>>;

/// A running stand-in on a loopback port of the system's choice. Dropping it closes everything.
pub struct StandIn {
    pub addr: SocketAddr,
    /// Aborts the accept loop, and with it all connections, when dropped.
    _tasks: JoinSet<()>,
}

impl StandIn {
    /// The first thing that a WebSocket hears.
    pub const GREETING: &str = "hello from behind the gate";

    /// Must be called within a tokio runtime. At most 1024 connections are served at a time.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener));
        Ok(Self { addr, _tasks: tasks })
    }
}

async fn accept(listener: TcpListener) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let permit = Arc::clone(&free).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                open.spawn(async move {
                    serve(stream, peer).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One connection to its end; an upgraded one goes on as a WebSocket in the same task.
async fn serve(stream: TcpStream, peer: SocketAddr) {
    let (to_echo, mut upgrades) = tokio::sync::mpsc::channel(1);
    let service = service_fn(move |request| {
        let to_echo = to_echo.clone();
        async move { Ok::<_, Infallible>(answer(request, peer, &to_echo).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // How a connection ends is of no interest to a stand-in.
    let _ = connection.await;
    if let Ok(upgrade) = upgrades.try_recv() {
        echo(upgrade).await;
    }
}

type Upgrades = tokio::sync::mpsc::Sender<hyper::upgrade::OnUpgrade>;

async fn answer(request: Request<Incoming>, peer: SocketAddr, upgrades: &Upgrades) -> Answer {
    match request.uri().path() {
        "/" => page(&request, peer),
        "/api/echo-headers" => echo_headers(request, peer).await,
        "/api/websocket" => websocket(request, upgrades),
        "/away" => text(StatusCode::NO_CONTENT, ""),
        _ => text(StatusCode::NOT_FOUND, "404: Not Found"),
    }
}

fn page(request: &Request<Incoming>, peer: SocketAddr) -> Answer {
    let seen = Seen {
        peer: peer.to_string(),
        method: request.method().as_str(),
        target: &request.uri().to_string(),
        fields: request.headers(),
    };
    let Ok((page, policy)) = render(&seen) else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "no random numbers");
    };
    let mut answer = with_type(StatusCode::OK, "text/html; charset=utf-8", page);
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

async fn echo_headers(request: Request<Incoming>, peer: SocketAddr) -> Answer {
    let (head, mut body) = request.into_parts();
    let mut body_bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return text(StatusCode::BAD_REQUEST, "the body broke off") };
        body_bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    let pair = |(name, value): (&http::HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let seen = json!({
        "peer": peer.to_string(),
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": head.headers.iter().map(pair).collect::<Vec<_>>(),
        "body_bytes": body_bytes,
    });
    with_type(StatusCode::OK, "application/json", seen.to_string())
}

fn websocket(mut request: Request<Incoming>, upgrades: &Upgrades) -> Answer {
    let Some(accept) = accept_key(request.headers()) else {
        return text(StatusCode::UPGRADE_REQUIRED, "WebSocket only");
    };
    // There is room: a connection is upgraded at most once.
    if upgrades.try_send(hyper::upgrade::on(&mut request)).is_err() {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "upgraded already");
    }
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = answer.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

fn accept_key(fields: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = fields.get(UPGRADE)?.to_str().ok()?;
    let key = fields.get(SEC_WEBSOCKET_KEY)?;
    let is_websocket = upgrade.eq_ignore_ascii_case("websocket");
    is_websocket.then(|| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()).flatten()
}

async fn echo(upgrade: hyper::upgrade::OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let limits = WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(MESSAGE_BYTES));
    let stream = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(limits)).await;
    let mut to_send = Some(Message::text(StandIn::GREETING));
    loop {
        // Pings and closes are answered by tungstenite while it reads.
        if let Some(message) = to_send
            && socket.send(message).await.is_err()
        {
            return;
        }
        let Some(Ok(message)) = socket.next().await else { return };
        to_send = (message.is_text() || message.is_binary()).then_some(message);
    }
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    with_type(status, "text/plain; charset=utf-8", text)
}

fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

const CONNECTIONS: usize = 1024;
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
const MESSAGE_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::client_async;

    use super::*;

    async fn ask(stand_in: &StandIn, request: &str) -> String {
        let mut stream = TcpStream::connect(stand_in.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn the_page_shows_the_client_and_escapes_what_it_reflects() {
        let stand_in = StandIn::start().await.unwrap();
        let request = "GET /?a='b' HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\nX-Odd: <b>\r\nConnection: close\r\n\r\n";
        let answer = ask(&stand_in, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-security-policy: default-src 'none'; script-src 'nonce-"), "{answer}");
        assert!(answer.contains("<tr><th>client</th><td>203.0.113.7</td></tr>"), "{answer}");
        assert!(answer.contains("GET /?a=&#39;b&#39;") && answer.contains("<td>&lt;b&gt;</td>"), "{answer}");
    }

    #[tokio::test]
    async fn headers_are_echoed_in_order_with_the_length_of_the_body() {
        let stand_in = StandIn::start().await.unwrap();
        let request = "POST /api/echo-headers?x HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\nA: 3\r\n\
                       Content-Length: 4\r\nConnection: close\r\n\r\nbody";
        let answer = ask(&stand_in, request).await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let seen: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(seen["method"], "POST");
        assert_eq!(seen["target"], "/api/echo-headers?x");
        assert_eq!(seen["body_bytes"], 4);
        assert_eq!(seen["headers"].as_array().unwrap().iter().filter(|pair| pair[0] == "a").count(), 2);
    }

    #[tokio::test]
    async fn a_websocket_is_greeted_and_echoed() {
        let stand_in = StandIn::start().await.unwrap();
        let stream = TcpStream::connect(stand_in.addr).await.unwrap();
        let (mut socket, _) = client_async("ws://localhost/api/websocket", stream).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(StandIn::GREETING));
        for message in [Message::text("is anybody home?"), Message::binary(vec![0, 255])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.close(None).await.unwrap();
    }

    #[tokio::test]
    async fn the_other_answers() {
        let stand_in = StandIn::start().await.unwrap();
        let table =
            [("/away", "204 No Content"), ("/nothing", "404 Not Found"), ("/api/websocket", "426 Upgrade Required")];
        for (path, status) in table {
            let answer = ask(&stand_in, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer}");
        }
    }

    #[tokio::test]
    async fn dropping_it_closes_everything() {
        let stand_in = StandIn::start().await.unwrap();
        let mut stream = TcpStream::connect(stand_in.addr).await.unwrap();
        stream.write_all(b"GET /away HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(stream.read_u8().await.is_ok());
        drop(stand_in);
        let mut rest = Vec::new();
        // Reset or end, but not silence.
        let _ = stream.read_to_end(&mut rest).await;
    }
}
