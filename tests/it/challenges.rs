//! An authority looks at the challenges that the gate answers, and finds nothing else.

use std::sync::Arc;

use hearthgate::denial::Denial;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::harness::authority::Authority;
use crate::harness::{Gate, RawUpstream, Setup, eventually};

/// An authority does not believe the certificate, it reads it.
#[derive(Debug)]
struct Reads;

impl ServerCertVerifier for Reads {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What an authority sees that offers these protocols; `None` if the handshake fails.
async fn looks(gate: &Gate, name: &str, protocols: &[&str]) -> Option<Vec<u8>> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Reads))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = gate.dial().name(name).tls_with(Arc::new(config)).await.ok()?;
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), protocols.first().map(|protocol| protocol.as_bytes()));
    Some(session.peer_certificates().unwrap()[0].to_vec())
}

const DIGEST: [u8; 32] = [7; 32];

#[tokio::test(flavor = "multi_thread")]
async fn tls_alpn_01_is_answered_while_it_is_asked_and_beside_ordinary_clients() {
    let upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).start().await;
    let ordinary = looks(&gate, "ha.test", &["http/1.1"]).await.unwrap();
    assert_eq!(looks(&gate, "ha.test", &["acme-tls/1"]).await, None);
    let answering = gate.running.challenges.answer_tls_alpn("ha.test", &DIGEST).unwrap();
    let shown = looks(&gate, "ha.test", &["acme-tls/1"]).await.unwrap();
    assert!(shown != ordinary && shown.windows(32).any(|window| window == DIGEST));
    // Only for its own name, and only for who offers nothing else (RFC 8737, section 3).
    assert_eq!(looks(&gate, "other.test", &["acme-tls/1"]).await, None);
    assert_eq!(looks(&gate, "ha.test", &["http/1.1", "acme-tls/1"]).await, Some(ordinary.clone()));
    drop(answering);
    assert_eq!(looks(&gate, "ha.test", &["acme-tls/1"]).await, None);
    let expected = [(Denial::TlsHandshake, 2), (Denial::TlsName, 1)];
    eventually("three ended handshakes", || expected.iter().all(|(denial, times)| gate.denials(*denial) == *times))
        .await;
    gate.has_denied_only(&expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_needs_no_client_certificate_for_a_closed_host() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("family.pem");
    std::fs::write(&ca, Authority::new().pem).unwrap();
    let upstream = RawUpstream::start().await;
    let setup = Setup::new(upstream.address).key("surface: closed");
    let gate = setup.key(&format!("client_ca_file: {}", ca.display())).start().await;
    let _answering = gate.running.challenges.answer_tls_alpn("ha.test", &DIGEST).unwrap();
    assert!(looks(&gate, "ha.test", &["acme-tls/1"]).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn http_01_is_answered_for_its_name_and_token_and_nothing_else() {
    let mut upstream = RawUpstream::start().await;
    let gate = Setup::new(upstream.address).start().await;
    let answering = gate.running.challenges.answer_http("ha.test", "token", "token.thumb".into());
    let path = "/.well-known/acme-challenge/token";
    let answer = gate.plain_client().await.get(path).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"token.thumb".as_slice()));
    for request in [
        "GET /.well-known/acme-challenge/other HTTP/1.1\r\nHost: ha.test\r\n\r\n".to_owned(),
        "GET /.well-known/acme-challenge/ HTTP/1.1\r\nHost: ha.test\r\n\r\n".to_owned(),
        format!("POST {path} HTTP/1.1\r\nHost: ha.test\r\nContent-Length: 0\r\n\r\n"),
        format!("GET /x/..{path} HTTP/1.1\r\nHost: ha.test\r\n\r\n"),
    ] {
        assert_eq!(gate.plain_client().await.exchange(&request).await.status, 308, "{request}");
    }
    let elsewhere = format!("GET {path} HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    assert_eq!(gate.plain_client().await.exchange(elsewhere).await.status, 421);
    // A certificate may have a name that is no host.
    let _other = gate.running.challenges.answer_http("mail.test", "token", "other.thumb".into());
    let request = format!("GET {path} HTTP/1.1\r\nHost: mail.test\r\n\r\n");
    assert_eq!(gate.plain_client().await.exchange(request).await.body, b"other.thumb");
    assert_eq!(gate.plain_client().await.exchange("GET / HTTP/1.1\r\nHost: mail.test\r\n\r\n").await.status, 421);
    drop(answering);
    assert_eq!(gate.plain_client().await.get(path).await.status, 308);
    upstream.is_untouched().await;
}
