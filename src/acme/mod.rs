//! Certificates from an authority (RFC 8555): asked for, renewed in time, and served at once.
//!
//! [`Acme`] tends to all of them, one order at a time, as [`Settings`] say. When something is due is decided in
//! `schedule` and `memory`, which read no clock; what has to survive is in `files`. A certificate that serves is only ever
//! replaced by one that has been checked, and a failure costs a wait that grows, is remembered over restarts, and ends at
//! once when the settings change or the operator asks.
//!
//! A certificate is known by its first name: in its file's name, in metrics and on the command line.

mod account;
mod challenges;
mod files;
#[cfg(test)]
mod fixtures;
mod memory;
mod order;
mod problem;
mod proof;
mod record;
mod report;
mod schedule;
mod tend;
mod transport;

use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use crate::config::{self, AcmeCertificate, CertificateSource, Config, DnsAccount, UpstreamVerification};
use crate::dns::Dns;
use crate::http_client::{Family, HttpClient};
use crate::tls::{self, TlsError};
use problem::{Failure, Step};

pub use challenges::{ACME_TLS_ALPN, Answering, Challenges, UnusableChallenge};
pub use files::certificate_file;
pub use report::{Activity, Report};
pub use tend::{Acme, Awaited, Surroundings};

/// The authority of one configuration, and how it is spoken to.
#[derive(Debug)]
pub struct Authority {
    config: config::Acme,
    http: HttpClient,
    /// What is trusted when the configuration names a file: the same file may hold others by now.
    trusted: Vec<CertificateDer<'static>>,
}

/// What one attempt needs of the configuration in force.
#[derive(Debug, Clone)]
pub struct Settings {
    pub wanted: Vec<Wanted>,
    pub authority: Arc<Authority>,
    pub dns: Arc<Dns>,
    /// What `dns` was made of.
    pub accounts: Vec<DnsAccount>,
    /// There is a listener for plain HTTP.
    pub has_http: bool,
}

/// One certificate, and the hosts that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub certificate: AcmeCertificate,
    /// As configured.
    pub hosts: Vec<String>,
}

impl Authority {
    /// Reads the authorities that are trusted: not for an async thread.
    pub fn new(config: &config::Acme) -> Result<Self, TlsError> {
        let http = HttpClient::new(config.ca_file.as_deref(), Family::Any)?;
        let trusted = match &config.ca_file {
            Some(file) => tls::authorities(&UpstreamVerification::Authority(file.clone()))?,
            None => Vec::new(),
        };
        Ok(Self { config: config.clone(), http, trusted })
    }

    pub fn config(&self) -> &config::Acme {
        &self.config
    }

    /// Whether the two are the same, files included.
    pub fn is_like(&self, other: &Self) -> bool {
        self.config == other.config && self.trusted == other.trusted
    }
}

impl Wanted {
    /// What it is known by.
    pub fn name(&self) -> String {
        self.certificate.names.first().map(ToString::to_string).unwrap_or_default()
    }
}

/// The certificates that a configuration asks an authority for; hosts that name the same share one.
///
/// # Errors
///
/// One sentence for each host whose certificate has the first name of another one, and differs from it.
pub fn wanted(config: &Config) -> Result<Vec<Wanted>, Vec<String>> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut errors = Vec::new();
    for host in &config.hosts {
        let CertificateSource::Acme(certificate) = &host.certificate else { continue };
        match wanted.iter_mut().find(|known| known.certificate.names.first() == certificate.names.first()) {
            None => {
                wanted.push(Wanted { certificate: certificate.clone(), hosts: vec![host.name.to_string()] });
            }
            Some(known) if is_same(&known.certificate, certificate) => known.hosts.push(host.name.to_string()),
            Some(known) => errors.push(format!(
                "hosts.{}.certificate.acme: the certificate of {} begins with `{}` too, and differs from this one: \
                 let one of them begin with another name, or make names, challenges and profile the same",
                host.name,
                known.hosts.join(", "),
                known.name(),
            )),
        }
    }
    if errors.is_empty() { Ok(wanted) } else { Err(errors) }
}

/// What clients see until there is one is each host's own affair.
fn is_same(one: &AcmeCertificate, other: &AcmeCertificate) -> bool {
    let names = |certificate: &AcmeCertificate| {
        let mut names: Vec<_> = certificate.names.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    };
    names(one) == names(other)
        && one.terms.challenges == other.terms.challenges
        && one.terms.profile == other.terms.profile
}

/// Work that waits for the disk, on a thread that may.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failure::new(Step::Save, "work on the state directory was broken off: the gate has a bug"))
}

#[cfg(test)]
mod tests;
