//! Host names as clients send them and as people write them.
//!
//! A name is accepted in the one form it is compared in: lower case, no trailing dot, ASCII. What
//! cannot match a TLS server name, such as an address or a port, is refused with the reason.

use std::fmt;
use std::net::IpAddr;

use super::HostPattern;
use super::values::quoted;

impl HostPattern {
    /// Reads `ha.example.org` or `*.example.org`; the error says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("*.") {
            Some(rest) => name(rest).map(Self::Wildcard),
            None => name(text).map(Self::Exact),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(rest) => write!(f, "*.{rest}"),
        }
    }
}

/// Reads a DNS name into its compared form.
pub(super) fn name(text: &str) -> Result<String, String> {
    refuse_lookalikes(text)?;
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() {
        return Err("a host name is missing".to_owned());
    }
    if name.len() > 253 {
        return Err(format!("{} is longer than the 253 characters of a host name", quoted(text)));
    }
    for label in name.split('.') {
        check_label(label, text)?;
    }
    // Resolvers and browsers take such a name for an IPv4 address.
    if name.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("{} ends in a number: that is an address, not a host name", quoted(text)));
    }
    Ok(name)
}

/// What people write where a name belongs.
fn refuse_lookalikes(text: &str) -> Result<(), String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Err(format!(
            "{} is an address: clients send no server name for it, so no host can match",
            quoted(text)
        ));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let name = rest.split(['/', ':']).next().unwrap_or_default();
        return Err(format!("{} is a URL: write only the name, {}", quoted(text), quoted(name)));
    }
    if let Some((name, port)) = text.split_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(format!("no port here: write {}, ports belong to `listen.https`", quoted(name)));
    }
    if !text.is_ascii() {
        return Err(format!("{} is not ASCII: write its punycode form, which begins with `xn--`", quoted(text)));
    }
    if text.contains('*') {
        return Err(format!("{}: a `*` stands only for the whole first label, `*.example.org`", quoted(text)));
    }
    Ok(())
}

fn check_label(label: &str, text: &str) -> Result<(), String> {
    let refusal = if label.is_empty() {
        "has an empty label: two dots, or one at the beginning"
    } else if label.len() > 63 {
        "has a label longer than 63 characters"
    } else if label.starts_with('-') || label.ends_with('-') {
        "has a label that begins or ends with `-`"
    } else if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        "has a character that no host name has: letters, digits, `-` and `_` are allowed"
    } else {
        return Ok(());
    };
    Err(format!("{} {refusal}", quoted(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_take_their_compared_form() {
        for (text, shown) in [
            ("ha.example.org", "ha.example.org"),
            ("HA.Example.ORG.", "ha.example.org"),
            ("*.example.org", "*.example.org"),
            ("homeassistant", "homeassistant"),
            ("my_host.lan", "my_host.lan"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("4.example", "4.example"),
        ] {
            assert_eq!(HostPattern::parse(text).map(|name| name.to_string()), Ok(shown.to_owned()));
        }
        let long = format!("{}.org", "a".repeat(63));
        assert!(HostPattern::parse(&long).is_ok());
    }

    #[test]
    fn refusals_name_their_reason() {
        let long_label = format!("{}.org", "a".repeat(64));
        let long_name = ["a"; 127].join(".") + ".b";
        for (text, part) in [
            ("", "missing"),
            ("*.", "missing"),
            ("*", "whole first label"),
            ("*.*.org", "whole first label"),
            ("ha.*.org", "whole first label"),
            ("192.168.1.20", "no server name"),
            ("[::1]", "no server name"),
            ("::1", "no server name"),
            ("1.2.3", "ends in a number"),
            ("ha.example.org:8443", "write `ha.example.org`, ports belong to `listen.https`"),
            ("https://ha.example.org/lovelace", "write only the name, `ha.example.org`"),
            ("bücher.example", "punycode"),
            ("a..b", "empty label"),
            (".a", "empty label"),
            ("-a.b", "begins or ends with `-`"),
            ("a b.c", "no host name has"),
            (&long_label, "longer than 63"),
            (&long_name, "253"),
        ] {
            let refusal = HostPattern::parse(text).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn accepted_names_parse_to_themselves(text in "(\\*\\.)?[a-zA-Z0-9_.-]{0,70}|.*") {
            if let Ok(pattern) = HostPattern::parse(&text) {
                let shown = pattern.to_string();
                prop_assert_eq!(HostPattern::parse(&shown), Ok(pattern));
            }
        }
    }
}
