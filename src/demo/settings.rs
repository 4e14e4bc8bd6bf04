//! The demo's configuration, which no file holds, and what the demo tells the user.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Bound;
use super::addresses::Addresses;
use crate::admin::Listeners;
use crate::config::{
    AccessLog, Acme, Admin, App, CertificateSource, Config, DynamicDns, Guard, Host, HostPattern, Limits, Listen,
    RateLimits, Reload, Surface, Timeouts, TrustedProxies, Upstream, UpstreamScheme, UpstreamVerification,
};

/// `localhost` and this machine's name in front of `stand_in`, with a self-signed certificate.
pub(super) fn config(addresses: Addresses, stand_in: SocketAddr, state_directory: &Path) -> Config {
    Config {
        listen: Listen {
            https: addresses.https,
            http: vec![addresses.http],
            proxy_protocol_from: Vec::new(),
            public_port: None,
        },
        admin: Admin { listen: Some(addresses.admin), token: None, socket: state_directory.join("admin.sock") },
        state_directory: state_directory.to_owned(),
        trusted_proxies: TrustedProxies::default(),
        limits: Limits::default(),
        timeouts: Timeouts { drain: Duration::from_secs(1), ..Timeouts::default() },
        access_log: AccessLog::default(),
        reload: Reload::default(),
        guard: Guard::default(),
        acme: Acme::default(),
        dns: Vec::new(),
        dynamic_dns: DynamicDns::default(),
        events: Vec::new(),
        hosts: vec![host(stand_in)],
    }
}

fn host(stand_in: SocketAddr) -> Host {
    Host {
        name: HostPattern::Exact("localhost".to_owned()),
        aliases: machine_name().map(HostPattern::Exact).into_iter().collect(),
        upstream: Upstream {
            scheme: UpstreamScheme::Http,
            host: stand_in.ip().to_string(),
            port: stand_in.port(),
            verification: UpstreamVerification::System,
            health_check: Duration::from_secs(10),
        },
        app: App::Generic,
        certificate: CertificateSource::SelfSigned,
        body_size: None,
        // A browser would remember it for everything else that runs on localhost.
        strict_transport_security: Duration::ZERO,
        security_headers: true,
        surface: Surface::default_of(App::Generic),
        client_ca_file: None,
        onboarding: false,
        public_paths: Vec::new(),
        rate_limits: RateLimits::default(),
    }
}

/// The machine's host name if it can stand in a certificate.
fn machine_name() -> Option<String> {
    dns_name(&std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?)
}

fn dns_name(text: &str) -> Option<String> {
    let name = text.trim().trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    let is_name = name.len() <= 253 && name != "localhost" && !is_address && name.split('.').all(is_label);
    is_name.then_some(name)
}

/// What to open and three commands that show a page, a WebSocket and a refusal.
pub(super) fn instructions(listeners: &Listeners, names: Vec<HostPattern>, socket: &Path) -> String {
    let bound = Bound::from(listeners);
    let urls: Vec<String> = names.iter().map(|name| url(name, bound.https)).collect();
    let open = urls.join("\n  ");
    let base = urls.first().map(String::as_str).unwrap_or_default();
    let mut text = format!(
        "\
The gate is open, in front of a stand-in for Home Assistant. Open

  {open}

and accept the self-signed certificate. Or try, in another terminal:

  a page, and what the upstream saw of the request
    curl -k {base}api/echo-headers

  a WebSocket: 101, then the greeting
    curl -k -i -N -m 2 --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \\
      -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: aGVhcnRoZ2F0ZSBkZW1vIQ==' \\
      {base}api/websocket

  a refusal: a target of 30 KiB is answered by the gate itself, with 414
    curl -k -o /dev/null -w '%{{http_code}}\\n' \"{base}$(printf '%030000d' 0)\"

"
    );
    if let Some(http) = bound.http {
        text.push_str(&format!("Plain HTTP is only redirected: http://localhost:{}/\n", http.port()));
    }
    if let Some(admin) = bound.admin {
        text.push_str(&format!("Status page: http://{admin}/\nMetrics: http://{admin}/metrics\n"));
    }
    text.push_str(&format!("Status:  hearthgate status --socket {}\n", socket.display()));
    text.push_str("Ctrl-C ends the demo. Requests are logged below.\n\n");
    text
}

fn url(name: &HostPattern, port: u16) -> String {
    let (HostPattern::Exact(name) | HostPattern::Wildcard(name)) = name;
    if port == 443 { format!("https://{name}/") } else { format!("https://{name}:{port}/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_fits_a_certificate_is_taken() {
        let table = [
            ("hearth\n", Some("hearth")),
            ("Living-Room.lan", Some("living-room.lan")),
            ("localhost", None),
            ("", None),
            ("(none)", None),
            ("a..b", None),
            ("-a", None),
            ("under_score", None),
            ("192.168.1.9", None),
        ];
        for (text, expected) in table {
            assert_eq!(dns_name(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_instructions_name_what_was_bound() {
        let listeners = Listeners {
            https: vec![([127, 0, 0, 1], 1234).into()],
            http: vec![([127, 0, 0, 1], 1235).into()],
            admin: Some(([127, 0, 0, 1], 1236).into()),
        };
        let names = vec![HostPattern::Exact("localhost".into()), HostPattern::Exact("hearth".into())];
        let text = instructions(&listeners, names, Path::new("/tmp/x/admin.sock"));
        for part in [
            "  https://localhost:1234/\n  https://hearth:1234/\n",
            "curl -k https://localhost:1234/api/echo-headers",
            "https://localhost:1234/api/websocket",
            "http://localhost:1235/",
            "http://127.0.0.1:1236/metrics",
            "--socket /tmp/x/admin.sock",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
