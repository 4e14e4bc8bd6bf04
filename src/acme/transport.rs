//! Carries the ACME library's requests over the gate's own HTTP client.
//!
//! Three things are mended on the way. The library forgets the fields of an answer that is a problem, so the last
//! `Retry-After` is kept here. And an error that is not a problem document, such as a page of a proxy in between, would be
//! reported as broken JSON. And a `Retry-After` beyond all measure, with which the library would calculate into a panic, is
//! kept from it.

use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use httpdate::HttpDate;
use instant_acme::{BodyWrapper, BytesResponse, Error, Problem};
use parking_lot::Mutex;

use super::problem;
use super::schedule::LONGEST_WAIT;
use crate::http_client::HttpClient;

/// One conversation with an authority; cheap to clone, clones share what was heard last.
#[derive(Debug, Clone)]
pub struct Transport {
    client: HttpClient,
    retry_after: Arc<Mutex<Option<SystemTime>>>,
}

/// An error without a problem document.
#[derive(Debug, thiserror::Error)]
#[error("the authority answers {status} without a word of ACME")]
pub struct UnexpectedAnswer {
    pub status: StatusCode,
}

impl Transport {
    pub fn new(client: HttpClient) -> Self {
        Self { client, retry_after: Arc::default() }
    }

    /// What the last answer said of when to come back.
    pub fn retry_after(&self) -> Option<SystemTime> {
        *self.retry_after.lock()
    }

    async fn exchange(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await;
        let is_get = head.method == Method::GET;
        let request = Request::from_parts(head, Full::new(body.to_bytes()));
        *self.retry_after.lock() = None;
        let mut answer = self.client.send(request).await.map_err(|error| Error::Other(Box::new(error)))?;
        *self.retry_after.lock() = hear(answer.headers_mut(), SystemTime::now());
        judge(answer, is_get)
    }
}

impl instant_acme::HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().exchange(request))
    }
}

/// Repeats a request as long as the authority does not like its nonce (RFC 8555, section 6.5). The library does so twice;
/// an authority behind several machines may need more.
macro_rules! persistent {
    ($request:expr) => {{
        let mut left = crate::acme::transport::NONCES;
        loop {
            match $request.await {
                Err(error) if left > 0 && crate::acme::transport::is_bad_nonce(&error) => left -= 1,
                answered => break answered,
            }
        }
    }};
}
pub(super) use persistent;

/// Whether nothing has happened but that a nonce was refused.
pub fn is_bad_nonce(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem::kind(problem) == "badNonce")
}

/// The answer as the library can read it.
fn judge(answer: Response<Bytes>, is_get: bool) -> Result<BytesResponse, Error> {
    let (mut head, body) = answer.into_parts();
    if head.status.is_client_error() || head.status.is_server_error() {
        let problem = serde_json::from_slice::<Problem>(&body);
        let problem = problem.ok().filter(|problem| problem.r#type.is_some() || problem.detail.is_some());
        match problem {
            None => return Err(Error::Other(Box::new(UnexpectedAnswer { status: head.status }))),
            // A directory or a window is parsed whatever the status is.
            Some(problem) if is_get => return Err(Error::Api(problem)),
            Some(_) => {}
        }
    }
    if is_get && !head.headers.contains_key(RETRY_AFTER) {
        // The library insists on one with a window (RFC 9773, section 4.3, says SHOULD).
        head.headers.insert(RETRY_AFTER, HeaderValue::from_static(DEFAULT_POLL_SECONDS));
    }
    Ok(BytesResponse { parts: head, body: Box::new(body) })
}

/// What the answer says of when to come back. The library shall see it only if it is within reason.
fn hear(fields: &mut HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let said = retry_after(fields, now);
    if said.is_none_or(|at| at.duration_since(now).is_ok_and(|wait| wait > LONGEST_WAIT)) {
        fields.remove(RETRY_AFTER);
    }
    said
}

/// Seconds or a date (RFC 9110, section 10.2.3).
fn retry_after(fields: &HeaderMap, now: SystemTime) -> Option<SystemTime> {
    let text = fields.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds)),
        Err(_) => HttpDate::from_str(text).ok().map(SystemTime::from),
    }
}

/// How often a request is repeated; each time, the library tries three nonces.
pub(super) const NONCES: u32 = 5;

/// Six hours (RFC 9773, section 4.3.3).
const DEFAULT_POLL_SECONDS: &str = "21600";

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Response<Bytes> {
        Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    #[test]
    fn an_error_that_is_no_problem_document_is_told_by_its_status() {
        let page = "<html>Bad Gateway</html>";
        for (status, body, is_get) in [(502, page, false), (404, page, true), (500, "{}", false), (400, "", false)] {
            let error = judge(answer(status, body), is_get).err().unwrap();
            let Error::Other(other) = error else { panic!("{error}") };
            assert_eq!(other.downcast_ref::<UnexpectedAnswer>().unwrap().status.as_u16(), status);
        }
    }

    #[test]
    fn a_problem_reaches_the_library() {
        let problem = r#"{"type": "urn:ietf:params:acme:error:badNonce", "detail": "x"}"#;
        assert_eq!(judge(answer(400, problem), false).unwrap().parts.status, 400);
        assert!(matches!(judge(answer(503, problem), true), Err(Error::Api(_))));
    }

    #[test]
    fn a_window_without_a_hint_is_asked_for_again_in_six_hours() {
        let answered = judge(answer(200, "{}"), true).unwrap();
        assert_eq!(answered.parts.headers[RETRY_AFTER], "21600");
        assert!(!judge(answer(200, "{}"), false).unwrap().parts.headers.contains_key(RETRY_AFTER));
    }

    #[test]
    fn the_library_sees_no_retry_after_beyond_reason() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (text, is_seen) in [
            ("604800", true),
            ("604801", false),
            ("18446744073709551615", false),
            ("soon", false),
            ("Thu, 01 Jan 1970 00:00:00 GMT", true),
            ("Fri, 31 Dec 9999 23:59:59 GMT", false),
        ] {
            let mut fields: HeaderMap = [(RETRY_AFTER, HeaderValue::from_str(text).unwrap())].into_iter().collect();
            let said = retry_after(&fields, now);
            assert_eq!((hear(&mut fields, now), fields.contains_key(RETRY_AFTER)), (said, is_seen), "{text}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (text, expected) in [
            ("120", Some(1120)),
            (" 5 ", Some(1005)),
            ("Thu, 01 Jan 1970 01:00:00 GMT", Some(3600)),
            ("soon", None),
            ("18446744073709551615", None),
        ] {
            let fields: HeaderMap = [(RETRY_AFTER, HeaderValue::from_str(text).unwrap())].into_iter().collect();
            let expected = expected.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(retry_after(&fields, now), expected, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
