//! The TLS settings of the front door.
//!
//! TLS 1.2 and 1.3 with rustls' default suites, all of them forward secret with authenticated
//! encryption. X25519MLKEM768 is preferred for the key exchange, so that traffic recorded today
//! stays closed to a quantum computer. Early data is off: it can be replayed.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer, kx_group};
use rustls::server::danger::ClientCertVerifier;

use super::{CertificateStore, TlsError};

/// Builds the settings; call it once per process and share them, for the ticket keys live here.
///
/// Resumption: tickets in both versions, two per TLS 1.3 handshake. Their keys are random, never
/// leave the process, and change every 6 hours by themselves; the last one is honoured for 6 more,
/// so no ticket lives longer than 12 hours. Clients of TLS 1.2 without tickets share a cache of 256
/// sessions. A ticket is good for the same server name only, and the name is looked up first: a
/// host removed from the configuration cannot be resumed.
pub fn server_config(store: Arc<CertificateStore>) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_with(store, None)
}

/// The same, for hosts that demand a client certificate as well.
pub(super) fn server_config_with(
    store: Arc<CertificateStore>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(store);
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = 2;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.max_early_data_size = 0;
    // The client's order decides: every suite on offer is strong, and only the client knows
    // whether it has AES in hardware (a phone without prefers ChaCha20).
    config.ignore_client_order = false;
    Ok(Arc::new(config))
}

/// Makes aws-lc-rs the provider of the whole process, unless one is set already.
///
/// Needed because Pingora's connectors take the default, and two providers in the tree without a
/// default make rustls panic. May be called any number of times.
pub fn install_provider() {
    if CryptoProvider::get_default().is_none() {
        // The error means that another thread came first with the same call.
        let _ = (*provider()).clone().install_default();
    }
}

/// aws-lc-rs with the groups written out, so that no feature flag of another crate decides
/// whether the post-quantum one is offered, and first.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}
