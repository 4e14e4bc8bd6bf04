use std::io;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme};
use tempfile::tempdir;
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::fixtures::{Issued, day, issue, issue_for};
use super::*;

const NAME: &str = "upstream.test";

/// In force by the real clock, which rustls asks here.
fn current(names: &[&str]) -> Issued {
    let day = std::time::Duration::from_secs(24 * 3600);
    issue_for(names, &PKCS_ECDSA_P256_SHA256, SystemTime::now() - day, SystemTime::now() + day)
}

fn certified(chain_der: Vec<Vec<u8>>, key_der: &[u8]) -> CertifiedKey {
    let chain = chain_der.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_der.to_vec()));
    CertifiedKey::new(chain, provider().key_provider.load_private_key(key).unwrap())
}

async fn dial(upstream: CertifiedKey, verification: &UpstreamVerification) -> io::Result<()> {
    dial_with(upstream, verification, &rustls::version::TLS13).await?;
    Ok(())
}

async fn dial_with(
    upstream: CertifiedKey,
    verification: &UpstreamVerification,
    version: &'static rustls::SupportedProtocolVersion,
) -> io::Result<()> {
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(upstream)));
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = client_config(verification).unwrap();
    let (near, far) = duplex(1 << 16);
    let accepted = tokio::spawn(async move { TlsAcceptor::from(Arc::new(server)).accept(far).await.map(|_| ()) });
    let name = ServerName::try_from(NAME).unwrap();
    let stream = TlsConnector::from(config).connect(name, near).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    accepted.await.unwrap()
}

#[tokio::test]
async fn a_pin_takes_its_certificate_only() {
    // Out of force and for another name: neither is the pin's business.
    let (right, wrong) = (issue(&["other.test"]), issue(&["other.test"]));
    let pin = UpstreamVerification::Pinned(sha256(&right.der));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        dial_with(certified(vec![right.der.clone()], &right.key_der), &pin, version).await.unwrap();
        let shown = certified(vec![wrong.der.clone()], &wrong.key_der);
        let error = dial_with(shown, &pin, version).await.unwrap_err();
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).unwrap();
        assert!(matches!(inner, rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_))), "{inner:?}");
        assert!(error.to_string().contains(&hex(&sha256(&wrong.der))), "{error}");
    }
    // A pin is for the end entity, not for anything behind it.
    let behind = certified(vec![wrong.der, right.der], &wrong.key_der);
    assert!(dial(behind, &pin).await.is_err());
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused_even_unverified() {
    let (shown, other) = (issue(&[NAME]), issue(&[NAME]));
    for verification in [UpstreamVerification::None, UpstreamVerification::Pinned(sha256(&shown.der))] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let stolen = certified(vec![shown.der.clone()], &other.key_der);
            assert!(dial_with(stolen, &verification, version).await.is_err());
            dial_with(certified(vec![shown.der.clone()], &shown.key_der), &verification, version).await.unwrap();
        }
    }
}

#[tokio::test]
async fn unverified_takes_every_kind_of_key() {
    for algorithm in [&PKCS_RSA_SHA256, &PKCS_ED25519, &PKCS_ECDSA_P256_SHA256] {
        let issued = issue_for(&["x.test"], algorithm, day(0), day(1));
        dial(certified(vec![issued.der], &issued.key_der), &UpstreamVerification::None).await.unwrap();
    }
}

#[tokio::test]
async fn an_upstreams_own_certificate_may_be_its_authority() {
    let directory = tempdir().unwrap();
    let own = current(&[NAME]);
    let files = own.write(directory.path());
    let verification = UpstreamVerification::Authority(files.chain_file);
    dial(certified(vec![own.der.clone()], &own.key_der), &verification).await.unwrap();

    let (stranger, other_name) = (current(&[NAME]), current(&["other.test"]));
    assert!(dial(certified(vec![stranger.der], &stranger.key_der), &verification).await.is_err());
    let files = other_name.write(directory.path());
    let verification = UpstreamVerification::Authority(files.chain_file);
    assert!(dial(certified(vec![other_name.der], &other_name.key_der), &verification).await.is_err());
}

#[tokio::test]
async fn an_authority_vouches_for_what_it_signed() {
    let directory = tempdir().unwrap();
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, params.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let verification = UpstreamVerification::Authority(file);
    for (name, is_trusted) in [(NAME, true), ("other.test", false)] {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let upstream = certified(vec![leaf.der().to_vec()], &key.serialize_der());
        assert_eq!(dial(upstream, &verification).await.is_ok(), is_trusted, "{name}");
    }
}

#[test]
fn a_broken_authority_file_is_an_error_that_names_it() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    for content in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, content).unwrap();
        let error = client_config(&UpstreamVerification::Authority(file.clone())).unwrap_err().to_string();
        assert!(error.contains("ca.pem"), "{error}");
    }
    let missing = directory.path().join("missing.pem");
    assert!(client_config(&UpstreamVerification::Authority(missing)).is_err());
}

#[test]
fn the_compiled_in_authorities_never_replace_a_bundle_that_was_named() {
    let own = CertificateDer::from(current(&["ca.test"]).der);
    let failed = || Err(io::Error::other("no such file"));
    assert_eq!(choose_authorities(Ok(vec![own.clone()]), true).unwrap().len(), 1);
    assert_eq!(choose_authorities(Ok(vec![own]), false).unwrap().len(), 1);
    for found in [failed(), Ok(Vec::new())] {
        assert!(choose_authorities(found, true).is_err());
    }
    for found in [failed(), Ok(Vec::new())] {
        assert_eq!(choose_authorities(found, false).unwrap().len(), webpki_roots::TLS_SERVER_ROOTS.len());
    }
}

#[tokio::test]
async fn the_systems_authorities_do_not_know_a_stranger() {
    let own = current(&[NAME]);
    assert!(dial(certified(vec![own.der], &own.key_der), &UpstreamVerification::System).await.is_err());
}

#[test]
fn old_signature_schemes_are_not_offered() {
    let algorithms = provider().signature_verification_algorithms;
    let verifier = KeyHolder { expected: Expected::Anything, algorithms };
    let schemes = verifier.supported_verify_schemes();
    assert!(
        !schemes.contains(&SignatureScheme::RSA_PKCS1_SHA1) && !schemes.contains(&SignatureScheme::ECDSA_SHA1_Legacy)
    );
    assert!(schemes.contains(&SignatureScheme::ECDSA_NISTP256_SHA256));
}
