//! Real handshakes: what a client is shown, and what it is not.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::PKCS_RSA_SHA256;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup,
    ProtocolVersion, ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::fixtures::{Issued, day, exact, issue, issue_for, wildcard};
use super::server_config::provider;
use super::{CertificateEntry, CertificateStore, EntrySource, server_config};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// A front door with one host (`home.test`), one wildcard (`*.wild.test`) and their certificates.
struct Door {
    directory: TempDir,
    store: Arc<CertificateStore>,
    config: Arc<ServerConfig>,
    home: Issued,
    wild: Issued,
}

impl Door {
    fn open() -> Self {
        let store = Arc::new(CertificateStore::new());
        let config = server_config(Arc::clone(&store)).unwrap();
        let (home, wild) = (issue(&["home.test"]), issue(&["*.wild.test"]));
        let door = Self { directory: tempdir().unwrap(), store, config, home, wild };
        door.write("home", &door.home);
        door.write("wild", &door.wild);
        door.load(&[("home", exact("home.test")), ("wild", wildcard("wild.test"))]);
        door
    }

    fn write(&self, stem: &str, issued: &Issued) -> crate::config::CertificateFiles {
        let own = self.directory.path().join(stem);
        std::fs::create_dir_all(&own).unwrap();
        issued.write(&own)
    }

    fn load(&self, hosts: &[(&str, crate::config::HostPattern)]) {
        let entry = |(stem, name): &(&str, crate::config::HostPattern)| CertificateEntry {
            names: vec![name.clone()],
            source: EntrySource::Files(super::fixtures::files_in(&self.directory.path().join(stem))),
        };
        let entries: Vec<_> = hosts.iter().map(entry).collect();
        let prepared = self.store.prepare(&entries, Path::new("/unused"), day(1)).unwrap();
        self.store.commit(prepared);
    }
}

/// Trusts anything, and remembers every certificate it was shown.
#[derive(Debug, Default)]
struct Witness {
    shown: Mutex<Vec<Vec<u8>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.shown.lock().push(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client(versions: &[&'static SupportedProtocolVersion]) -> (ClientConfig, Arc<Witness>) {
    let witness = Arc::new(Witness::default());
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    (config, witness)
}

/// What both ends agreed on.
#[derive(Debug)]
struct Agreed {
    version: ProtocolVersion,
    group: Option<NamedGroup>,
    kind: HandshakeKind,
    alpn: Option<Vec<u8>>,
    certificate: Vec<u8>,
}

/// One connection to its end, tickets included; the error is the client's.
async fn connect(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> io::Result<Agreed> {
    let (near, far) = duplex(1 << 16);
    let acceptor = TlsAcceptor::from(Arc::clone(server));
    let server = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    });
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::clone(client)).connect(name, near).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    assert_eq!(text, "hello");
    server.await.unwrap()?;
    let connection = stream.get_ref().1;
    Ok(Agreed {
        version: connection.protocol_version().unwrap(),
        group: connection.negotiated_key_exchange_group().map(|group| group.name()),
        kind: connection.handshake_kind().unwrap(),
        alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
        certificate: connection.peer_certificates().unwrap()[0].to_vec(),
    })
}

fn is_alert(error: &io::Error, alert: AlertDescription) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::AlertReceived(received)) if *received == alert)
}

#[tokio::test]
async fn each_name_is_shown_its_own_certificate_in_both_versions() {
    let door = Door::open();
    for version in VERSIONS {
        let (config, _) = client(&[version]);
        let config = Arc::new(config);
        for (name, issued) in [("home.test", &door.home), ("HOME.test", &door.home), ("a.wild.test", &door.wild)] {
            let agreed = connect(&door.config, &config, name).await.unwrap();
            assert_eq!(agreed.certificate, issued.der, "{name}");
            assert_eq!(agreed.version, version.version);
        }
    }
}

#[tokio::test]
async fn an_unknown_or_missing_name_ends_in_an_alert_and_sees_no_certificate() {
    let door = Door::open();
    for version in VERSIONS {
        for (name, has_sni) in [
            ("other.test", true),
            ("a.home.test", true),
            ("wild.test", true),
            ("a.b.wild.test", true),
            ("192.0.2.1", true),
            ("home.test", false),
        ] {
            let (mut config, witness) = client(&[version]);
            config.enable_sni = has_sni;
            let error = connect(&door.config, &Arc::new(config), name).await.unwrap_err();
            assert!(is_alert(&error, AlertDescription::AccessDenied), "{name}: {error:?}");
            assert!(witness.shown.lock().is_empty(), "{name}");
        }
    }
}

/// The wire itself: a certificate could leak in TLS 1.2 before a client's verifier sees it.
#[test]
fn the_answer_to_an_unknown_name_is_seven_bytes_of_alert() {
    let door = Door::open();
    for version in VERSIONS {
        for (name, is_known) in [("other.test", false), ("home.test", true)] {
            let (config, _) = client(&[version]);
            let name = ServerName::try_from(name).unwrap();
            let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
            let mut server = ServerConnection::new(Arc::clone(&door.config)).unwrap();
            let (mut hello, mut answer) = (Vec::new(), Vec::new());
            client.write_tls(&mut hello).unwrap();
            server.read_tls(&mut hello.as_slice()).unwrap();
            let verdict = server.process_new_packets().map(|_| ());
            server.write_tls(&mut answer).unwrap();
            assert_eq!(verdict.is_ok(), is_known);
            let alert = [21, 3, 3, 0, 2, 2, u8::from(AlertDescription::AccessDenied)];
            assert_eq!(answer == alert, !is_known, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn an_empty_store_refuses_everyone() {
    let config = server_config(Arc::new(CertificateStore::new())).unwrap();
    let (client, _) = client(&VERSIONS);
    let error = connect(&config, &Arc::new(client), "home.test").await.unwrap_err();
    assert!(is_alert(&error, AlertDescription::AccessDenied));
}

#[tokio::test]
async fn the_post_quantum_group_is_preferred_and_old_clients_get_another() {
    let door = Door::open();
    let (config, _) = client(&VERSIONS);
    let agreed = connect(&door.config, &Arc::new(config), "home.test").await.unwrap();
    assert_eq!(agreed.group, Some(NamedGroup::X25519MLKEM768));

    use rustls::crypto::aws_lc_rs::kx_group;
    for group in [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1] {
        let mut old = (*provider()).clone();
        old.kx_groups = vec![group];
        let config = ClientConfig::builder_with_provider(Arc::new(old))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Witness::default()))
            .with_no_client_auth();
        let agreed = connect(&door.config, &Arc::new(config), "home.test").await.unwrap();
        assert_eq!(agreed.group, Some(group.name()));
    }
}

#[tokio::test]
async fn h2_is_preferred_and_strangers_protocols_are_refused() {
    let door = Door::open();
    let cases: [(&[&str], Option<&str>); 4] = [
        (&["h2", "http/1.1"], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ];
    let with_alpn = |offered: &[&str]| {
        let (mut config, _) = client(&VERSIONS);
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    for (offered, expected) in cases {
        let agreed = connect(&door.config, &with_alpn(offered), "home.test").await.unwrap();
        assert_eq!(agreed.alpn.as_deref(), expected.map(str::as_bytes));
    }
    let error = connect(&door.config, &with_alpn(&["smtp"]), "home.test").await.unwrap_err();
    assert!(is_alert(&error, AlertDescription::NoApplicationProtocol));
}

#[tokio::test]
async fn sessions_resume_also_across_a_new_certificate() {
    for version in VERSIONS {
        let door = Door::open();
        let (config, witness) = client(&[version]);
        let config = Arc::new(config);
        let first = connect(&door.config, &config, "home.test").await.unwrap();
        assert_ne!(first.kind, HandshakeKind::Resumed);
        let second = connect(&door.config, &config, "home.test").await.unwrap();
        assert_eq!(second.kind, HandshakeKind::Resumed);

        let renewed = issue(&["home.test"]);
        door.write("home", &renewed);
        assert_eq!(door.store.refresh(day(1)).len(), 1);
        let third = connect(&door.config, &config, "home.test").await.unwrap();
        assert_eq!(third.kind, HandshakeKind::Resumed);
        assert_eq!(witness.shown.lock().len(), 1);

        let (fresh, _) = client(&[version]);
        let fourth = connect(&door.config, &Arc::new(fresh), "home.test").await.unwrap();
        assert_eq!(fourth.certificate, renewed.der);
    }
}

/// In TLS 1.2 the suite names the kind of key, so there a session ends with its kind; that costs a
/// client one full handshake and nothing else.
#[tokio::test]
async fn a_change_to_another_kind_of_key_is_noticed_by_tls_1_2_only() {
    for (version, expected) in VERSIONS.into_iter().zip([HandshakeKind::Full, HandshakeKind::Resumed]) {
        let door = Door::open();
        let (config, _) = client(&[version]);
        let config = Arc::new(config);
        connect(&door.config, &config, "home.test").await.unwrap();
        door.write("home", &issue_for(&["home.test"], &PKCS_RSA_SHA256, day(0), day(90)));
        assert_eq!(door.store.refresh(day(1)).len(), 1);
        let agreed = connect(&door.config, &config, "home.test").await.unwrap();
        assert_eq!(agreed.kind, expected);
    }
}

#[tokio::test]
async fn a_ticket_does_not_outlive_its_host() {
    for version in VERSIONS {
        let door = Door::open();
        let (config, _) = client(&[version]);
        let config = Arc::new(config);
        connect(&door.config, &config, "home.test").await.unwrap();
        connect(&door.config, &config, "a.wild.test").await.unwrap();
        door.load(&[("wild", wildcard("wild.test"))]);
        let error = connect(&door.config, &config, "home.test").await.unwrap_err();
        assert!(is_alert(&error, AlertDescription::AccessDenied));
        let neighbour = connect(&door.config, &config, "a.wild.test").await.unwrap();
        assert_eq!(neighbour.kind, HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn a_certificate_broken_on_disk_keeps_shaking_hands() {
    let door = Door::open();
    let broken = Issued { chain: String::from("half a certi"), ..issue(&["home.test"]) };
    door.write("home", &broken);
    for _ in 0..3 {
        door.store.refresh(day(1));
        let (config, _) = client(&VERSIONS);
        let agreed = connect(&door.config, &Arc::new(config), "home.test").await.unwrap();
        assert_eq!(agreed.certificate, door.home.der);
    }
}

#[test]
fn early_data_is_off_and_tickets_are_on() {
    let config = server_config(Arc::new(CertificateStore::new())).unwrap();
    assert_eq!(config.max_early_data_size, 0);
    assert!(!config.send_half_rtt_data);
    assert!(config.ticketer.enabled());
    assert_eq!(config.ticketer.lifetime(), 12 * 3600);
    assert_eq!(config.send_tls13_tickets, 2);
}

#[test]
fn the_provider_may_be_installed_any_number_of_times() {
    super::install_provider();
    super::install_provider();
    let groups = &rustls::crypto::CryptoProvider::get_default().unwrap().kx_groups;
    assert_eq!(groups[0].name(), NamedGroup::X25519MLKEM768);
}
