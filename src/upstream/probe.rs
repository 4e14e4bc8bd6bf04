//! A look at an upstream's health that leaves no trace in its logs.

use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::Upstream;
use super::health::{Condition, Trouble};
use crate::client::ClientAddr;
use crate::config::App;
use crate::websocket::handover::Io;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

impl Upstream {
    /// Connects; asks Home Assistant also for its manifest, which needs no login.
    ///
    /// Twice, if the first answer is 400: with and without `X-Forwarded-For`. A server that minds only the former
    /// does not trust this gate.
    pub(super) async fn probe(&self) -> Condition {
        let dialled = match self.dial().await {
            Ok(dialled) => dialled,
            Err(error) => return Condition::Trouble(error.trouble),
        };
        if self.app != App::HomeAssistant {
            return Condition::Healthy;
        }
        let gate = dialled.local;
        match self.manifest(dialled.io, Some(gate.to_string())).await {
            Err(trouble) => Condition::Trouble(trouble),
            Ok(StatusCode::BAD_REQUEST) => {
                let Ok(again) = self.dial().await else { return Condition::Healthy };
                match self.manifest(again.io, None).await {
                    Ok(StatusCode::BAD_REQUEST) | Err(_) => Condition::Healthy,
                    Ok(_) => Condition::Distrusts { gate },
                }
            }
            Ok(_) => Condition::Healthy,
        }
    }

    async fn manifest(&self, io: Io, forwarded_for: Option<String>) -> Result<StatusCode, Trouble> {
        let mut request = Request::get("/manifest.json").header(header::HOST, self.authority());
        if let Some(client) = forwarded_for {
            request = request.header("x-forwarded-for", client).header("x-forwarded-proto", "https");
        }
        status_of(io, request).await
    }

    /// Asks Home Assistant for `/api/` with a client's `Authorization` and on its behalf: the one view whose answer says
    /// whether a bearer is a session's, and nothing else.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub async fn ask_about(
        &self,
        authorization: &HeaderValue,
        client: ClientAddr,
        authority: &str,
    ) -> Result<StatusCode, Trouble> {
        let dialled = self.dial().await.map_err(|error| error.trouble)?;
        let request = Request::get("/api/")
            .header(header::HOST, authority)
            .header(header::AUTHORIZATION, authorization)
            .header("x-forwarded-for", client.to_string())
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", authority);
        status_of(dialled.io, request).await
    }
}

/// Sends a request as the only one on its connection, and reads the head of the answer.
async fn status_of(io: Io, request: http::request::Builder) -> Result<StatusCode, Trouble> {
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        let request = request
            .header(header::USER_AGENT, concat!("hearthgate/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .expect("these fields are valid");
        let answer = sender.send_request(request);
        let (answer, _) = tokio::join!(answer, connection);
        answer.map(|answer| answer.status())
    };
    match timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(answer) => answer.map_err(|_| Trouble::Broken),
        Err(_) => Err(Trouble::Silent),
    }
}
