//! Every answer that the gate itself gives: short, helpful to a person, silent about the inside.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use serde_json::json;

use crate::denial::Denial;
use crate::guard::Refusal;

/// An answer of the gate's own.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub status: StatusCode,
    /// One sentence for whoever reads it.
    pub message: &'static str,
    /// Seconds after which it may be worth trying again.
    pub retry_after: Option<u32>,
    /// For programs, in the words of RFC 6749 section 5.2: Home Assistant's apps and frontend know by
    /// `invalid_grant` alone that they are signed out, and show their login.
    pub error: Option<&'static str>,
}

impl Answer {
    /// What a refused client is told.
    pub fn to_denied(denial: Denial) -> Self {
        let status = denial.status().unwrap_or(StatusCode::BAD_REQUEST);
        let message = match denial {
            Denial::Method => "This method is not allowed here.",
            Denial::SlowHead | Denial::SlowBody => "The request took too long to arrive.",
            Denial::BodySize => "The request body is larger than this server allows.",
            Denial::UriLength => "The address of the request is too long.",
            Denial::HeadSize | Denial::HeaderCount => "The header fields of the request are too large or too many.",
            Denial::Misdirected => "This connection is not for that host name.",
            Denial::Version => "This version of HTTP is not supported.",
            Denial::Connections | Denial::ConnectionsPerClient => "Too many connections. Please try again shortly.",
            Denial::Requests | Denial::RequestsPerClient | Denial::MadeRoom => {
                "Too many requests at once. Please try again shortly."
            }
            Denial::Banned => "Access from your address is suspended for a while.",
            Denial::RateLimit => "Too many requests. Please try again shortly.",
            Denial::LoginThrottle | Denial::AccountThrottle => "Too many failed logins. Please try again later.",
            Denial::StaleCredential | Denial::StaleGrant | Denial::Unproven => "Please log in.",
            Denial::NotPublic | Denial::OddPath => "There is nothing here.",
            Denial::Onboarding => "Home Assistant is set up from within the home network only.",
            Denial::LoginBody => "This is not a login that Home Assistant understands.",
            Denial::Unprovable => "The home server cannot be reached. It may be restarting.",
            _ => "The request could not be understood.",
        };
        let busy = status == StatusCode::SERVICE_UNAVAILABLE;
        let error = (denial == Denial::StaleGrant).then_some("invalid_grant");
        Self { status, message, retry_after: busy.then_some(5), error }
    }

    /// What a client is told whom the guard refuses.
    pub fn to_refused(refusal: Refusal) -> Self {
        // Rounded up: who comes back to the second must find it over.
        let wait = refusal.retry_after.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        let answer = Self::to_denied(refusal.denial);
        let retry_after = wait.and_then(|seconds| u32::try_from(seconds.max(1)).ok()).or(answer.retry_after);
        Self { retry_after, ..answer }
    }

    /// The same where tokens are asked for: the frontend takes 403 there for the end of its session, and forgets it.
    pub fn to_refused_token(refusal: Refusal) -> Self {
        let answer = Self::to_refused(refusal);
        match refusal.denial {
            Denial::Banned => Self { status: StatusCode::TOO_MANY_REQUESTS, ..answer },
            _ => answer,
        }
    }

    /// What a client is told while Home Assistant refuses the gate; the operator reads the remedy in the log.
    pub fn distrusted() -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            message: "Home Assistant does not accept this gate yet. Its log says how to introduce them.",
            retry_after: Some(10),
            error: None,
        }
    }
}

/// In which form the client wants to read an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Html,
    Json,
    Text,
}

/// Browsers get a page, programs JSON, everyone else plain text.
pub fn form_for(path: &str, headers: &HeaderMap) -> Form {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_api = path.starts_with("/api/") || path.starts_with("/auth/");
    if accept.contains("text/html") {
        Form::Html
    } else if is_api || accept.contains("json") {
        Form::Json
    } else {
        Form::Text
    }
}

/// Writes `answer` to the client.
///
/// An HTTP/1 connection on which an unread request body is still to come is closed behind it: reading a body only to
/// throw it away would be a service to attackers.
pub async fn write(session: &mut Session, answer: &Answer) -> pingora::Result<()> {
    let request = session.req_header();
    let form = form_for(request.uri.path(), &request.headers);
    let head_only = request.method == Method::HEAD;
    let (content_type, body) = body(answer, form);
    let mut response = ResponseHeader::build(answer.status, Some(8))?;
    response.insert_header(header::CONTENT_TYPE, content_type)?;
    response.insert_header(header::CONTENT_LENGTH, body.len())?;
    response.insert_header(header::CACHE_CONTROL, "no-store")?;
    response.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
    if form == Form::Html {
        response.insert_header(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)?;
    }
    if let Some(seconds) = answer.retry_after {
        response.insert_header(header::RETRY_AFTER, seconds)?;
    }
    if answer.status == StatusCode::METHOD_NOT_ALLOWED {
        response.insert_header(header::ALLOW, ALLOW)?;
    }
    if !session.as_mut().is_body_done() {
        session.set_keepalive(None);
    }
    session.write_response_header(Box::new(response), head_only).await?;
    if !head_only {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// The bytes of a refusal for a client whose request could not be read; the connection ends behind it.
pub fn raw_denial(denial: Denial) -> Vec<u8> {
    let answer = Answer::to_denied(denial);
    let mut fields = String::new();
    if let Some(seconds) = answer.retry_after {
        fields = format!("Retry-After: {seconds}\r\n");
    }
    if answer.status == StatusCode::METHOD_NOT_ALLOWED {
        fields = format!("Allow: {ALLOW}\r\n");
    }
    raw(answer.status, "text/plain; charset=utf-8", &fields, &format!("{}\n", answer.message))
}

/// The bytes of a redirect to https. 308 keeps the method, so that an app's POST does not become a GET.
pub fn raw_redirect(host: &str, port: u16, target: &str) -> Vec<u8> {
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let path = if target.starts_with('/') { target } else { "/" };
    let location = format!("Location: https://{host}{port}{path}\r\n");
    raw(StatusCode::PERMANENT_REDIRECT, "text/plain; charset=utf-8", &location, "")
}

/// The bytes of an answer to an authority's challenge (RFC 8555, section 8.3).
pub fn raw_challenge(key_authorization: &str) -> Vec<u8> {
    raw(StatusCode::OK, "application/octet-stream", "", key_authorization)
}

fn raw(status: StatusCode, content_type: &str, fields: &str, body: &str) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let length = body.len();
    format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{fields}Connection: close\r\n\r\n{body}",
        status.as_str(),
    )
    .into_bytes()
}

const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

fn body(answer: &Answer, form: Form) -> (&'static str, Bytes) {
    match form {
        Form::Html => ("text/html; charset=utf-8", page(answer).into()),
        Form::Json => match answer.error {
            Some(error) => ("application/json", json!({ "error": error }).to_string().into()),
            None => ("application/json", json!({ "message": answer.message }).to_string().into()),
        },
        Form::Text => ("text/plain; charset=utf-8", format!("{}\n", answer.message).into()),
    }
}

/// A page that stands alone: no script, no external asset, light and dark, and it tries again by itself if that may
/// help. Nothing in it comes from the request.
fn page(answer: &Answer) -> String {
    let reason = answer.status.canonical_reason().unwrap_or_default();
    let (refresh, again) = match answer.retry_after {
        Some(seconds) => (
            format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"),
            "<p class=\"again\">This page tries again by itself.</p>",
        ),
        None => (String::new(), ""),
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">{refresh}\
         <title>{code} {reason}</title><style>{STYLE}</style></head>\
         <body><main><p class=\"code\">{code}</p><h1>{message}</h1>{again}</main></body></html>",
        code = answer.status.as_str(),
        message = answer.message,
    )
}

const STYLE: &str = ":root{color-scheme:light dark}body{margin:0;min-height:100vh;display:grid;place-items:center;\
    font:1.05rem/1.5 system-ui,sans-serif;background:light-dark(#f6f5f2,#17181c);color:light-dark(#23242a,#e8e6e1)}\
    main{max-width:30rem;padding:2rem;text-align:center}.code{margin:0;font-size:.95rem;letter-spacing:.15em;\
    opacity:.6}h1{font-size:1.35rem;font-weight:600;margin:.5rem 0 1rem}.again{opacity:.7;font-size:.95rem}";

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, http::HeaderValue::from_static(value))])
    }

    #[test]
    fn browsers_get_pages_and_programs_json() {
        assert_eq!(form_for("/lovelace", &accept("text/html,application/xhtml+xml,*/*;q=0.8")), Form::Html);
        assert_eq!(form_for("/api/states", &accept("*/*")), Form::Json);
        assert_eq!(form_for("/x", &accept("application/json")), Form::Json);
        assert_eq!(form_for("/x", &accept("*/*")), Form::Text);
        assert_eq!(form_for("/x", &HeaderMap::new()), Form::Text);
    }

    #[test]
    fn no_refusal_ends_a_session_that_may_be_good() {
        let told = |denial: Denial| {
            let answer = Answer::to_refused_token(denial.into());
            (answer.status.as_u16(), String::from_utf8(body(&answer, Form::Json).1.to_vec()).unwrap())
        };
        assert_eq!(told(Denial::StaleGrant), (400, r#"{"error":"invalid_grant"}"#.to_owned()));
        for denial in [Denial::Banned, Denial::RateLimit, Denial::LoginThrottle] {
            assert_eq!(told(denial).0, 429, "{denial:?}");
        }
    }

    #[test]
    fn a_redirect_keeps_path_and_query_and_names_an_unusual_port() {
        let redirect = |port, target| String::from_utf8(raw_redirect("ha.test", port, target)).unwrap();
        assert!(redirect(443, "/a?b=c").contains("\r\nLocation: https://ha.test/a?b=c\r\n"));
        assert!(redirect(8443, "/").contains("\r\nLocation: https://ha.test:8443/\r\n"));
        assert!(redirect(443, "http://evil.test/").contains("\r\nLocation: https://ha.test/\r\n"));
    }

    #[test]
    fn every_denial_with_a_status_can_be_written() {
        for denial in Denial::ALL {
            let Some(status) = denial.status() else { continue };
            let bytes = String::from_utf8(raw_denial(denial)).unwrap();
            assert!(bytes.starts_with(&format!("HTTP/1.1 {} ", status.as_str())), "{bytes}");
            assert!(bytes.contains("\r\nConnection: close\r\n"));
        }
    }
}
