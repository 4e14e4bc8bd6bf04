//! Speaking to servers on the internet: certificate authorities, DNS providers, those who tell our address.
//!
//! Whatever they answer is bounded in size and time. Redirects are not followed: a token goes where the operator sends
//! it, and nowhere else. Neither errors nor `Debug` show a URL, since some providers want their token in it.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::config::UpstreamVerification;
use crate::tls::{self, TlsError};

/// The largest answer that is read: an ACME order or a provider's list of zones is far below.
pub const MAX_ANSWER: usize = 1 << 20;
/// From connecting to the last byte of the answer.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Authorities want to know who asks (RFC 8555, section 6.1).
const OUR_NAME: HeaderValue = HeaderValue::from_static(concat!("hearthgate/", env!("CARGO_PKG_VERSION")));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);

/// A client whose connections are kept for the next request to the same server.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Which addresses of a server are tried, and so which address of ours it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Both, side by side (RFC 8305).
    Any,
    Ipv4,
    Ipv6,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("an answer of more than {MAX_ANSWER} bytes")]
    TooLarge,
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl HttpClient {
    /// Trusts the authorities in `ca_file`, or the system's. Reads files: not for an async thread.
    pub fn new(ca_file: Option<&Path>, family: Family) -> Result<Self, TlsError> {
        let verification = match ca_file {
            Some(file) => UpstreamVerification::Authority(file.to_owned()),
            None => UpstreamVerification::System,
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        match family {
            Family::Any => {}
            Family::Ipv4 => connector.set_local_address(Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
            Family::Ipv6 => connector.set_local_address(Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED))),
        }
        let tls = Arc::unwrap_or_clone(tls::client_config(&verification)?);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(HttpsConnector::from((connector, tls)));
        Ok(Self { client })
    }

    /// Sends one request and reads all of its answer.
    pub async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError> {
        request.headers_mut().entry(USER_AGENT).or_insert(OUR_NAME);
        let exchange = async {
            let (head, body) = self.client.request(request).await.map_err(|error| no_answer(&error))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { HttpError::TooLarge } else { HttpError::Broken(root(&*error)) }
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or(Err(HttpError::Timeout))
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

fn no_answer(error: &hyper_util::client::legacy::Error) -> HttpError {
    if error.is_connect() { HttpError::Connect(root(error)) } else { HttpError::Broken(root(error)) }
}

/// What lies at the bottom of an error: the words of the system or of the TLS library, which name no URL.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut bottom = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    match bottom.downcast_ref::<io::Error>() {
        // rustls has a link to its manual here, which is for programmers.
        Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => "the server has hung up".to_owned(),
        _ => bottom.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with `answer`, byte for byte.
    async fn server(answer: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 4096]).await;
            let _ = socket.write_all(&answer).await;
        });
        address
    }

    async fn get(url: String) -> Result<Response<Bytes>, HttpError> {
        tls::install_provider();
        let client = HttpClient::new(None, Family::Any).unwrap();
        client.send(Request::get(url).body(Full::default()).unwrap()).await
    }

    #[tokio::test]
    async fn an_answer_is_read_whole() {
        let address = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK".to_vec()).await;
        assert_eq!(get(format!("http://{address}/")).await.unwrap().body(), "OK");
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut() {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(2 * MAX_ANSWER, b'x');
        let address = server(answer).await;
        assert!(matches!(get(format!("http://{address}/")).await, Err(HttpError::TooLarge)));
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_like_any_other() {
        let answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let address = server(answer.to_vec()).await;
        assert_eq!(get(format!("http://{address}/")).await.unwrap().status(), 302);
    }

    #[tokio::test]
    async fn errors_do_not_show_the_url() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = get(format!("http://{free}/update?token=hunter2")).await.unwrap_err();
        assert!(matches!(error, HttpError::Connect(_)) && !error.to_string().contains("hunter2"), "{error}");
        let address = server(b"nonsense\r\n\r\n".to_vec()).await;
        let error = get(format!("http://{address}/update?token=hunter2")).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken(_)) && !error.to_string().contains("hunter2"), "{error}");
    }
}
