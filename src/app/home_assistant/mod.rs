//! What the gate knows of Home Assistant.
//!
//! [`classify`] reads a request's head, [`login`] and [`token`] read the bodies in which people and apps show who they
//! are, [`judge`] and [`websocket`] read what Home Assistant says to it.

mod answer;
mod endpoint;
mod form;
pub mod login;
pub mod path;
mod place;
pub mod token;
pub mod websocket;

pub use answer::{ANSWER_LIMIT, Undecodable, decode, judge, judge_api_root};
pub use endpoint::classify;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

/// Paths whose answers may be silent for minutes: server-sent events, camera pictures, low-latency HLS, ingress into
/// add-ons, and transfers of whole backups.
pub fn is_stream(path: &str) -> bool {
    const STREAMS: [&str; 8] = [
        "/api/stream",
        "/api/camera_proxy_stream/",
        "/api/image_proxy_stream/",
        "/api/hls/",
        "/api/hassio_ingress/",
        "/api/hassio/",
        "/api/backup/",
        "/api/media_player_proxy/",
    ];
    STREAMS.iter().any(|prefix| path.starts_with(prefix))
}

/// Whether this may be the bare 400 with which Home Assistant meets `X-Forwarded-For` from a proxy it does not trust
/// (`http/forwarded.py`). aiohttp sends the same for other bad requests, so this is a suspicion, not a finding.
pub fn may_be_distrust(status: StatusCode, headers: &HeaderMap) -> bool {
    let value = |name| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    status == StatusCode::BAD_REQUEST
        && value(CONTENT_TYPE).starts_with(b"text/plain")
        && value(CONTENT_LENGTH) == b"16"
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_bare_400_is_suspected_and_a_spoken_one_is_not() {
        let answer = |content_type: &'static str, length: &'static str| {
            HeaderMap::from_iter([
                (CONTENT_TYPE, HeaderValue::from_static(content_type)),
                (CONTENT_LENGTH, HeaderValue::from_static(length)),
            ])
        };
        let bare = answer("text/plain; charset=utf-8", "16");
        assert!(may_be_distrust(StatusCode::BAD_REQUEST, &bare));
        assert!(!may_be_distrust(StatusCode::UNAUTHORIZED, &bare));
        assert!(!may_be_distrust(StatusCode::BAD_REQUEST, &answer("application/json", "16")));
        assert!(!may_be_distrust(StatusCode::BAD_REQUEST, &answer("text/plain; charset=utf-8", "160")));
    }

    #[test]
    fn streams_are_known_by_their_path() {
        assert!(is_stream("/api/camera_proxy_stream/camera.door"));
        assert!(is_stream("/api/stream"));
        assert!(!is_stream("/api/states"));
        assert!(!is_stream("/api/camera_proxy/camera.door"));
    }
}
