//! What can go wrong on the way to a certificate, each in a sentence that names what to do. Pure.
//!
//! The authority's own words are quoted, without control characters and not without end. Nothing here knows a secret.

use std::fmt;
use std::time::SystemTime;

use instant_acme::{Error, Identifier, Problem, Subproblem};

use super::transport::UnexpectedAnswer;
use crate::config::Challenge;
use crate::dns::DnsError;
use crate::http_client::HttpError;

/// How far an attempt came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Account,
    Order,
    /// Showing that a name is ours.
    Name {
        name: String,
        challenge: Option<Challenge>,
    },
    /// From the request to the chain.
    Issue,
    /// What was issued is not what was asked for.
    Check,
    /// Writing to the state directory.
    Save,
}

/// Why an attempt has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub step: Step,
    pub sentence: String,
    /// When the authority says that it may be asked again.
    pub retry_after: Option<SystemTime>,
    /// How often the authority found that one name is not ours: the most of all names.
    pub refused: usize,
    /// There is a certificate, and we cannot use it.
    pub is_issued: bool,
    /// The authority has made up its mind about this order: asking again is of no use.
    pub is_final: bool,
}

impl Failure {
    pub fn new(step: Step, sentence: impl Into<String>) -> Self {
        Self { step, sentence: sentence.into(), retry_after: None, refused: 0, is_issued: false, is_final: false }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("account"),
            Self::Order => f.write_str("order"),
            Self::Name { name, challenge: Some(challenge) } => write!(f, "{} for {name}", challenge.as_str()),
            Self::Name { name, challenge: None } => write!(f, "authorization of {name}"),
            Self::Issue => f.write_str("certificate"),
            Self::Check => f.write_str("check"),
            Self::Save => f.write_str("file"),
        }
    }
}

/// An error of the ACME library, `retry_after` being what its last answer said.
pub fn sentence(error: &Error, retry_after: Option<SystemTime>) -> String {
    match error {
        Error::Api(problem) => problem_sentence(problem, retry_after),
        Error::Timeout(_) => "the authority is still at work after our patience has ended".into(),
        Error::Json(_) => "the authority's answer is not ACME: is `acme.directory` the URL of a directory?".into(),
        Error::Other(other) => match other.downcast_ref::<HttpError>() {
            Some(error) => format!("the authority does not answer: {}", plain(&error.to_string())),
            None => match other.downcast_ref::<UnexpectedAnswer>() {
                Some(answer) => answer.to_string(),
                None => format!("the authority's answer is not understood: {}", plain(&other.to_string())),
            },
        },
        other => format!("the authority's answer is not understood: {}", plain(&other.to_string())),
    }
}

/// Whether the same request would be answered alike.
pub fn is_final(error: &Error) -> bool {
    let Error::Api(problem) = error else { return false };
    let is_busy = problem.status.is_some_and(|status| status == 429 || status >= 500);
    !is_busy && !matches!(kind(problem), "rateLimited" | "serverInternal" | "badNonce")
}

/// Whether nothing is known but that this request was not answered, so that it may be repeated.
pub fn is_passing(error: &Error) -> bool {
    match error {
        Error::Api(problem) => !is_final(error) && kind(problem) != "rateLimited" && problem.status != Some(429),
        Error::Other(other) => {
            let unexpected = other.downcast_ref::<UnexpectedAnswer>();
            unexpected.is_some_and(|answer| answer.status.is_server_error()) || other.is::<HttpError>()
        }
        _ => false,
    }
}

/// The last part of the problem's type (RFC 8555, section 6.7).
pub fn kind(problem: &Problem) -> &str {
    problem.r#type.as_deref().and_then(|kind| kind.strip_prefix(ACME_ERROR)).unwrap_or_default()
}

/// What the authority found when it looked for the answer to a challenge.
pub fn refusal(problem: Option<&Problem>, challenge: Challenge) -> String {
    let Some(problem) = problem else { return "the authority refuses the name and does not say why".into() };
    let words = words(problem);
    let hint = match (kind(problem), challenge) {
        ("connection" | "tls", Challenge::TlsAlpn01) => "; port 443 of the name must reach this gate",
        ("connection", Challenge::Http01) => "; port 80 of the name must reach this gate",
        ("unauthorized" | "incorrectResponse", Challenge::TlsAlpn01) => {
            "; something else answers on port 443 of the name"
        }
        ("unauthorized" | "incorrectResponse", Challenge::Http01) => "; something else answers on port 80 of the name",
        ("dns", Challenge::TlsAlpn01 | Challenge::Http01) => "; the name must have an address that leads here",
        ("caa", _) => "; a CAA record of the domain must allow this authority",
        _ => "",
    };
    format!("the authority says: {words}{hint}")
}

/// What went wrong before the authority was told to look.
pub fn dns(error: &DnsError) -> String {
    plain(&error.to_string())
}

fn problem_sentence(problem: &Problem, retry_after: Option<SystemTime>) -> String {
    let words = words(problem);
    let hint = match kind(problem) {
        "rateLimited" => {
            return match retry_after {
                Some(at) => format!("the authority takes no more orders until {}: {words}", date(at)),
                None => format!("the authority takes no more orders for a while: {words}"),
            };
        }
        "externalAccountRequired" => "; its operator gives out a key: set `acme.external_account`",
        "invalidContact" | "unsupportedContact" => "; correct `acme.email`",
        "userActionRequired" => "; its terms have changed, see there",
        "caa" => "; a CAA record of the domain must allow this authority",
        "rejectedIdentifier" | "unsupportedIdentifier" => "; it makes no certificate with this name",
        "invalidProfile" => "; correct `profile`",
        "serverInternal" => "; the fault is on its side",
        _ => "",
    };
    format!("the authority says: {words}{hint}")
}

/// The authority's words, and what it says of single names.
fn words(problem: &Problem) -> String {
    let mut text = detail(problem.detail.as_deref(), problem.r#type.as_deref());
    for subproblem in problem.subproblems.iter().take(MOST_SUBPROBLEMS) {
        text.push_str("; ");
        text.push_str(&named(subproblem));
    }
    text
}

fn named(subproblem: &Subproblem) -> String {
    let words = detail(subproblem.detail.as_deref(), subproblem.r#type.as_deref());
    match &subproblem.identifier {
        Some(Identifier::Dns(name)) => format!("{}: {words}", plain(name)),
        _ => words,
    }
}

fn detail(detail: Option<&str>, kind: Option<&str>) -> String {
    let kind = kind.map(|kind| kind.strip_prefix(ACME_ERROR).unwrap_or(kind));
    match (detail, kind) {
        (Some(detail), Some(kind)) => format!("{} ({})", plain(detail), plain(kind)),
        (Some(text), None) | (None, Some(text)) => plain(text),
        (None, None) => "nothing of use".into(),
    }
}

/// Text of others: one line, bounded, without a full stop at its end.
pub fn plain(text: &str) -> String {
    let one_line: String = text.chars().take(MOST_CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    one_line.trim().trim_end_matches('.').to_owned()
}

/// `2026-11-24T03:00:00Z`.
pub fn date(at: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(LAST_SECOND);
    humantime::format_rfc3339_seconds(at.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}

const ACME_ERROR: &str = "urn:ietf:params:acme:error:";
const MOST_CHARACTERS: usize = 600;
const MOST_SUBPROBLEMS: usize = 10;
/// 9999-12-31T23:59:59Z: nothing later can be printed.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn problem(kind: &str, detail: &str) -> Problem {
        let json = serde_json::json!({"type": format!("{ACME_ERROR}{kind}"), "detail": detail});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn each_problem_is_a_sentence_with_what_to_do() {
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_469_400);
        for (kind, detail, expected) in [
            (
                "rateLimited",
                "too many certificates (5) already issued.",
                "the authority takes no more orders until 2026-11-23T21:30:00Z: \
                 too many certificates (5) already issued (rateLimited)",
            ),
            (
                "externalAccountRequired",
                "EAB required",
                "the authority says: EAB required (externalAccountRequired); \
                 its operator gives out a key: set `acme.external_account`",
            ),
            (
                "rejectedIdentifier",
                "Domain is on the list",
                "the authority says: Domain is on the list (rejectedIdentifier); it makes no certificate with this name",
            ),
            ("malformed", "a\u{1b}[2Jb", "the authority says: a [2Jb (malformed)"),
        ] {
            assert_eq!(sentence(&Error::Api(problem(kind, detail)), Some(later)), expected);
        }
        let limited = sentence(&Error::Api(problem("rateLimited", "slow")), None);
        assert_eq!(limited, "the authority takes no more orders for a while: slow (rateLimited)");
    }

    #[test]
    fn names_are_told_apart() {
        let problem: Problem = serde_json::from_value(serde_json::json!({
            "type": "urn:ietf:params:acme:error:malformed",
            "detail": "Some of the identifiers requested were rejected",
            "subproblems": [
                {"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "not here",
                 "identifier": {"type": "dns", "value": "a.example.org"}},
                {"detail": "nor there"},
            ],
        }))
        .unwrap();
        assert_eq!(
            sentence(&Error::Api(problem), None),
            "the authority says: Some of the identifiers requested were rejected (malformed); \
             a.example.org: not here (rejectedIdentifier); nor there"
        );
    }

    #[test]
    fn a_refused_name_says_what_must_be_reachable() {
        let connection = problem("connection", "Timeout during connect");
        assert_eq!(
            refusal(Some(&connection), Challenge::TlsAlpn01),
            "the authority says: Timeout during connect (connection); port 443 of the name must reach this gate"
        );
        assert!(refusal(Some(&connection), Challenge::Http01).ends_with("port 80 of the name must reach this gate"));
        assert!(refusal(Some(&connection), Challenge::Dns01).ends_with("(connection)"));
        assert!(refusal(None, Challenge::Dns01).contains("does not say why"));
    }

    #[test]
    fn an_authority_that_is_not_there_is_no_riddle() {
        let gone = Error::Other(Box::new(HttpError::Connect("Connection refused (os error 111)".into())));
        assert_eq!(
            sentence(&gone, None),
            "the authority does not answer: cannot connect: Connection refused (os error 111)"
        );
        let page = Error::Other(Box::new(UnexpectedAnswer { status: http::StatusCode::BAD_GATEWAY }));
        assert_eq!(sentence(&page, None), "the authority answers 502 Bad Gateway without a word of ACME");
    }

    #[test]
    fn what_may_be_repeated_is_neither_final_nor_a_limit() {
        let with_status = |kind, status| Error::Api(Problem { status: Some(status), ..problem(kind, "x") });
        let page = |status| Error::Other(Box::new(UnexpectedAnswer { status }));
        for (error, is_final_one, is_passing_one) in [
            (with_status("malformed", 400), true, false),
            (with_status("unauthorized", 403), true, false),
            (with_status("rateLimited", 429), false, false),
            (with_status("", 429), false, false),
            (with_status("serverInternal", 500), false, true),
            (with_status("", 503), false, true),
            (Error::Api(problem("badNonce", "x")), false, true),
            (page(http::StatusCode::BAD_GATEWAY), false, true),
            (page(http::StatusCode::NOT_FOUND), false, false),
            (Error::Other(Box::new(HttpError::Connect("x".into()))), false, true),
            (Error::Str("order"), false, false),
        ] {
            assert_eq!((is_final(&error), is_passing(&error)), (is_final_one, is_passing_one), "{error:?}");
        }
    }

    #[test]
    fn an_endless_sentence_ends() {
        let endless = sentence(&Error::Api(problem("malformed", &"x".repeat(100_000))), None);
        assert!(endless.len() < 1000);
    }
}
