//! Host name to route: compiled once per configuration, immutable, case-insensitive.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::HostPattern;

/// A table from host names to values, exact names before wildcards.
#[derive(Debug)]
pub struct HostTable<T> {
    exact: HashMap<String, Arc<T>>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<String, Arc<T>>,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl<T> HostTable<T> {
    /// Adds one name. The configuration has already refused a name that occurs twice.
    pub fn insert(&mut self, pattern: &HostPattern, value: Arc<T>) {
        match pattern {
            HostPattern::Exact(name) => self.exact.insert(name.clone(), value),
            HostPattern::Wildcard(parent) => self.wildcard.insert(parent.clone(), value),
        };
    }

    /// The value that was put in for exactly this pattern.
    pub fn named(&self, pattern: &HostPattern) -> Option<&Arc<T>> {
        match pattern {
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::Wildcard(parent) => self.wildcard.get(parent),
        }
    }

    /// Finds the value for `name`, a host name in normal form (see [`normal_host`]).
    ///
    /// `*.example.org` matches `a.example.org`, not `a.b.example.org` and not `example.org`, as in certificates
    /// (RFC 6125 section 6.4.3).
    pub fn find(&self, name: &str) -> Option<&Arc<T>> {
        self.exact.get(name).or_else(|| self.wildcard.get(one_label_up(name)?))
    }
}

/// What follows the first label: `home.example.org` to `example.org`.
pub fn one_label_up(name: &str) -> Option<&str> {
    let (label, parent) = name.split_once('.')?;
    (!label.is_empty() && !parent.is_empty()).then_some(parent)
}

/// The host of a `Host` field or `:authority` in normal form: without port, lower case, without the root's dot.
///
/// `None` if it is not `host` or `host:port` (RFC 9110 section 7.2): no user information, no blanks, digits only
/// in the port, brackets around IPv6 addresses only.
pub fn normal_host(authority: &str) -> Option<String> {
    let (host, port) = split_port(authority)?;
    let valid_port = port.is_empty() || (port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit()));
    let host = host.strip_suffix('.').unwrap_or(host);
    let valid_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        }
    };
    (valid_port && valid_host).then(|| host.to_ascii_lowercase())
}

fn split_port(authority: &str) -> Option<(&str, &str)> {
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let rest = &authority[after_brackets..];
    if after_brackets > 0 && !rest.is_empty() && !rest.starts_with(':') {
        return None;
    }
    Some(match rest.find(':') {
        Some(at) => (&authority[..after_brackets + at], &rest[at + 1..]),
        None => (authority, ""),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table() -> HostTable<&'static str> {
        let mut table = HostTable::default();
        table.insert(&HostPattern::Exact("ha.example.org".into()), Arc::new("ha"));
        table.insert(&HostPattern::Exact("a.wild.example.org".into()), Arc::new("a"));
        table.insert(&HostPattern::Wildcard("wild.example.org".into()), Arc::new("wild"));
        table
    }

    #[test]
    fn exact_names_come_before_wildcards_and_wildcards_match_one_label() {
        for (name, expected) in [
            ("ha.example.org", Some("ha")),
            ("a.wild.example.org", Some("a")),
            ("b.wild.example.org", Some("wild")),
            ("a.b.wild.example.org", None),
            ("wild.example.org", None),
            (".wild.example.org", None),
            ("example.org", None),
            ("xha.example.org", None),
            ("", None),
        ] {
            assert_eq!(table().find(name).map(|v| **v), expected, "{name}");
        }
    }

    #[test]
    fn a_host_is_brought_to_one_form() {
        for (given, expected) in [
            ("HA.Example.org", Some("ha.example.org")),
            ("ha.example.org.", Some("ha.example.org")),
            ("ha.example.org:8443", Some("ha.example.org")),
            ("ha.example.org.:8443", Some("ha.example.org")),
            ("ha.example.org:", Some("ha.example.org")),
            ("[::1]:443", Some("[::1]")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("", None),
            (".", None),
            ("ha.example.org:x", None),
            ("ha.example.org:99999", None),
            ("ha.example.org:+443", None),
            ("user@ha.example.org", None),
            ("ha.example.org/", None),
            ("ha example.org", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[zz]", None),
        ] {
            assert_eq!(normal_host(given).as_deref(), expected, "{given}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_hosts_never_panic_and_are_stable(text in "[ -~]{0,40}") {
            if let Some(host) = normal_host(&text) {
                prop_assert_eq!(normal_host(&host), Some(host.clone()));
            }
        }
    }
}
