//! What is told of certificates: facts for the operator, warnings at a load, news of a look.

use std::path::PathBuf;
use std::time::SystemTime;

use super::certificate::{CertificateError, date};

/// What status and metrics tell of one host's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The host as configured, and what labels in metrics may be made of.
    pub host: String,
    /// The host and its aliases.
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    pub origin: CertificateOrigin,
    pub sha256: [u8; 32],
    /// Why a newer certificate is not served, for the operator's eyes; `None` once that is cured.
    pub last_error: Option<String>,
}

/// Who made a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateOrigin {
    /// The gate, with nobody's word for it.
    SelfSigned,
    /// Somebody who puts files where the configuration says.
    Files,
    /// An authority, asked by the gate.
    Acme,
}

/// Something in an accepted configuration that the operator should know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateWarning {
    #[error("the certificate in {} is not issued for {name}; browsers will warn", chain_file.display())]
    Uncovered { name: String, chain_file: PathBuf },
    #[error("{host} keeps its old certificate: {error}")]
    Kept { host: String, error: CertificateError },
    #[error("{host} gets a new self-signed certificate, because the kept one cannot be used: {error}")]
    SelfSignedReplaced { host: String, error: CertificateError },
    #[error("{host} waits for a new certificate, because the one it was issued cannot be used: {error}")]
    IssuedUnusable { host: String, error: CertificateError },
}

/// What one look at one host's certificate has brought; a look without news brings nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The files have changed and are served; `uncovered` names clients will not accept them for.
    Replaced { host: String, not_after: SystemTime, uncovered: Vec<String> },
    /// Another self-signed certificate was made, saved and is served.
    Renewed { host: String, not_after: SystemTime },
    /// The old certificate stays. Told once for each distinct error.
    Failed { host: String, error: CertificateError },
    /// At most 7 days are left, or a third of its life if that is less. Told once a day.
    ExpiresSoon { host: String, not_after: SystemTime },
    /// It is served nevertheless. Told once a day.
    Expired { host: String, not_after: SystemTime },
}

impl CertificateWarning {
    pub(super) fn log(&self) {
        match self {
            Self::Kept { .. } => log::error!("certificate not reloaded: {self}"),
            Self::Uncovered { .. } | Self::SelfSignedReplaced { .. } | Self::IssuedUnusable { .. } => {
                log::warn!("certificate: {self}")
            }
        }
    }
}

impl RefreshOutcome {
    pub(super) fn log(&self) {
        match self {
            Self::Replaced { host, not_after, uncovered } => {
                log::info!("certificate replaced: host={host} not_after={}", date(not_after));
                if !uncovered.is_empty() {
                    log::warn!("certificate is not issued for all names: host={host} missing={uncovered:?}");
                }
            }
            Self::Renewed { host, not_after } => {
                log::info!("self-signed certificate renewed: host={host} not_after={}", date(not_after));
            }
            Self::Failed { host, error } => {
                log::error!("certificate not replaced, the old one stays: host={host} reason={error}")
            }
            Self::ExpiresSoon { host, not_after } => {
                log::warn!("certificate expires soon: host={host} not_after={}", date(not_after));
            }
            Self::Expired { host, not_after } => {
                log::error!(
                    "certificate has expired and is served nevertheless: host={host} not_after={}",
                    date(not_after)
                );
            }
        }
    }
}
