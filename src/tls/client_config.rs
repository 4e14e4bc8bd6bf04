//! TLS settings towards an https upstream, which is usually a device at home.
//!
//! However the upstream is verified, it must prove that it holds the key of the certificate it
//! shows; even with `verify: false` a recorded certificate is not enough.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

use super::TlsError;
use super::certificate::{CertificateError, read_chain, sha256};
use super::server_config::provider;
use crate::config::UpstreamVerification;

/// Builds the settings for one upstream; reads the authorities' files, so not for the request path.
///
/// Speaks TLS 1.2 and 1.3 and asks for `http/1.1`, which WebSockets need.
pub fn client_config(verification: &UpstreamVerification) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let verifier: Arc<dyn ServerCertVerifier> = match verification {
        UpstreamVerification::System => by_authorities(system_authorities()?)?,
        UpstreamVerification::Authority(file) => by_authorities(authorities_in(file)?)?,
        UpstreamVerification::Pinned(sha256) => Arc::new(KeyHolder { expected: Expected::Sha256(*sha256), algorithms }),
        UpstreamVerification::None => Arc::new(KeyHolder { expected: Expected::Anything, algorithms }),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The same trust as certificates, for a TLS client that takes only those: empty means the system's authorities.
///
/// Without verification none is needed, but a client that insists on one gets one that has signed nothing.
pub fn authorities(verification: &UpstreamVerification) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match verification {
        UpstreamVerification::System => Ok(Vec::new()),
        UpstreamVerification::Authority(file) => {
            authorities_in(file)?;
            Ok(read_chain(file)?)
        }
        UpstreamVerification::Pinned(_) | UpstreamVerification::None => {
            let nobody = rcgen::generate_simple_self_signed(Vec::new())
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            Ok(vec![nobody.cert.der().clone()])
        }
    }
}

fn by_authorities(roots: RootCertStore) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()).into())
}

/// SSL_CERT_FILE and SSL_CERT_DIR, else the distribution's bundle, else Mozilla's as compiled in.
fn system_authorities() -> Result<RootCertStore, TlsError> {
    let is_named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    choose_authorities(rustls_native_certs::load_native_certs(), is_named)
}

/// An operator who named a bundle gets that one or an error, never a wider circle of trust.
fn choose_authorities(
    found: std::io::Result<Vec<CertificateDer<'static>>>,
    is_named: bool,
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let problem = match found {
        Ok(certificates) => {
            roots.add_parsable_certificates(certificates);
            "no certificate found".to_owned()
        }
        Err(error) => error.to_string(),
    };
    if !roots.is_empty() {
        return Ok(roots);
    }
    if is_named {
        return Err(TlsError::SystemAuthorities(problem));
    }
    log::warn!("no certificate authorities on this system, the compiled-in ones are used: reason={problem:?}");
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Ok(roots)
}

/// Every certificate in the file becomes an authority; an upstream's own self-signed one will do.
fn authorities_in(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in read_chain(file)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|_| CertificateError::DamagedCertificate {
            path: file.to_owned(),
            position: index + 1,
            reason: "it cannot serve as an authority",
        })?;
    }
    Ok(roots)
}

/// Takes a certificate by its hash or takes any, without name, date or issuer, but always checks
/// that the peer holds its key.
#[derive(Debug)]
struct KeyHolder {
    expected: Expected,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Expected {
    Sha256([u8; 32]),
    Anything,
}

/// The upstream shows another certificate than the pinned one.
#[derive(thiserror::Error)]
#[error("the upstream's certificate has SHA-256 {}, not the one in certificate_sha256", hex(.shown))]
struct WrongPin {
    shown: [u8; 32],
}

/// rustls prints this error with `Debug` only, and the operator needs the hash as it is written in
/// the configuration.
impl fmt::Debug for WrongPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ServerCertVerifier for KeyHolder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = sha256(end_entity);
        match self.expected {
            Expected::Sha256(pin) if pin != shown => {
                Err(rustls::CertificateError::Other(OtherError(Arc::new(WrongPin { shown }))).into())
            }
            Expected::Sha256(_) | Expected::Anything => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
