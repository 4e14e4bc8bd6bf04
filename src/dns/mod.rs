//! Records in DNS: the TXT records that dns-01 asks for (RFC 8555, section 8.4), and the addresses of this home.
//!
//! An account sets records with its provider; whether they are there is seen at the zone's own servers, not in anybody's
//! cache. Nothing here remembers anything: who presents a record keeps the [`Presented`] and withdraws it.

mod cloudflare;
mod duckdns;
mod error;
mod exec;
mod propagation;
mod provider;
mod resolver;
mod rfc2136;
mod transport;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use domain::base::Rtype;

use self::cloudflare::RecordId;
use self::error::dns_name;
use self::propagation::Pace;
use self::provider::Account;
use self::resolver::{DNS_PORT, PATIENCE, Resolver};
use crate::config::{DnsAccount, Propagation};
use crate::http_client::{Family, HttpClient};
use crate::tls::TlsError;

pub use cloudflare::CloudflareError;
pub use duckdns::DuckDnsError;
pub use error::{DnsError, ProviderError, Step};
pub use exec::ScriptError;
pub use resolver::LookupError;
pub use rfc2136::UpdateError;
pub use transport::NoAnswer;

/// The accounts of one configuration. Immutable: a reload makes another.
#[derive(Debug)]
pub struct Dns {
    accounts: Vec<Account>,
    resolver: Resolver,
    /// `None`: nobody is asked whether a record is there.
    pace: Option<Pace>,
}

/// A TXT record that stands and must be withdrawn.
#[derive(Debug)]
#[must_use = "a record that nobody withdraws stays for ever"]
pub struct Presented {
    account: String,
    record: String,
    value: String,
    id: Option<RecordId>,
}

/// Addresses of a name, one of each family at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

impl Dns {
    /// Reads the system's authorities: not for an async thread.
    pub fn new(accounts: &[DnsAccount], propagation: &Propagation) -> Result<Self, TlsError> {
        let http = HttpClient::new(None, Family::Any)?;
        let pace = Pace { timeout: propagation.timeout, first: FIRST_LOOK, longest: LONGEST_PAUSE };
        Ok(Self {
            accounts: accounts.iter().map(|account| Account::new(account, &http)).collect(),
            resolver: Resolver::new(&propagation.resolvers, DNS_PORT, PATIENCE),
            pace: propagation.check.then_some(pace),
        })
    }

    /// Whether there is no account, and so no dns-01.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Publishes the TXT record that dns-01 asks of `name`, which is without `*.`, and returns once all servers of the
    /// zone show it.
    ///
    /// Follows CNAMEs from `_acme-challenge.NAME`. After an error the record is withdrawn, unless the provider refused
    /// it. Drive it to its end: dropped half-way, the record may stay. DuckDNS has one TXT record for all names of a
    /// domain, so there only one may be presented at a time.
    pub async fn present(&self, name: &str, value: &str) -> Result<Presented, DnsError> {
        let challenge = dns_name(&format!("_acme-challenge.{}", plain(name)))?;
        let chain = self.resolver.chain(&challenge).await;
        let chain = chain.map_err(|reason| DnsError::Lookup { name: challenge.to_string(), reason })?;
        let chain: Vec<_> = chain.iter().map(|name| plain(&name.to_string())).collect();
        let (account, record) = provider::choose(&self.accounts, &chain)
            .ok_or_else(|| DnsError::NoAccount { name: chain.last().cloned().unwrap_or_default() })?;
        let mut presented = Presented {
            account: account.name().to_owned(),
            record: record.to_owned(),
            value: value.to_owned(),
            id: None,
        };
        let outcome = match account.set_txt(record, value).await {
            Ok(id) => {
                presented.id = id;
                self.seen(&presented).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => Ok(presented),
            Err(error) => {
                if !error.is_refusal()
                    && let Err(left) = self.withdraw(presented).await
                {
                    log::warn!("a TXT record may be left behind: {left}");
                }
                Err(error)
            }
        }
    }

    /// Takes the record away; others of the same name stay.
    pub async fn withdraw(&self, presented: Presented) -> Result<(), DnsError> {
        let Presented { account, record, value, id } = presented;
        match self.accounts.iter().find(|candidate| candidate.name() == account) {
            Some(account) => account.clear_txt(&record, &value, id).await,
            None => Err(DnsError::AccountGone { account, record }),
        }
    }

    /// Points `name` at these addresses; a family that is `None` is left alone.
    pub async fn point(&self, name: &str, addresses: Addresses) -> Result<(), DnsError> {
        let names = [plain(name)];
        let chosen = provider::choose(&self.accounts, &names);
        let (account, name) = chosen.ok_or_else(|| DnsError::NoAccount { name: name.to_owned() })?;
        account.point(name, addresses).await
    }

    /// What the zone's own servers answer for A and AAAA of `name` now, of several the first.
    ///
    /// Where Cloudflare is the proxy these are addresses of Cloudflare's, whatever the record holds.
    pub async fn addresses(&self, name: &str) -> Result<Addresses, DnsError> {
        let name = dns_name(name)?;
        let lookup = async {
            let zone = self.resolver.zone(&name).await?;
            let (ipv4, ipv6) = tokio::join!(
                self.resolver.ask_zone(&zone, &name, Rtype::A),
                self.resolver.ask_zone(&zone, &name, Rtype::AAAA)
            );
            Ok(Addresses {
                ipv4: resolver::ipv4_of(&ipv4?, &name).first().copied(),
                ipv6: resolver::ipv6_of(&ipv6?, &name).first().copied(),
            })
        };
        lookup.await.map_err(|reason| DnsError::Lookup { name: name.to_string(), reason })
    }

    async fn seen(&self, presented: &Presented) -> Result<(), DnsError> {
        match self.pace {
            Some(pace) => {
                propagation::wait(&self.resolver, &dns_name(&presented.record)?, &presented.value, pace).await
            }
            None => Ok(()),
        }
    }
}

/// As the configuration writes names.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

const FIRST_LOOK: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
