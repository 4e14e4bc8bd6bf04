//! The challenges that are being answered at this moment: by the listener (TLS-ALPN-01) and on port 80 (HTTP-01).
//!
//! Only the gate itself puts anything in, one challenge at a time, and an [`Answering`] takes it out again. Whoever asks
//! for anything else is told nothing.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// What is answered; shared by those who order and those who answer. At most 16; the oldest leaves.
#[derive(Default)]
pub struct Challenges {
    answers: Mutex<Answers>,
}

/// A challenge is answered as long as this lives.
#[must_use = "the challenge is answered as long as this lives"]
pub struct Answering {
    challenges: Arc<Challenges>,
    id: u64,
}

/// A certificate for a challenge that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum UnusableChallenge {
    #[error("the digest of a challenge is not 32 bytes long")]
    Digest,
    #[error("the certificate for a challenge cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("the TLS library refuses the certificate for a challenge: {0}")]
    Tls(#[from] rustls::Error),
}

/// The protocol of a TLS-ALPN-01 validation; the only one that is spoken there (RFC 8737, section 6.2).
pub const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// Orders are made one after another, each with one challenge at a time.
const MOST: usize = 16;

#[derive(Default)]
struct Answers {
    last_id: u64,
    /// The oldest first.
    list: Vec<(u64, Answer)>,
}

enum Answer {
    Http { name: String, token: String, key_authorization: String },
    TlsAlpn { name: String, config: Arc<ServerConfig> },
}

impl Challenges {
    /// Answers an HTTP-01 challenge (RFC 8555, section 8.3).
    pub fn answer_http(self: &Arc<Self>, name: &str, token: &str, key_authorization: String) -> Answering {
        self.answer(Answer::Http { name: name.to_ascii_lowercase(), token: token.to_owned(), key_authorization })
    }

    /// Answers a TLS-ALPN-01 challenge; `digest` is the SHA-256 of its key authorization.
    ///
    /// # Errors
    ///
    /// If the certificate cannot be made, which no name that can be configured brings about.
    pub fn answer_tls_alpn(self: &Arc<Self>, name: &str, digest: &[u8]) -> Result<Answering, UnusableChallenge> {
        let name = name.to_ascii_lowercase();
        let config = Arc::new(tls_alpn_config(&name, digest)?);
        Ok(self.answer(Answer::TlsAlpn { name, config }))
    }

    /// What is served at `/.well-known/acme-challenge/{token}` of `name`, which is in lower case.
    pub fn http(&self, name: &str, token: &str) -> Option<String> {
        self.answers.lock().list.iter().find_map(|(_, answer)| match answer {
            Answer::Http { name: own, token: wanted, key_authorization } if own == name && wanted == token => {
                Some(key_authorization.clone())
            }
            Answer::Http { .. } | Answer::TlsAlpn { .. } => None,
        })
    }

    /// The TLS settings for a connection that names `name`, in lower case, and offers nothing but [`ACME_TLS_ALPN`].
    pub fn tls_alpn(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.answers.lock().list.iter().find_map(|(_, answer)| match answer {
            Answer::TlsAlpn { name: own, config } if own == name => Some(config.clone()),
            Answer::Http { .. } | Answer::TlsAlpn { .. } => None,
        })
    }

    fn answer(self: &Arc<Self>, answer: Answer) -> Answering {
        let mut answers = self.answers.lock();
        answers.last_id += 1;
        let id = answers.last_id;
        if answers.list.len() == MOST {
            answers.list.remove(0);
        }
        answers.list.push((id, answer));
        Answering { challenges: self.clone(), id }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.challenges.answers.lock().list.retain(|(id, _)| *id != self.id);
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").field("answered", &self.answers.lock().list.len()).finish_non_exhaustive()
    }
}

/// A self-signed certificate for `name` alone, with the digest in a critical extension (RFC 8737, section 3).
fn tls_alpn_config(name: &str, digest: &[u8]) -> Result<ServerConfig, UnusableChallenge> {
    if digest.len() != DIGEST_BYTES {
        return Err(UnusableChallenge::Digest);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Hearthgate ACME challenge");
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let private_key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = provider.key_provider.load_private_key(private_key.into())?;
    // Not `with_single_cert`: that looks into the certificate, and stumbles over the critical extension.
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate.der().clone()], key));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![ACME_TLS_ALPN.to_vec()];
    // Nobody comes back to a challenge.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// SHA-256.
const DIGEST_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, ServerConnection};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn a_token_is_answered_for_its_name_while_somebody_waits() {
        let challenges = Arc::new(Challenges::default());
        let answering = challenges.answer_http("HA.example.org", "token", "token.thumb".into());
        assert_eq!(challenges.http("ha.example.org", "token").as_deref(), Some("token.thumb"));
        assert_eq!(challenges.http("other.example.org", "token"), None);
        assert_eq!(challenges.http("ha.example.org", "another"), None);
        assert!(challenges.tls_alpn("ha.example.org").is_none());
        let second = challenges.answer_http("ha.example.org", "another", "another.thumb".into());
        drop(answering);
        assert_eq!(challenges.http("ha.example.org", "token"), None);
        assert_eq!(challenges.http("ha.example.org", "another").as_deref(), Some("another.thumb"));
        drop(second);
        assert!(challenges.answers.lock().list.is_empty());
    }

    #[test]
    fn no_more_than_a_few_are_answered() {
        let challenges = Arc::new(Challenges::default());
        let token = |number: usize| number.to_string();
        let guards: Vec<_> = (0..=MOST).map(|n| challenges.answer_http("a.b", &token(n), token(n))).collect();
        assert_eq!(challenges.http("a.b", &token(0)), None);
        assert!(challenges.http("a.b", &token(1)).is_some() && challenges.http("a.b", &token(MOST)).is_some());
        drop(guards);
        assert!(challenges.answers.lock().list.is_empty());
    }

    /// Accepts every certificate; the test looks at it itself.
    #[derive(Debug)]
    struct Anybody;

    impl rustls::client::danger::ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }

    fn client(alpn: &[u8]) -> ClientConnection {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        ClientConnection::new(Arc::new(config), "ha.example.org".try_into().unwrap()).unwrap()
    }

    /// Carries bytes until neither side has any left.
    fn shake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            let result = server.process_new_packets();
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            result?;
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn the_certificate_holds_the_digest_in_a_critical_extension() {
        let challenges = Arc::new(Challenges::default());
        let answering = challenges.answer_tls_alpn("HA.example.org", &[7; 32]).unwrap();
        let config = challenges.tls_alpn("ha.example.org").unwrap();
        assert!(challenges.tls_alpn("other.example.org").is_none());
        assert_eq!(challenges.http("ha.example.org", ""), None);
        let (mut client, mut server) = (client(ACME_TLS_ALPN), ServerConnection::new(config).unwrap());
        shake(&mut client, &mut server).unwrap();
        assert_eq!(client.alpn_protocol(), Some(ACME_TLS_ALPN));
        let shown = client.peer_certificates().unwrap();
        let (_, certificate) = X509Certificate::from_der(&shown[0]).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 1);
        assert!(names.value.general_names[0].to_string().contains("ha.example.org"));
        let extension = certificate.extensions().iter().find(|e| e.oid.to_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(extension.critical);
        // An OCTET STRING of 32 bytes.
        assert_eq!(extension.value, [&[4, 32], [7; 32].as_slice()].concat());
        drop(answering);
        assert!(challenges.tls_alpn("ha.example.org").is_none());
    }

    #[test]
    fn nothing_but_the_challenge_is_spoken() {
        let challenges = Arc::new(Challenges::default());
        let _answering = challenges.answer_tls_alpn("ha.example.org", &[7; 32]).unwrap();
        let config = challenges.tls_alpn("ha.example.org").unwrap();
        let mut server = ServerConnection::new(config).unwrap();
        assert!(shake(&mut client(b"http/1.1"), &mut server).is_err());
    }

    #[test]
    fn a_digest_of_another_length_is_refused() {
        let challenges = Arc::new(Challenges::default());
        assert!(matches!(challenges.answer_tls_alpn("a.b", &[7; 31]), Err(UnusableChallenge::Digest)));
    }
}
