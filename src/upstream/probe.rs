//! A look at an upstream's health that leaves no trace in its logs.

use std::time::Duration;

use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::Upstream;
use super::health::{Condition, Trouble};
use crate::config::App;

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

    async fn manifest(
        &self,
        io: crate::websocket::handover::Io,
        forwarded_for: Option<String>,
    ) -> Result<StatusCode, Trouble> {
        let exchange = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
            let mut request = Request::get("/manifest.json")
                .header(header::HOST, self.authority())
                .header(header::USER_AGENT, concat!("hearthgate/", env!("CARGO_PKG_VERSION")))
                .header(header::CONNECTION, "close");
            if let Some(client) = forwarded_for {
                request = request.header("x-forwarded-for", client).header("x-forwarded-proto", "https");
            }
            let request = request.body(Empty::<Bytes>::new()).expect("these fields are valid");
            let answer = sender.send_request(request);
            let (answer, _) = tokio::join!(answer, connection);
            answer.map(|answer| answer.status())
        };
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answer) => answer.map_err(|_| Trouble::Broken),
            Err(_) => Err(Trouble::Silent),
        }
    }
}
