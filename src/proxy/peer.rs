//! A route's upstream in Pingora's terms.

use std::time::Duration;

use http::HeaderMap;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions};
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use pingora_core::{Error, ErrorSource, ErrorType};

use super::context::Forwarding;
use super::upgrade;
use crate::app::{self, Pace};
use crate::config::{Timeouts, UpstreamVerification};
use crate::upstream::Upstream;

/// The upstream has no address yet; Pingora has no word for it.
pub const UNRESOLVED: ErrorType = ErrorType::Custom("Unresolved");
/// Home Assistant does not trust the gate.
pub const DISTRUSTED: ErrorType = ErrorType::Custom("Distrusted");

/// The peer for the next attempt of this request.
pub fn peer(
    forwarding: &Forwarding,
    path: &str,
    headers: &HeaderMap,
    timeouts: &Timeouts,
) -> pingora_core::Result<Box<HttpPeer>> {
    let upstream = &forwarding.accepted.route.upstream;
    let Some(address) = upstream.address() else {
        return Err(upstream_error(UNRESOLVED, "the upstream's name has not resolved"));
    };
    if forwarding.exchange.handover.is_some() {
        let mut peer = HttpPeer::new(address, false, String::new());
        upgrade::take_back(&mut peer, forwarding.exchange.clone(), upstream.clone());
        peer.options.read_timeout = Some(timeouts.upstream_response);
        // A refused upgrade leaves a connection that Pingora's pool keeps but can never find again.
        peer.options.idle_timeout = Some(Duration::from_millis(1));
        return Ok(Box::new(peer));
    }
    let mut peer = HttpPeer::new(address, upstream.is_tls(), upstream.config.host.clone());
    let silence = match app::pace(upstream.app, path, headers) {
        Pace::Ordinary => timeouts.upstream_response,
        Pace::Stream => timeouts.upstream_stream,
    };
    let options = &mut peer.options;
    // Only a complete upgrade is one; Pingora would complete half of one by itself.
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    options.read_timeout = Some(silence);
    options.write_timeout = Some(silence);
    options.connection_timeout = Some(timeouts.upstream_connect);
    options.total_connection_timeout = Some(2 * timeouts.upstream_connect);
    options.idle_timeout = Some(timeouts.upstream_keep_alive);
    verification(options, upstream);
    // Connections verified in different ways never share a pool.
    peer.group_key = upstream.id;
    Ok(Box::new(peer))
}

fn verification(options: &mut PeerOptions, upstream: &Upstream) {
    if !upstream.authorities.is_empty() {
        let parsed = upstream.authorities.iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509));
        options.ca = Some(parsed.collect::<Vec<_>>().into());
    }
    match upstream.config.verification {
        UpstreamVerification::System | UpstreamVerification::Authority(_) => {}
        // The pin is compared in `check_pin`, before a byte of the request is sent.
        UpstreamVerification::Pinned(_) | UpstreamVerification::None => {
            options.verify_cert = false;
            options.verify_hostname = false;
        }
    }
}

/// Compares the certificate of a connection, fresh or pooled, with the pinned one.
pub fn check_pin(upstream: &Upstream, digest: Option<&Digest>) -> pingora_core::Result<()> {
    let UpstreamVerification::Pinned(pin) = &upstream.config.verification else { return Ok(()) };
    let seen = digest.and_then(|digest| digest.ssl_digest.as_ref()).map(|tls| tls.cert_digest.as_slice());
    if seen == Some(pin.as_slice()) {
        Ok(())
    } else {
        Err(upstream_error(ErrorType::InvalidCert, "the upstream's certificate is not the pinned one"))
    }
}

pub fn upstream_error(kind: ErrorType, what: &'static str) -> Box<Error> {
    let mut error = Error::explain(kind, what);
    error.esource = ErrorSource::Upstream;
    error
}
