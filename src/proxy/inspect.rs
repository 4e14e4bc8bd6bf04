//! May this request go on at all? The ordered list of what is asked of every request, HTTP/1 and HTTP/2 alike.
//!
//! Pure. For HTTP/1 the front door has refused odd bytes and framing already; what is asked here holds for both.

use std::sync::Arc;

use http::{HeaderMap, Method, Uri, header};

use crate::client::{ClientAddr, verified_client};
use crate::denial::Denial;
use crate::exchange::Connection;
use crate::request::is_target;
use crate::routing::normal_host;
use crate::snapshot::{Route, Snapshot};

/// A request that may be forwarded.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub client: ClientAddr,
    pub route: Arc<Route>,
    /// Host and port as the client sent them.
    pub authority: String,
}

/// What is looked at.
pub struct Request<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    /// The target as sent.
    pub target: &'a [u8],
    pub headers: &'a HeaderMap,
}

/// Cheapest first.
pub fn inspect(request: &Request<'_>, connection: &Connection, snapshot: &Snapshot) -> Result<Accepted, Denial> {
    if let Some(denial) = connection.denied {
        return Err(denial);
    }
    let limits = &snapshot.config.limits;
    if matches!(*request.method, Method::CONNECT | Method::TRACE) {
        return Err(Denial::Method);
    }
    if request.target.len() > limits.uri_length.as_usize() {
        return Err(Denial::UriLength);
    }
    // HTTP/1 heads were measured as bytes; of HTTP/2's this is the size they would have had.
    let fields = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    if request.target.len() + fields.sum::<usize>() > limits.head_size.as_usize() {
        return Err(Denial::HeadSize);
    }
    if request.headers.len() > limits.header_count {
        return Err(Denial::HeaderCount);
    }
    if !is_target(request.target, request.method.as_str().as_bytes()) {
        return Err(Denial::Malformed);
    }
    let authority = authority(request)?;
    let host = normal_host(authority).ok_or(Denial::BadHost)?;
    // A connection is for the name its certificate was asked for (RFC 9110 section 7.4): otherwise a request could
    // reach a host past the rules that hold for its name.
    if connection.server_name.as_deref().is_some_and(|name| name != host) {
        return Err(Denial::Misdirected);
    }
    let route = snapshot.routes.find(&host).ok_or(Denial::Misdirected)?;
    // A closed host's connections are made for it, with a certificate; one from before it was closed is not.
    if let Some(demanded) = &route.client_auth
        && !connection.client_auth.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, &demanded.config))
    {
        return Err(Denial::Misdirected);
    }
    let client = verified_client(connection.peer.ip(), request.headers, &snapshot.config.trusted_proxies)
        .map_err(|_| Denial::BadForwarding)?;
    check_body_size(request.headers, route)?;
    Ok(Accepted { client, route: route.clone(), authority: authority.to_owned() })
}

/// `:authority` of HTTP/2, or `Host`; if both are there they must agree (RFC 9113 section 8.3.1).
fn authority<'a>(request: &Request<'a>) -> Result<&'a str, Denial> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(host.to_str().map_err(|_| Denial::BadHost)?),
        (Some(_), Some(_)) => return Err(Denial::BadHost),
    };
    match (request.uri.authority().map(|authority| authority.as_str()), host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(Denial::BadHost),
        (Some(authority), _) => Ok(authority),
        (None, Some(host)) => Ok(host),
        (None, None) => Err(Denial::BadHost),
    }
}

fn check_body_size(headers: &HeaderMap, route: &Route) -> Result<(), Denial> {
    let Some(limit) = route.body_size else { return Ok(()) };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if announced.is_some_and(|length: u64| length > limit.bytes()) { Err(Denial::BodySize) } else { Ok(()) }
}
