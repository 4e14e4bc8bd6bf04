//! The cookie by which a browser is known: a random name of its own, signed by the gate, worth something only once its
//! browser has proven a session.

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::fingerprint::{Fingerprint, Fingerprints, Kind};

/// `__Host-`: over TLS only, for this host name only, for all its paths (RFC 6265bis section 4.1.3.2).
pub const NAME: &str = "__Host-hearthgate";

/// Bytes of the random name, and of the signature behind it.
const ID: usize = 16;

/// A cookie as sent: its value, and what is remembered of it.
#[derive(Debug, Clone)]
pub struct Cookie {
    value: String,
    pub fingerprint: Fingerprint,
}

impl Cookie {
    /// A new one; `None` if the system gives no random bytes.
    pub fn mint(keys: &Fingerprints, host: &str) -> Option<Self> {
        let mut id = [0; ID];
        rand::fill(&mut id).ok()?;
        let fingerprint = keys.of(Kind::Cookie, host, &id);
        let mut signed = id.to_vec();
        signed.extend_from_slice(&signature(keys, host, &id));
        Some(Self { value: URL_SAFE_NO_PAD.encode(signed), fingerprint })
    }

    /// The gate's cookie among those of a request, if its signature is ours.
    pub fn read(headers: &HeaderMap, keys: &Fingerprints, host: &str) -> Option<Fingerprint> {
        headers.get_all(COOKIE).iter().flat_map(crumbs).find_map(|crumb| {
            let value = crumb.strip_prefix(NAME.as_bytes())?.strip_prefix(b"=")?;
            let bytes = URL_SAFE_NO_PAD.decode(value).ok().filter(|bytes| bytes.len() == 2 * ID)?;
            let (id, signed) = bytes.split_at(ID);
            aws_lc_rs::constant_time::verify_slices_are_equal(&signature(keys, host, id), signed).ok()?;
            Some(keys.of(Kind::Cookie, host, id))
        })
    }

    /// The field that gives it to a browser for `seconds`.
    ///
    /// `SameSite=Lax`: a link from elsewhere may open the page, a form from elsewhere may not use it.
    pub fn to_field(&self, seconds: u64) -> HeaderValue {
        let field = format!("{NAME}={}; Max-Age={seconds}; Path=/; Secure; HttpOnly; SameSite=Lax", self.value);
        HeaderValue::try_from(field).expect("base64 and digits are a valid field value")
    }
}

/// The other cookies of a request, without the gate's: what the application gets. `None` if nothing has to change.
///
/// Bytes, not text: what other cookies hold is their applications' affair, and many are no ASCII.
pub fn without(headers: &HeaderMap) -> Option<Vec<u8>> {
    let all = || headers.get_all(COOKIE).iter().flat_map(crumbs);
    let is_ours = |crumb: &&[u8]| crumb.split(|byte| *byte == b'=').next() == Some(NAME.as_bytes());
    let others = || all().filter(|crumb| !is_ours(crumb)).collect::<Vec<_>>();
    all().any(|crumb| is_ours(&crumb)).then(|| others().join(b"; ".as_slice()))
}

fn crumbs(field: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    field.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn signature(keys: &Fingerprints, host: &str, id: &[u8]) -> [u8; ID] {
    keys.of(Kind::CookieSignature, host, id).0.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|cookie| (COOKIE, HeaderValue::from_str(cookie).unwrap())).collect()
    }

    #[test]
    fn our_own_cookie_is_found_and_a_forged_one_is_not() {
        let keys = Fingerprints::new(&[1; 32]);
        let cookie = Cookie::mint(&keys, "ha").unwrap();
        let sent = format!("{NAME}={}", cookie.value);
        assert_eq!(Cookie::read(&request(&[&sent]), &keys, "ha"), Some(cookie.fingerprint));
        assert_eq!(Cookie::read(&request(&[&sent]), &keys, "other"), None);
        assert_eq!(
            Cookie::read(&request(&["a=1; b=2", &format!("c=3; {sent}")]), &keys, "ha"),
            Some(cookie.fingerprint)
        );
        assert_eq!(Cookie::read(&request(&[&sent]), &Fingerprints::new(&[2; 32]), "ha"), None);
        assert_eq!(Cookie::read(&request(&[&format!("x{sent}")]), &keys, "ha"), None);
        for at in NAME.len() + 1..sent.len() - 1 {
            let mut forged = sent.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Cookie::read(&request(&[std::str::from_utf8(&forged).unwrap()]), &keys, "ha"), None);
        }
        let field = cookie.to_field(60);
        assert!(field.to_str().unwrap().ends_with("; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax"));
    }

    #[test]
    fn the_application_gets_the_other_cookies_only() {
        assert_eq!(without(&request(&["a=1; b=2"])), None);
        for (cookies, others) in [
            (&["a=1; __Host-hearthgate=x; b=2"][..], "a=1; b=2"),
            (&["a=1", "__Host-hearthgate=x"], "a=1"),
            (&["__Host-hearthgate=x"], ""),
            (&["name=Zoë; __Host-hearthgate=x"], "name=Zoë"),
        ] {
            assert_eq!(without(&request(cookies)).unwrap(), others.as_bytes(), "{cookies:?}");
        }
    }
}
