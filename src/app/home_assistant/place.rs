//! The map of Home Assistant: which decoded path is what, and which methods it has for those who have no session yet.
//!
//! It covers releases 2025.4 to 2026.11. What it does not know is [`Place::Inside`], which needs a session: a new
//! release, or an integration of somebody's own, opens nothing by itself.

use http::Method;

use crate::app::Reach;
use crate::config::RequestClass;

/// What lies under a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'p> {
    /// Files of the frontend, and those that are public by design.
    Asset,
    /// The frontend's page under one of its many names, and the login page.
    Page,
    /// What the login page and apps ask before anything else.
    Discovery,
    /// Where another site's login comes back to.
    Return,
    LoginStart,
    LoginStep(&'p str),
    Token,
    Revocation,
    WebSocket,
    Webhook(&'p str),
    /// Opened by a token beside the path, or by a session.
    Guarded,
    /// Opened by the path itself, which has the right shape.
    Unguessable,
    Onboarding,
    /// Behind a session, and signed for those who cannot send a header.
    Signed,
    /// Behind a session.
    Inside,
}

/// More than any path that is matched to its end; of longer ones only the beginning counts.
const SEGMENTS: usize = 9;

/// Finds the place of a decoded path.
pub(super) fn place(path: &str) -> Place<'_> {
    let mut segments = [""; SEGMENTS];
    let mut count = 0;
    for (slot, segment) in segments.iter_mut().zip(path.split('/').skip(1)) {
        *slot = segment;
        count += 1;
    }
    match segments.get(..count).unwrap_or_default() {
        ["api", inner @ ..] => api(inner),
        ["auth", inner @ ..] => auth(inner),
        [".well-known", "oauth-authorization-server" | "oauth-protected-resource" | "change-password"] => {
            Place::Discovery
        }
        ["frontend_latest" | "frontend_es5" | "static" | "local" | "hacsfiles", _, ..] => Place::Asset,
        ["onboarding.html"] => Place::Onboarding,
        [file] if FILES.contains(file) => Place::Asset,
        [panel, ..] if PANELS.contains(panel) || is_dashboard(panel) => Place::Page,
        [root, _, _, ..] if MEDIA.contains(root) => Place::Signed,
        _ => Place::Inside,
    }
}

fn auth<'p>(inner: &[&'p str]) -> Place<'p> {
    match inner {
        ["authorize"] => Place::Page,
        ["providers"] => Place::Discovery,
        ["external", "callback"] => Place::Return,
        ["login_flow"] => Place::LoginStart,
        ["login_flow", id] if !id.is_empty() => Place::LoginStep(id),
        ["token"] => Place::Token,
        ["revoke"] => Place::Revocation,
        _ => Place::Inside,
    }
}

fn api<'p>(inner: &[&'p str]) -> Place<'p> {
    match inner {
        ["websocket"] => Place::WebSocket,
        ["webhook", id] => Place::Webhook(id),
        ["onboarding", ..] => Place::Onboarding,
        ["camera_proxy" | "camera_proxy_stream" | "image_proxy" | "image_proxy_stream", entity]
            if is_entity(entity) =>
        {
            Place::Guarded
        }
        ["media_player_proxy", entity] | ["media_player_proxy", entity, "browse_media", _, _, ..]
            if is_entity(entity) =>
        {
            Place::Guarded
        }
        ["brands", "integration" | "marketplace" | "hardware", _, _, ..] | ["map_tiles", _, ..] => Place::Guarded,
        ["image", "serve", id, size] if id.len() == 32 && is_hex(id) && is_size(size) => Place::Unguessable,
        ["tts_proxy", token] if token.len() >= SHORTEST_TOKEN => Place::Unguessable,
        ["hls", token, _, ..] if token.len() >= 32 && is_hex(token) => Place::Unguessable,
        ["backup", "download", _]
        | ["diagnostics", _, _, ..]
        | ["image", "serve", _, _]
        | ["tts_proxy", _]
        | ["nest", "event_media", _, _, ..]
        | ["icloud", "media_source", "serve", _, _]
        | ["reolink", "video", _, _, ..]
        | ["unifiprotect", "thumbnail" | "snapshot" | "video", _, _, ..] => Place::Signed,
        _ => Place::Inside,
    }
}

impl Place<'_> {
    pub(super) fn class(self) -> RequestClass {
        match self {
            Self::Asset => RequestClass::Static,
            Self::Page => RequestClass::Page,
            Self::Discovery
            | Self::Return
            | Self::LoginStart
            | Self::LoginStep(_)
            | Self::Token
            | Self::Revocation
            | Self::Onboarding => RequestClass::Auth,
            Self::Webhook(_) => RequestClass::Webhook,
            Self::WebSocket => RequestClass::Websocket,
            Self::Guarded | Self::Unguessable | Self::Signed | Self::Inside => RequestClass::Api,
        }
    }

    /// Who may come here with `method`; `is_signed` and `has_token` say that the request has one of the right shape.
    pub(super) fn reach(self, method: &Method, is_upgrade: bool, is_signed: bool, has_token: bool) -> Reach {
        let reads = *method == Method::GET || *method == Method::HEAD;
        let asks = *method == Method::OPTIONS;
        let posts = *method == Method::POST;
        let when = |opens: bool, reach: Reach| if opens { reach } else { Reach::Session };
        match self {
            Self::Asset | Self::Discovery => when(reads || asks, Reach::Login),
            Self::Page | Self::Return => when(reads, Reach::Login),
            Self::LoginStart => when(posts, Reach::Login),
            Self::LoginStep(_) => when(posts || *method == Method::DELETE, Reach::Login),
            Self::Token | Self::Revocation => when(posts || asks, Reach::Login),
            Self::WebSocket => when(is_upgrade && *method == Method::GET, Reach::Login),
            Self::Webhook(id) => {
                when(is_webhook_id(id) && (reads || asks || posts || *method == Method::PUT), Reach::Capability)
            }
            Self::Guarded => when(reads && (has_token || is_signed), Reach::Capability),
            Self::Unguessable => when(reads, Reach::Capability),
            Self::Signed => when(reads && is_signed, Reach::Capability),
            Self::Onboarding => Reach::Onboarding,
            Self::Inside => Reach::Session,
        }
    }

    /// Whether the answer depends on an `Authorization` or a signature, so that one could be guessed here.
    pub(super) fn is_authenticated(self) -> bool {
        match self {
            Self::Guarded | Self::Signed | Self::Onboarding | Self::Inside => true,
            Self::Asset
            | Self::Page
            | Self::Discovery
            | Self::Return
            | Self::LoginStart
            | Self::LoginStep(_)
            | Self::Token
            | Self::Revocation
            | Self::WebSocket
            | Self::Webhook(_)
            | Self::Unguessable => false,
        }
    }
}

/// 64 hex digits from the apps, and whatever a person called it: long enough not to be guessed.
fn is_webhook_id(id: &str) -> bool {
    (SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&id.len()) && id.bytes().all(is_name_byte)
}

/// The least a token has that nobody guesses: 96 bits in base64.
pub(super) const SHORTEST_TOKEN: usize = 16;

/// Four times what any release makes.
pub(super) const LONGEST_TOKEN: usize = 256;

/// `camera.front_door`: a capability opens an entity, not a path below it.
fn is_entity(name: &str) -> bool {
    name.split_once('.').is_some_and(|(domain, object)| {
        let is_slug = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_slug(domain) && is_slug(object)
    })
}

/// A dashboard's name has a dash in it, which no panel and no other path of Home Assistant's has where it matters.
fn is_dashboard(name: &str) -> bool {
    let is_slug = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    is_slug && name.contains('-')
}

fn is_size(name: &str) -> bool {
    let is_number = |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    name == "original" || name.split_once('x').is_some_and(|(width, height)| is_number(width) && is_number(height))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Files at the root.
const FILES: [&str; 7] = [
    "manifest.json",
    "robots.txt",
    "service_worker.js",
    "sw-modern.js",
    "sw-modern.js.map",
    "sw-legacy.js",
    "sw-legacy.js.map",
];

/// First segments that are answered with the frontend's page, or lead to it; the empty one is `/`.
const PANELS: [&str; 22] = [
    "",
    "_my_redirect",
    "calendar",
    "climate",
    "config",
    "developer-tools",
    "energy",
    "hacs",
    "hassio",
    "history",
    "home",
    "light",
    "logbook",
    "lovelace",
    "maintenance",
    "map",
    "marketplace",
    "media-browser",
    "notfound",
    "profile",
    "security",
    "todo",
];

/// Roots of media sources, whose files are signed for players.
const MEDIA: [&str; 5] = ["media", "ai_task", "image_upload", "immich", "synology_dsm"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_place() {
        let hex = "0123456789abcdef".repeat(2);
        let table = [
            ("/", Place::Page),
            ("/lovelace", Place::Page),
            ("/lovelace/0", Place::Page),
            ("/home/overview", Place::Page),
            ("/hassio/ingress/core_ssh", Place::Page),
            ("/my-dashboard/view", Place::Page),
            ("/My-Dashboard", Place::Inside),
            ("/unknown", Place::Inside),
            ("/auth/authorize", Place::Page),
            ("/auth/Token", Place::Inside),
            ("/auth/token/", Place::Inside),
            ("/auth/token", Place::Token),
            ("/auth/login_flow", Place::LoginStart),
            ("/auth/login_flow/", Place::Inside),
            ("/auth/login_flow/abc", Place::LoginStep("abc")),
            ("/auth/login_flow/abc/d", Place::Inside),
            ("/auth/link_user", Place::Inside),
            ("/static/icons/favicon.ico", Place::Asset),
            ("/static", Place::Inside),
            ("/manifest.json", Place::Asset),
            ("/manifest.json/", Place::Inside),
            ("/api/websocket", Place::WebSocket),
            ("/api/webhook/abc", Place::Webhook("abc")),
            ("/api/webhook/abc/d", Place::Inside),
            ("/api/webhook", Place::Inside),
            ("/api/hls/0123456789abcdef0123456789abcdef/segment/1.2.m4s", Place::Unguessable),
            ("/api/hls/0123456789abcdef0123456789abcdef", Place::Inside),
            ("/api/hls/token/init.mp4", Place::Inside),
            ("/api/image/serve/0123456789abcdef0123456789abcdef/512x512", Place::Unguessable),
            ("/api/image/serve/0123456789abcdef0123456789abcdef/512x512x", Place::Signed),
            ("/api/image/upload", Place::Inside),
            ("/api/media_player_proxy/media_player.tv/browse_media/music/a/b/c/d/e/f", Place::Guarded),
            ("/api/camera_proxy/camera.door/more", Place::Inside),
            ("/api/camera_proxy/door", Place::Inside),
            ("/media/local/a/b/c/d/e/f/g/h/i/j.mp3", Place::Signed),
            ("/media/local", Place::Inside),
            ("/api", Place::Inside),
            ("/api/", Place::Inside),
            ("", Place::Inside),
        ];
        for (path, expected) in table {
            assert_eq!(place(path), expected, "{path}");
        }
        assert_eq!(place(&format!("/api/image/serve/{hex}/original")), Place::Unguessable);
    }

    #[test]
    fn webhooks_have_ids_that_nobody_guesses() {
        for (id, expected) in [
            ("a".repeat(64), true),
            ("-AbC_0123456789x".to_owned(), true),
            ("a".repeat(15), false),
            ("a".repeat(16), true),
            ("a".repeat(256), true),
            ("a".repeat(257), false),
            ("garage door opens".to_owned(), false),
        ] {
            assert_eq!(is_webhook_id(&id), expected, "{id}");
        }
    }
}
