//! What a client sends to a login: reads the bodies of `/auth/login_flow` and `/auth/login_flow/{id}`.
//!
//! Home Assistant reads JSON in UTF-8, whatever the body's type is said to be, and of a key that is there twice the
//! last value; so does this. What it would answer with 400 is [`Unreadable`]: the gate can refuse it itself.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::app::{AttemptKind, Credential};

/// The largest body of a login that is read; Home Assistant's own limit since 2026.11.
pub const BODY_LIMIT: usize = 64 * 1024;

/// No JSON object with a `client_id`, or too large to be any client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a login's body")]
pub struct Unreadable;

/// The beginning of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    pub client_id: String,
    /// The name of the authentication provider.
    pub handler: String,
    pub redirect_uri: String,
    /// It is no login but links an account to another provider (`type: link_user`), which ends on the password alone.
    pub links_user: bool,
}

/// One filled-in form of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// By which of its fields it is told; the answer says what was in fact asked.
    pub kind: AttemptKind,
    /// The name under which guesses of this account are counted, if the form names one.
    pub account: Option<Account>,
    pub credential: Credential,
}

/// An account's name, in a form in which all spellings are equal that Home Assistant takes for equal.
///
/// `Debug` hides it: people type their password into the field above.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Account(String);

impl Account {
    /// Trims and folds as Python does. Folding by way of both cases tells no two apart that `casefold` equates; where
    /// it equates more (a dotless i), two accounts share a count.
    pub fn new(name: &str) -> Self {
        let lower = name.trim_matches(is_python_space).chars().flat_map(char::to_lowercase);
        Self(lower.flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect())
    }

    /// Shows the name to the hash by which it is counted.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(***)")
    }
}

/// What `str.strip` takes away: four separators more than what Unicode calls white space.
fn is_python_space(sign: char) -> bool {
    sign.is_whitespace() || ('\x1c'..='\x1f').contains(&sign)
}

/// Reads the body that begins a login.
pub fn read_start(body: &[u8]) -> Result<Start, Unreadable> {
    let mut fields = object(body)?;
    let client_id = text(&mut fields, "client_id")?;
    let redirect_uri = text(&mut fields, "redirect_uri")?;
    let links_user = fields.remove("type").is_some_and(|kind| kind != *"authorize");
    // `["homeassistant", null]`: type and id.
    let handler = match fields.remove("handler") {
        Some(Value::Array(names)) => names.into_iter().next(),
        other => other,
    };
    match handler {
        Some(Value::String(handler)) => Ok(Start { client_id, handler, redirect_uri, links_user }),
        _ => Err(Unreadable),
    }
}

/// Reads the body of a step in the login `flow_id`.
///
/// All fields but `client_id` are the guess. A code is one together with its flow: the same digits later, or in
/// another login, may be right where they were wrong.
pub fn read_step(flow_id: &str, body: &[u8]) -> Result<Step, Unreadable> {
    let mut fields = object(body)?;
    text(&mut fields, "client_id")?;
    let kind = match (fields.contains_key("password"), fields.contains_key("code")) {
        (true, _) => AttemptKind::Password,
        (false, true) => AttemptKind::SecondFactor,
        (false, false) => AttemptKind::LoginFlow,
    };
    let account = ["username", "user"].iter().find_map(|field| fields.get(*field)?.as_str()).map(Account::new);
    let flow_id = (kind != AttemptKind::Password).then_some(flow_id.as_bytes());
    let guess = serde_json::to_vec(&fields).map_err(|_| Unreadable)?;
    let credential = Credential::new(kind.as_str()).with(flow_id).with(Some(&guess));
    Ok(Step { kind, account, credential })
}

/// The sorted fields. A later one of the same name replaces the earlier; forms are flat, so that lists and objects in
/// them are no deeper than the one list that a start has.
fn object(body: &[u8]) -> Result<BTreeMap<String, Value>, Unreadable> {
    let fields: BTreeMap<String, Value> =
        if body.len() > BODY_LIMIT { None } else { serde_json::from_slice(body).ok() }.ok_or(Unreadable)?;
    let is_flat = |value: &Value| match value {
        Value::Array(inner) => !inner.iter().any(|value| value.is_array() || value.is_object()),
        Value::Object(_) => false,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    };
    if fields.values().all(is_flat) { Ok(fields) } else { Err(Unreadable) }
}

fn text(fields: &mut BTreeMap<String, Value>, name: &str) -> Result<String, Unreadable> {
    match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOW: &str = "7f0838b7ff6c3ea51b228994c88c3081";

    fn step(body: &str) -> Step {
        read_step(FLOW, body.as_bytes()).unwrap()
    }

    #[test]
    fn a_start_names_client_provider_and_return() {
        let expected = Start {
            client_id: "http://ha/".to_owned(),
            handler: "homeassistant".to_owned(),
            redirect_uri: "http://ha/?auth_callback=1".to_owned(),
            links_user: false,
        };
        for handler in [r#"["homeassistant",null]"#, r#""homeassistant""#] {
            let body = format!(
                r#"{{"client_id":"http://ha/","handler":{handler},"redirect_uri":"http://ha/?auth_callback=1"}}"#
            );
            assert_eq!(read_start(body.as_bytes()), Ok(expected.clone()));
        }
    }

    #[test]
    fn a_step_is_told_by_its_fields() {
        for (body, kind, account) in [
            (r#"{"client_id":"c","username":"owner","password":"no"}"#, AttemptKind::Password, Some("owner")),
            (r#"{"client_id":"c","password":"no"}"#, AttemptKind::Password, None),
            (r#"{"client_id":"c","username":1,"password":"no"}"#, AttemptKind::Password, None),
            (r#"{"client_id":"c","code":"000000"}"#, AttemptKind::SecondFactor, None),
            (r#"{"client_id":"c","user":"2e4f"}"#, AttemptKind::LoginFlow, Some("2e4f")),
            (r#"{"client_id":"c","multi_factor_auth_module":"totp"}"#, AttemptKind::LoginFlow, None),
            (r#"{"client_id":"c"}"#, AttemptKind::LoginFlow, None),
        ] {
            let step = step(body);
            assert_eq!((step.kind, step.account.as_ref().map(Account::expose)), (kind, account), "{body}");
        }
    }

    #[test]
    fn what_home_assistant_answers_with_400_is_unreadable() {
        let deep = format!(r#"{{"client_id":"c","password":{}1{}}}"#, "[".repeat(9000), "]".repeat(9000));
        let large = format!(r#"{{"client_id":"c","password":"{}"}}"#, "x".repeat(BODY_LIMIT));
        let utf16: Vec<u8> = r#"{"client_id":"c"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let bodies: [&[u8]; 13] = [
            b"",
            b"null",
            b"[]",
            b"{",
            b"{}",
            b"\"client_id\"",
            br#"{"client_id":1}"#,
            br#"{"client_id":"c"} x"#,
            b"\xef\xbb\xbf{\"client_id\":\"c\"}",
            b"{\"client_id\":\"\xff\"}",
            &utf16,
            deep.as_bytes(),
            large.as_bytes(),
        ];
        for body in bodies {
            assert_eq!(read_step(FLOW, body), Err(Unreadable), "{:?}", String::from_utf8_lossy(body).get(..40));
            assert_eq!(read_start(body), Err(Unreadable));
        }
        assert_eq!(read_step(FLOW, br#"{"client_id":"c","password":{"a":1}}"#), Err(Unreadable));
        assert_eq!(read_start(br#"{"client_id":"c","handler":[],"redirect_uri":"r"}"#), Err(Unreadable));
    }

    #[test]
    fn equal_guesses_are_equal_bytes_and_others_are_not() {
        let first = step(r#"{"client_id":"c","username":"owner","password":"no"}"#).credential;
        for same in [
            r#"{ "password" : "no", "username":"owner","client_id":"another" }"#,
            r#"{"client_id":"c","username":"\u006fwner","password":"n\u006F"}"#,
            r#"{"client_id":"c","username":"owner","password":"yes","password":"no"}"#,
        ] {
            assert_eq!(step(same).credential, first, "{same}");
        }
        for other in [
            r#"{"client_id":"c","username":"owner","password":"No"}"#,
            r#"{"client_id":"c","username":"ownerno","password":""}"#,
            r#"{"client_id":"c","username":"owner","password":"no","password":"yes"}"#,
        ] {
            assert_ne!(step(other).credential, first, "{other}");
        }
    }

    #[test]
    fn a_code_is_a_guess_in_its_flow_and_a_password_in_any() {
        let code = br#"{"client_id":"c","code":"123456"}"#;
        assert_ne!(read_step("a", code).unwrap().credential, read_step("b", code).unwrap().credential);
        let password = br#"{"client_id":"c","username":"owner","password":"no"}"#;
        assert_eq!(read_step("a", password).unwrap().credential, read_step("b", password).unwrap().credential);
    }

    #[test]
    fn accounts_are_equal_where_python_says_so() {
        for (left, right) in [
            (" Owner\u{1c}\n", "owner"),
            ("STRASSE", "straße"),
            ("STRASSE", "STRAẞE"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("boſſe", "BOSSE"),
            ("\u{212a}im", "Kim"),
            ("ŉ", "ʼn"),
        ] {
            assert_eq!(Account::new(left), Account::new(right), "{left} {right}");
        }
        assert_ne!(Account::new("owner"), Account::new("own er"));
        assert_eq!(format!("{:?}", Account::new("owner")), "Account(***)");
    }

    proptest! {
        #[test]
        fn anything_is_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_start(&body);
            let _ = read_step(FLOW, &body);
        }

        #[test]
        fn two_passwords_are_two_guesses(one in ".{0,12}", two in ".{0,12}", name in ".{0,12}") {
            let credential = |password: &str| {
                let body = serde_json::json!({ "client_id": "c", "username": name, "password": password });
                step(&body.to_string()).credential
            };
            prop_assert_eq!(credential(&one) == credential(&two), one == two);
        }
    }
}
