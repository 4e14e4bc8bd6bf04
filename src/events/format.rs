//! A message as the request that a destination understands.

use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::json;

use super::event::Urgency;
use super::message::{Message, Told};
use crate::config::{EventDestination, EventFormat};

/// The request that brings `message`.
///
/// # Errors
///
/// If the URL or the token cannot be sent, which the configuration has seen to.
pub fn request(destination: &EventDestination, message: &Message) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(destination.url.expose())
        .header(header::USER_AGENT, concat!("hearthgate/", env!("CARGO_PKG_VERSION")));
    if let Some(token) = &destination.token {
        let mut field = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
        field.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, field);
    }
    let events: Vec<&Told> = message.events.iter().map(AsRef::as_ref).collect();
    match destination.format {
        EventFormat::HomeAssistant => {
            let body = json!({
                "title": message.title,
                "message": message.text,
                "kind": message.kind,
                "urgency": urgency(message.urgency),
                "events": events,
                "omitted": message.omitted,
            });
            request.header(header::CONTENT_TYPE, JSON).body(Full::from(body.to_string()))
        }
        EventFormat::Json => {
            let body = json!({"events": events, "omitted": message.omitted});
            request.header(header::CONTENT_TYPE, JSON).body(Full::from(body.to_string()))
        }
        EventFormat::Ntfy => request
            .header("title", field(&message.title))
            .header("priority", priority(message.urgency))
            .header("tags", message.tag)
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Full::from(message.text.clone())),
    }
}

fn urgency(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Low => "low",
        Urgency::Normal => "normal",
        Urgency::High => "high",
    }
}

/// ntfy's numbers, from 1 to 5.
fn priority(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Low => "2",
        Urgency::Normal => "3",
        Urgency::High => "4",
    }
}

/// What a field cannot hold becomes a question mark.
fn field(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

const JSON: &str = "application/json";
