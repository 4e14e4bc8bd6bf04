//! Certificates, files and a clock for the tests of this room.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm};
use x509_parser::der_parser::der::parse_der;

use crate::config::{CertificateFiles, HostPattern};

/// The first day of every certificate made by [`issue`]; its last is day 90.
pub(super) fn day(number: i64) -> SystemTime {
    let first = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
    let distance = Duration::from_secs(number.unsigned_abs() * 24 * 3600);
    if number < 0 { first - distance } else { first + distance }
}

pub(super) struct Issued {
    pub chain: String,
    pub key: String,
    pub der: Vec<u8>,
    pub key_der: Vec<u8>,
}

pub(super) fn issue(names: &[&str]) -> Issued {
    issue_for(names, &PKCS_ECDSA_P256_SHA256, day(0), day(90))
}

pub(super) fn issue_for(
    names: &[&str],
    algorithm: &'static SignatureAlgorithm,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Issued {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    let certificate = params.self_signed(&key).unwrap();
    Issued {
        chain: certificate.pem(),
        key: key.serialize_pem(),
        der: certificate.der().to_vec(),
        key_der: key.serialize_der(),
    }
}

impl Issued {
    pub fn write(&self, directory: &Path) -> CertificateFiles {
        let files = files_in(directory);
        fs::write(&files.chain_file, &self.chain).unwrap();
        fs::write(&files.key_file, &self.key).unwrap();
        files
    }

    /// The same key in its older form: PKCS#1 for RSA, SEC1 for ECDSA; both lie inside PKCS#8.
    pub fn old_key_pem(&self, label: &str) -> String {
        let (_, outer) = parse_der(&self.key_der).unwrap();
        let inner = outer.as_sequence().unwrap()[2].as_slice().unwrap();
        pem(label, inner)
    }
}

pub(super) fn files_in(directory: &Path) -> CertificateFiles {
    CertificateFiles { chain_file: directory.join("fullchain.pem"), key_file: directory.join("privkey.pem") }
}

pub(super) fn exact(name: &str) -> HostPattern {
    HostPattern::Exact(name.to_owned())
}

pub(super) fn wildcard(parent: &str) -> HostPattern {
    HostPattern::Wildcard(parent.to_owned())
}

fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0u32, |bits, (i, byte)| bits | u32::from(*byte) << (16 - 8 * i));
        for position in 0..4 {
            let is_padding = position > chunk.len();
            let sextet = (bits >> (18 - 6 * position)) & 63;
            text.push(if is_padding { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
        if text.len() % 65 == 64 {
            text.push('\n');
        }
    }
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", text.trim_end())
}
