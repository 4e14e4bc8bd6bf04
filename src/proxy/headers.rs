//! Which fields pass the gate, in both directions.

use http::HeaderValue;
use http::header::{self, HeaderName};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::client::ClientAddr;
use crate::config::ForwardedHeader;
use crate::guard::cookie;
use crate::snapshot::Route;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields by which a client could pretend to be someone else, to an application that believes them.
const FORGEABLE: [&str; 22] = [
    "forwarded",
    "client-ip",
    "x-forward-for",
    "fly-client-ip",
    "do-connecting-ip",
    "x-appengine-user-ip",
    "x-user-ip",
    "x-forwarder-for",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-originating-ip",
    "true-client-ip",
    "fastly-client-ip",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-ingress-path",
    // CGI programs turn it into HTTP_PROXY (httpoxy).
    "proxy",
    "x-proxyuser-ip",
];
/// The same for whole families: the usual set, those of Cloudflare, Azure and Envoy, of Home Assistant's Supervisor, and
/// those in which authenticating proxies (Authelia, authentik, oauth2-proxy, Grafana's) say who has logged in.
const FORGEABLE_PREFIXES: [&str; 10] = [
    "x-forwarded",
    "cf-",
    "x-azure-",
    "x-envoy-",
    "x-hass-",
    "remote-",
    "x-remote-",
    "x-authentik-",
    "x-auth-request-",
    "x-webauth-",
];

/// Whether a field of the client's stops at the gate.
///
/// Underscores: CGI and WSGI read `X_Forwarded_For` and `X-Forwarded-For` as one field, so no name with an underscore
/// passes (nginx does the same by default).
fn stops(name: &str) -> bool {
    name.contains('_') || FORGEABLE.contains(&name) || FORGEABLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Makes the request as the upstream gets it: nobody's word about the client but ours.
///
/// Home Assistant believes `X-Forwarded-For`, `-Proto` and `-Host` of a trusted proxy, refuses them twice or
/// malformed (`http/forwarded.py`), and takes an IPv4-mapped address for an IPv6 one: hence exactly one each, bare.
pub fn to_upstream(
    request: &mut RequestHeader,
    client: ClientAddr,
    authority: &str,
    over_tls: bool,
    trusted: &ForwardedHeader,
) -> pingora::Result<()> {
    let is_trusted = |name: &HeaderName| matches!(trusted, ForwardedHeader::Single(trusted) if trusted == name);
    let names = request.headers.keys();
    let stopped: Vec<_> = names.filter(|name| stops(name.as_str()) || is_trusted(name)).cloned().collect();
    for name in &stopped {
        request.remove_header(name);
    }
    join_cookies(request)?;
    keep_own_cookie(request)?;
    to_origin_form(request)?;
    request.insert_header(header::HOST, authority)?;
    request.insert_header(X_FORWARDED_FOR, client.to_string())?;
    request.insert_header(X_FORWARDED_PROTO, if over_tls { "https" } else { "http" })?;
    request.insert_header(X_FORWARDED_HOST, authority)?;
    Ok(())
}

/// HTTP/2 clients split cookies over several fields (RFC 9113 section 8.2.3); aiohttp reads only the first.
fn join_cookies(request: &mut RequestHeader) -> pingora::Result<()> {
    if request.headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = request.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = crumbs.join(b"; ".as_slice());
    request.insert_header(header::COOKIE, joined)
}

/// The gate's cookie is the gate's: it would only end up in the application's logs.
fn keep_own_cookie(request: &mut RequestHeader) -> pingora::Result<()> {
    match cookie::without(&request.headers) {
        None => {}
        Some(others) if others.is_empty() => drop(request.remove_header(&header::COOKIE)),
        Some(others) => request.insert_header(header::COOKIE, others)?,
    }
    Ok(())
}

/// The authority travels in `Host` alone.
fn to_origin_form(request: &mut RequestHeader) -> pingora::Result<()> {
    if request.raw_path().starts_with(b"/") || request.raw_path() == b"*" {
        return Ok(());
    }
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    request.set_raw_path(path.as_bytes())
}

/// Makes the answer as the client gets it: nothing of what runs behind, and the usual protections where the
/// upstream has not set its own.
pub fn to_client(response: &mut ResponseHeader, route: &Route, over_tls: bool) -> pingora::Result<()> {
    response.remove_header(&header::SERVER);
    response.remove_header("x-powered-by");
    // An upstream knows nothing of the address under which the gate is reached.
    response.remove_header(&header::ALT_SVC);
    if response.status.is_informational() {
        return Ok(());
    }
    if let Some(value) = route.strict_transport_security.as_ref().filter(|_| over_tls) {
        insert_if_absent(response, header::STRICT_TRANSPORT_SECURITY, value)?;
    }
    if route.security_headers {
        for (name, value) in [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
            (header::REFERRER_POLICY, "same-origin"),
        ] {
            insert_if_absent(response, name, &HeaderValue::from_static(value))?;
        }
    }
    Ok(())
}

fn insert_if_absent(response: &mut ResponseHeader, name: HeaderName, value: &HeaderValue) -> pingora::Result<()> {
    if response.headers.contains_key(&name) { Ok(()) } else { response.insert_header(name, value.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        let trusted = ForwardedHeader::Single(HeaderName::from_static("x-our-proxy-says"));
        to_upstream(&mut request, ClientAddr::new([203, 0, 113, 9].into()), "ha.test:8443", true, &trusted).unwrap();
        request
    }

    fn values(request: &RequestHeader, name: &str) -> Vec<String> {
        request.headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn nobody_but_the_gate_says_who_the_client_is() {
        let forged = request(
            "/",
            &[
                ("X-Forwarded-For", "6.6.6.6"),
                ("x-forwarded-for", "7.7.7.7"),
                ("X_Forwarded_For", "6.6.6.6"),
                ("X-Forwarded-Host", "evil.test"),
                ("X-Forwarded-Proto", "http"),
                ("X-Forwarded-Port", "1"),
                ("Forwarded", "for=6.6.6.6"),
                ("X-Real-IP", "6.6.6.6"),
                ("CF-Connecting-IP", "6.6.6.6"),
                ("True-Client-IP", "6.6.6.6"),
                ("X-Hass-Is-Admin", "1"),
                ("Remote-User", "admin"),
                ("X-WEBAUTH-USER", "admin"),
                ("X-Our-Proxy-Says", "6.6.6.6"),
                ("Content_Length", "5"),
                ("Authorization", "Bearer x"),
            ],
        );
        assert_eq!(values(&forged, "x-forwarded-for"), ["203.0.113.9"]);
        assert_eq!(values(&forged, "x-forwarded-proto"), ["https"]);
        assert_eq!(values(&forged, "x-forwarded-host"), ["ha.test:8443"]);
        assert_eq!(values(&forged, "host"), ["ha.test:8443"]);
        assert_eq!(values(&forged, "authorization"), ["Bearer x"]);
        assert_eq!(forged.headers.len(), 5, "{:?}", forged.headers);
    }

    #[test]
    fn crumbs_of_a_cookie_are_joined_and_a_whole_one_is_left_alone() {
        assert_eq!(values(&request("/", &[("cookie", "a=1"), ("cookie", "b=2")]), "cookie"), ["a=1; b=2"]);
        assert_eq!(values(&request("/", &[("cookie", "a=1; b=2")]), "cookie"), ["a=1; b=2"]);
    }

    #[test]
    fn the_gates_own_cookie_stays_at_the_gate() {
        assert_eq!(values(&request("/", &[("cookie", "a=1"), ("cookie", "__Host-hearthgate=x")]), "cookie"), ["a=1"]);
        assert!(values(&request("/", &[("cookie", "__Host-hearthgate=x")]), "cookie").is_empty());
    }

    #[test]
    fn an_absolute_target_becomes_a_path() {
        assert_eq!(request("http://ha.test/a?b=c", &[]).raw_path(), b"/a?b=c");
        assert_eq!(request("/a?b=http://x", &[]).raw_path(), b"/a?b=http://x");
    }
}
