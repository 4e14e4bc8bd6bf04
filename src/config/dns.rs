//! The `dns` section: who answers for our names, and what they want to know before they change a record.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Secret;
use super::acme::{https_url, resolver};
use super::names;
use super::read::Section;
use super::values::{self, Input, Zero};

/// One account with a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsAccount {
    /// As the operator calls it.
    pub name: String,
    /// The names that it speaks for, with all below them; empty: all that no other account speaks for.
    pub zones: Vec<String>,
    pub provider: DnsProvider,
}

/// How a provider is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsProvider {
    DuckDns {
        token: Secret,
        /// Its API without the trailing slash.
        url: String,
    },
    Cloudflare {
        /// Needs `Zone:DNS:Edit` and `Zone:Zone:Read`.
        token: Secret,
        url: String,
    },
    Rfc2136(Rfc2136),
    Exec {
        /// Called as lego's `exec` provider calls it.
        command: PathBuf,
        timeout: Duration,
    },
}

/// A name server that takes dynamic updates (RFC 2136), signed (RFC 8945).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rfc2136 {
    pub server: SocketAddr,
    /// The TSIG key's name, algorithm and secret.
    pub key_name: String,
    pub algorithm: TsigAlgorithm,
    /// Base64, as in the server's own configuration.
    pub key: Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TsigAlgorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl DnsAccount {
    /// How much of `name` it speaks for, in characters; `None`: not for this one. The most is the best.
    pub fn speaks_for(&self, name: &str) -> Option<usize> {
        if self.zones.is_empty() {
            return Some(0);
        }
        let is_below = |zone: &&String| {
            name.strip_suffix(zone.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.zones.iter().filter(is_below).map(String::len).max()
    }
}

/// Reads the section: accounts, by names of the operator's choice.
pub(super) fn accounts(section: Section<'_>) -> Vec<DnsAccount> {
    let mut accounts: Vec<DnsAccount> = Vec::new();
    for (name, key, section) in section.named_sections() {
        let (reader, path) = (section.reader(), section.own_path().to_owned());
        let Some(account) = account(name, section) else { continue };
        for other in &accounts {
            let shared = account.zones.iter().find(|zone| other.zones.contains(zone));
            if let Some(zone) = shared {
                reader.problem(key.id, &path, format!("`{zone}` belongs to `dns.{}` already", other.name));
            } else if account.zones.is_empty() && other.zones.is_empty() {
                let message = format!("`dns.{}` speaks for all names too: give one of them `zones`", other.name);
                reader.problem(key.id, &path, message);
            }
        }
        accounts.push(account);
    }
    accounts
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProviderKind {
    DuckDns,
    Cloudflare,
    Rfc2136,
    Exec,
}

fn account(name: &str, mut section: Section<'_>) -> Option<DnsAccount> {
    let kind = section.required("provider", values::choice(&PROVIDERS));
    let zones = section.list("zones", zone);
    let provider = kind.and_then(|kind| match kind {
        ProviderKind::DuckDns => token(&mut section, DUCKDNS).map(|(token, url)| DnsProvider::DuckDns { token, url }),
        ProviderKind::Cloudflare => {
            token(&mut section, CLOUDFLARE).map(|(token, url)| DnsProvider::Cloudflare { token, url })
        }
        ProviderKind::Rfc2136 => rfc2136(&mut section).map(DnsProvider::Rfc2136),
        ProviderKind::Exec => {
            let command = section.path("command");
            if !section.has("command") {
                section.missing("command");
            }
            let timeout = section.read("timeout", values::span(SECOND..=HOUR, Zero::Refused)).unwrap_or(EXEC_TIMEOUT);
            command.map(|command| DnsProvider::Exec { command, timeout })
        }
    });
    if kind.is_some() {
        section.finish();
    }
    let own = if kind == Some(ProviderKind::DuckDns) { vec!["duckdns.org".to_owned()] } else { Vec::new() };
    let zones = zones.map_or(own, |zones| zones.into_iter().map(|(_, zone)| zone).collect());
    Some(DnsAccount { name: name.to_owned(), zones, provider: provider? })
}

fn zone(input: &Input) -> Result<String, String> {
    let expected = "a name such as `example.org`";
    input.strict_text(expected)?;
    input.parse(expected, names::name)
}

fn token(section: &mut Section<'_>, url: &str) -> Option<(Secret, String)> {
    let token = section.secret("token");
    let file_token = section.secret_file("token_file");
    match (section.has("token"), section.has("token_file")) {
        (true, true) => section.conflict("token_file", &[], "`token` and `token_file` exclude each other: keep one"),
        (false, false) => section.missing("token"),
        (true, false) | (false, true) => {}
    }
    let url = section.read("url", base_url).unwrap_or_else(|| url.to_owned());
    Some((token.or(file_token)?, url))
}

/// Where a provider's API is; `http://` only for a stand-in on this machine.
fn base_url(input: &Input) -> Result<String, String> {
    let expected = "an https URL";
    input.strict_text(expected)?;
    input.parse(expected, |text| {
        let text = text.trim_end_matches('/');
        let is_here = |rest: &str| ["127.0.0.1:", "[::1]:", "localhost:"].iter().any(|here| rest.starts_with(here));
        let is_local = text.strip_prefix("http://").is_some_and(is_here);
        if is_local { Ok(text.to_owned()) } else { https_url(text).ok_or_else(|| input.expected(expected)) }
    })
}

fn rfc2136(section: &mut Section<'_>) -> Option<Rfc2136> {
    let server = section.required("server", resolver);
    let key_name = section.required("key_name", zone);
    let algorithm = section.read("algorithm", values::choice(&ALGORITHMS)).unwrap_or(TsigAlgorithm::HmacSha256);
    let key = section.secret("key");
    let file_key = section.secret_file("key_file");
    match (section.has("key"), section.has("key_file")) {
        (true, true) => section.conflict("key_file", &[], "`key` and `key_file` exclude each other: keep one"),
        (false, false) => section.missing("key"),
        (true, false) | (false, true) => {}
    }
    let key = key.or(file_key);
    if let Some(key) = &key
        && STANDARD.decode(key.expose()).is_err()
    {
        let written = if section.has("key") { "key" } else { "key_file" };
        section.conflict(written, &[], "the key is not base64: copy the `secret` of the server's own configuration");
    }
    Some(Rfc2136 { server: server?, key_name: key_name?, algorithm, key: key? })
}

const DUCKDNS: &str = "https://www.duckdns.org";
const CLOUDFLARE: &str = "https://api.cloudflare.com/client/v4";
const PROVIDERS: [(&str, ProviderKind); 4] = [
    ("duckdns", ProviderKind::DuckDns),
    ("cloudflare", ProviderKind::Cloudflare),
    ("rfc2136", ProviderKind::Rfc2136),
    ("exec", ProviderKind::Exec),
];
const ALGORITHMS: [(&str, TsigAlgorithm); 3] = [
    ("hmac-sha256", TsigAlgorithm::HmacSha256),
    ("hmac-sha384", TsigAlgorithm::HmacSha384),
    ("hmac-sha512", TsigAlgorithm::HmacSha512),
];
const EXEC_TIMEOUT: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
