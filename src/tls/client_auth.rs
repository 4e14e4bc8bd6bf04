//! Hosts that only known clients reach: TLS settings that demand a client certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::certificate::read_chain;
use super::server_config::{provider, server_config_with};
use super::{CertificateStore, TlsError};

/// The TLS settings of one closed host.
///
/// They have ticket keys of their own: a session of another host, or of authorities that hold no longer, cannot be resumed
/// here.
#[derive(Debug)]
pub struct ClientAuth {
    authorities: Vec<CertificateDer<'static>>,
    /// A handshake without a certificate of the authorities' ends in an alert.
    pub config: Arc<ServerConfig>,
}

impl ClientAuth {
    /// Reads the authorities whose certificates clients must have. Reads a file: not for an async thread.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or holds no certificate that can be an authority's.
    pub fn load(ca_file: &Path, store: Arc<CertificateStore>) -> Result<Self, TlsError> {
        let authorities = read_chain(ca_file).map_err(TlsError::ClientAuthority)?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
        Ok(Self { authorities, config: server_config_with(store, Some(verifier))? })
    }

    /// Whether both demand the same: then the one in force stays, and its connections with it.
    pub fn is_like(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }
}
