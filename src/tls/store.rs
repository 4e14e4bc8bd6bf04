//! The certificates of all hosts, looked up by server name.
//!
//! Handshakes read one immutable table through an `ArcSwap`: no lock, no disk. Only two callers
//! ever replace the table: a reload ([`CertificateStore::prepare`], then
//! [`CertificateStore::commit`]: all or nothing) and the regular look at the files
//! ([`CertificateStore::refresh`]). If they meet, the reload wins and the look is repeated by the
//! next one.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::CertificateError;
use super::entry::{CertificateEntry, Entry};
use super::news::{CertificateFacts, CertificateWarning, RefreshOutcome};
use super::self_signed::text;
use crate::routing::HostTable;

/// Certificates by server name; made once per process and shared with rustls.
///
/// Holds as many certificates as the configuration has hosts, never anything a client sent.
pub struct CertificateStore {
    table: ArcSwap<Table>,
}

/// The certificates of a new configuration, loaded and checked, not yet served.
#[derive(Debug)]
pub struct Prepared {
    entries: Vec<Entry>,
    warnings: Vec<CertificateWarning>,
}

#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    names: HostTable<CertifiedKey>,
}

impl CertificateStore {
    /// A store that knows no host yet and so refuses every handshake.
    #[expect(clippy::new_without_default, reason = "an empty store is a beginning, not a sensible default")]
    pub fn new() -> Self {
        Self { table: ArcSwap::from_pointee(Table::default()) }
    }

    /// The certificate for `server_name`: the exact name first, then the wildcard one label up.
    ///
    /// Letter case and one trailing dot do not matter. `None` for every other name.
    pub fn resolve(&self, server_name: &str) -> Option<Arc<CertifiedKey>> {
        self.table.load().find(server_name).cloned()
    }

    /// Loads every certificate of a new configuration and reports all errors at once.
    ///
    /// Files that are served already may be broken: the old certificate is carried over then, with
    /// a warning. Writes nothing, so `check` may call it; a self-signed certificate that is missing
    /// is made in memory. Reads files: not for an async thread.
    pub fn prepare(
        &self,
        entries: &[CertificateEntry],
        state_directory: &Path,
        now: SystemTime,
    ) -> Result<Prepared, Vec<CertificateError>> {
        let table = self.table.load_full();
        let mut prepared = Prepared { entries: Vec::with_capacity(entries.len()), warnings: Vec::new() };
        let mut errors = duplicate_names(entries);
        for wanted in entries {
            match Entry::prepare(wanted, &table.entries, state_directory, now, &mut prepared.warnings) {
                Ok(entry) => prepared.entries.extend(entry),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(prepared) } else { Err(errors) }
    }

    /// Serves what was prepared from the next handshake on, and logs its warnings.
    ///
    /// Cannot fail: a self-signed certificate that cannot be written is served from memory, with
    /// an error logged, and `refresh` tries to write it again. Writes files: not for an async thread.
    pub fn commit(&self, prepared: Prepared) {
        let Prepared { mut entries, warnings } = prepared;
        warnings.iter().for_each(CertificateWarning::log);
        for entry in &mut entries {
            if let Err(error) = entry.save() {
                log::error!(
                    "self-signed certificate will be another one after a restart: host={} reason={error}",
                    entry.host()
                );
            }
        }
        self.table.store(Arc::new(Table::new(entries)));
    }

    /// Looks at all files and ages once, serves what has changed for the better, logs and returns
    /// the news.
    ///
    /// Costs two `stat` calls per host when nothing has changed. Reads files: not for an async thread.
    pub fn refresh(&self, now: SystemTime) -> Vec<RefreshOutcome> {
        let current = self.table.load_full();
        let mut entries = current.entries.clone();
        let outcomes: Vec<_> = entries.iter_mut().flat_map(|entry| entry.look(now)).collect();
        if !self.publish(&current, entries) {
            // A reload came in between; what was found here may belong to hosts that are gone.
            return Vec::new();
        }
        outcomes.iter().for_each(RefreshOutcome::log);
        outcomes
    }

    /// Serves `entries` unless the table is no longer the one they were made from.
    fn publish(&self, seen: &Arc<Table>, entries: Vec<Entry>) -> bool {
        let previous = self.table.compare_and_swap(seen, Arc::new(Table::new(entries)));
        Arc::ptr_eq(&previous, seen)
    }

    /// One line per host that has a certificate to show, in the order of the configuration.
    pub fn facts(&self) -> Vec<CertificateFacts> {
        self.table.load().entries.iter().filter_map(Entry::facts).collect()
    }
}

/// `None` makes rustls end the handshake with the alert `access_denied`, in TLS 1.2 and 1.3 before
/// it has sent any other message. There is deliberately no default certificate: who does not know
/// the host's name shall not learn it from one. This is also the place where a challenge of ACME's
/// tls-alpn-01 can be told by [`ClientHello::alpn`].
impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Self::resolve(self, hello.server_name()?)
    }
}

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateStore").field("hosts", &self.table.load().entries.len()).finish_non_exhaustive()
    }
}

impl Prepared {
    /// What the operator should know although the configuration is accepted.
    pub fn warnings(&self) -> &[CertificateWarning] {
        &self.warnings
    }
}

impl Table {
    fn new(entries: Vec<Entry>) -> Self {
        let mut names = HostTable::default();
        for entry in &entries {
            let Some(certificate) = entry.certificate() else { continue };
            for name in entry.names() {
                names.insert(name, Arc::clone(certificate.certified_key()));
            }
        }
        Self { entries, names }
    }

    fn find(&self, server_name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = server_name.strip_suffix('.').unwrap_or(server_name);
        match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => self.names.find(&name.to_ascii_lowercase()),
            false => self.names.find(name),
        }
    }
}

fn duplicate_names(entries: &[CertificateEntry]) -> Vec<CertificateError> {
    let mut seen = HashSet::new();
    let names = entries.iter().flat_map(|entry| &entry.names);
    let repeated = names.filter(|name| !seen.insert(*name));
    repeated.map(|name| CertificateError::DuplicateName { name: text(name) }).collect()
}

#[cfg(test)]
mod tests;
