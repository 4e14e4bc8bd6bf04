//! Every path that a login needs, every path that an exploit took, and the neighbours of both.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::app::AttemptKind;
use crate::config::RequestClass;

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln";
const HEX: &str = "0123456789abcdef0123456789abcdef";

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    pairs.iter().map(field).collect()
}

fn reach(method: &str, target: &str) -> Reach {
    classify(&method.parse().unwrap(), target, &HeaderMap::new(), false).reach()
}

fn question(method: &str, target: &str, headers: &HeaderMap) -> Question {
    classify(&method.parse().unwrap(), target, headers, false).question()
}

#[test]
fn a_login_finds_what_it_needs() {
    for path in [
        "/",
        "/?auth_callback=1&code=x&state=y",
        "/?external_auth=1",
        "/lovelace",
        "/lovelace/0?external_auth=1",
        "/config",
        "/config/devices/device/1",
        "/config/tools",
        "/profile",
        "/profile/security",
        "/map",
        "/developer-tools/state",
        "/media-browser/browser",
        "/todo",
        "/calendar",
        "/history",
        "/logbook",
        "/energy",
        "/_my_redirect/config_flow_start",
        "/hassio/dashboard",
        "/home/overview",
        "/light",
        "/climate",
        "/security",
        "/maintenance",
        "/marketplace/x",
        "/hacs/x",
        "/notfound",
        "/my-dashboard",
        "/dashboard-x/kitchen",
        "/auth/authorize?response_type=code&client_id=x",
        "/frontend_latest/app.0123.js",
        "/frontend_es5/app.js",
        "/static/fonts/roboto/Roboto-Regular.woff2",
        "/manifest.json",
        "/service_worker.js",
        "/sw-modern.js",
        "/sw-modern.js.map",
        "/sw-legacy.js",
        "/sw-legacy.js.map",
        "/robots.txt",
        "/local/picture.png",
        "/hacsfiles/card/card.js?hacstag=1",
        "/auth/providers",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource",
        "/.well-known/change-password",
        "/auth/external/callback?code=x&state=y",
    ] {
        assert_eq!(reach("GET", path), Reach::Login, "{path}");
        assert_eq!(reach("HEAD", path), Reach::Login, "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(reach(method, path), Reach::Session, "{method} {path}");
        }
    }
}

#[test]
fn a_login_may_do_what_it_needs() {
    let flow = format!("/auth/login_flow/{HEX}");
    for (path, methods) in [
        ("/auth/login_flow", &["POST"][..]),
        (&flow, &["POST", "DELETE"]),
        ("/auth/token", &["POST", "OPTIONS"]),
        ("/auth/revoke", &["POST", "OPTIONS"]),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let expected = if methods.contains(&method) { Reach::Login } else { Reach::Session };
            assert_eq!(reach(method, path), expected, "{method} {path}");
        }
    }
    for (method, is_upgrade, expected) in
        [("GET", true, Reach::Login), ("GET", false, Reach::Session), ("POST", true, Reach::Session)]
    {
        let endpoint = classify(&method.parse().unwrap(), "/api/websocket", &fields(&[]), is_upgrade).reach();
        assert_eq!(endpoint, expected, "{method} {is_upgrade}");
    }
}

#[test]
fn a_capability_opens_what_it_is_for() {
    let opened = [
        format!("/api/webhook/{HEX}{HEX}"),
        "/api/webhook/-AbC_0123456789x".to_owned(),
        "/api/camera_proxy/camera.door?token=abc".to_owned(),
        "/api/camera_proxy_stream/camera.door?token=abc&interval=2".to_owned(),
        "/api/image_proxy/image.map?token=abc".to_owned(),
        "/api/image_proxy_stream/image.map?token=abc".to_owned(),
        "/api/media_player_proxy/media_player.tv?token=abc&cache=1".to_owned(),
        "/api/media_player_proxy/media_player.tv/browse_media/album/1?token=abc".to_owned(),
        format!("/api/image/serve/{HEX}/512x512"),
        format!("/api/image/serve/{HEX}/original"),
        "/api/tts_proxy/0123456789_-abcdefghij.mp3".to_owned(),
        format!("/api/hls/{HEX}{HEX}/master_playlist.m3u8"),
        format!("/api/hls/{HEX}{HEX}/segment/1.2.m4s"),
        "/api/brands/integration/hue/icon.png?token=abc".to_owned(),
        "/api/map_tiles/raster/1/2/3.png?token=abc".to_owned(),
        format!("/media/local/My%20Song.mp3?authSig={JWT}"),
        format!("/media/local/My%20Song.mp3?auth%53ig={JWT}"),
        format!("/api/camera_proxy_stream/camera.door?authSig={JWT}"),
        format!("/api/backup/download/abc?agent_id=x&authSig={JWT}"),
        format!("/api/diagnostics/config_entry/abc?authSig={JWT}"),
        format!("/api/tts_proxy/short.mp3?authSig={JWT}"),
    ];
    for target in &opened {
        assert_eq!(reach("GET", target), Reach::Capability, "{target}");
        assert_eq!(reach("HEAD", target), Reach::Capability, "{target}");
        assert_eq!(reach("DELETE", target), Reach::Session, "{target}");
        let is_webhook = target.starts_with("/api/webhook/");
        for method in ["POST", "PUT", "OPTIONS"] {
            let expected = if is_webhook { Reach::Capability } else { Reach::Session };
            assert_eq!(reach(method, target), expected, "{method} {target}");
        }
    }
    let tiles = fields(&[("x-map-tiles-token", "abc")]);
    let endpoint = classify(&Method::GET, "/api/map_tiles/tilejson.json", &tiles, false);
    assert_eq!(endpoint.reach(), Reach::Capability);
    assert_eq!(endpoint.attempt(), Some(AttemptKind::Capability));
}

#[test]
fn without_the_right_shape_nothing_is_opened() {
    for target in [
        "/api/webhook/short",
        "/api/webhook/0123456789abcdef/more",
        "/api/webhook/0123456789%20abcdef",
        "/api/camera_proxy/camera.door",
        "/api/camera_proxy/camera.door?token=",
        "/api/camera_proxy/camera.door?token=a%2Fb",
        "/api/camera_proxy/camera.door?token=a&token=b",
        "/api/camera_proxy/camera.door?x=token=a",
        "/api/camera_proxy/camera.door%3Ftoken=a",
        "/api/camera_proxy/camera.door?authSig=eyJ.b",
        "/api/image/serve/abc/512x512",
        "/api/image/serve/0123456789abcdef0123456789abcdef/../x",
        "/api/tts_proxy/short.mp3",
        "/api/hls/token/init.mp4",
        "/media/local/song.mp3",
        "/media/local/song.mp3?authSig=x",
        "/media/local/song.mp3?authSig=xyz.b.c",
        "/media/local/song.mp3?authSig=eyJ.b.c&authSig=eyJ.b.c",
        "/media/local/song.mp3?token=abc",
        "/api/websocket",
        "/API/websocket",
        "/Auth/providers",
        "/auth/providers/",
        "/auth/link_user",
        "/auth/plex/callback",
        "/api/",
        "/api/states",
        "/api/prometheus",
        "/api/alexa/flash_briefings/x?password=y",
        "/api/doorbird/x?token=y",
        "/api/telegram_webhooks",
        "/api/shelly/ws",
        "/api/esphome/ffmpeg_proxy/x/y.mp3",
        "*",
    ] {
        assert!(matches!(reach("GET", target), Reach::Session | Reach::Odd), "{target}");
    }
    for target in ["/onboarding.html", "/api/onboarding", "/api/onboarding/users", "/api/onboarding/backup/upload"] {
        assert_eq!(reach("GET", target), Reach::Onboarding, "{target}");
        assert_eq!(reach("POST", target), Reach::Onboarding, "{target}");
    }
}

#[test]
fn no_published_exploit_is_let_through() {
    let paths = [
        ("/api/error_log", Reach::Session),
        ("/api/error%5Flog", Reach::Session),
        ("/hacsfiles/../../configuration.yaml", Reach::Odd),
        ("/hacsfiles/../../.storage/auth", Reach::Odd),
        ("/hacsfiles/%2e%2e/%2e%2e/.storage/auth", Reach::Odd),
        ("/hacsfiles/..%2f..%2f.storage/auth", Reach::Odd),
        ("/hacsfiles/..%5c..%5c.storage/auth", Reach::Odd),
        ("/local/../.storage/auth", Reach::Odd),
        ("/static//etc/passwd", Reach::Odd),
        ("/custom_component/../../configuration.yaml", Reach::Odd),
        ("/api/hassio/app/.%252e/supervisor/info", Reach::Odd),
        ("/api/hassio/app/.%09./core/info", Reach::Odd),
        ("/api/hassio/app/.\t./core/info", Reach::Odd),
        ("/api/hassio/app/..;/core/info", Reach::Odd),
        ("/api/hassio/app/entrypoint.js", Reach::Session),
        ("/api/hassio/supervisor/info", Reach::Session),
        ("/api/hassio/backups/x/download", Reach::Session),
        ("/api/hassio_ingress/.%09./supervisor/info", Reach::Odd),
        ("/api/hassio_ingress/token/", Reach::Session),
        ("/api/konnected/device/0123456789ab", Reach::Session),
        ("/api/config", Reach::Session),
        ("/api/camera_proxy/../error_log", Reach::Odd),
        ("/api/camera_proxy/%2e%2e/error_log", Reach::Odd),
        ("/media/../api/error_log", Reach::Odd),
        ("http://ha.example/api/error_log", Reach::Odd),
        ("http://ha.example/auth/providers", Reach::Odd),
    ];
    assert_eq!(reach("get", "/auth/providers"), Reach::Odd);
    let keys = format!("authSig={JWT}&token=0123456789abcdef");
    for (path, expected) in paths {
        for target in [path.to_owned(), format!("{path}?zone=1"), format!("{path}?{keys}"), format!("{path}?{keys}#x")]
        {
            for method in ["GET", "HEAD", "POST", "OPTIONS"] {
                assert_eq!(reach(method, &target), expected, "{method} {target}");
            }
        }
    }
}

#[test]
fn a_guess_is_told_by_its_place() {
    let none = fields(&[]);
    let bearer = fields(&[("authorization", "Bearer x")]);
    let basic = fields(&[("authorization", "Basic x")]);
    let step = format!("/auth/login_flow/{HEX}");
    let signed = format!("/api/error_log?authSig={JWT}");
    let camera = "/api/camera_proxy/camera.door?token=x";
    let access = Question::Access;
    for (method, target, headers, expected) in [
        ("POST", "/auth/login_flow", &bearer, Question::LoginStart),
        ("POST", &step, &bearer, Question::LoginStep),
        ("POST", "/auth/%6cogin_flow/x", &none, Question::LoginStep),
        ("DELETE", &step, &bearer, Question::Nothing),
        ("POST", "/auth/token", &bearer, Question::Token),
        ("POST", "/%61uth/token", &none, Question::Token),
        ("POST", "/auth/token?x=%252e", &none, Question::Token),
        ("post", "/auth/token", &none, Question::Token),
        ("OPTIONS", "/auth/token", &bearer, Question::Nothing),
        ("POST", "/auth/revoke", &none, Question::Revocation),
        ("GET", "/api/states", &none, Question::Nothing),
        ("GET", "/api/states", &bearer, access(AttemptKind::Bearer)),
        ("GET", "/api/states", &basic, access(AttemptKind::Basic)),
        ("GET", "/a%70i/%252e", &bearer, access(AttemptKind::Bearer)),
        ("GET", "/no/such/path", &bearer, access(AttemptKind::Bearer)),
        ("OPTIONS", "/api/states", &bearer, Question::Nothing),
        ("GET", &signed, &none, access(AttemptKind::SignedPath)),
        ("GET", &signed, &bearer, access(AttemptKind::Bearer)),
        ("POST", &signed, &none, Question::Nothing),
        ("GET", "/media/local/x.mp3?authSig=bad", &none, access(AttemptKind::SignedPath)),
        ("GET", camera, &none, access(AttemptKind::Capability)),
        ("GET", camera, &bearer, access(AttemptKind::Bearer)),
        ("GET", "/api/camera_proxy/camera.door", &none, Question::Nothing),
        ("GET", "/api/states?token=x", &none, Question::Nothing),
        ("GET", "/", &bearer, Question::Nothing),
        ("GET", "/static/app.js", &bearer, Question::Nothing),
        ("GET", "/auth/providers", &bearer, Question::Nothing),
        ("POST", "/api/webhook/0123456789abcdef", &bearer, Question::Nothing),
        ("GET", "/api/websocket", &bearer, Question::Nothing),
    ] {
        assert_eq!(question(method, target, headers), expected, "{method} {target}");
    }
    assert_eq!(classify(&Method::GET, "/api/websocket", &bearer, true).question(), Question::WebSocket);
    assert_eq!(classify(&Method::POST, &step, &none, false).flow_id(), Some(HEX));
    assert_eq!(classify(&Method::DELETE, &step, &none, false).flow_id(), Some(HEX));
}

#[test]
fn credentials_are_those_that_home_assistant_reads() {
    let mut headers = fields(&[("authorization", "Bearer HUSH1")]);
    headers.append("authorization", HeaderValue::from_static("Bearer two"));
    let target = "/api/camera_proxy/camera.door?token=%48USH2&token=c&authSig=HUSH3";
    let endpoint = classify(&Method::GET, target, &headers, false);
    let presented = endpoint.presented();
    assert_eq!(presented.authorization, Some(&b"Bearer HUSH1"[..]));
    assert_eq!(presented.capability.as_deref(), Some("HUSH2"));
    assert_eq!(presented.signature.as_deref(), Some("HUSH3"));
    assert!(!format!("{endpoint:?}").contains("HUSH"));
    let page = classify(&Method::GET, "/lovelace?token=x&authSig=y", &headers, false);
    assert_eq!(*page.presented(), Presented::default());
}

#[test]
fn a_guess_is_repeated_at_the_same_path_only() {
    let bearer = fields(&[("authorization", "Bearer x")]);
    let of = |target: &'static str| classify(&Method::GET, target, &bearer, false).presented().credential();
    let first = of("/api/camera_proxy/camera.door?token=a&time=1");
    assert_eq!(of("/api/camera_proxy/camera.%64oor?time=2&token=a"), first);
    assert_ne!(of("/api/camera_proxy/camera.gate?token=a&time=1"), first);
    assert_ne!(of("/api/camera_proxy/camera.door?token=b&time=1"), first);
    // A bearer is good or bad wherever it is shown.
    assert_eq!(of("/api/states"), of("/api/config?x=y"));
}

#[test]
fn requests_are_limited_by_what_they_are() {
    for (target, expected) in [
        ("/", RequestClass::Page),
        ("/auth/authorize", RequestClass::Page),
        ("/lovelace/0", RequestClass::Page),
        ("/static/x.js", RequestClass::Static),
        ("/local/x.png", RequestClass::Static),
        ("/manifest.json", RequestClass::Static),
        ("/auth/providers", RequestClass::Auth),
        ("/auth/token", RequestClass::Auth),
        ("/auth/login_flow/x", RequestClass::Auth),
        ("/api/onboarding/users", RequestClass::Auth),
        ("/api/webhook/x", RequestClass::Webhook),
        ("/api/websocket", RequestClass::Websocket),
        ("/api/states", RequestClass::Api),
        ("/api/camera_proxy/camera.door?token=x", RequestClass::Api),
        ("/media/local/x.mp3", RequestClass::Api),
        ("/%61uth/token", RequestClass::Auth),
        ("/no/such/path", RequestClass::Api),
    ] {
        assert_eq!(classify(&Method::GET, target, &HeaderMap::new(), false).class(), expected, "{target}");
    }
}

/// Some letters percent-encoded, as chosen by `mask`, in either case of digits.
fn spelled(path: &str, mask: u64) -> String {
    let spell = |(index, char): (usize, char)| match (mask >> (index % 64)) & 1 {
        1 if char.is_ascii_alphanumeric() && index % 2 == 0 => format!("%{:02x}", u32::from(char)),
        1 if char.is_ascii_alphanumeric() => format!("%{:02X}", u32::from(char)),
        _ => char.to_string(),
    };
    path.chars().enumerate().map(spell).collect()
}

proptest! {
    #[test]
    fn anything_is_survived(
        method in prop::sample::select(vec!["GET", "POST", "OPTIONS", "PROPFIND"]),
        target in ".{0,80}",
        is_upgrade in any::<bool>(),
    ) {
        classify(&method.parse().unwrap(), &target, &HeaderMap::new(), is_upgrade);
    }

    #[test]
    fn no_spelling_changes_what_a_path_is(
        method in prop::sample::select(vec!["GET", "POST", "DELETE"]),
        path in prop::sample::select(vec![
            "/", "/auth/token", "/auth/login_flow", "/auth/login_flow/0123", "/auth/revoke", "/auth/providers", "/local/a",
            "/api/states", "/api/error_log", "/api/webhook/0123456789abcdef", "/api/camera_proxy/camera.door",
            "/api/hassio/app/x", "/lovelace/0", "/my-dashboard", "/media/local/song.mp3", "/api/onboarding",
        ]),
        mask in any::<u64>(),
        is_upgrade in any::<bool>(),
    ) {
        let method = method.parse().unwrap();
        let query = format!("?authSig={JWT}&token=abc");
        let headers = fields(&[("authorization", "Bearer x")]);
        let (plain, odd) = (format!("{path}{query}"), format!("{}{query}", spelled(path, mask)));
        prop_assert_eq!(classify(&method, &plain, &headers, is_upgrade), classify(&method, &odd, &headers, is_upgrade));
    }

    /// Whatever stands behind `/api/hassio`, no key that a stranger makes up opens it.
    #[test]
    fn nothing_of_the_supervisors_is_opened(
        rest in "[a-z0-9%./_;-]{0,30}",
        query in prop::sample::select(vec!["", "?token=abc", "?authSig=eyJ.b.c", "?auth%53ig=eyJ.b.c&token=abc"]),
        root in prop::sample::select(vec!["/api/hassio/", "/api/hassio_ingress/", "/api/%68assio/", "/api/error_log/"]),
    ) {
        let reach = reach("GET", &format!("{root}{rest}{query}"));
        prop_assert!(matches!(reach, Reach::Session | Reach::Odd), "{reach:?}");
    }
}
