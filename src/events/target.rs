//! One destination with the client that speaks to it.

use http::StatusCode;

use super::backlog::Pace;
use super::format;
use super::message::Message;
use crate::config::EventDestination;
use crate::http_client::{Family, HttpClient};
use crate::tls;

/// A destination that messages can be sent to.
#[derive(Debug, Clone)]
pub struct Target {
    pub destination: EventDestination,
    client: HttpClient,
}

/// Why a message did not arrive. Shows neither URL nor token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Undelivered {
    why: String,
    /// It will be the same the next time.
    pub is_final: bool,
}

impl Target {
    /// Makes the clients of all destinations; those that trust the same share one. All errors at once, each a sentence.
    ///
    /// Reads files: not for an async thread.
    pub fn load(destinations: &[EventDestination]) -> Result<Vec<Self>, Vec<String>> {
        tls::install_provider();
        let (mut targets, mut errors) = (Vec::<Self>::new(), Vec::new());
        for destination in destinations {
            let like = targets.iter().find(|target| target.destination.ca_file == destination.ca_file);
            let client = match like {
                Some(target) => Ok(target.client.clone()),
                None => HttpClient::new(destination.ca_file.as_deref(), Family::Any),
            };
            match client {
                Ok(client) => targets.push(Self { destination: destination.clone(), client }),
                Err(error) => errors.push(format!("events.{}.ca_file: {error}", destination.name)),
            }
        }
        if errors.is_empty() { Ok(targets) } else { Err(errors) }
    }

    /// The name or address in its URL.
    pub fn host(&self) -> Option<String> {
        let uri: http::Uri = self.destination.url.expose().parse().ok()?;
        Some(uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase())
    }

    pub(super) fn pace(&self) -> Pace {
        Pace { batch: self.destination.batch, min_interval: self.destination.min_interval }
    }

    /// Tries once.
    ///
    /// # Errors
    ///
    /// If nobody answers, or the answer is no success.
    pub async fn deliver(&self, message: &Message) -> Result<StatusCode, Undelivered> {
        let request = format::request(&self.destination, message)
            .map_err(|_| Undelivered { why: "`url` or `token` cannot be sent".into(), is_final: true })?;
        let answer = self.client.send(request).await;
        let status = answer.map_err(|error| Undelivered { why: error.to_string(), is_final: false })?.status();
        match status {
            status if status.is_success() => Ok(status),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Err(refusal(status, false))
            }
            status => Err(refusal(status, !status.is_server_error())),
        }
    }
}

fn refusal(status: StatusCode, is_final: bool) -> Undelivered {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; check `token`",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "; check `url`",
        status if status.is_redirection() => "; redirects are not followed, write where it leads to",
        _ => "",
    };
    Undelivered { why: format!("answered {}{hint}", status.as_u16()), is_final }
}
