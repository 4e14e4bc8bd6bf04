//! The certificate of a host for which none is configured.
//!
//! Made once and kept below the state directory, so that a browser told to trust it need not be
//! told again: `self-signed/<host>.chain.pem` and `.key.pem`, the directory 0700, the files 0600,
//! each written aside and moved into place. Making and saving are two steps, so that checking a
//! configuration leaves nothing behind (least of all a key that belongs to root).
//!
//! It is the host's own certificate, not an authority: whoever trusts it trusts this host only.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};

use super::certificate::{Certificate, CertificateError, Validity, parse_chain, parse_key};
use crate::config::{CertificateFiles, HostPattern};
use crate::durable;

/// The text of both files, between making and saving.
pub(super) struct PemPair {
    chain: String,
    key: String,
}

/// Where the pair of `host` is kept.
pub(super) fn files(state_directory: &Path, host: &HostPattern) -> CertificateFiles {
    let directory = state_directory.join(DIRECTORY);
    let stem = file_stem(host);
    CertificateFiles {
        chain_file: directory.join(format!("{stem}.chain.pem")),
        key_file: directory.join(format!("{stem}.key.pem")),
    }
}

/// Reads a kept pair, whatever its age; [`is_due`] judges that.
pub(super) fn load(files: &CertificateFiles) -> Result<Certificate, CertificateError> {
    Certificate::load_with(files, Validity::Ignored)
}

/// Whether another one must be made: a third of its life is left, or the host's names have changed.
///
/// One from the future is kept: the clock may be wrong for a moment after power-on, and a new
/// certificate costs every client a new decision to trust.
pub(super) fn is_due(certificate: &Certificate, names: &[HostPattern], now: SystemTime) -> bool {
    let life = certificate.not_after().duration_since(certificate.not_before()).unwrap_or_default();
    let left = certificate.not_after().duration_since(now).unwrap_or_default();
    let mut own = certificate.dns_names().to_vec();
    let mut wanted: Vec<String> = names.iter().map(|name| text(name).to_ascii_lowercase()).collect();
    own.sort_unstable();
    wanted.sort_unstable();
    own != wanted || left <= life / 3
}

/// Makes a certificate for all `names`, ECDSA P-256, valid for [`LIFE`]; writes nothing.
pub(super) fn make(
    names: &[HostPattern],
    files: &CertificateFiles,
    now: SystemTime,
) -> Result<(Certificate, PemPair), CertificateError> {
    let pair = generate(names, now).map_err(|error| CertificateError::SelfSigned {
        host: names.first().map(text).unwrap_or_default(),
        reason: error.to_string(),
    })?;
    let chain = parse_chain(pair.chain.as_bytes(), &files.chain_file)?;
    let key = parse_key(pair.key.as_bytes(), &files.key_file)?;
    Ok((Certificate::build(files, chain, key, Validity::Ignored)?, pair))
}

/// Writes the pair to disk, durable when this returns. Blocks.
///
/// A crash between the two files leaves a pair that does not match; the next start makes another.
pub(super) fn save(files: &CertificateFiles, pair: &PemPair) -> Result<(), CertificateError> {
    for (path, content) in [(&files.key_file, &pair.key), (&files.chain_file, &pair.chain)] {
        write(path, content.as_bytes())
            .map_err(|error| CertificateError::Unwritable { path: path.clone(), reason: error.to_string() })?;
    }
    Ok(())
}

/// A host pattern as the configuration writes it.
pub(super) fn text(name: &HostPattern) -> String {
    match name {
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(parent) => format!("*.{parent}"),
    }
}

impl fmt::Debug for PemPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemPair").finish_non_exhaustive()
    }
}

fn generate(names: &[HostPattern], now: SystemTime) -> Result<PemPair, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // All of them as DNS names: an address among them must not look like a changed name ever after.
    params.subject_alt_names =
        names.iter().map(|name| Ok(SanType::DnsName(text(name).try_into()?))).collect::<Result<_, rcgen::Error>>()?;
    let not_before = now.checked_sub(BACKDATED).unwrap_or(now);
    params.not_before = not_before.into();
    params.not_after = (not_before + LIFE).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Hearthgate self-signed");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok(PemPair { chain: certificate.pem(), key: key.serialize_pem() })
}

/// Never leaves the directory and never maps two hosts to one name: letters, digits, `-` and `.`
/// stay, `*` is `_`, `_` is doubled, anything else becomes `_` and its bytes in hex.
pub fn file_stem(host: &HostPattern) -> String {
    let mut stem = String::new();
    for byte in text(host).bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => stem.push(char::from(byte)),
            b'*' => stem.push('_'),
            b'_' => stem.push_str("__"),
            other => stem.push_str(&format!("_{other:02x}")),
        }
    }
    stem
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), durable::private_directory)?;
    durable::write(path, content)
}

const DIRECTORY: &str = "self-signed";

/// The longest life that Apple's and Google's clients take without complaint is 398 days.
pub(super) const LIFE: Duration = Duration::from_secs(397 * 24 * 3600);

/// So that a phone whose clock lags does not call a new certificate "not yet valid".
const BACKDATED: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
