//! What ACME keeps in the state directory, below `acme/` (0700), all of it the gate's own (0600):
//!
//! - `account-<hash of the directory's URL>.json`: the account and its key; with an external account, the hash of its key's
//!   id follows. An account that another one has taken the place of stays beside it as `.json.<number>`;
//! - `<name>.pem`: a chain with its key in one file, so that the pair is always one;
//! - `<name>.pending`: a key and the order that it was sent to, until the certificate is in its file;
//! - `<name>.json`: what is remembered of attempts.
//!
//! `<name>` is the certificate's first name, so that its file stays the same when the others change. What is damaged
//! is set aside and costs at most a new order; what cannot be read at this moment is an error, for it may be fine. Files of certificates that are no longer configured stay. Everything here
//! waits for the disk: not for an async thread.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::{AccountCredentials, CertificateIdentifier};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::memory::{Held, Memory, Request, hex};
use super::problem::plain;
use super::schedule::{Life, Luck};
use crate::config::{AcmeCertificate, HostPattern};
use crate::durable;
use crate::tls::{self, Certificate, CertificateError};

/// The directory of one gate.
#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
}

/// A key that an order may have a certificate for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    pub order: String,
    pub request: Request,
    /// The account's URL: no other may look at the order.
    pub account: String,
    pub since: SystemTime,
    /// PEM.
    pub key: String,
}

/// An account as it was made.
#[derive(Serialize, Deserialize)]
pub struct SavedAccount {
    pub directory: String,
    /// As the authority knows it.
    pub email: Option<String>,
    pub external_key_id: Option<String>,
    /// Something was ordered with it.
    #[serde(default)]
    pub is_proven: bool,
    /// When it took the place of another one that the authority did not take any more.
    #[serde(default)]
    pub replaced_at: Option<SystemTime>,
    pub credentials: AccountCredentials,
}

/// Where the chain and the key of `certificate` are, once it is had.
pub fn certificate_file(state_directory: &Path, certificate: &AcmeCertificate) -> PathBuf {
    Files::new(state_directory).certificate(certificate)
}

impl Files {
    pub fn new(state_directory: &Path) -> Self {
        Self { directory: state_directory.join(DIRECTORY) }
    }

    pub fn certificate(&self, certificate: &AcmeCertificate) -> PathBuf {
        self.of(certificate, "pem")
    }

    /// The certificate in the file, whatever its age; `None` if there is none that can be used.
    pub fn held(&self, certificate: &AcmeCertificate) -> io::Result<Option<Held>> {
        let path = self.certificate(certificate);
        if let Err(error) = File::open(&path) {
            return if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(unreadable(&path, &error)) };
        }
        match Certificate::load_at_any_age(&path) {
            Ok(found) => Ok(Some(held(&found))),
            // A directory of that name is readable, and nothing that time would mend.
            Err(error @ CertificateError::Unreadable { .. }) if !path.is_dir() => Err(io::Error::other(error)),
            Err(error) => {
                log::error!("acme: the certificate that is kept cannot be used, another is asked for: {error}");
                Ok(None)
            }
        }
    }

    /// Puts a chain with its key into force.
    pub fn save_certificate(&self, certificate: &AcmeCertificate, pem: &str) -> io::Result<()> {
        self.write(&self.certificate(certificate), pem.as_bytes())
    }

    pub fn memory(&self, certificate: &AcmeCertificate) -> io::Result<Memory> {
        Ok(self.read(&self.of(certificate, "json"))?.unwrap_or_default())
    }

    pub fn save_memory(&self, certificate: &AcmeCertificate, memory: &Memory) -> io::Result<()> {
        self.write_json(&self.of(certificate, "json"), memory)
    }

    pub fn pending(&self, certificate: &AcmeCertificate) -> io::Result<Option<Pending>> {
        self.read(&self.of(certificate, "pending"))
    }

    pub fn save_pending(&self, certificate: &AcmeCertificate, pending: &Pending) -> io::Result<()> {
        self.write_json(&self.of(certificate, "pending"), pending)
    }

    /// The order is over; a file that stays is looked into once more, to no harm.
    pub fn drop_pending(&self, certificate: &AcmeCertificate) {
        let path = self.of(certificate, "pending");
        if let Err(error) = durable::remove(&path) {
            log::warn!("acme: cannot remove {}: {error}", path.display());
        }
    }

    /// The account for `external_key_id`. Without one any account will do: the key is not needed any more once there is
    /// an account.
    pub fn account(&self, directory: &str, external_key_id: Option<&str>) -> io::Result<Option<SavedAccount>> {
        let own = self.account_file(directory, external_key_id);
        let found = self.account_in(&own, directory)?;
        if found.is_some() || external_key_id.is_some() {
            return Ok(found);
        }
        for path in self.accounts_of_customers(directory)? {
            if let Some(found) = self.account_in(&path, directory)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn account_in(&self, path: &Path, directory: &str) -> io::Result<Option<SavedAccount>> {
        let Some(saved) = self.read::<SavedAccount>(path)? else { return Ok(None) };
        if saved.directory == directory {
            return Ok(Some(saved));
        }
        set_aside(path, "it belongs to another authority");
        Ok(None)
    }

    /// The files of accounts that were made with an external account, in the same order each time.
    fn accounts_of_customers(&self, directory: &str) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let prefix = format!("account-{}-", short_hash(directory));
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        let is_one = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".json")
        };
        paths.retain(is_one);
        paths.sort_unstable();
        Ok(paths)
    }

    /// Puts an account into force. Another one that was there stays beside it: its key may be all that is left of it.
    pub fn save_account(&self, account: &SavedAccount) -> io::Result<()> {
        let path = self.account_file(&account.directory, account.external_key_id.as_deref());
        let text = serde_json::to_value(account)?;
        let old = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            old => Some(old.map_err(|error| unreadable(&path, &error))?),
        };
        if let Some(old) = old
            && serde_json::from_slice::<serde_json::Value>(&old)
                .map_or(true, |old| old["credentials"] != text["credentials"])
        {
            self.write(&unused(&path)?, &old)?;
        }
        self.write_json(&path, &text)
    }

    /// Whether there is room for an account.
    pub fn try_writing(&self) -> io::Result<()> {
        let path = self.directory.join("probe");
        let tried = self.write(&path, &[0; PROBE_BYTES]);
        durable::remove(&path).and(tried)
    }

    /// Another key of the authority's operator means another of its customers, and another account.
    fn account_file(&self, directory: &str, external_key_id: Option<&str>) -> PathBuf {
        let customer = external_key_id.map_or_else(String::new, |id| format!("-{}", short_hash(id)));
        self.directory.join(format!("account-{}{customer}.json", short_hash(directory)))
    }

    fn of(&self, certificate: &AcmeCertificate, extension: &str) -> PathBuf {
        let stem = certificate.names.first().map(stem).unwrap_or_default();
        self.directory.join(format!("{stem}.{extension}"))
    }

    /// `None` if there is no such file, or none of ours.
    fn read<T: DeserializeOwned>(&self, path: &Path) -> io::Result<Option<T>> {
        let mut text = Vec::new();
        match File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(path, &error)),
        }
        match serde_json::from_slice(&text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                // Its words are the parser's, without the text, which may be a key.
                let place = format!("line {} column {}", error.line(), error.column());
                set_aside(path, &format!("it is damaged at {place}"));
                Ok(None)
            }
        }
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> io::Result<()> {
        self.write(path, &serde_json::to_vec_pretty(value)?)
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        durable::private_directory(&self.directory)?;
        durable::write(path, content)
    }
}

fn held(certificate: &Certificate) -> Held {
    let sha256 = certificate.sha256();
    let [a, b, c, d, ..] = sha256;
    let der = certificate.certified_key().cert.first();
    Held {
        life: Life {
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            luck: Luck(u32::from_be_bytes([a, b, c, d])),
        },
        sha256,
        names: certificate.dns_names().to_vec(),
        issuer: der.and_then(|der| issuer(der)),
        identifier: der
            .and_then(|der| CertificateIdentifier::try_from(der).ok())
            .map(CertificateIdentifier::into_owned),
    }
}

/// Who has signed it, in the words that people know: its common name, else its organization.
fn issuer(der: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let name = parsed.issuer();
    let part = name.iter_common_name().chain(name.iter_organization()).next()?;
    Some(plain(part.as_str().ok()?))
}

fn unreadable(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
}

/// A path beside `path` that nothing has yet.
fn unused(path: &Path) -> io::Result<PathBuf> {
    for number in 1..=MOST_OLD_ACCOUNTS {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        if !fs::exists(&name)? {
            return Ok(name.into());
        }
    }
    Err(io::Error::other(format!("{} has {MOST_OLD_ACCOUNTS} predecessors beside it: remove some", path.display())))
}

fn set_aside(path: &Path, why: &str) {
    match durable::set_aside(path) {
        Ok(aside) => log::warn!("acme: {} is set aside as {}: {why}", path.display(), aside.display()),
        Err(error) => log::error!("acme: {} cannot be used ({why}) nor set aside: {error}", path.display()),
    }
}

/// The name of a certificate's files: no other name has the same, and none leaves the directory.
fn stem(name: &HostPattern) -> String {
    let stem = match name {
        HostPattern::Exact(_) => tls::file_stem(name),
        // A `_` of the name itself is doubled, so that this is no other name's.
        HostPattern::Wildcard(zone) => format!("_wildcard.{}", tls::file_stem(&HostPattern::Exact(zone.clone()))),
    };
    if stem.len() <= LONGEST_STEM { stem } else { format!("{}-{}", &stem[..LONGEST_STEM], short_hash(&stem)) }
}

fn short_hash(text: &str) -> String {
    hex(&digest(&SHA256, text.as_bytes()).as_ref()[..6])
}

const DIRECTORY: &str = "acme";
/// A file's name has at most 255 bytes, and some are written aside under a longer one.
const LONGEST_STEM: usize = 200;
/// More than an account takes.
const PROBE_BYTES: usize = 4096;
/// At most one a day.
const MOST_OLD_ACCOUNTS: u32 = 100;
/// Far more than any of these files holds.
const LARGEST: u64 = 1 << 20;

#[cfg(test)]
mod tests;
