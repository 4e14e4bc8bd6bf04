//! Certificates and TLS settings.
//!
//! [`CertificateStore`] holds one certificate per host and hands it to rustls by server name; it
//! outlives every reload. [`server_config()`] is the one TLS setting of the front door, made once
//! per process, [`client_config()`] the one for an https upstream. Certificates come from PEM files,
//! which are followed while the gate runs, or are made by the gate itself and kept in the state
//! directory.
//!
//! Two promises. A client that names no host, or an unknown one, ends in a TLS alert and is shown
//! no certificate, so a scan of addresses does not learn the host's name. And a certificate in use
//! is only ever replaced by a better one: whatever is wrong with the new files, the old one serves.
//!
//! Nothing here opens a socket, reads the clock or starts a task: `now` is always an argument.

mod certificate;
mod client_auth;
mod client_config;
mod entry;
mod news;
mod self_signed;
mod server_config;
mod stamp;
mod store;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use certificate::{Certificate, CertificateError, covers};
pub use client_auth::ClientAuth;
pub use client_config::{authorities, client_config};
pub use entry::{CertificateEntry, EntrySource};
pub use news::{CertificateFacts, CertificateOrigin, CertificateWarning, RefreshOutcome};
pub use self_signed::file_stem;
pub use server_config::{install_provider, server_config};
pub use store::{CertificateStore, Prepared};

/// A TLS setting that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the TLS library refuses its settings: {0}")]
    Settings(#[from] rustls::Error),
    #[error("authorities to trust: {0}")]
    Authority(#[from] CertificateError),
    #[error("authorities for client certificates: {0}")]
    ClientAuthority(CertificateError),
    #[error("authorities for client certificates: {0}")]
    ClientVerifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the system's certificate authorities cannot be read: {0}; check SSL_CERT_FILE and SSL_CERT_DIR")]
    SystemAuthorities(String),
}
