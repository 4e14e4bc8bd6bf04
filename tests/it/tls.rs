//! What is negotiated on the way in.

use std::sync::Arc;

use hearthgate::admin::ReloadOutcome::Accepted;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, SupportedProtocolVersion};

use crate::harness::{Client, FakeHomeAssistant, Gate, Setup};

type Groups = Vec<&'static dyn rustls::crypto::SupportedKxGroup>;

fn client_config(gate: &Gate, version: &'static SupportedProtocolVersion, kx_groups: Groups) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let pem = rustls::pki_types::pem::PemObject::from_pem_slice(gate.authority.pem.as_bytes()).unwrap();
    roots.add(pem).unwrap();
    let provider = rustls::crypto::CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[version]).unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// Connects, asks, and says what was negotiated.
async fn ask(gate: &Gate, config: &Arc<ClientConfig>) -> (ProtocolVersion, NamedGroup, HandshakeKind) {
    let stream = gate.dial().tls_with(config.clone()).await.unwrap();
    let session = stream.get_ref().1;
    let version = session.protocol_version().unwrap();
    let group = session.negotiated_key_exchange_group().map_or(NamedGroup::Unknown(0), |group| group.name());
    let kind = session.handshake_kind().unwrap();
    assert_eq!(Client::new(stream).get("/").await.text(), "home");
    (version, group, kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_post_quantum_group_is_taken_from_whoever_offers_it_and_nobody_has_to() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let offers: [(Groups, NamedGroup); 3] = [
        (vec![kx_group::X25519MLKEM768, kx_group::X25519], NamedGroup::X25519MLKEM768),
        (vec![kx_group::X25519, kx_group::SECP256R1], NamedGroup::X25519),
        (vec![kx_group::SECP384R1], NamedGroup::secp384r1),
    ];
    for (offer, taken) in offers {
        let config = client_config(&gate, &rustls::version::TLS13, offer);
        let negotiated = ask(&gate, &config).await;
        assert_eq!(negotiated, (ProtocolVersion::TLSv1_3, taken, negotiated.2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_tls_1_2_is_served() {
    let upstream = FakeHomeAssistant::start().await;
    let gate = Gate::start(upstream.address).await;
    let config = client_config(&gate, &rustls::version::TLS12, vec![kx_group::X25519]);
    assert_eq!(ask(&gate, &config).await.0, ProtocolVersion::TLSv1_2);
    let sample = "hearthgate_tls_handshakes_total{outcome=\"full\",version=\"1.2\"}";
    assert_eq!(gate.metric(sample), Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed_across_a_reload() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let upstream = FakeHomeAssistant::start().await;
        let gate = Gate::start(upstream.address).await;
        let config = client_config(&gate, version, vec![kx_group::X25519]);
        assert_eq!(ask(&gate, &config).await.2, HandshakeKind::Full);
        assert_eq!(ask(&gate, &config).await.2, HandshakeKind::Resumed, "{:?}", version.version);
        gate.write(&Setup::new(upstream.address).key("security_headers: false"));
        assert_eq!(gate.running.reload().await.outcome, Accepted);
        assert_eq!(ask(&gate, &config).await.2, HandshakeKind::Resumed, "{:?}", version.version);
        // Whoever has no ticket is greeted in full.
        let stranger = client_config(&gate, version, vec![kx_group::X25519]);
        assert_eq!(ask(&gate, &stranger).await.2, HandshakeKind::Full);
    }
}
