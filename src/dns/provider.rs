//! Which account speaks for a name, and what each provider is told.

use super::Addresses;
use super::cloudflare::{Cloudflare, RecordId};
use super::duckdns::DuckDns;
use super::error::{DnsError, ProviderError, Step, dns_name};
use super::exec::{Script, ScriptError};
use super::rfc2136::Updates;
use crate::config::{DnsAccount, DnsProvider};
use crate::http_client::HttpClient;

/// One account, and how its provider is spoken to.
#[derive(Debug)]
pub(super) struct Account {
    config: DnsAccount,
    provider: Provider,
}

#[derive(Debug)]
enum Provider {
    DuckDns(DuckDns),
    Cloudflare(Cloudflare),
    Updates(Updates),
    Script(Script),
}

impl Account {
    pub fn new(account: &DnsAccount, http: &HttpClient) -> Self {
        let provider = match account.provider.clone() {
            DnsProvider::DuckDns { token, url } => {
                Provider::DuckDns(DuckDns { http: http.clone(), token, url, zones: account.zones.clone() })
            }
            DnsProvider::Cloudflare { token, url } => {
                Provider::Cloudflare(Cloudflare { http: http.clone(), token, url })
            }
            DnsProvider::Rfc2136(account) => Provider::Updates(Updates { account }),
            DnsProvider::Exec { command, timeout } => Provider::Script(Script { command, timeout }),
        };
        Self { config: account.clone(), provider }
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Returns what a provider needs besides name and value to take the record away, if it gives anything.
    pub async fn set_txt(&self, record: &str, value: &str) -> Result<Option<RecordId>, DnsError> {
        let fqdn = dns_name(record)?;
        let set: Result<_, ProviderError> = match &self.provider {
            Provider::DuckDns(duckdns) => duckdns.set_txt(record, value).await.map(|()| None).map_err(Into::into),
            Provider::Cloudflare(cloudflare) => cloudflare.set_txt(record, value).await.map(Some).map_err(Into::into),
            Provider::Updates(updates) => updates.set_txt(&fqdn, value).await.map(|()| None).map_err(Into::into),
            Provider::Script(script) => script.set_txt(record, value).await.map(|()| None).map_err(Into::into),
        };
        set.map_err(|reason| self.error(Step::SetTxt, record, reason))
    }

    pub async fn clear_txt(&self, record: &str, value: &str, id: Option<RecordId>) -> Result<(), DnsError> {
        let fqdn = dns_name(record)?;
        let cleared: Result<_, ProviderError> = match &self.provider {
            Provider::DuckDns(duckdns) => duckdns.clear_txt(record, value).await.map_err(Into::into),
            Provider::Cloudflare(cloudflare) => cloudflare.clear_txt(record, value, id).await.map_err(Into::into),
            Provider::Updates(updates) => updates.clear_txt(&fqdn, value).await.map_err(Into::into),
            Provider::Script(script) => script.clear_txt(record, value).await.map_err(Into::into),
        };
        cleared.map_err(|reason| self.error(Step::ClearTxt, record, reason))
    }

    pub async fn point(&self, name: &str, addresses: Addresses) -> Result<(), DnsError> {
        let fqdn = dns_name(name)?;
        let pointed: Result<_, ProviderError> = match &self.provider {
            Provider::DuckDns(duckdns) => duckdns.point(name, addresses).await.map_err(Into::into),
            Provider::Cloudflare(cloudflare) => cloudflare.point(name, addresses).await.map_err(Into::into),
            Provider::Updates(updates) => updates.point(&fqdn, addresses).await.map_err(Into::into),
            Provider::Script(_) => Err(ScriptError::NoAddresses.into()),
        };
        pointed.map_err(|reason| self.error(Step::SetAddress, name, reason))
    }

    fn error(&self, step: Step, name: &str, reason: ProviderError) -> DnsError {
        DnsError::Provider { account: self.name().to_owned(), step, name: name.to_owned(), reason }
    }
}

/// The account that speaks for the last of `chain` for which there is one, and that name.
///
/// Where a wildcard CNAME answers for a challenge, nobody may speak for what it leads to. A record at the name itself
/// then goes before the wildcard, so its own account serves.
pub(super) fn choose<'a, 'b>(accounts: &'a [Account], chain: &'b [String]) -> Option<(&'a Account, &'b str)> {
    chain.iter().rev().find_map(|name| {
        let speaking = accounts.iter().filter_map(|account| Some((account.config.speaks_for(name)?, account)));
        speaking.max_by_key(|(much, _)| *much).map(|(_, account)| (account, name.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn accounts(zones: &[Vec<String>]) -> Vec<Account> {
        let provider = DnsProvider::Exec { command: PathBuf::new(), timeout: Duration::ZERO };
        let accounts = zones.iter().enumerate().map(|(index, zones)| {
            let config = DnsAccount { name: index.to_string(), zones: zones.clone(), provider: provider.clone() };
            Account { config, provider: Provider::Script(Script { command: PathBuf::new(), timeout: Duration::ZERO }) }
        });
        accounts.collect()
    }

    fn chosen(zones: &[&[&str]], chain: &[&str]) -> Option<(String, String)> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let zones: Vec<_> = zones.iter().map(|zones| owned(zones)).collect();
        let (accounts, chain) = (accounts(&zones), owned(chain));
        choose(&accounts, &chain).map(|(account, name)| (account.name().to_owned(), name.to_owned()))
    }

    #[test]
    fn the_longest_zone_of_the_last_name_wins() {
        let challenge = "_acme-challenge.ha.example.org";
        for (zones, chain, expected) in [
            (&[&["example.org"][..], &["ha.example.org"]][..], &[challenge][..], Some(("1", challenge))),
            (&[&["ha.example.org"], &[]], &[challenge], Some(("0", challenge))),
            (&[&["example.net"], &[]], &[challenge], Some(("1", challenge))),
            (&[&["example.org"], &["duckdns.org"]], &[challenge, "anna.duckdns.org"], Some(("1", "anna.duckdns.org"))),
            (&[&["example.org"]], &[challenge, "home.example.net"], Some(("0", challenge))),
            (&[&["example.org"], &[]], &[challenge, "home.example.net"], Some(("1", "home.example.net"))),
            (&[&["notexample.org"], &["le.org"]], &[challenge], None),
            (&[], &[challenge], None),
        ] {
            let expected = expected.map(|(account, name)| (account.to_owned(), name.to_owned()));
            assert_eq!(chosen(zones, chain), expected, "{zones:?} {chain:?}");
        }
    }

    proptest! {
        /// Against the plain reading: of all zones whose labels end the name's, the one with the most labels.
        #[test]
        fn a_choice_is_that_of_the_labels(
            zones in prop::collection::hash_set("([ab]\\.){0,3}[ab]", 0..6),
            name in "([ab]\\.){0,4}[ab]",
        ) {
            let zones: Vec<_> = zones.into_iter().map(|zone| vec![zone]).collect();
            let accounts = accounts(&zones);
            let labels = |name: &str| name.rsplit('.').map(str::to_owned).collect::<Vec<_>>();
            let best = zones.iter().map(|zone| labels(&zone[0])).filter(|zone| labels(&name).starts_with(zone)).max_by_key(Vec::len);
            let chain = [name];
            let chosen = choose(&accounts, &chain).map(|(account, _)| labels(&account.config.zones[0]));
            prop_assert_eq!(chosen, best);
        }
    }
}
