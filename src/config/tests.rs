//! Tests of the room as a whole: what is accepted, every refusal, and that no secret shows.

use std::fs;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    let environment = |name: &str| match name {
        "TOKEN" => Some("from-environment".to_owned()),
        "LIMIT" => Some("77".to_owned()),
        "WRONG" => Some("wrong-value".to_owned()),
        _ => None,
    };
    Config::parse_in(text, Path::new("conf/x.yaml"), &environment)
}

/// Appends a host, so that the text before it is all there is to refuse.
fn with_host(text: &str) -> String {
    format!("{text}\nhosts: {{h.example: {{upstream: \"http://10.0.0.1\"}}}}\n")
}

/// A host with these lines in it, each indented as it must be.
fn in_host(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("hosts:\n  h.example:\n{lines}")
}

fn refusal(text: &str) -> ConfigError {
    parse(text).expect_err(text)
}

/// Expects exactly one finding: `line:column path: message`, the message by a part of it.
fn expect_one(text: &str, place: &str, message: &str) {
    let error = refusal(text);
    assert_eq!(error.findings.len(), 1, "{text}\n{error}");
    let finding = &error.findings[0];
    let found = match (finding.line, finding.column) {
        (Some(line), Some(column)) => format!("{line}:{column} {}", finding.path),
        _ => finding.path.clone(),
    };
    assert_eq!(found, place, "{error}");
    assert!(finding.message.contains(message), "{error}");
}

#[test]
fn the_contract_keys_are_read() {
    let config = parse(
        r#"
listen: {https: ["0.0.0.0:443", "[::]:443"], http: ["0.0.0.0:80"]}
admin: {listen: "127.0.0.1:9180"}
state_directory: /var/lib/hearthgate
hosts:
  ha.example.org:
    upstream: http://192.168.1.20:8123
    app: home_assistant
    certificate: {chain_file: fullchain.pem, key_file: /keys/privkey.pem}
"#,
    )
    .unwrap();
    assert_eq!(config.listen.http, ["0.0.0.0:80".parse().unwrap()]);
    assert_eq!(config.admin.listen, Some("127.0.0.1:9180".parse().unwrap()));
    assert_eq!(config.admin.socket, Path::new("/var/lib/hearthgate/admin.sock"));
    let host = &config.hosts[0];
    assert_eq!(host.name, HostPattern::Exact("ha.example.org".into()));
    assert_eq!((host.upstream.host.as_str(), host.upstream.port), ("192.168.1.20", 8123));
    assert_eq!(host.app, App::HomeAssistant);
    let files = CertificateFiles { chain_file: "conf/fullchain.pem".into(), key_file: "/keys/privkey.pem".into() };
    assert_eq!(host.certificate, CertificateSource::Files(files));
}

#[test]
fn what_is_left_out_takes_its_default() {
    let config = parse(&with_host("")).unwrap();
    assert_eq!(config.listen, Listen::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.access_log, AccessLog::default());
    assert_eq!(config.reload, Reload::default());
    assert_eq!(config.trusted_proxies, TrustedProxies::default());
    assert_eq!(config.guard, Guard::default());
    assert_eq!(config.admin.listen, Some("127.0.0.1:9180".parse().unwrap()));
    assert_eq!(config.admin.token, None);
    assert_eq!(config.state_directory, Path::new("/var/lib/hearthgate"));
    let host = &config.hosts[0];
    assert_eq!((host.app, host.security_headers, host.body_size), (App::Generic, true, None));
    assert_eq!(host.strict_transport_security, Duration::from_secs(365 * 86_400));
    assert_eq!(host.upstream.health_check, Duration::from_secs(30));
    assert_eq!(host.upstream.verification, UpstreamVerification::System);
}

#[test]
fn values_that_look_odd_but_are_right_are_accepted() {
    for text in [
        with_host("listen:\n  # https: []\n"),
        with_host("listen: {https: [\"127.0.0.1:0\"], http: [\"127.0.0.1:0\"]}\nadmin: {listen: \"127.0.0.1:0\"}"),
        with_host("listen: {http: [], proxy_protocol_from: [10.0.0.1, fd00::/8], public_port: 8443}"),
        with_host("admin: {listen: off}"),
        with_host("admin: {listen: false}"),
        with_host("admin: {listen: \"[::1]:9180\"}"),
        with_host("admin: {listen: \"0.0.0.0:9180\", token: abc}"),
        with_host("timeouts: {drain: 0, keep_alive: 1h 30m}"),
        with_host("limits: {connections: 256, body_rate: 0, head_size: 24KiB}"),
        with_host("limits: {connections: !env_var LIMIT 5, connections_per_client: !env_var NONE 5}"),
        with_host("trusted_proxies: {networks: [172.16.0.0/12], header: CF-Connecting-IP}"),
        with_host("x: &x 1").replace("x: &x 1", "timeouts: {keep_alive: &t 5s, http2_idle: *t}"),
        in_host("upstream: http://a\naliases: [\"*.h.example\", other.example]"),
        in_host("upstream: {url: \"https://a\", verify: false, health_check: 0}"),
        in_host("upstream: {url: \"https://a\", ca_file: ca.pem}"),
        in_host("upstream: http://a\nbody_size: 10GB\nstrict_transport_security: 0"),
        "hosts: {\"*.example.org\": {upstream: \"http://a\"}, a.example.org: {upstream: \"http://a\"}}".to_owned(),
    ] {
        if let Err(error) = parse(&text) {
            panic!("{text}\n{error}");
        }
    }
}

#[test]
fn values_from_the_environment_are_typed() {
    let config =
        parse(&with_host("limits: {connections_per_client: !env_var LIMIT}\nreload: {watch: !env_var X true}"));
    let config = config.unwrap();
    assert_eq!((config.limits.connections_per_client, config.reload.watch), (77, true));
}

#[test]
fn a_fingerprint_may_have_colons() {
    let plain = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
    let pairs: Vec<&str> = (0..32).map(|index| &plain[index * 2..index * 2 + 2]).collect();
    for text in [plain.to_owned(), pairs.join(":").to_uppercase()] {
        let config =
            parse(&in_host(&format!("upstream: {{url: \"https://a\", certificate_sha256: \"{text}\"}}"))).unwrap();
        let UpstreamVerification::Pinned(pin) = config.hosts[0].upstream.verification else { panic!("{text}") };
        assert_eq!((pin[0], pin[31]), (0x5e, 0xd8));
    }
}

#[test]
fn findings_read_as_in_the_style() {
    let text = "limits:\n  connections: many\nhosts:\n  ha.example.org:\n    upsteam: http://192.168.1.20:8123\n";
    assert_eq!(
        refusal(text).to_string(),
        "\
conf/x.yaml:2:16: limits.connections: expected a whole number from 1 to 1000000, found the text `many`
   2 |   connections: many
     |                ^^^^
conf/x.yaml:4:3: hosts.ha.example.org.upstream: `upstream` is missing: add it
   4 |   ha.example.org:
     |   ^^^^^^^^^^^^^^
conf/x.yaml:5:5: hosts.ha.example.org.upsteam: unknown key, did you mean `upstream`?
   5 |     upsteam: http://192.168.1.20:8123
     |     ^^^^^^^
3 problems found"
    );
}

#[test]
fn rendered_refusals_stay_as_they_are() {
    for (text, rendered) in [
        (
            "hosts:\n  a.example: {upstream: \"http://a\"}\n  a.example: {upstream: \"http://b\"}\n".to_owned(),
            "conf/x.yaml:3:3: hosts.a.example: duplicate key, first on line 2
   3 |   a.example: {upstream: \"http://b\"}
     |   ^^^^^^^^^
1 problem found",
        ),
        (
            with_host("listen: {https: [\":443\"]}"),
            "conf/x.yaml:1:18: listen.https[0]: a port alone does not say where to listen: write \"0.0.0.0:443\" and \"[::]:443\" for all addresses
   1 | listen: {https: [\":443\"]}
     |                  ^^^^^^
1 problem found",
        ),
        (
            with_host("trusted_proxies:\n  networks: [10.0.0.1/8]"),
            "conf/x.yaml:2:14: trusted_proxies.networks[0]: `10.0.0.1/8` has bits beyond its prefix: write `10.0.0.0/8`
   2 |   networks: [10.0.0.1/8]
     |              ^^^^^^^^^^
1 problem found",
        ),
        (
            with_host("admin: {token: !secert metrics}"),
            "conf/x.yaml:1:16: admin.token: unknown tag `!secert`, did you mean `!secret`?
   1 | admin: {token: ***
     |                ^^^
1 problem found",
        ),
        (
            "hosts:\n\ta: 1\n".to_owned(),
            "conf/x.yaml:2:1: not valid YAML: found character that cannot start any token, while scanning for the next token; indent with spaces, never tabs, and put values that begin with a sign in quotes
   2 |  a: 1
     | ^
1 problem found",
        ),
    ] {
        assert_eq!(refusal(&text).to_string(), rendered, "{text}");
    }
}

#[test]
fn yaml_itself_is_refused_with_its_place() {
    let deep = format!("limits: {}{}", "[".repeat(17), "]".repeat(17));
    for (text, place, message) in [
        ("", " ", "no hosts"),
        ("# nothing\n", " ", "no hosts"),
        ("a: [1, 2\nb: 1", "2:2 ", "a bracket is not closed"),
        ("hosts:\n  *.example.org: 1", "2:4 ", "\"*.example.org\""),
        ("a: 'x\nb: 1\n", "3:1 ", "a quote is not closed"),
        ("a: 1\n---\nb: 1\n", "2:1 ", "more than one YAML document"),
        ("a: *x", "1:4 ", "`&name`"),
        ("a: 1\nb: x\u{7}", "2:5 ", "control characters"),
        ("%TAG !e! tag:x,2000:\n---\na: !e!secret x", "1:1 ", "`%TAG` is not supported"),
        // serde_yaml 0.9.34 takes `*a` for 3 here, the anchor that came next.
        ("a: &a 1\nb: &a 2\nc: &b 3\nd: *a", "2:4 ", "`&a` is defined twice"),
        (deep.as_str(), "1:24 ", "nested deeper than 16"),
    ] {
        let place = place.trim_start();
        if message == "no hosts" {
            let error = refusal(text);
            assert!(error.findings[0].message.contains(message), "{error}");
        } else {
            expect_one(text, place, message);
        }
    }
}

#[test]
fn aliases_cannot_make_the_tree_grow_without_end() {
    let list = "x,".repeat(2000);
    let text = format!("a: &a [{list}]\nb: [{}]\n", "*a,".repeat(1000));
    assert!(refusal(&text).findings[0].message.contains("more than 65536 values"));
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{},", level - 1).repeat(10);
        laughs.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert!(refusal(&laughs).findings[0].message.contains("more than 65536 values"));
    assert!(refusal("a: &a [*a]\n").findings[0].message.contains("nested deeper"));
}

#[test]
fn keys_are_refused_at_their_own_line() {
    for (text, place, message) in [
        (with_host("limit: {}"), "1:1 limit", "unknown key, did you mean `limits`?"),
        (with_host("zebra: {}"), "1:1 zebra", "unknown key, known here: listen, state_directory, admin"),
        (with_host("state-directory: /x"), "1:1 state-directory", "did you mean `state_directory`?"),
        (with_host("reload:\n  watch: true\n  watch: true"), "3:3 reload.watch", "duplicate key, first on line 2"),
        (with_host("<<: {}"), "1:1 <<", "merge keys are not supported"),
        (with_host("reload: {1: x}"), "1:10 reload", "must be text"),
        (with_host("reload: {[a]: x}"), "1:10 reload", "must be text"),
        (with_host("reload: {!secret a: x}"), "1:10 reload", "must be text"),
        (with_host("reload: {true: x}"), "1:10 reload", "must be text"),
        (with_host("limits: 5"), "1:9 limits", "expected a mapping"),
        (with_host("reload: {watch: }"), "1:10 reload.watch", "no value"),
    ] {
        expect_one(&text, place, message);
    }
}

#[test]
fn tags_other_than_ours_are_refused() {
    for (text, place, message) in [
        ("state_directory: !include x", "1:18 state_directory", "unknown tag `!include`: only"),
        ("state_directory: !!secret x", "1:18 state_directory", "unknown tag `!!secret`, did you mean `!secret`?"),
        ("state_directory: !!str x", "1:18 state_directory", "unknown tag `!!str`: only"),
        ("state_directory: !<secret> x", "1:18 state_directory", "unknown tag"),
        ("state_directory: !secret", "1:18 state_directory", "a name is missing"),
        ("state_directory: !secret [a]", "1:18 state_directory", "takes one name"),
        ("state_directory: !secret name", "1:18 state_directory", "cannot read conf/secrets.yaml: no such file"),
        ("state_directory: !env_var NONE", "1:18 state_directory", "`NONE` is not set"),
        ("reload: !env_var LIMIT", "1:9 reload", "stands for one value"),
    ] {
        expect_one(&with_host(text), place, message);
    }
    assert!(parse(&with_host("state_directory: \"/a!!b\"")).is_ok());
}

#[test]
fn values_are_refused_with_what_to_write() {
    for (text, place, message) in [
        ("reload: {watch: yes}", "1:17 reload.watch", "expected `true` or `false`, found the text `yes`"),
        ("reload: {watch: [true]}", "1:17 reload.watch", "expected `true` or `false`, found a list"),
        ("reload: {interval: 0}", "1:20 reload.interval", "must be at least 100ms"),
        ("reload: {interval: soon}", "1:20 reload.interval", "expected a duration such as `10s`"),
        ("reload: {interval: 1.5}", "1:20 reload.interval", "found the number `1.5`"),
        ("reload: {interval: 11years}", "1:20 reload.interval", "longer than 10 years"),
        ("reload: {interval: {a: 1}}", "1:20 reload.interval", "found a mapping"),
        ("limits: {connections: 0}", "1:23 limits.connections", "from 1 to 1000000, found the number `0`"),
        ("limits: {connections: -1}", "1:23 limits.connections", "from 1 to"),
        ("limits: {connections: \"5\"}", "1:23 limits.connections", "found the text `5`"),
        ("limits: {connections: 1e400}", "1:23 limits.connections", "found the text `1e400`"),
        ("limits: {head_size: 10k}", "1:21 limits.head_size", "write `KiB` (1024)"),
        ("limits: {head_size: 0}", "1:21 limits.head_size", "must be from 1KiB to 1MiB"),
        ("limits: {head_size: big}", "1:21 limits.head_size", "expected a size such as `64KiB`"),
        ("listen: {https: [443]}", "1:18 listen.https[0]", "a port alone"),
        ("listen: {https: [\"1.2.3.4\"]}", "1:18 listen.https[0]", "no port: write \"1.2.3.4:443\""),
        ("listen: {https: [\"::1\"]}", "1:18 listen.https[0]", "no port: write \"[::1]:443\""),
        ("listen: {https: [\"ha:443\"]}", "1:18 listen.https[0]", "expected an address with a port"),
        ("listen: {https: \"0.0.0.0:443\"}", "1:17 listen.https", "expected a list: write [\"0.0.0.0:443\"]"),
        ("listen: {https: }", "1:10 listen.https", "for an empty list write `[]`"),
        ("listen: {https: []}", "1:10 listen.https", "nothing to serve"),
        ("listen: {public_port: 0}", "1:23 listen.public_port", "from 1 to 65535"),
        ("listen: {proxy_protocol_from: [lan]}", "1:32 listen.proxy_protocol_from[0]", "expected a network"),
        ("trusted_proxies: {networks: [\"::/0\"]}", "1:30 trusted_proxies.networks[0]", "is everyone"),
        (
            "trusted_proxies: {networks: [\"::ffff:10.0.0.0/104\"]}",
            "1:30 trusted_proxies.networks[0]",
            "stands for IPv4: write `10.0.0.0/8`",
        ),
        ("trusted_proxies: {header: \"a b\"}", "1:27 trusted_proxies.header", "expected a field name"),
        ("access_log: {file: 5}", "1:20 access_log.file", "put it in quotes"),
        ("access_log: {file: ~/log}", "1:20 access_log.file", "`~` has no meaning"),
        ("access_log: {file: \"\"}", "1:20 access_log.file", "empty path"),
        ("admin: {listen: on}", "1:17 admin.listen", "expected an address with a port"),
        ("admin: {token: \"\"}", "1:16 admin.token", "token is empty"),
        ("admin: {token: \"a b\"}", "1:16 admin.token", "visible ASCII"),
        ("admin: {token: 12345}", "1:16 admin.token", "put it in quotes"),
        ("admin: {token_file: nowhere}", "1:9 admin.token_file", "cannot use conf/nowhere: no such file"),
    ] {
        // Where `null` would be, serde_yaml has no place of its own.
        expect_one(&with_host(text), place, message);
    }
}

#[test]
fn contradictions_are_refused() {
    for (text, place, message) in [
        ("listen: {https: [\"1.1.1.1:1\"], http: [\"1.1.1.1:1\"]}", "1:39 listen.http[0]", "already in `listen.https`"),
        ("listen: {https: [\"1.1.1.1:1\", \"1.1.1.1:1\"]}", "1:31 listen.https[1]", "already in `listen.https`"),
        ("listen: {https: [\"0.0.0.0:80\"]}", "1:1 listen.http", "its default; write `http: []`"),
        ("admin: {listen: \"0.0.0.0:9180\"}", "1:9 admin.listen", "not loopback: add `token_file`"),
        ("admin: {listen: \"[::]:443\", token: a}", "1:9 admin.listen", "already in `listen.https`"),
        ("limits: {connections: 100}", "1:10 limits.connections", "more than `connections`"),
        ("limits: {connections_per_client: 9000}", "1:10 limits.connections_per_client", "more than `connections`"),
        ("limits: {uri_length: 64KiB, head_size: 32KiB}", "1:10 limits.uri_length", "more than `head_size`"),
    ] {
        expect_one(&with_host(text), place, message);
    }
}

#[test]
fn hosts_are_refused_with_their_reason() {
    for (text, place, message) in [
        ("hosts: {}", "1:1 hosts", "no hosts"),
        ("hosts:\n", "1:1 hosts", "no hosts"),
        ("hosts: [a]", "1:8 hosts", "expected a mapping"),
        ("hosts: {a.b: http://x}", "1:14 hosts.a.b", "expected a mapping"),
        ("hosts: {1.2.3.4: {upstream: \"http://a\"}}", "1:9 hosts.1.2.3.4", "no server name"),
        (
            "hosts:\n  a.b: {upstream: \"http://a\"}\n  A.B.: {upstream: \"http://a\"}",
            "3:3 hosts.A.B.",
            "`a.b` is named twice, first on line 2",
        ),
        (
            "hosts:\n  a.b: {upstream: \"http://a\", aliases: [A.b]}",
            "2:41 hosts.a.b.aliases[0]",
            "named twice, first on line 2",
        ),
        (
            "hosts:\n  a.b: {upstream: \"http://a\", aliases: [c.d]}\n  c.d: {upstream: \"http://a\"}",
            "3:3 hosts.c.d",
            "named twice, first on line 2",
        ),
        ("hosts: {a.b: {}}", "1:9 hosts.a.b.upstream", "`upstream` is missing"),
        ("hosts: {a.b: {upstream: {}}}", "1:15 hosts.a.b.upstream.url", "`url` is missing"),
        (
            "hosts: {a.b: {upstream: [x]}}",
            "1:25 hosts.a.b.upstream",
            "expected a URL such as `http://192.168.1.20:8123`, found a list",
        ),
        ("hosts: {a.b: {upstream: \"http://a/b\"}}", "1:25 hosts.a.b.upstream", "must be at the root"),
        ("hosts: {a.b: {upstream: {url: a}}}", "1:31 hosts.a.b.upstream.url", "write `http://a`"),
    ] {
        expect_one(text, place, message);
    }
}

#[test]
fn host_keys_are_refused_with_their_reason() {
    let tls = |lines: &str| format!("upstream:\n  url: https://a\n{lines}");
    for (text, place, message) in [
        ("upstream: http://a\napp: homeassistant".to_owned(), "4:10 h.example.app", "did you mean `home_assistant`?"),
        ("upstream: http://a\nbody_size: 0".to_owned(), "4:16 h.example.body_size", "at least 1B"),
        ("upstream: http://a\naliases: [x y]".to_owned(), "4:15 h.example.aliases[0]", "no host name has"),
        (
            "upstream: http://a\ncertificate: {chain_file: a}".to_owned(),
            "4:5 h.example.certificate.key_file",
            "missing",
        ),
        ("upstream: {url: \"http://a\", ca_file: x}".to_owned(), "3:33 h.example.upstream.ca_file", "write `https://`"),
        (
            "upstream: {url: \"http://a\", verify: false}".to_owned(),
            "3:33 h.example.upstream.verify",
            "write `https://`",
        ),
        (tls("  verify: false\n  ca_file: x"), "5:7 h.example.upstream.verify", "would ignore the certificate"),
        (tls("  certificate_sha256: abcd"), "5:27 h.example.upstream.certificate_sha256", "this has 4;"),
        (tls("  certificate_sha256: xyz"), "5:27 h.example.upstream.certificate_sha256", "64 hexadecimal digits"),
        (tls("  health_check: 1ms"), "5:21 h.example.upstream.health_check", "at least 1s, or 0"),
    ] {
        let (line_column, path) = place.split_once(' ').unwrap();
        expect_one(&in_host(&text), &format!("{line_column} hosts.{path}"), message);
    }
    let pin = "ab".repeat(32);
    let both = in_host(&tls(&format!("  ca_file: x\n  certificate_sha256: {pin}")));
    expect_one(&both, "6:7 hosts.h.example.upstream.certificate_sha256", "exclude each other");
}

#[test]
fn what_certificates_need_is_refused_with_its_reason() {
    for (text, place, message) in [
        ("acme: {directory: \"http://a/d\"}", "1:19 acme.directory", "https URL of an authority's directory"),
        ("acme: {directory: \"https://u:p@a/d\"}", "1:19 acme.directory", "https URL of an authority's directory"),
        ("acme: {directory: \"https://a/d\", staging: true}", "1:34 acme.staging", "only `directory: letsencrypt`"),
        ("acme: {email: anna}", "1:15 acme.email", "anna@example.org"),
        ("acme: {challenges: []}", "1:8 acme.challenges", "leaves no way"),
        ("acme: {challenges: [dns-1]}", "1:21 acme.challenges[0]", "did you mean `dns-01`?"),
        ("acme: {challenges: [dns-01, dns-01]}", "1:29 acme.challenges", "named twice"),
        ("acme: {external_account: {key_id: a}}", "1:8 acme.external_account.hmac_key", "missing"),
        (
            "acme: {external_account: {key_id: a, hmac_key: \"a b\"}}",
            "1:48 acme.external_account.hmac_key",
            "no spaces",
        ),
        ("acme: {external_account: {key_id: a, hmac_key: \"!\"}}", "1:38 acme.external_account.hmac_key", "base64url"),
        (
            "dns: {a: {provider: rfc2136, server: 1.1.1.1, key_name: a.b, key: \"?\"}}",
            "1:62 dns.a.key",
            "the key is not base64",
        ),
        ("acme: {propagation: {resolvers: [dns.example]}}", "1:34 acme.propagation.resolvers[0]", "`1.1.1.1`"),
        ("dns: {home: {provider: duckdn}}", "1:24 dns.home.provider", "did you mean `duckdns`?"),
        ("dns: {home: {token: a}}", "1:7 dns.home.provider", "missing"),
        ("dns: {home: {provider: duckdns}}", "1:7 dns.home.token", "missing"),
        ("dns: {home: {provider: duckdns, token: a, url: \"http://a\"}}", "1:48 dns.home.url", "https URL"),
        ("dns: {home: {provider: exec}}", "1:7 dns.home.command", "missing"),
        (
            "dns: {a: {provider: exec, command: x}, b: {provider: exec, command: y}}",
            "1:40 dns.b",
            "`dns.a` speaks for all names too",
        ),
        (
            "dns: {a: {provider: duckdns, token: x}, b: {provider: duckdns, token: y}}",
            "1:41 dns.b",
            "`duckdns.org` belongs to `dns.a` already",
        ),
        ("dynamic_dns: {names: [a.example]}", "1:23 dynamic_dns.names", "no account in `dns` speaks for `a.example`"),
        (
            "dns: {a: {provider: exec, command: x}}\ndynamic_dns: {names: [a.example]}",
            "2:23 dynamic_dns.names",
            "`dns.a` runs a script",
        ),
        ("dynamic_dns: {ipv4: [\"http://a\"]}", "1:22 dynamic_dns.ipv4[0]", "`interface:eth0`"),
        ("dynamic_dns: {ipv4: [], ipv6: []}", "1:25 dynamic_dns.ipv6", "no address to set"),
    ] {
        expect_one(&with_host(text), place, message);
    }
    for (certificate, place, message) in [
        ("acm", "3:18 h.example.certificate", "expected `acme`, or a mapping"),
        ("{acme: {}, key_file: x}", "3:29 h.example.certificate.key_file", "exclude each other"),
        ("{acme: {names: [a.b]}}", "3:26 h.example.certificate.acme.names", "`h.example` is not among them"),
        (
            "{acme: {names: [h.example, \"*.h.example\"]}}",
            "3:19 h.example.certificate.acme.challenges",
            "`dns` is empty: add an account",
        ),
        (
            "{acme: {names: [\"*.example\"], challenges: [http-01]}}",
            "3:48 h.example.certificate.acme.challenges",
            "can only be had by dns-01",
        ),
    ] {
        let text = in_host(&format!("upstream: http://a\ncertificate: {certificate}"));
        let (line_column, path) = place.split_once(' ').unwrap();
        let line_column = line_column.replacen('3', "4", 1);
        expect_one(&text, &format!("{line_column} hosts.{path}"), message);
    }
}

#[test]
fn a_host_asks_for_its_own_names_unless_it_says_otherwise() {
    let config = parse(
        r#"
acme: {profile: tlsserver, on_failure: refuse}
dns: {home: {provider: duckdns, token: x}}
hosts:
  a.duckdns.org: {upstream: "http://a", aliases: [www.a.duckdns.org], certificate: acme}
  b.duckdns.org:
    upstream: http://b
    certificate: {acme: {names: ["*.duckdns.org", duckdns.org], challenges: [dns-01], profile: shortlived}}
"#,
    )
    .unwrap();
    let CertificateSource::Acme(first) = &config.hosts[0].certificate else { panic!() };
    let CertificateSource::Acme(second) = &config.hosts[1].certificate else { panic!() };
    let names = |certificate: &AcmeCertificate| certificate.names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(first), ["a.duckdns.org", "www.a.duckdns.org"]);
    assert_eq!(first.terms, config.acme.terms);
    assert_eq!(names(second), ["*.duckdns.org", "duckdns.org"]);
    let own = AcmeTerms {
        challenges: vec![Challenge::Dns01],
        profile: Some("shortlived".into()),
        on_failure: OnFailure::Refuse,
    };
    assert_eq!(second.terms, own);
}

#[test]
fn the_account_with_the_longest_zone_speaks_for_a_name() {
    let account = |zones: &[&str]| DnsAccount {
        name: "a".into(),
        zones: zones.iter().map(|zone| zone.to_string()).collect(),
        provider: DnsProvider::Exec { command: "x".into(), timeout: Duration::from_secs(1) },
    };
    for (zones, name, much) in [
        (&["example.org"][..], "example.org", Some(11)),
        (&["example.org"], "a.b.example.org", Some(11)),
        (&["example.org", "b.example.org"], "a.b.example.org", Some(13)),
        (&["example.org"], "badexample.org", None),
        (&["example.org"], "org", None),
        (&[], "anything.org", Some(0)),
    ] {
        assert_eq!(account(zones).speaks_for(name), much, "{zones:?} {name}");
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    let error = refusal(
        "limits: {connections: x, head_size: y}\ntimeouts: {drain: z}\nfoo: 1\nhosts:\n  1.2.3.4: {}\n  a b: {upstream: http}\n",
    );
    assert_eq!(error.findings.len(), 8, "{error}");
    assert!(error.findings.is_sorted_by_key(|finding| (finding.line, finding.column)));
    assert!(error.to_string().ends_with("\n8 problems found"));
}

#[test]
fn a_flood_of_problems_is_cut() {
    let text: String = (0..150).map(|index| format!("zebra{index}: 1\n")).collect();
    let error = refusal(&with_host(&text));
    assert_eq!((error.findings.len(), error.omitted), (100, 50));
    assert!(error.to_string().ends_with("150 problems found, the first 100 shown"));
}

#[test]
fn a_flood_of_secrets_leaves_the_snippets_out() {
    let tokens: String = (0..150).map(|index| format!("  token{index}: hunter2\n")).collect();
    let error = refusal(&with_host(&format!("foo:\n{tokens}")));
    assert_eq!(error.to_string().matches("unknown key").count(), 1);
    assert_silent(&error);
}

#[test]
fn a_bad_value_brings_no_contradiction_with_it() {
    expect_one(&with_host("listen: {https: [\"x\"], http: [\"0.0.0.0:443\"]}"), "1:18 listen.https[0]", "expected an");
    expect_one(
        &with_host("limits: {connections: x, connections_per_client: 9000}"),
        "1:23 limits.connections",
        "whole",
    );
}

#[test]
fn both_token_and_token_file_are_one_too_many() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.yaml");
    fs::write(directory.path().join("token"), "hunter2\n").unwrap();
    let both = with_host("admin: {token: abc, token_file: token}");
    let error = Config::parse(&both, &file).unwrap_err();
    assert!(error.to_string().contains("exclude each other"), "{error}");
    let config = Config::parse(&with_host("admin: {token_file: token}"), &file).unwrap();
    assert_eq!(config.admin.token, Some(Secret::new("hunter2".into())));
    for content in [String::new(), "\n".to_owned(), "a".repeat(4097), "a".repeat(5000), "a\nb".to_owned()] {
        fs::write(directory.path().join("token"), &content).unwrap();
        assert!(Config::parse(&with_host("admin: {token_file: token}"), &file).is_err(), "{}", content.len());
    }
    fs::write(directory.path().join("token"), "a".repeat(4096) + "\n").unwrap();
    assert!(Config::parse(&with_host("admin: {token_file: token}"), &file).is_ok());
}

#[test]
fn secrets_are_read_beside_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.yaml");
    let secrets = directory.path().join("secrets.yaml");
    let parse = |text: &str| Config::parse(&with_host(text), &file);
    fs::write(&secrets, "token: hunter2\nnumber: 300\nlist: [1]\n").unwrap();
    let config = parse("admin: {token: !secret token}\nlimits: {connections: !secret number}").unwrap();
    assert_eq!(config.admin.token.as_ref().map(Secret::expose), Some("hunter2"));
    assert_eq!(config.limits.connections, 300);
    for (content, reference, message) in [
        ("token: hunter2", "tokn", "no secret `tokn`"),
        ("token: hunter2", "tokn", "did you mean `token`?"),
        ("list: [hunter2]", "list", "no secret `list`"),
        ("a: hunter2\nb: \"hunter2", "a", "not valid YAML at line 2"),
        ("a: hunter2\na: hunter2", "a", "`a` is there twice"),
        ("[hunter2]", "a", "must hold `name: value` lines"),
        ("a: hunter2", "a", "the value of !secret a is not a duration"),
    ] {
        fs::write(&secrets, content).unwrap();
        let error = parse(&format!("timeouts: {{drain: !secret {reference}}}")).unwrap_err().to_string();
        assert!(error.contains(message), "{content}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn no_output_shows_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.yaml");
    fs::write(directory.path().join("secrets.yaml"), "s: hunter2 hunter2\nok: hunter2").unwrap();
    fs::write(directory.path().join("token"), "hunter2 hunter2").unwrap();
    let environment = |name: &str| (name == "S").then(|| "hunter2 hunter2".to_owned());
    let references = ["!secret s", "!env_var S", "!env_var NONE hunter2 x"];
    let keys = [
        "reload: {watch: $}",
        "reload: {interval: $}",
        "limits: {connections: $}",
        "limits: {head_size: $}",
        "listen: {https: [$]}",
        "admin: {listen: $}",
        "admin: {token: $}",
        "trusted_proxies: {networks: [$]}",
        "trusted_proxies: {header: $}",
        "guard: {never_ban: [$], never_ban_refresh: $, rate_limits: {api: $, page: {rate: $, burst: $}}}",
        "guard: {login: {delay: $, dry_run: $}, bans: {answer: $, factor: $}}",
        "hosts: {a.b: {upstream: \"http://a\", surface: $, public_paths: [$]}}",
        "hosts: {a.b: {upstream: $}}",
        "hosts: {a.b: {upstream: {url: $, certificate_sha256: $}}}",
        "hosts: {a.b: {upstream: \"http://a\", aliases: [$], app: $, body_size: $}}",
    ];
    // The default of a variable is in the file: the line shows it unless the key is a secret's.
    for (key, reference) in keys.iter().flat_map(|key| references.iter().map(move |reference| (key, reference))) {
        let text = key.replace('$', reference);
        let error = Config::parse_in(&text, &file, &environment).expect_err(&text);
        for finding in &error.findings {
            assert!(!finding.message.contains("hunter2"), "{text}: {}", finding.message);
        }
        if !reference.contains("hunter2") || text.contains("token") {
            assert_silent(&error);
        }
    }
    for literal in [
        "admin: {token: hunter2 hunter2, tokn: x, listen: 5}",
        "admin: {tokn: hunter2, listen: 5}",
        "admin: {token: [hunter2], listen: 5}",
        "admin: {token: a@hunter2, token: \"hunter2\", listen: 5}",
        "admin:\n  token: |\n    hunter2 x\n  token_file: token",
        "admin:\n  token: >\n    hunter2\n    hunter2\n   # hunter2\n  tken: hunter2",
        "admin: {token: !!secret hunter2}",
        "admin: {token: !!int hunter2}",
        "admin: {token: !<secret> hunter2}",
        "admin: {token: !screet hunter2}",
        "admin: {token: \"hunter2}",
        "admin:\n  token: hunter2: hunter2",
        "admin:\n  token: \"hunter2\n   hunter2: hunter2\n",
        "admin:\n  token: hunter2\n    hunter2: hunter2\n",
        "admin: {token_file: token}",
        "token: hunter2",
        "foo: {bar: {api_token: {a: hunter2}}}\nTOKEN: hunter2",
        "hosts: {a.b: {upstream: \"http://me:hunter2@ha\"}}",
        "hosts: {a.b: {upstream: \"me:hunter2@ha\"}}",
        "hosts: {a.b: {upstream: http://me:hunter2@ha, x",
    ] {
        assert_silent(&Config::parse_in(literal, &file, &environment).expect_err(literal));
    }
    let config = Config::parse_in(&with_host("admin: {token: !secret ok}"), &file, &environment).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

fn assert_silent(error: &ConfigError) {
    for output in [error.to_string(), format!("{error:?}"), serde_json::to_string(error).unwrap()] {
        assert!(!output.contains("hunter2"), "{output}");
    }
}

#[test]
fn files_that_cannot_be_read_are_findings_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("x.yaml");
    let message = |file: &Path| Config::load(file).unwrap_err().findings[0].message.clone();
    assert!(message(&file).contains("no such file"));
    assert!(message(directory.path()).contains("directory"));
    fs::write(&file, b"a: 1\nb: \xff\n").unwrap();
    assert!(message(&file).contains("not UTF-8 from line 2 on"));
    fs::write(&file, "#".repeat(1 << 20)).unwrap();
    assert!(message(&file).contains("no hosts"));
    fs::write(&file, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(message(&file).contains("larger than 1048576 bytes"));
    fs::write(&file, with_host("")).unwrap();
    assert!(Config::load(&file).is_ok());
}

#[test]
fn json_has_the_same_findings() {
    let json = serde_json::to_value(refusal(&with_host("foo: 1"))).unwrap();
    assert_eq!(json["file"], "conf/x.yaml");
    assert_eq!(json["findings"][0]["line"], 1);
    assert_eq!(json["findings"][0]["path"], "foo");
}

#[test]
fn only_what_is_bound_or_opened_once_needs_a_restart() {
    let old = parse(&with_host("")).unwrap();
    assert!(old.keys_needing_restart(&old).is_empty());
    for (text, keys) in [
        ("listen: {http: []}", vec!["listen.http"]),
        ("listen: {https: [\"0.0.0.0:8443\"], public_port: 443}", vec!["listen.https", "listen.public_port"]),
        ("listen: {proxy_protocol_from: [10.0.0.1]}", vec!["listen.proxy_protocol_from"]),
        ("admin: {listen: off, token: a, socket: /x}", vec!["admin.listen", "admin.token", "admin.socket"]),
        ("state_directory: /x", vec!["admin.socket", "state_directory"]),
        (
            "access_log: {enabled: false, file: /x, queue: 1}",
            vec!["access_log.enabled", "access_log.file", "access_log.queue"],
        ),
        ("reload: {watch: true, interval: 3s}", vec!["reload.watch", "reload.interval"]),
        ("limits: {connections: 300}\ntimeouts: {drain: 1}", vec![]),
        ("access_log: {redact: false}", vec!["access_log.redact"]),
        ("trusted_proxies: {networks: [10.0.0.1]}", vec![]),
        ("guard: {bans: {capacity: 7, enabled: false}, rate_limits: {api: off}}", vec!["guard.bans.capacity"]),
    ] {
        assert_eq!(old.keys_needing_restart(&parse(&with_host(text)).unwrap()), keys, "{text}");
    }
}

const FULL: &str = include_str!("../../conf/hearthgate.yaml");
const MINIMAL: &str = include_str!("../../conf/minimal.yaml");

/// A directory with what the examples in the full file refer to.
fn example_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let secrets = ["metrics_token", "acme_hmac_key", "duckdns_token", "tsig_key"];
    let secrets: String = secrets.iter().map(|name| format!("{name}: YWJj\n")).collect();
    fs::write(directory.path().join("secrets.yaml"), secrets).unwrap();
    for file in ["metrics.token", "duckdns.token", "cloudflare.token"] {
        fs::write(directory.path().join(file), "abc").unwrap();
    }
    directory
}

/// The line with its key put into effect, if it is a commented one.
fn uncommented(line: &str) -> Option<String> {
    let (indent, rest) = line.split_once("# ")?;
    let key = rest.split_once(": ")?.0;
    let is_key =
        indent.trim().is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
    is_key.then(|| format!("{indent}{rest}"))
}

#[test]
fn the_shipped_files_parse_and_the_full_one_holds_the_defaults() {
    let minimal = Config::parse(MINIMAL, Path::new("x.yaml")).unwrap();
    assert!(MINIMAL.lines().count() <= 12);
    let full = Config::parse(FULL, Path::new("x.yaml")).unwrap();
    assert_eq!(Config { hosts: full.hosts.clone(), ..minimal.clone() }, full);
    assert_eq!(full.hosts[0], minimal.hosts[0]);
    let generic = parse("hosts: {files.example.org: {upstream: \"https://192.168.1.30:8443\"}}").unwrap();
    assert_eq!(full.hosts[1], generic.hosts[0]);
}

#[test]
fn the_commented_examples_of_the_full_file_work() {
    let directory = example_directory();
    let mut count = 0;
    for (index, line) in FULL.lines().enumerate() {
        let Some(example) = uncommented(line) else { continue };
        let mut lines: Vec<&str> = FULL.lines().collect();
        lines[index] = &example;
        // The one example that says it belongs to another value than the one above it.
        let surface = if example.contains("client_ca_file") { "surface: closed" } else { "surface: login" };
        let text = lines.join("\n").replace("surface: login", surface);
        if let Err(error) = Config::parse(&text, &directory.path().join("x.yaml")) {
            panic!("{example}\n{error}");
        }
        count += 1;
    }
    assert_eq!(count, 20);
}

#[test]
fn the_full_file_has_every_key_that_is_known() {
    let text: String = FULL.lines().map(|line| uncommented(line).unwrap_or(line.to_owned()) + "\n").collect();
    let Ok(root) = node::parse(&text) else { panic!("{text}") };
    let written = key_paths(&root, "");
    let directory = example_directory();
    let reader = Reader::new(&directory.path().join("x.yaml"), &|_| None);
    assemble::config(&reader, &root);
    for key in reader.known_keys.borrow().iter() {
        // The short host has no long upstream, the long one no short.
        let key = key.replace("hosts.ha.example.org.", "hosts.*.").replace("hosts.files.example.org.", "hosts.*.");
        // A host's limits are of the same shape.
        let key = key.replace("hosts.*.rate_limits.", "guard.rate_limits.");
        // Secrets may be in a file instead, whoever the provider is.
        let key = key.strip_suffix("_file").filter(|_| key.starts_with("dns.")).unwrap_or(&key).to_owned();
        let key = if key.starts_with("dns.") { format!("dns.*.{}", key.rsplit('.').next().unwrap()) } else { key };
        assert!(written.contains(&key), "{key} is not in conf/hearthgate.yaml");
    }
    assert!(reader.known_keys.borrow().len() > 100);
}

fn key_paths(node: &node::Node, path: &str) -> Vec<String> {
    let node::Kind::Map(entries) = &node.kind else { return vec![] };
    let mut paths = Vec::new();
    for (key, value) in entries {
        let key = key.text().unwrap_or_default();
        let below = match path {
            "" => key.to_owned(),
            "hosts" => "hosts.*".to_owned(),
            "dns" => "dns.*".to_owned(),
            path => format!("{path}.{key}"),
        };
        paths.extend(key_paths(value, &below));
        paths.push(below);
    }
    paths
}

/// Pieces that make up texts near to a configuration.
fn near_yaml() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "hosts",
        "listen",
        "admin",
        "token",
        "upstream",
        "https",
        "a.b",
        ": ",
        ":",
        "\n",
        "\n  ",
        "\n    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\"",
        "'",
        "&a ",
        "*a",
        "!secret ",
        "!!",
        "!<x> ",
        "!env_var ",
        "|\n",
        "<<: ",
        "? ",
        "# ",
        "%TAG",
        "---\n",
        "\t",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "ü",
        "443",
        "0.0.0.0:443",
        "10s",
        "http://a@b",
        "~",
        "\\",
        "null",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics_the_parser(text in ".*") {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn nothing_near_a_configuration_panics_it(text in near_yaml()) {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.findings.is_empty());
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn no_bytes_panic_it(bytes: Vec<u8>) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_secret_stays_hidden_whatever_surrounds_it(before in near_yaml(), after in near_yaml()) {
        // Without references of its own, since `!env_var` defaults of other keys may show.
        let text = format!("admin:\n  token: hunter2hunter2\n  {before}: {after}\n");
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().contains("hunter2"), "{}\n{}", text, error);
        }
    }
}
