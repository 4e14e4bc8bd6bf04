//! The URL of an upstream.
//!
//! Only what a connection needs: scheme, host and port. Everything else a URL can hold is refused
//! with the reason rather than dropped, because dropping it would send requests somewhere else than
//! the operator reads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::UpstreamScheme;
use super::names;
use super::values::quoted;

/// Where an upstream listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub scheme: UpstreamScheme,
    pub host: String,
    pub port: u16,
}

/// Reads `http://192.168.1.20:8123`; the error says what to write instead.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    let (scheme, rest) = split_scheme(text)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if authority.contains('@') {
        return Err("no user and password in the URL: Home Assistant has its own login".to_owned());
    }
    if !matches!(tail, "" | "/") {
        return Err(format!(
            "{} has a path: Home Assistant must be at the root, end the URL after the port",
            quoted(text)
        ));
    }
    let (host, port) = split_port(authority, text)?;
    let port = match (port, scheme) {
        (Some(port), _) => parse_port(port)?,
        (None, UpstreamScheme::Http) => 80,
        (None, UpstreamScheme::Https) => 443,
    };
    Ok(Url { scheme, host: parse_host(host)?, port })
}

fn split_scheme(text: &str) -> Result<(UpstreamScheme, &str), String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        // Whatever stands before an `@` may be a password.
        let example = if text.contains('@') || text.is_empty() { "192.168.1.20:8123" } else { text };
        return Err(format!("no scheme: write {}", quoted(&format!("http://{example}"))));
    };
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Ok((UpstreamScheme::Http, rest)),
        "https" => Ok((UpstreamScheme::Https, rest)),
        "ws" => Err("write `http://`: WebSockets go the same way".to_owned()),
        "wss" => Err("write `https://`: WebSockets go the same way".to_owned()),
        _ => Err(format!("unknown scheme {}: write `http://` or `https://`", quoted(scheme))),
    }
}

fn split_port<'t>(authority: &'t str, text: &str) -> Result<(&'t str, Option<&'t str>), String> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let Some((host, rest)) = bracketed.split_once(']') else {
            return Err(format!("{} has no closing `]`", quoted(text)));
        };
        return match rest.strip_prefix(':') {
            None if !rest.is_empty() => Err(format!("expected `:` and a port after the `]` of {}", quoted(text))),
            port => Ok((host, port)),
        };
    }
    if let Ok(address) = authority.parse::<Ipv6Addr>() {
        return Err(format!("an IPv6 address needs brackets: write `[{address}]`"));
    }
    Ok(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

fn parse_port(port: &str) -> Result<u16, String> {
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let number = port.parse().ok().filter(|port| digits && *port != 0);
    number.ok_or_else(|| format!("{} is not a port: write a number from 1 to 65535", quoted(port)))
}

fn parse_host(host: &str) -> Result<String, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        if address == IpAddr::from(Ipv4Addr::UNSPECIFIED) || address == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
            return Err(format!("`{address}` is no address to connect to: write `127.0.0.1` for this machine"));
        }
        return Ok(address.to_string());
    }
    names::name(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_names_and_addresses() {
        use UpstreamScheme::{Http, Https};
        for (text, scheme, host, port) in [
            ("http://192.168.1.20:8123", Http, "192.168.1.20", 8123),
            ("http://HomeAssistant.local.:8123/", Http, "homeassistant.local", 8123),
            ("http://ha", Http, "ha", 80),
            ("HTTPS://ha", Https, "ha", 443),
            ("http://[fd00::1]:8123", Http, "fd00::1", 8123),
            ("https://[fd00::1]", Https, "fd00::1", 443),
            ("http://ha:65535", Http, "ha", 65535),
        ] {
            assert_eq!(parse(text), Ok(Url { scheme, host: host.to_owned(), port }), "{text}");
        }
    }

    #[test]
    fn refuses_what_a_connection_has_no_use_for() {
        for (text, part) in [
            ("", "write `http://192.168.1.20:8123`"),
            ("192.168.1.20:8123", "no scheme: write `http://192.168.1.20:8123`"),
            ("me:hunter2@ha", "no scheme: write `http://192.168.1.20:8123`"),
            ("ftp://ha", "unknown scheme `ftp`"),
            ("wss://ha", "write `https://`"),
            ("http://", "missing"),
            ("http://ha/api", "at the root"),
            ("http://ha?x=1", "at the root"),
            ("http://ha/#x", "at the root"),
            ("http://me:hunter2@ha", "no user and password"),
            ("http://ha:0", "from 1 to 65535"),
            ("http://ha:65536", "from 1 to 65535"),
            ("http://ha:+80", "from 1 to 65535"),
            ("http://ha:", "from 1 to 65535"),
            ("http://fd00::1", "write `[fd00::1]`"),
            ("http://[fd00::1", "no closing"),
            ("http://[fd00::1]8123", "expected `:`"),
            ("http://0.0.0.0:8123", "127.0.0.1"),
            ("http://1.2.3:8123", "ends in a number"),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(http://)?[a-z0-9:@/\\[\\].*]{0,30}|.*") {
            let _ = parse(&text);
        }
    }
}
