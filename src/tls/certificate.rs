//! One certificate with its key, read from PEM files.
//!
//! A [`Certificate`] that exists is usable: its chain parses, its key belongs to it and, unless it
//! was loaded with [`Validity::Ignored`], it is in force. Everything else is a [`CertificateError`]
//! that names the file and what to do. Reading is bounded at [`MAX_FILE_BYTES`] per file. No error
//! and no `Debug` output holds a byte of a key, not even of a key in the wrong file.
//!
//! Whether a client would *trust* the chain is not checked: a home may run its own authority.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::server_config::provider;
use crate::config::{CertificateFiles, HostPattern};
use crate::routing::one_label_up;

/// A chain with its key, ready for handshakes; cheap to clone.
#[derive(Clone)]
pub struct Certificate {
    certified_key: Arc<CertifiedKey>,
    not_before: SystemTime,
    not_after: SystemTime,
    dns_names: Arc<[String]>,
    sha256: [u8; 32],
}

/// Whether a certificate out of force is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Validity {
    /// Refused before its first and after its last second.
    At(SystemTime),
    /// For our own self-signed certificates, whose age decides over renewal instead.
    Ignored,
}

/// Why a pair of files is not a usable certificate, or why one could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {}: {reason}; check the path and that the gate's user may read it", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} is larger than {MAX_FILE_BYTES} bytes; is it really a PEM file?", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} holds no certificate; it must have a BEGIN CERTIFICATE block (PEM)", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{}: certificate {position} is damaged: {reason}; copy or issue it again", path.display())]
    DamagedCertificate { path: PathBuf, position: usize, reason: &'static str },
    #[error("{} holds no private key; it must have a BEGIN PRIVATE KEY block (PEM)", path.display())]
    NoKey { path: PathBuf },
    #[error("the key in {} is encrypted; store it without a passphrase, readable by the gate's user only", path.display())]
    EncryptedKey { path: PathBuf },
    #[error("the key in {} is damaged or of a kind not supported; use RSA (2048 to 8192 bits), ECDSA or Ed25519", path.display())]
    UnusableKey { path: PathBuf },
    #[error(
        "the key in {} does not belong to the first certificate in {}; name files of one pair, the host's own certificate first",
        key_file.display(), chain_file.display()
    )]
    KeyMismatch { chain_file: PathBuf, key_file: PathBuf },
    #[error("the certificate in {} expired at {}; renew it", path.display(), date(not_after))]
    Expired { path: PathBuf, not_after: SystemTime },
    #[error("the certificate in {} is not valid before {}; check this machine's clock", path.display(), date(not_before))]
    NotYetValid { path: PathBuf, not_before: SystemTime },
    #[error("the host name {name} has more than one certificate; give it to one host only")]
    DuplicateName { name: String },
    #[error("cannot make a self-signed certificate for {host}: {reason}")]
    SelfSigned { host: String, reason: String },
    #[error("cannot keep the self-signed certificate in {}: {reason}; check that the gate's user may write there", path.display())]
    Unwritable { path: PathBuf, reason: String },
}

impl Certificate {
    /// Reads and checks a pair of files.
    pub fn load(files: &CertificateFiles, now: SystemTime) -> Result<Self, CertificateError> {
        Self::load_with(files, Validity::At(now))
    }

    /// Reads and checks a chain with its key in one text; `file` is only what errors name.
    pub fn parse(pem: &[u8], file: &Path, now: SystemTime) -> Result<Self, CertificateError> {
        let files = CertificateFiles { chain_file: file.to_owned(), key_file: file.to_owned() };
        Self::build(&files, parse_chain(pem, file)?, parse_key(pem, file)?, Validity::At(now))
    }

    /// The same of a file, whatever the certificate's age: for telling when it must be renewed, not for serving it.
    pub fn load_at_any_age(file: &Path) -> Result<Self, CertificateError> {
        let files = CertificateFiles { chain_file: file.to_owned(), key_file: file.to_owned() };
        Self::load_with(&files, Validity::Ignored)
    }

    pub(super) fn load_with(files: &CertificateFiles, validity: Validity) -> Result<Self, CertificateError> {
        let chain = read_chain(&files.chain_file)?;
        let key = read_key(&files.key_file)?;
        Self::build(files, chain, key, validity)
    }

    /// Puts a pair together; `files` is only what errors name.
    pub(super) fn build(
        files: &CertificateFiles,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        validity: Validity,
    ) -> Result<Self, CertificateError> {
        let path = &files.chain_file;
        let first = chain.first().ok_or_else(|| CertificateError::NoCertificate { path: path.clone() })?;
        let sha256 = sha256(first);
        let (not_before, not_after, dns_names) = read_facts(first, path)?;
        let certified_key = Arc::new(pair(chain, key, files)?);
        let certificate = Self { certified_key, not_before, not_after, dns_names: dns_names.into(), sha256 };
        certificate.check_validity(path, validity)?;
        Ok(certificate)
    }

    /// What rustls presents and signs with.
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified_key
    }

    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The DNS names it was issued for, lower-case; its common name does not count, as with clients.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// SHA-256 of the host's own certificate (DER), what browsers show as its fingerprint.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Those of `names` for which clients will refuse this certificate.
    pub fn uncovered<'a>(&self, names: &'a [HostPattern]) -> Vec<&'a HostPattern> {
        names.iter().filter(|name| !self.dns_names.iter().any(|own| covers(own, name))).collect()
    }

    /// The same chain, intermediates included, and so the same key.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.certified_key.cert == other.certified_key.cert
    }

    fn check_validity(&self, path: &Path, validity: Validity) -> Result<(), CertificateError> {
        let Validity::At(now) = validity else { return Ok(()) };
        if now > self.not_after {
            return Err(CertificateError::Expired { path: path.to_owned(), not_after: self.not_after });
        }
        if now + CLOCK_SKEW < self.not_before {
            return Err(CertificateError::NotYetValid { path: path.to_owned(), not_before: self.not_before });
        }
        Ok(())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("dns_names", &self.dns_names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Whether a certificate issued for `certificate_name` may serve `host`.
///
/// RFC 6125, section 6.4.3, as browsers read it: `*.` stands for exactly one whole label, so
/// `*.example.com` serves neither `example.com` nor `a.b.example.com`. A host that is a wildcard
/// itself needs the same wildcard in the certificate.
pub fn covers(certificate_name: &str, host: &HostPattern) -> bool {
    match host {
        HostPattern::Wildcard(parent) => {
            certificate_name.strip_prefix("*.").is_some_and(|own| own.eq_ignore_ascii_case(parent))
        }
        HostPattern::Exact(name) => {
            certificate_name.eq_ignore_ascii_case(name)
                || match (certificate_name.strip_prefix("*."), one_label_up(name)) {
                    (Some(own), Some(parent)) => own.eq_ignore_ascii_case(parent),
                    _ => false,
                }
        }
    }
}

/// All certificates of a PEM file, at least one, each of them parsed.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    parse_chain(&read_bounded(path)?, path)
}

pub(super) fn parse_chain(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let position = chain.len() + 1;
        let damaged = |reason| CertificateError::DamagedCertificate { path: path.to_owned(), position, reason };
        // The parser's own message may quote the line, and in a file with lost line ends that line
        // may hold a key.
        let certificate = certificate.map_err(|_| damaged("its PEM block is cut off or not base64"))?;
        parse_der(&certificate).ok_or_else(|| damaged("it is not an X.509 certificate"))?;
        chain.push(certificate);
    }
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    parse_key(&read_bounded(path)?, path)
}

/// The first private key: PKCS#8, PKCS#1 or SEC1.
pub(super) fn parse_key(pem: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let path = || path.to_owned();
    match PrivateKeyDer::pem_slice_iter(pem).next() {
        Some(Ok(key)) => Ok(key),
        // Two ways to say so: a block of its own (PKCS#8), and a header inside the block (OpenSSL's old form).
        _ if contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, b"Proc-Type: 4,ENCRYPTED") => {
            Err(CertificateError::EncryptedKey { path: path() })
        }
        Some(Err(_)) => Err(CertificateError::UnusableKey { path: path() }),
        None => Err(CertificateError::NoKey { path: path() }),
    }
}

/// Reads a regular file of at most [`MAX_FILE_BYTES`].
fn read_bounded(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let unreadable =
        |error: io::Error| CertificateError::Unreadable { path: path.to_owned(), reason: error.to_string() };
    // Asked before opening, because opening a pipe waits for its other end.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(CertificateError::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    files: &CertificateFiles,
) -> Result<CertifiedKey, CertificateError> {
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| CertificateError::UnusableKey { path: files.key_file.clone() })?;
    let certified_key = CertifiedKey::new(chain, key);
    match certified_key.keys_match() {
        Ok(()) => Ok(certified_key),
        Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::KeyMismatch {
            chain_file: files.chain_file.clone(),
            key_file: files.key_file.clone(),
        }),
        Err(_) => Err(CertificateError::DamagedCertificate {
            path: files.chain_file.clone(),
            position: 1,
            reason: "clients will not take it (X.509 version 3 is needed)",
        }),
    }
}

fn read_facts(
    certificate: &CertificateDer<'_>,
    path: &Path,
) -> Result<(SystemTime, SystemTime, Vec<String>), CertificateError> {
    let damaged = |reason| CertificateError::DamagedCertificate { path: path.to_owned(), position: 1, reason };
    let parsed = parse_der(certificate).ok_or_else(|| damaged("it is not an X.509 certificate"))?;
    let names = match parsed.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(dns_name).collect(),
        Ok(None) => Vec::new(),
        Err(_) => return Err(damaged("its list of names cannot be read")),
    };
    let validity = parsed.validity();
    Ok((system_time(validity.not_before.timestamp()), system_time(validity.not_after.timestamp()), names))
}

fn parse_der<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Some(parsed),
        _ => None,
    }
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    }
}

/// Clamped to 1970-9999, so that the file's dates can always be printed and compared.
fn system_time(unix_seconds: i64) -> SystemTime {
    let seconds = u64::try_from(unix_seconds).unwrap_or(0).min(LAST_SECOND);
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn date(time: &SystemTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(*time)
}

pub(super) fn sha256(der: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    hash
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A long chain with comments takes some 20 KiB.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

/// A certificate from the next few minutes is taken: a clock that lags a little must not keep the
/// gate from a certificate issued a moment ago, and clients check the date with their own clock.
/// There is no such allowance at the other end, where waiting only makes it worse.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// 9999-12-31T23:59:59Z, "no expiry" in RFC 5280, section 4.1.2.5.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests;
