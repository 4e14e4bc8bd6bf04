//! Certificates and settings for the tests of this room.

use std::path::Path;
use std::sync::Arc;

use super::{Authority, Settings, wanted};
use crate::config::{AcmeCertificate, AcmeTerms, Config, HostPattern};
use crate::dns::Dns;
use crate::tls;

pub(super) fn exact(name: &str) -> HostPattern {
    HostPattern::Exact(name.to_owned())
}

pub(super) fn wildcard(zone: &str) -> HostPattern {
    HostPattern::Wildcard(zone.to_owned())
}

pub(super) fn certificate(names: Vec<HostPattern>) -> AcmeCertificate {
    AcmeCertificate { names, terms: AcmeTerms::default() }
}

/// `sections` beside `hosts`, each host with what is written of its certificate.
pub(super) fn config(sections: &str, hosts: &[(&str, &str)]) -> Config {
    let hosts = hosts.iter().map(|(name, certificate)| {
        format!("  {name}:\n    upstream: http://127.0.0.1:8123\n    certificate: {certificate}\n")
    });
    let text = format!("state_directory: /nonexistent\n{sections}\nhosts:\n{}", hosts.collect::<String>());
    Config::parse(&text, Path::new("/nonexistent/hearthgate.yaml")).unwrap()
}

pub(super) fn settings(sections: &str, hosts: &[(&str, &str)]) -> Settings {
    tls::install_provider();
    let config = config(sections, hosts);
    Settings {
        wanted: wanted(&config).unwrap(),
        authority: Arc::new(Authority::new(&config.acme).unwrap()),
        dns: Arc::new(Dns::new(&config.dns, &config.acme.propagation).unwrap()),
        accounts: config.dns.clone(),
        has_http: !config.listen.http.is_empty(),
    }
}
