//! What a client sends to `/auth/token` and `/auth/revoke`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::form::{self, Fields};
use crate::app::Credential;
use crate::config::Secret;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    AuthorizationCode,
    RefreshToken,
    /// `/auth/revoke`, or `action=revoke` at `/auth/token`.
    Revocation,
    /// Anything else, and what cannot be read.
    Other,
}

/// A request for a token, or for its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub grant: Grant,
    /// The code, the refresh token, or the token to forget.
    pub secret: Option<Secret>,
    pub client_id: Option<String>,
    pub credential: Credential,
}

/// Reads a body for `/auth/token`.
///
/// What cannot be read in one way only is [`Grant::Other`], and its credential is all of it: a guess hidden in it is
/// counted as new each time, never as the repetition of another.
pub fn read(content_type: Option<&str>, body: &[u8]) -> Request {
    let content_type = content_type.unwrap_or_default();
    match form::read(content_type, body) {
        Some(fields) => of_fields(&fields),
        None => Request {
            grant: Grant::Other,
            secret: None,
            client_id: None,
            credential: Credential::new("unreadable").with(Some(content_type.as_bytes())).with(Some(body)),
        },
    }
}

/// Reads a body for `/auth/revoke`: the token to forget, if it can be read.
pub fn read_revocation(content_type: Option<&str>, body: &[u8]) -> Option<Secret> {
    let fields = form::read(content_type.unwrap_or_default(), body)?;
    fields.get("token").cloned().map(Secret::new)
}

/// When an access token ends, by its own word (`exp`, RFC 7519 section 4.1.4). Nothing of it is verified: it is asked
/// only of a token that Home Assistant has accepted.
pub fn end(token: &[u8]) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split(|byte| *byte == b'.').nth(1)?).ok()?;
    let Claims { exp } = serde_json::from_slice(&claims).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(exp))
}

fn of_fields(fields: &Fields) -> Request {
    let field = |name: &str| fields.get(name).map(String::as_bytes);
    let grant = match (field("action"), field("grant_type")) {
        (Some(b"revoke"), _) => Grant::Revocation,
        (_, Some(b"authorization_code")) => Grant::AuthorizationCode,
        (_, Some(b"refresh_token")) => Grant::RefreshToken,
        _ => Grant::Other,
    };
    let (name, credential) = match grant {
        Grant::AuthorizationCode => {
            let code = Credential::new("authorization_code").with(field("code")).with(field("client_id"));
            (Some("code"), code.with(field("code_verifier")))
        }
        Grant::RefreshToken => {
            let token = Credential::new("refresh_token").with(field("refresh_token")).with(field("client_id"));
            (Some("refresh_token"), token)
        }
        Grant::Revocation => (Some("token"), Credential::new("revocation").with(field("token"))),
        Grant::Other => (None, every_field(fields)),
    };
    let secret = name.and_then(|name| fields.get(name)).cloned().map(Secret::new);
    Request { grant, secret, client_id: fields.get("client_id").cloned(), credential }
}

fn every_field(fields: &Fields) -> Credential {
    let begun = Credential::new("other");
    fields.iter().fold(begun, |all, (name, value)| all.with(Some(name.as_bytes())).with(Some(value.as_bytes())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENCODED: Option<&str> = Some("application/x-www-form-urlencoded");

    fn encoded(body: &str) -> Request {
        read(ENCODED, body.as_bytes())
    }

    #[test]
    fn a_token_names_its_own_end() {
        // {"iss":"x","iat":1795467600,"exp":1795469400}
        let token = b"eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJ4IiwiaWF0IjoxNzk1NDY3NjAwLCJleHAiOjE3OTU0Njk0MDB9.c2ln";
        assert_eq!(end(token), Some(UNIX_EPOCH + Duration::from_secs(1_795_469_400)));
        for other in ["", "a.b", "a.e30.c", "a.eyJleHAiOi0xfQ.c", "long-lived"] {
            assert_eq!(end(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn grants_are_told_apart() {
        for (body, grant, secret) in [
            ("grant_type=authorization_code&code=c&client_id=http%3A%2F%2Fha%2F", Grant::AuthorizationCode, Some("c")),
            ("grant_type=refresh_token&refresh_token=r&client_id=http%3A%2F%2Fha%2F", Grant::RefreshToken, Some("r")),
            ("client_id=http://ha/&refresh_token=r&grant_type=refresh%5Ftoken", Grant::RefreshToken, Some("r")),
            ("grant_type=refresh_token&client_id=http://ha/", Grant::RefreshToken, None),
            ("grant_type=refresh_token&client_id=http://ha/&action=revoke&token=t", Grant::Revocation, Some("t")),
            ("grant_type=password&client_id=http://ha/&username=owner&password=x", Grant::Other, None),
        ] {
            let request = encoded(body);
            assert_eq!((request.grant, request.secret), (grant, secret.map(|s| Secret::new(s.to_owned()))), "{body}");
            assert_eq!(request.client_id.as_deref(), Some("http://ha/"), "{body}");
        }
    }

    #[test]
    fn another_guess_is_another_credential() {
        let first = encoded("grant_type=authorization_code&code=c&client_id=i").credential;
        assert_eq!(encoded("client_id=i&code=%63&grant_type=authorization_code&x=y").credential, first);
        for other in [
            "grant_type=authorization_code&code=d&client_id=i",
            "grant_type=authorization_code&code=c&client_id=j",
            "grant_type=authorization_code&code=c&client_id=i&code_verifier=v",
            "grant_type=authorization_code&client_id=i",
            "grant_type=refresh_token&refresh_token=c&client_id=i",
            "grant_type=authorization_code&code=c&code=d&client_id=i",
        ] {
            assert_ne!(encoded(other).credential, first, "{other}");
        }
    }

    #[test]
    fn what_is_unreadable_is_its_own_credential() {
        let json = br#"{"grant_type":"refresh_token","refresh_token":"r"}"#;
        let request = read(Some("application/json"), json);
        assert_eq!((request.grant, request.secret), (Grant::Other, None));
        assert_ne!(read(None, json).credential, request.credential);
        assert_ne!(read(Some("application/json"), b"{}").credential, request.credential);
        assert_eq!(read_revocation(ENCODED, b"token=t"), Some(Secret::new("t".to_owned())));
        assert_eq!(read_revocation(None, b"token=t"), None);
    }

    proptest! {
        #[test]
        fn a_boundary_of_the_moment_makes_no_new_guess(boundary in "[A-Za-z0-9]{16,40}", token in "[0-9a-f]{128}") {
            let parts = [("grant_type", "refresh_token"), ("refresh_token", &token), ("client_id", "http://ha/")];
            let body: String = parts
                .iter()
                .map(|(name, value)| {
                    format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                })
                .chain([format!("--{boundary}--\r\n")])
                .collect();
            let browser = read(Some(&format!("multipart/form-data; boundary={boundary}")), body.as_bytes());
            let script = encoded(&format!("grant_type=refresh_token&refresh_token={token}&client_id=http%3A%2F%2Fha%2F"));
            prop_assert_eq!(browser, script);
        }
    }
}
