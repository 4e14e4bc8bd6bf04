//! Asks a running gate over its Unix socket, for the command line.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{
    BanList, BanReport, BanTarget, CertificateList, Explanation, NewBan, Overview, ReloadReport, Removal, Renew,
    Renewal, Status,
};

/// Knows the path of one socket; each question opens a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no gate is running: nobody listens at {}", .0.display())]
    NobodyListens(PathBuf),
    #[error("permission denied at {}: run as root or as the gate's user", .0.display())]
    PermissionDenied(PathBuf),
    #[error("{}: {source}", socket.display())]
    Connect { socket: PathBuf, source: io::Error },
    #[error("the gate did not answer within {} seconds; see its log", .0.as_secs())]
    Timeout(Duration),
    #[error("the gate broke off the conversation: {0}")]
    BrokenOff(#[from] hyper::Error),
    /// What was asked for is understood and not done, in the gate's own words.
    #[error("{0}")]
    Declined(String),
    #[error("the gate answered {status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("the gate's answer is not understood (is it another version?): {0}")]
    NotUnderstood(String),
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Has the gate read its configuration again; waits up to fifteen seconds.
    pub async fn reload(&self) -> Result<ReloadReport, ClientError> {
        self.ask(Method::POST, "/reload").await
    }

    /// Waits up to fifteen seconds.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.ask(Method::GET, "/status").await
    }

    /// Waits up to fifteen seconds.
    pub async fn overview(&self) -> Result<Overview, ClientError> {
        self.ask(Method::GET, "/overview").await
    }

    /// The newest bans; waits up to fifteen seconds.
    pub async fn bans(&self) -> Result<BanList, ClientError> {
        self.ask(Method::GET, "/bans").await
    }

    /// Waits up to fifteen seconds.
    pub async fn add_ban(&self, ban: &NewBan) -> Result<BanReport, ClientError> {
        let body = serde_json::to_vec(ban).map_err(|error| ClientError::Declined(error.to_string()))?;
        self.ask_with(Method::POST, "/bans", body.into()).await
    }

    /// Waits up to fifteen seconds.
    pub async fn remove_bans(&self, target: BanTarget) -> Result<Removal, ClientError> {
        self.ask(Method::DELETE, &format!("/bans?network={target}")).await
    }

    /// Waits up to fifteen seconds.
    pub async fn explain(&self, address: IpAddr) -> Result<Explanation, ClientError> {
        self.ask(Method::GET, &format!("/explain?address={address}")).await
    }

    /// Waits up to fifteen seconds.
    pub async fn certificates(&self) -> Result<CertificateList, ClientError> {
        self.ask(Method::GET, "/certificates").await
    }

    /// Has attempts begun, without waiting for their end; waits up to fifteen seconds.
    pub async fn renew(&self, renew: &Renew) -> Result<Renewal, ClientError> {
        let body = serde_json::to_vec(renew).map_err(|error| ClientError::Declined(error.to_string()))?;
        self.ask_with(Method::POST, "/certificates", body.into()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, target: &str) -> Result<T, ClientError> {
        self.ask_with(method, target, Bytes::new()).await
    }

    async fn ask_with<T: DeserializeOwned>(&self, method: Method, target: &str, body: Bytes) -> Result<T, ClientError> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(method, target, body));
        let (status, body) = answer.await.map_err(|_| ClientError::Timeout(PATIENCE))??;
        if status != StatusCode::OK {
            let text = String::from_utf8_lossy(&body).trim().replace(char::is_control, " ");
            return Err(match status {
                StatusCode::CONFLICT => ClientError::Declined(text),
                status => ClientError::Refused { status, text },
            });
        }
        serde_json::from_slice(&body).map_err(|error| ClientError::NotUnderstood(error.to_string()))
    }

    async fn exchange(&self, method: Method, target: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let target = http::Uri::try_from(target).map_err(|error| ClientError::Declined(error.to_string()))?;
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.connect_error(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target;
        request.headers_mut().insert(HOST, http::HeaderValue::from_static("localhost"));
        let exchange = async { read(sender.send_request(request).await?).await };
        // The connection must be driven while the answer is awaited; it is over with it.
        tokio::pin!(exchange, connection);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    }

    fn connect_error(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NobodyListens(socket),
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied(socket),
            _ => ClientError::Connect { socket, source },
        }
    }
}

async fn read(answer: Response<Incoming>) -> Result<(StatusCode, Bytes), ClientError> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
    Ok((status, body.to_bytes()))
}

/// More than the gate takes to answer or to give up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Room for the status of thousands of hosts, and for as many bans as one answer has, with the longest reasons.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
