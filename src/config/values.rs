//! Single values: what each kind looks like and what is said when it does not.
//!
//! A parser here gets an [`Input`] and returns the value or a message. Messages quote the file, but
//! never a value that came from somewhere else: [`Input::parse`] sees to that for all of them.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::suggest::suggestion;
use super::{ByteSize, ForwardedHeader, duration, size};

/// A scalar as the parsers see it.
pub(super) struct Input {
    pub form: Form,
    pub text: String,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    Integer,
    Float,
    Text,
    /// Not a scalar at all; the text is empty.
    List,
    Map,
}

/// Where the text of a value was read.
pub(super) enum Origin {
    File,
    /// Written as this, such as `!secret name`.
    Reference(String),
}

impl Input {
    /// Runs a parser on the text. Its message may quote the text; it is replaced if that is not in the file.
    pub fn parse<T>(&self, expected: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
        parse(&self.text).map_err(|why| match &self.origin {
            Origin::File => why,
            Origin::Reference(reference) => format!("the value of {reference} is not {expected}"),
        })
    }

    /// The message for a value of the wrong type.
    pub fn expected(&self, expected: &str) -> String {
        match (&self.origin, self.form) {
            (Origin::Reference(reference), _) => format!("the value of {reference} is not {expected}"),
            (Origin::File, Form::Text) => format!("expected {expected}, found the text {}", quoted(&self.text)),
            (Origin::File, Form::Bool) => format!("expected {expected}, found `{}`", self.text),
            (Origin::File, Form::Integer | Form::Float) => {
                format!("expected {expected}, found the number {}", quoted(&self.text))
            }
            (Origin::File, Form::List) => format!("expected {expected}, found a list"),
            (Origin::File, Form::Map) => format!("expected {expected}, found a mapping"),
        }
    }

    /// Text that must be written as text: a number or `true` here is a forgotten quote.
    pub fn strict_text(&self, expected: &str) -> Result<&str, String> {
        match (self.form, &self.origin) {
            (Form::Text, _) | (_, Origin::Reference(_)) => Ok(&self.text),
            (Form::Bool | Form::Integer | Form::Float, Origin::File) => {
                Err(format!("{}: put it in quotes", self.expected(expected)))
            }
            (Form::List | Form::Map, Origin::File) => Err(self.expected(expected)),
        }
    }
}

/// Quotes a part of the file for a message, cut short and without control signs.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    let rest = if text.chars().nth(MAX_QUOTED).is_some() { "…" } else { "" };
    format!("`{}{rest}`", shown.replace("\\'", "'").replace("\\\"", "\""))
}

pub(super) fn boolean(input: &Input) -> Result<bool, String> {
    let expected = "`true` or `false`";
    match (input.text.as_str(), input.form, &input.origin) {
        ("true", Form::Bool, _) | ("true", _, Origin::Reference(_)) => Ok(true),
        ("false", Form::Bool, _) | ("false", _, Origin::Reference(_)) => Ok(false),
        _ => Err(input.expected(expected)),
    }
}

/// A whole number within bounds.
pub(super) fn number<T>(bounds: RangeInclusive<T>) -> impl Fn(&Input) -> Result<T, String>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    move |input| {
        let expected = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        if matches!(input.origin, Origin::File) && input.form != Form::Integer {
            return Err(input.expected(&expected));
        }
        input.parse(&expected, |text| {
            let number = text.parse::<i128>().ok().and_then(|number| T::try_from(number).ok());
            number.filter(|number| bounds.contains(number)).ok_or_else(|| input.expected(&expected))
        })
    }
}

/// A size within bounds.
pub(super) fn size(bounds: RangeInclusive<ByteSize>) -> impl Fn(&Input) -> Result<ByteSize, String> {
    move |input| {
        if !matches!(input.form, Form::Integer | Form::Text) {
            return Err(input.expected(size::EXPECTED));
        }
        input.parse(size::EXPECTED, |text| match ByteSize::parse(text) {
            Ok(size) if bounds.contains(&size) => Ok(size),
            Ok(_) if *bounds.end() == ANY_SIZE => Err(format!("must be at least {}", bounds.start())),
            Ok(_) => Err(format!("must be from {} to {}", bounds.start(), bounds.end())),
            Err(why) => Err(with_value(&why, input)),
        })
    }
}

/// A duration of at least `least`, or zero if that has a meaning for this key.
pub(super) fn duration(least: Duration, zero: Zero) -> impl Fn(&Input) -> Result<Duration, String> {
    move |input| {
        if !matches!(input.form, Form::Integer | Form::Text) {
            return Err(input.expected(duration::EXPECTED));
        }
        input.parse(duration::EXPECTED, |text| match duration::parse(text) {
            Ok(span) if span >= least || (span.is_zero() && zero == Zero::Allowed) => Ok(span),
            Ok(_) if zero == Zero::Refused => {
                Err(format!("must be at least {}; there is no `never`", humantime::format_duration(least)))
            }
            Ok(_) => Err(format!("must be at least {}, or 0 for none", humantime::format_duration(least))),
            Err(why) => Err(with_value(&why, input)),
        })
    }
}

/// A duration within bounds, or zero if that has a meaning for this key.
pub(super) fn span(bounds: RangeInclusive<Duration>, zero: Zero) -> impl Fn(&Input) -> Result<Duration, String> {
    let at_least = duration(*bounds.start(), zero);
    move |input| {
        let span = at_least(input)?;
        if span > *bounds.end() {
            let most = humantime::format_duration(*bounds.end());
            return input.parse(duration::EXPECTED, |_| Err(format!("must be at most {most}")));
        }
        Ok(span)
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Fn(&Input) -> Result<T, String> {
    move |input| {
        let expected: Vec<_> = choices.iter().map(|(word, _)| quoted(word)).collect();
        let expected = expected.join(" or ");
        input.parse(&expected, |text| match choices.iter().find(|(word, _)| *word == text) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let words = choices.iter().map(|(word, _)| *word);
                Err(format!("{}{}", input.expected(&expected), suggestion(text, words)))
            }
        })
    }
}

fn with_value(why: &str, input: &Input) -> String {
    if why.starts_with("expected ") { input.expected(why.trim_start_matches("expected ")) } else { why.to_owned() }
}

/// Whether a duration of zero has a meaning of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

/// An address and port to listen on.
pub(super) fn socket_address(input: &Input) -> Result<SocketAddr, String> {
    input.parse(SOCKET_EXPECTED, |text| {
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        let bare_port = text.strip_prefix(':').unwrap_or(text);
        if let Ok(port) = bare_port.parse::<u16>() {
            return Err(format!(
                "a port alone does not say where to listen: write \"0.0.0.0:{port}\" and \"[::]:{port}\" for all addresses"
            ));
        }
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => Err(format!("no port: write \"{address}:443\"")),
            Ok(IpAddr::V6(address)) => Err(format!("no port: write \"[{address}]:443\"")),
            Err(_) => Err(input.expected(SOCKET_EXPECTED)),
        }
    })
}

/// `off` (which YAML 1.1 takes for `false`) or an address.
pub(super) fn socket_address_or_off(input: &Input) -> Result<Option<SocketAddr>, String> {
    match input.text.as_str() {
        "off" | "false" => Ok(None),
        _ => socket_address(input).map(Some),
    }
}

/// A network of proxies: `10.0.0.0/8`; a bare address is a network of one.
pub(super) fn network(input: &Input) -> Result<IpNet, String> {
    network_unless("is everyone, who could then claim any address: name the proxies")(input)
}

/// The same for other purposes; `everyone` says what is wrong with `0.0.0.0/0` there.
pub(super) fn network_unless(everyone: &'static str) -> impl Fn(&Input) -> Result<IpNet, String> {
    move |input| {
        input.parse(NETWORK_EXPECTED, |text| {
            let network = match text.parse::<IpAddr>() {
                // Clients are compared in this form.
                Ok(address) => IpNet::from(address.to_canonical()),
                Err(_) => text.parse::<IpNet>().map_err(|_| input.expected(NETWORK_EXPECTED))?,
            };
            if let Some(network) = unmapped(network) {
                return Err(format!("{} stands for IPv4: write `{network}`", quoted(text)));
            }
            if network.prefix_len() == 0 {
                return Err(format!("{} {everyone}", quoted(text)));
            }
            if network.trunc() != network {
                return Err(format!("{} has bits beyond its prefix: write `{}`", quoted(text), network.trunc()));
            }
            Ok(network)
        })
    }
}

/// What an IPv4-mapped IPv6 network stands for: no client's address is ever in it, as they are unmapped.
pub fn unmapped(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(network) = network else { return None };
    let prefix = network.prefix_len().checked_sub(96)?;
    let address = network.network().to_ipv4_mapped()?;
    IpNet::new(IpAddr::V4(address), prefix).ok()
}

/// The field that names the client.
pub(super) fn forwarded_header(input: &Input) -> Result<ForwardedHeader, String> {
    let expected = "a field name such as x-forwarded-for, forwarded or cf-connecting-ip";
    input.strict_text(expected)?;
    input.parse(expected, |text| match text.to_ascii_lowercase().as_str() {
        "x-forwarded-for" => Ok(ForwardedHeader::XForwardedFor),
        "forwarded" => Ok(ForwardedHeader::Forwarded),
        name => {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| input.expected(expected))?;
            Ok(ForwardedHeader::Single(name))
        }
    })
}

/// A SHA-256 as hexadecimal digits, colons between them allowed.
pub(super) fn sha256(input: &Input) -> Result<[u8; 32], String> {
    let expected = "64 hexadecimal digits, colons allowed";
    input.strict_text(expected)?;
    input.parse(expected, |text| {
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let digits = digits.ok_or_else(|| input.expected(expected))?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
        let count = digits.len();
        bytes.try_into().ok().filter(|_| count == 64).ok_or_else(|| {
            format!(
                "a SHA-256 has 64 hexadecimal digits, this has {count}; `openssl x509 -fingerprint -sha256` shows it"
            )
        })
    })
}

/// No upper bound for a size.
pub(super) const ANY_SIZE: ByteSize = ByteSize::from_bytes(u64::MAX);

const SOCKET_EXPECTED: &str = "an address with a port such as \"0.0.0.0:443\" or \"[::]:443\"";
const NETWORK_EXPECTED: &str = "a network such as `10.0.0.0/8` or an address such as `192.168.1.2`";
const MAX_QUOTED: usize = 60;
