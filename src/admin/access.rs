//! Who may ask what over TCP: the `Host` field against DNS rebinding, the token for metrics and the status page.
//!
//! Pure rules. A web page that makes its own name resolve to 127.0.0.1 can send requests from the
//! operator's browser to the admin listener, but it cannot choose their `Host`: that is its name.

use std::net::{IpAddr, Ipv6Addr};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, HOST};
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// Whether the request names us in a way that a page from elsewhere cannot.
///
/// Loopback names and addresses and the address of the listener do; the port is not looked at,
/// since a container may publish another one.
pub(super) fn is_host_ours(uri: &Uri, fields: &HeaderMap, listening_on: IpAddr) -> bool {
    let mut hosts = fields.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let named = Authority::try_from(host.as_bytes());
    named.is_ok_and(|host| is_ours(&host, listening_on))
        && uri.authority().is_none_or(|authority| is_ours(authority, listening_on))
}

fn is_ours(authority: &Authority, listening_on: IpAddr) -> bool {
    let host = authority.host();
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if authority.as_str().contains('@') {
        return false;
    }
    match address(host) {
        Some(address) => address.is_loopback() || address == listening_on.to_canonical(),
        None => name == "localhost" || name.ends_with(".localhost"),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical()),
        None => host.parse().ok(),
    }
}

/// Whether the request carries exactly `token` as its bearer token (RFC 6750).
pub(super) fn is_token_right(fields: &HeaderMap, token: &str) -> bool {
    let mut given = fields.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (given.next(), given.next()) else { return false };
    let Some((scheme, value)) = field.as_bytes().split_at_checked(BEARER.len()) else { return false };
    scheme.eq_ignore_ascii_case(BEARER) && are_equal_in_constant_time(value, token.as_bytes())
}

/// The same for the status page, to which a browser sends the token as the password of any user (RFC 7617).
///
/// A page that has rebound its name cannot: it does not know the token, and a browser keeps what its user typed for the
/// origin that asked for it.
pub(super) fn is_token_right_in_browser(fields: &HeaderMap, token: &str) -> bool {
    is_token_right(fields, token) || is_password_right(fields, token)
}

fn is_password_right(fields: &HeaderMap, token: &str) -> bool {
    let mut given = fields.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (given.next(), given.next()) else { return false };
    let Some((scheme, value)) = field.as_bytes().split_at_checked(BASIC.len()) else { return false };
    let Ok(pair) = BASE64_STANDARD.decode(value) else { return false };
    let Some(colon) = pair.iter().position(|byte| *byte == b':') else { return false };
    let password = pair.get(colon + 1..).unwrap_or_default();
    scheme.eq_ignore_ascii_case(BASIC) && are_equal_in_constant_time(password, token.as_bytes())
}

/// Takes as long for a wrong first byte as for a wrong last one. The length is not kept secret.
pub(super) fn are_equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    let differences =
        left.iter().zip(right).fold(0, |found, (left, right)| std::hint::black_box(found | (left ^ right)));
    left.len() == right.len() && std::hint::black_box(differences) == 0
}

const BEARER: &[u8] = b"Bearer ";
const BASIC: &[u8] = b"Basic ";

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(name: http::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_loopback_and_the_listening_address_are_ours() {
        let listening_on = IpAddr::from([192, 168, 1, 9]);
        let table = [
            ("localhost", true),
            ("LOCALHOST:9180", true),
            ("localhost.", true),
            ("gate.localhost", true),
            ("127.0.0.1:9180", true),
            ("127.8.8.8", true),
            ("[::1]:9180", true),
            ("[::ffff:127.0.0.1]", true),
            ("192.168.1.9:1", true),
            ("192.168.1.10", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("notlocalhost", false),
            ("127.0.0.1.evil.example", false),
            ("localhost@evil.example", false),
            ("evil.example@localhost", false),
            ("", false),
            ("a b", false),
        ];
        for (host, expected) in table {
            let ours = is_host_ours(&Uri::from_static("/metrics"), &fields(HOST, &[host]), listening_on);
            assert_eq!(ours, expected, "{host}");
        }
    }

    #[test]
    fn no_host_two_hosts_and_a_foreign_target_are_refused() {
        let (path, address) = (Uri::from_static("/"), IpAddr::from([127, 0, 0, 1]));
        assert!(!is_host_ours(&path, &HeaderMap::new(), address));
        assert!(!is_host_ours(&path, &fields(HOST, &["localhost", "localhost"]), address));
        let local = fields(HOST, &["localhost"]);
        assert!(!is_host_ours(&Uri::from_static("http://evil.example/"), &local, address));
        assert!(is_host_ours(&Uri::from_static("http://localhost/"), &local, address));
    }

    #[test]
    fn only_the_whole_token_is_right() {
        let table = [
            (&["Bearer s3cret"][..], true),
            (&["bearer s3cret"], true),
            (&["Bearer s3cre"], false),
            (&["Bearer s3cretx"], false),
            (&["Bearer  s3cret"], false),
            (&["Bearer "], false),
            (&["Basic s3cret"], false),
            (&["s3cret"], false),
            (&["Bearer s3cret", "Bearer s3cret"], false),
            (&[], false),
        ];
        for (given, expected) in table {
            assert_eq!(is_token_right(&fields(AUTHORIZATION, given), "s3cret"), expected, "{given:?}");
        }
    }

    #[test]
    fn a_browser_gives_the_token_as_the_password_of_any_user() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        let table = [
            (basic("me:s3cret"), true),
            (basic(":s3cret"), true),
            ("Bearer s3cret".to_owned(), true),
            (basic("me:s3cret").replace("Basic", "basic"), true),
            (basic("me:wrong"), false),
            (basic("me:s3cret2"), false),
            (basic("s3cret"), false),
            (basic("s3cret:"), false),
            (basic("a:b:s3cret"), false),
            ("Basic s3cret".to_owned(), false),
            ("Basic".to_owned(), false),
            (String::new(), false),
        ];
        for (given, expected) in table {
            assert_eq!(is_token_right_in_browser(&fields(AUTHORIZATION, &[&given]), "s3cret"), expected, "{given}");
        }
        assert!(!is_token_right(&fields(AUTHORIZATION, &[&basic("me:s3cret")]), "s3cret"), "metrics want a bearer");
        let twice = fields(AUTHORIZATION, &[&basic("me:s3cret"), &basic("me:s3cret")]);
        assert!(!is_token_right_in_browser(&twice, "s3cret"));
    }
}
