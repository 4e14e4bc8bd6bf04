//! The `dynamic_dns` section: names that are kept pointed at this home.

use std::time::Duration;

use super::acme::https_url;
use super::names;
use super::read::Section;
use super::values::{self, Input, Zero};
use super::{DnsAccount, DnsProvider};

/// Names whose addresses follow the home's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicDns {
    /// None twice; empty: nothing is done. Each has an account in `dns` that can set addresses.
    pub names: Vec<String>,
    /// Asked in turn until one answers; empty: A records are left alone.
    pub ipv4: Vec<AddressSource>,
    /// The same for AAAA.
    pub ipv6: Vec<AddressSource>,
    /// Between two looks at the home's addresses.
    pub interval: Duration,
}

/// Who knows the home's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSource {
    /// A service that answers with the address it was asked from, as plain text.
    Url(String),
    /// A network interface of this machine: its first global address that is meant to stay.
    Interface(String),
}

impl Default for DynamicDns {
    fn default() -> Self {
        let urls = |urls: &[&str]| urls.iter().map(|url| AddressSource::Url((*url).to_owned())).collect();
        Self { names: Vec::new(), ipv4: urls(&IPV4), ipv6: urls(&IPV6), interval: Duration::from_secs(300) }
    }
}

/// Reads the section; `accounts` are those of `dns`.
pub(super) fn dynamic_dns(mut section: Section<'_>, accounts: &[DnsAccount]) -> DynamicDns {
    let default = DynamicDns::default();
    let names = section.list("names", |input| {
        let expected = "a name such as `anna.duckdns.org`";
        input.strict_text(expected)?;
        input.parse(expected, names::name)
    });
    let mut distinct = Vec::new();
    for (node, name) in names.unwrap_or_default() {
        let speaking = accounts.iter().filter_map(|account| Some((account.speaks_for(&name)?, account)));
        let problem = match speaking.max_by_key(|(much, _)| *much) {
            None => Some(format!("no account in `dns` speaks for `{name}`: add one, or the name to its `zones`")),
            Some((_, DnsAccount { name: account, provider: DnsProvider::Exec { .. }, .. })) => {
                Some(format!("`dns.{account}` runs a script, which sets no addresses: use another provider"))
            }
            Some(_) if distinct.contains(&name) => Some(format!("`{name}` is named twice")),
            Some(_) => None,
        };
        if let Some(problem) = problem {
            section.reader().problem(node.id, &section.path_of("names"), problem);
        }
        distinct.push(name);
    }
    let read = |section: &mut Section<'_>, key| {
        section.list(key, source).map(|sources| sources.into_iter().map(|(_, source)| source).collect())
    };
    let ipv4: Vec<_> = read(&mut section, "ipv4").unwrap_or(default.ipv4);
    let ipv6: Vec<_> = read(&mut section, "ipv6").unwrap_or(default.ipv6);
    if ipv4.is_empty() && ipv6.is_empty() {
        section.conflict("ipv6", &["ipv4"], "`ipv4` and `ipv6` are both empty: there is no address to set");
    }
    let interval = section.read("interval", values::span(TEN_SECONDS..=DAY, Zero::Refused)).unwrap_or(default.interval);
    section.finish();
    DynamicDns { names: distinct, ipv4, ipv6, interval }
}

fn source(input: &Input) -> Result<AddressSource, String> {
    let expected = "an https URL, or `interface:` and a name such as `interface:eth0`";
    input.strict_text(expected)?;
    input.parse(expected, |text| match text.strip_prefix("interface:") {
        Some(name) if !name.is_empty() && name.len() < 16 && name.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(AddressSource::Interface(name.to_owned()))
        }
        Some(_) => Err(input.expected(expected)),
        None => https_url(text).map(AddressSource::Url).ok_or_else(|| input.expected(expected)),
    })
}

const IPV4: [&str; 3] = ["https://api.ipify.org", "https://ipv4.icanhazip.com", "https://checkip.amazonaws.com"];
const IPV6: [&str; 2] = ["https://api6.ipify.org", "https://ipv6.icanhazip.com"];
const TEN_SECONDS: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);
