//! What the gate knows of any other application: that 401 means a wrong `Authorization`.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, StatusCode};

use super::{Endpoint, Outcome, Presented, Question, Reach};
use crate::config::RequestClass;

/// Reads a request. Where a login is cannot be known, so everything may be reached.
pub fn classify<'a>(method: &Method, headers: &'a HeaderMap, is_upgrade: bool) -> Endpoint<'a> {
    let class = match *method {
        _ if is_upgrade => RequestClass::Websocket,
        // Most of them are files.
        Method::GET | Method::HEAD => RequestClass::Static,
        _ => RequestClass::Api,
    };
    let is_preflight = *method == Method::OPTIONS;
    let authorization = headers.get(AUTHORIZATION).filter(|_| !is_preflight).map(|value| value.as_bytes());
    let presented = Presented { authorization, ..Presented::default() };
    let question = presented.kind().map_or(Question::Nothing, Question::Access);
    Endpoint { class, reach: Reach::Login, question, presented, flow_id: None }
}

/// Judges an answer by its status alone. A success proves nothing: the answer may be the same for everybody.
pub fn judge(question: Question, status: StatusCode) -> Outcome {
    match question {
        Question::Access(kind) if status == StatusCode::UNAUTHORIZED => Outcome::Failed(kind),
        _ => Outcome::Harmless,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::app::AttemptKind;

    #[test]
    fn a_401_to_a_credential_is_a_wrong_guess_and_to_none_it_is_a_question() {
        let with = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Basic b3duZXI6bm8="))]);
        let without = HeaderMap::new();
        for (method, headers, status, expected) in [
            (Method::GET, &with, 401, Outcome::Failed(AttemptKind::Basic)),
            (Method::GET, &with, 403, Outcome::Harmless),
            (Method::GET, &with, 200, Outcome::Harmless),
            (Method::OPTIONS, &with, 401, Outcome::Harmless),
            (Method::GET, &without, 401, Outcome::Harmless),
        ] {
            let endpoint = classify(&method, headers, false);
            let outcome = judge(endpoint.question(), StatusCode::from_u16(status).unwrap());
            assert_eq!(outcome, expected, "{method} {status}");
        }
    }

    #[test]
    fn requests_are_limited_by_what_they_do() {
        let class = |method: Method, is_upgrade| classify(&method, &HeaderMap::new(), is_upgrade).class();
        assert_eq!(class(Method::GET, true), RequestClass::Websocket);
        assert_eq!(class(Method::GET, false), RequestClass::Static);
        assert_eq!(class(Method::POST, false), RequestClass::Api);
    }
}
