//! The section as a whole: what it holds, every bound from both sides, and what is said beyond it.

use std::path::Path;

use super::*;
use crate::config::ConfigError;

fn parse(guard: &str, host: &str) -> Result<Config, ConfigError> {
    let text = format!("guard: {{{guard}}}\nhosts: {{h.example: {{upstream: \"http://10.0.0.1\"{host}}}}}\n");
    Config::parse(&text, Path::new("x.yaml"))
}

fn guard(text: &str) -> Guard {
    parse(text, "").unwrap_or_else(|error| panic!("{text}\n{error}")).guard
}

fn host(guard: &str, host: &str) -> Host {
    let mut config = parse(guard, &format!(", {host}")).unwrap_or_else(|error| panic!("{host}\n{error}"));
    config.hosts.remove(0)
}

/// Expects one finding, at this key and with this in its message.
#[track_caller]
fn expect_one(result: Result<Config, ConfigError>, path: &str, message: &str) {
    let error = result.expect_err(path);
    assert_eq!(error.findings.len(), 1, "{error}");
    assert_eq!(error.findings[0].path, path, "{error}");
    assert!(error.findings[0].message.contains(message), "{error}");
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn the_defaults_are_what_the_readme_says() {
    let default = Guard::default();
    let networks: Vec<String> = default.never_ban.networks.iter().map(ToString::to_string).collect();
    let expected = [
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
        "169.254.0.0/16",
        "fe80::/10",
    ];
    assert_eq!(networks, expected);
    assert_eq!(default.rate_limits.of(RequestClass::Auth).map(|limit| limit.rate.to_string()), Some("1/s".into()));
    assert_eq!((default.bans.first, default.bans.max), (seconds(900), seconds(604_800)));
    assert_eq!(default.known_device_lifetime, seconds(90 * 86_400));
}

#[test]
fn a_ban_has_exceptions_of_four_kinds() {
    let list = |text: &str| {
        let never_ban = guard(&format!("never_ban: [{text}]")).never_ban;
        let networks = never_ban.networks.iter().map(ToString::to_string);
        networks.chain(never_ban.names).collect::<Vec<_>>().join(" ")
    };
    for (text, expected) in [
        ("", ""),
        ("link_local", "169.254.0.0/16 fe80::/10"),
        ("loopback, 127.0.0.0/8, loopback", "127.0.0.0/8 ::1/128"),
        ("203.0.113.0/24, 203.0.113.9, \"2001:db8::/32\"", "203.0.113.0/24 203.0.113.9/32 2001:db8::/32"),
        ("\"::ffff:203.0.113.9\"", "203.0.113.9/32"),
        ("Home.DuckDNS.org., home.duckdns.org, 4.example", "home.duckdns.org 4.example"),
    ] {
        assert_eq!(list(text), expected, "{text}");
    }
    let names = |count: usize| (0..count).map(|i| format!("n{i}.example")).collect::<Vec<_>>().join(", ");
    assert_eq!(guard(&format!("never_ban: [{}]", names(64))).never_ban.names.len(), 64);
    expect_one(parse(&format!("never_ban: [{}]", names(65)), ""), "guard.never_ban", "more than 64 names");
}

#[test]
fn other_exceptions_are_refused_with_their_reason() {
    for (entry, message) in [
        ("privat", "did you mean `private`?"),
        ("link-local", "did you mean `link_local`?"),
        ("lan", "expected `loopback`, `private`, `link_local`, a network such as `203.0.113.0/24`, an address"),
        ("\"\"", "expected `loopback`"),
        ("5", "found the number `5`"),
        ("10.0.0.256", "expected `loopback`"),
        ("203.0.113.9/24", "bits beyond its prefix: write `203.0.113.0/24`"),
        ("0.0.0.0/0", "is everyone: write `bans: {enabled: false}`"),
        ("\"::/0\"", "is everyone"),
        ("\"::ffff:10.0.0.0/104\"", "stands for IPv4: write `10.0.0.0/8`"),
        ("https://home.duckdns.org/x", "write only the name, `home.duckdns.org`"),
        ("\"*.duckdns.org\"", "no address to look up"),
        ("a..b", "empty label"),
        ("!env_var NO_SUCH_VARIABLE lan", "the value of !env_var NO_SUCH_VARIABLE is not `loopback`"),
    ] {
        expect_one(parse(&format!("never_ban: [{entry}]"), ""), "guard.never_ban[0]", message);
    }
}

#[test]
fn numbers_and_spans_have_bounds() {
    for (section, key, good, bad) in [
        ("", "never_ban_refresh", ["10s", "1d"], ["9s", "86401"]),
        ("", "proof_extends_to_address", ["1m", "30d"], ["59s", "2592001"]),
        ("", "proof_extends_to_address", ["0", "12h"], ["-1", "never"]),
        ("", "known_device_lifetime", ["1h", "365d"], ["3599", "366d"]),
        ("login", "max_failures", ["1", "100"], ["0", "101"]),
        ("login", "window", ["10s", "1d"], ["9s", "86401"]),
        ("login", "account_failures", ["1", "10000"], ["0", "10001"]),
        ("login", "account_window", ["10s", "1d"], ["9s", "86401"]),
        ("login", "repeats", ["1", "100"], ["0", "101"]),
        ("login", "delay", ["1s", "5m"], ["999ms", "0"]),
        ("login", "max_delay", ["1s", "1d"], ["999ms", "86401"]),
        ("login", "dry_run", ["true", "false"], ["yes", "1"]),
        ("bans", "enabled", ["true", "false"], ["on", "off"]),
        ("bans", "first", ["1s", "7d"], ["999ms", "0"]),
        ("bans", "factor", ["1", "100"], ["0", "101"]),
        ("bans", "max", ["15m", "365d"], ["0", "366d"]),
        ("bans", "forgive_after", ["1m", "365d"], ["59s", "366d"]),
        ("bans", "answer", ["close", "page"], ["403", "pages"]),
        ("bans", "capacity", ["1", "1000000"], ["0", "1000001"]),
    ] {
        let text = |value: &str| match section {
            "" => format!("{key}: {value}"),
            section => format!("{section}: {{{key}: {value}}}"),
        };
        let path = if section.is_empty() { format!("guard.{key}") } else { format!("guard.{section}.{key}") };
        for value in good {
            guard(&text(value));
        }
        for value in bad {
            expect_one(parse(&text(value), ""), &path, "");
        }
    }
}

#[test]
fn what_grows_begins_below_its_end() {
    for (text, path, message) in [
        ("login: {delay: 6m}", "guard.login.delay", "`delay` would be longer than `max_delay`"),
        ("login: {delay: 3s, max_delay: 2s}", "guard.login.delay", "longer than `max_delay`"),
        ("bans: {first: 8d}", "guard.bans.first", "longer than `max`"),
        ("bans: {max: 14m}", "guard.bans.max", "`first` would be longer than `max`"),
    ] {
        expect_one(parse(text, ""), path, message);
    }
    assert_eq!(guard("bans: {first: 1h, max: 1h}").bans.max, seconds(3600));
    assert_eq!(guard("login: {delay: 2s, max_delay: 2s}").login.delay, seconds(2));
    // The bad value brings no contradiction with it.
    expect_one(parse("bans: {max: soon, first: 8d}", ""), "guard.bans.max", "expected a duration");
}

#[test]
fn a_limit_is_off_or_has_a_rate_and_a_burst() {
    let limits = guard("rate_limits: {static: off, page: false, api: {rate: 30/m}, auth: {burst: 1}, webhook: {}}");
    let (limits, default) = (limits.rate_limits, RateLimits::default());
    assert_eq!((limits.static_files, limits.page), (None, None));
    assert_eq!(limits.api.map(|limit| (limit.rate.to_string(), limit.burst)), Some(("30/m".into(), 500)));
    assert_eq!(limits.auth.map(|limit| (limit.rate, limit.burst)), Some((Rate::per_second(1), 1)));
    assert_eq!((limits.webhook, limits.websocket), (default.webhook, default.websocket));
    assert!(guard("rate_limits: {page: {dry_run: true}}").rate_limits.page.is_some_and(|limit| limit.dry_run));
    for (text, path, message) in [
        ("api: on", "api", "expected `off`, or a mapping such as `{rate: 5/s, burst: 100}`"),
        ("api: 5/s", "api", "found the text `5/s`"),
        ("api: [5/s]", "api", "found a list"),
        ("apis: off", "apis", "did you mean `api`?"),
        ("login: off", "login", "known here: static, page, api, auth, webhook, websocket"),
        ("api: {rate: 5}", "api.rate", "expected a rate such as `100/s`, `30/m` or `10/h`, found the number `5`"),
        ("api: {rate: 0/s}", "api.rate", "from 1 to 1000000"),
        ("api: {burst: 0}", "api.burst", "from 1 to 1000000"),
        ("api: {burst: 1000001}", "api.burst", "from 1 to 1000000"),
        ("api: {brust: 1}", "api.brust", "did you mean `burst`?"),
        ("api: {dry_run: 1}", "api.dry_run", "expected `true` or `false`"),
    ] {
        expect_one(parse(&format!("rate_limits: {{{text}}}"), ""), &format!("guard.rate_limits.{path}"), message);
    }
}

#[test]
fn a_host_changes_the_limits_that_it_names() {
    let shared = "rate_limits: {api: {rate: 9/s, dry_run: true}, webhook: off}";
    let limits = host(shared, "rate_limits: {api: {burst: 7}, webhook: {burst: 8}, page: off}").rate_limits;
    let api = RateLimit { rate: Rate::per_second(9), burst: 7, dry_run: true };
    assert_eq!(limits.api, Some(api));
    let webhook = RateLimit { rate: Rate::per_second(10), burst: 8, dry_run: false };
    assert_eq!(limits.webhook, Some(webhook), "turned on again, from the defaults");
    assert_eq!(limits.page, None);
    assert_eq!(limits.auth, RateLimits::default().auth);
    assert_eq!(host(shared, "surface: open").rate_limits, guard(shared).rate_limits);
    expect_one(
        parse("", ", rate_limits: {api: {rate: x/s}}"),
        "hosts.h.example.rate_limits.api.rate",
        "expected a rate such as",
    );
}

#[test]
fn a_limit_is_found_again_in_the_file() {
    let config = parse("", ", rate_limits: {api: {burst: 7}, page: {burst: 100}}").unwrap();
    let key = |class| config.rate_limit_key(&config.hosts[0], class);
    assert_eq!(key(RequestClass::Api), "hosts.h.example.rate_limits.api");
    assert_eq!(key(RequestClass::Page), "guard.rate_limits.page", "the same as everywhere");
    for class in RequestClass::ALL {
        assert_eq!(key(class).rsplit('.').next(), Some(class.as_str()));
    }
}

#[test]
fn the_surface_depends_on_the_application() {
    assert_eq!(host("", "app: home_assistant").surface, Surface::Login);
    assert_eq!(host("", "app: home_assistant, surface: open").surface, Surface::Open);
    assert_eq!(host("", "app: generic").surface, Surface::Open);
    assert!(host("", "app: home_assistant, onboarding: true").onboarding);
    assert!(!host("", "app: home_assistant").onboarding);
    for (text, path, message) in [
        ("surface: closed", "surface", "`closed` needs `client_ca_file`"),
        ("client_ca_file: /x.pem", "client_ca_file", "is for `surface: closed` only"),
        ("surface: shut", "surface", "expected `open` or `login` or `closed`, found the text `shut`"),
        ("surface: logn, app: home_assistant", "surface", "did you mean `login`?"),
        ("surface: login", "surface", "`login` needs `app: home_assistant`"),
        ("onboarding: true", "onboarding", "only `app: home_assistant` has an onboarding"),
        ("app: x, surface: login, onboarding: true", "app", "expected `home_assistant` or `generic`"),
    ] {
        expect_one(parse("", &format!(", {text}")), &format!("hosts.h.example.{path}"), message);
    }
}

#[test]
fn public_paths_have_one_spelling() {
    let list = |path: &str| parse("", &format!(", public_paths: [\"{path}\"]"));
    for path in ["/nodered", "/a/b.c", "/api/x:y", "/a@b", "/...", "/~me"] {
        assert_eq!(list(path).unwrap().hosts[0].public_paths, [path]);
    }
    let longest = format!("/{}", "a".repeat(255));
    assert!(list(&longest).is_ok());
    for (path, message) in [
        ("nodered", "does not begin with `/`"),
        ("https://x/nodered", "does not begin with `/`"),
        ("", "does not begin with `/`"),
        ("/", "is everything: write `surface: open`"),
        ("/nodered/", "write `/nodered`, all below it"),
        ("/nodered/*", "the beginning of the path"),
        ("/a?b", "the beginning of the path"),
        ("//a", "`//`"),
        ("/a//", "`//`"),
        ("/a/./b", "`/./`"),
        ("/a/..", "`/../`"),
        ("/a%2fb", "not compared with"),
        ("/a;b", "not compared with"),
        ("/a b", "not compared with"),
        ("/ä", "not compared with"),
        (format!("{longest}a").as_str(), "longer than 256"),
    ] {
        expect_one(list(path), "hosts.h.example.public_paths[0]", message);
    }
    let many = |count: usize| {
        let paths: Vec<_> = (0..count).map(|index| format!("/{index}")).collect();
        parse("", &format!(", public_paths: [{}]", paths.join(", ")))
    };
    assert_eq!(many(64).unwrap().hosts[0].public_paths.len(), 64);
    expect_one(many(65), "hosts.h.example.public_paths", "more than 64");
}

#[test]
fn unknown_keys_are_suggested() {
    for (text, path, message) in [
        ("logins: {}", "guard.logins", "did you mean `login`?"),
        ("ban: {}", "guard.ban", "did you mean `bans`?"),
        ("never-ban: []", "guard.never-ban", "did you mean `never_ban`?"),
        ("login: {max_failure: 1}", "guard.login.max_failure", "did you mean `max_failures`?"),
        ("bans: {duration: 1}", "guard.bans.duration", "known here: enabled, first, factor, max, forgive_after"),
    ] {
        expect_one(parse(text, ""), path, message);
    }
}
