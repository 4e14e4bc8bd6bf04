//! The failure table, row by row, as captured from both releases.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

const FLOW: &str = "7f0838b7ff6c3ea51b228994c88c3081";

/// A form as it is sent, with everything in it that is not looked at.
fn form(step: &str, errors: &str) -> String {
    let field = if step == "mfa" { "code" } else { "password" };
    format!(
        r#"{{"type":"form","flow_id":"{FLOW}","handler":["homeassistant",null],"data_schema":[{{"type":"string","name":"{field}","required":true}}],"errors":{errors},"description_placeholders":null,"last_step":null,"preview":null,"step_id":"{step}"}}"#
    )
}

fn aborted(reason: &str) -> String {
    format!(
        r#"{{"type":"abort","flow_id":"{FLOW}","handler":["homeassistant",null],"reason":"{reason}","description_placeholders":null}}"#
    )
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn advanced(stage: Stage) -> Outcome {
    Outcome::Advanced(Flow { id: secret(FLOW), stage })
}

#[track_caller]
fn check(question: Question, table: &[(&str, u16, &str, Outcome)]) {
    for (row, status, body, expected) in table {
        let outcome = judge(question, StatusCode::from_u16(*status).unwrap(), Some(body.as_bytes()));
        assert_eq!(outcome, *expected, "row {row}: {status} {body}");
    }
}

#[test]
fn a_login_step_is_judged_by_its_answer() {
    let entry = format!(
        r#"{{"type":"create_entry","flow_id":"{FLOW}","handler":["homeassistant",null],"description":null,"description_placeholders":null,"result":"de5a10f8733e41b5b711b5c2a2b2282d"}}"#
    );
    let code = secret("de5a10f8733e41b5b711b5c2a2b2282d");
    check(
        Question::LoginStep,
        &[
            // Row 2, an unknown user, is the same to the byte.
            ("1, 2", 200, &form("init", r#"{"base":"invalid_auth"}"#), Outcome::Failed(AttemptKind::Password)),
            ("3", 200, &form("mfa", r#"{"base":"invalid_code"}"#), Outcome::Failed(AttemptKind::SecondFactor)),
            ("4", 200, &aborted("too_many_retry"), Outcome::Failed(AttemptKind::SecondFactor)),
            ("5", 200, &aborted("login_expired"), Outcome::Harmless),
            ("6", 200, &form("mfa", "{}"), advanced(Stage::SecondFactor)),
            ("6, several modules", 200, &form("select_mfa_module", "{}"), advanced(Stage::ModuleChoice)),
            (
                "6, a module that is not there",
                200,
                &form("select_mfa_module", r#"{"base":"invalid_auth_module"}"#),
                advanced(Stage::ModuleChoice),
            ),
            ("7", 200, &entry, Outcome::Succeeded(Proof::Login { code })),
            ("8", 404, r#"{"message":"Invalid flow specified"}"#, Outcome::Failed(AttemptKind::LoginFlow)),
            ("9", 400, r#"{"message":"IP address changed"}"#, Outcome::Harmless),
            ("10", 400, r#"{"message":"User input malformed"}"#, Outcome::Harmless),
            (
                "11",
                400,
                r#"{"message":"Message format incorrect: required key not provided @ data['client_id']"}"#,
                Outcome::Harmless,
            ),
            (
                "11 of 2026",
                400,
                r#"{"message":"Message format incorrect: required key not provided at 'client_id'"}"#,
                Outcome::Harmless,
            ),
            ("11, no JSON", 400, r#"{"message":"Invalid JSON."}"#, Outcome::Harmless),
            ("12", 400, r#"{"message":"Invalid client id"}"#, Outcome::Harmless),
            ("13 of 2026", 404, r#"{"message":"Invalid handler specified"}"#, Outcome::Harmless),
            ("14", 403, r#"{"message":"Invalid redirect URI"}"#, Outcome::Harmless),
            ("15", 403, r#"{"message":"Login blocked: User cannot authenticate remotely"}"#, Outcome::Harmless),
            ("31", 403, "403: Forbidden", Outcome::Harmless),
            ("2026", 409, r#"{"message":"Flow request already in progress"}"#, Outcome::Harmless),
            ("2026", 413, "Maximum request body size 65536 exceeded.", Outcome::Harmless),
            ("trouble", 500, "500 Internal Server Error", Outcome::Harmless),
            ("trouble", 502, "", Outcome::Harmless),
            ("our own", 429, "", Outcome::Harmless),
            ("another provider's error", 200, &form("init", r#"{"code":"x"}"#), Outcome::Failed(AttemptKind::Password)),
            ("odd errors", 200, &form("mfa", r#"["x"]"#), Outcome::Failed(AttemptKind::SecondFactor)),
            ("another reason", 200, &aborted("reauth_successful"), Outcome::Unknown),
            ("no JSON", 200, "<html>", Outcome::Unknown),
            ("no flow", 200, r#"{"message":"Flow aborted"}"#, Outcome::Unknown),
            ("no code", 200, r#"{"type":"create_entry"}"#, Outcome::Unknown),
            ("another kind", 200, r#"{"type":"external"}"#, Outcome::Unknown),
            ("empty", 204, "", Outcome::Unknown),
        ],
    );
}

#[test]
fn a_login_start_is_no_guess() {
    check(
        Question::LoginStart,
        &[
            ("14 at the start", 200, &form("init", "{}"), advanced(Stage::Start)),
            ("null", 200, &form("init", "null"), advanced(Stage::Start)),
            ("12", 400, r#"{"message":"Invalid client id"}"#, Outcome::Harmless),
            ("13", 500, "500 Internal Server Error", Outcome::Harmless),
            ("13 of 2026", 404, r#"{"message":"Invalid handler specified"}"#, Outcome::Harmless),
            ("trusted_networks from elsewhere", 200, &aborted("not_allowed"), Outcome::Harmless),
            (
                "trusted_networks with one user",
                200,
                r#"{"type":"create_entry","flow_id":"f","result":"c"}"#,
                Outcome::Succeeded(Proof::Login { code: secret("c") }),
            ),
            ("no JSON", 200, "", Outcome::Unknown),
        ],
    );
}

#[test]
fn an_exchange_is_judged_by_status_and_error() {
    let tokens = |refresh: Option<&str>| {
        Outcome::Succeeded(Proof::Token(Tokens {
            access: secret("eyJ.a.b"),
            refresh: refresh.map(secret),
            expires_in: Duration::from_secs(1800),
        }))
    };
    let failed = || Outcome::Failed(AttemptKind::Token);
    check(
        Question::Token,
        &[
            (
                "a code",
                200,
                r#"{"access_token":"eyJ.a.b","token_type":"Bearer","refresh_token":"0f","expires_in":1800,"ha_auth_provider":"homeassistant"}"#,
                tokens(Some("0f")),
            ),
            ("a refresh", 200, r#"{"access_token":"eyJ.a.b","token_type":"Bearer","expires_in":1800}"#, tokens(None)),
            ("16", 400, r#"{"error":"invalid_request","error_description":"Invalid code"}"#, failed()),
            (
                "16 of 2026",
                400,
                r#"{"error":"invalid_request","error_description":"Code verifier required"}"#,
                failed(),
            ),
            ("16 of 2026", 400, r#"{"error":"invalid_grant","error_description":"Invalid code verifier"}"#, failed()),
            ("17", 400, r#"{"error":"invalid_grant"}"#, failed()),
            ("18", 400, r#"{"error":"invalid_request"}"#, failed()),
            ("18", 400, r#"{"error":"unsupported_grant_type"}"#, failed()),
            (
                "15",
                403,
                r#"{"error":"access_denied","error_description":"User cannot authenticate remotely"}"#,
                Outcome::Harmless,
            ),
            ("27", 200, "", Outcome::Harmless),
            ("31", 403, "403: Forbidden", Outcome::Harmless),
            ("distrust of the proxy", 400, "400: Bad Request", Outcome::Harmless),
            ("2026", 413, "Maximum request body size 65536 exceeded.", Outcome::Harmless),
            ("trouble", 500, "500 Internal Server Error", Outcome::Harmless),
            ("no token", 200, r#"{"token_type":"Bearer"}"#, Outcome::Unknown),
            ("no JSON", 200, "<html>", Outcome::Unknown),
        ],
    );
    check(Question::Revocation, &[("27", 200, "", Outcome::Harmless)]);
}

#[test]
fn credentials_in_a_head_are_judged_by_status() {
    let unauthorized = "401: Unauthorized";
    for kind in [AttemptKind::Bearer, AttemptKind::Basic, AttemptKind::SignedPath] {
        check(
            Question::Access(kind),
            &[
                // Row 20 looks the same: the valid token of somebody who is no administrator.
                ("19, 22", 401, unauthorized, Outcome::Failed(kind)),
                ("30", 404, "404: Not Found", Outcome::Harmless),
                ("29", 405, "405: Method Not Allowed", Outcome::Harmless),
                ("31", 403, "403: Forbidden", Outcome::Harmless),
                ("fine", 200, "", Outcome::Harmless),
                ("part", 206, "", Outcome::Harmless),
            ],
        );
    }
    let kind = AttemptKind::Capability;
    check(
        Question::Access(kind),
        &[
            ("21", 403, "403: Forbidden", Outcome::Failed(kind)),
            ("30", 404, "404: Not Found", Outcome::Harmless),
            ("fine", 200, "", Outcome::Harmless),
        ],
    );
    check(
        Question::Nothing,
        &[
            ("19 without any", 401, unauthorized, Outcome::Harmless),
            ("21 without any", 403, "403: Forbidden", Outcome::Harmless),
            ("28", 200, "", Outcome::Harmless),
        ],
    );
    check(Question::WebSocket, &[("26", 101, "", Outcome::Harmless)]);
}

#[test]
fn the_api_root_tells_whether_a_token_is_a_sessions() {
    assert_eq!(judge_api_root(StatusCode::OK), Outcome::Succeeded(Proof::Session));
    assert_eq!(judge_api_root(StatusCode::UNAUTHORIZED), Outcome::Failed(AttemptKind::Bearer));
    assert_eq!(judge_api_root(StatusCode::BAD_GATEWAY), Outcome::Harmless);
}

#[test]
fn what_cannot_be_read_is_no_success_and_a_refusal_needs_no_body() {
    for (question, status, expected) in [
        (Question::LoginStep, 200, Outcome::Unknown),
        (Question::LoginStart, 200, Outcome::Unknown),
        (Question::Token, 200, Outcome::Unknown),
        (Question::Token, 400, Outcome::Unknown),
        (Question::LoginStep, 404, Outcome::Failed(AttemptKind::LoginFlow)),
        (Question::LoginStep, 400, Outcome::Harmless),
        (Question::Token, 500, Outcome::Harmless),
    ] {
        assert_eq!(judge(question, StatusCode::from_u16(status).unwrap(), None), expected, "{question:?} {status}");
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_are_unpacked_within_bounds() {
    let answer = form("init", r#"{"base":"invalid_auth"}"#).into_bytes();
    for (encoding, packed) in [
        (None, answer.clone()),
        (Some("identity"), answer.clone()),
        (Some("gzip"), gzip(&answer)),
        (Some(" GZIP "), gzip(&answer)),
        (Some("deflate"), zlib(&answer)),
    ] {
        assert_eq!(decode(encoding, &packed).as_ref(), Ok(&answer), "{encoding:?}");
    }
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
    raw.write_all(&answer).unwrap();
    let raw = raw.finish().unwrap();
    let cut = gzip(&answer)[..40].to_vec();
    for (encoding, packed) in [
        (Some("br"), answer.clone()),
        (Some("gzip, gzip"), gzip(&answer)),
        (Some("gzip"), answer.clone()),
        (Some("gzip"), cut),
        (Some("deflate"), raw),
        (Some("gzip"), gzip(&vec![b' '; ANSWER_LIMIT + 1])),
        (None, vec![b' '; ANSWER_LIMIT + 1]),
    ] {
        assert_eq!(decode(encoding, &packed), Err(Undecodable), "{encoding:?}");
    }
    assert_eq!(decode(Some("gzip"), &gzip(&vec![b' '; ANSWER_LIMIT])).map(|body| body.len()), Ok(ANSWER_LIMIT));
}

#[test]
fn an_outcome_does_not_print_what_it_proves() {
    let body = r#"{"access_token":"HUSH","refresh_token":"HUSH","expires_in":1800}"#;
    let outcome = judge(Question::Token, StatusCode::OK, Some(body.as_bytes()));
    assert!(matches!(outcome, Outcome::Succeeded(_)));
    assert!(!format!("{outcome:?}").contains("HUSH"));
}

proptest! {
    #[test]
    fn anything_is_survived(
        body in prop::collection::vec(any::<u8>(), 0..200),
        status in 100..600_u16,
        encoding in prop::sample::select(vec!["gzip", "deflate", "", "br"]),
    ) {
        let _ = decode(Some(encoding), &body);
        for question in [Question::LoginStart, Question::LoginStep, Question::Token] {
            let outcome = judge(question, StatusCode::from_u16(status).unwrap(), Some(&body));
            prop_assert!(!matches!(outcome, Outcome::Succeeded(_)));
        }
    }
}
