//! The certificates of all hosts as the operator sees them, and the task that asks for those that an authority issues.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use tokio::task::JoinSet;

use super::gate::Gate;
use crate::acme::{self, Report, Settings, Surroundings};
use crate::admin::{
    AcmeError, AcmeReport, AwaitedAttempt, CertificateList, CertificateReport, CertificateSource, Renewal,
    ServedCertificate,
};
use crate::config;
use crate::reload;
use crate::tls::{CertificateFacts, CertificateOrigin};

/// Starts what asks for certificates and renews them; after it was broken off, `gate.acme.stop()` tidies up.
pub(super) fn tend(gate: &Arc<Gate>, tasks: &mut JoinSet<()>) {
    let tending = gate.clone();
    tasks.spawn(async move { tending.acme.tend(&*tending).await });
    let (waking, mut changes) = (gate.clone(), gate.reloader.changes());
    tasks.spawn(async move {
        while changes.changed().await.is_ok() {
            waking.acme.wake();
        }
    });
}

/// Looks at all files once, and serves what is new in them.
pub(super) async fn look(gate: &Gate) {
    let certificates = gate.certificates.clone();
    let news = tokio::task::spawn_blocking(move || certificates.refresh(SystemTime::now())).await;
    if news.is_ok_and(|news| !news.is_empty()) {
        reload::record_certificates(&gate.metrics, &gate.certificates);
    }
}

#[async_trait]
impl Surroundings for Gate {
    fn settings(&self) -> Option<Settings> {
        let snapshot = self.snapshot.load();
        let config = &snapshot.config;
        Some(Settings {
            // A configuration in which they contradict each other was not accepted.
            wanted: acme::wanted(config).ok()?,
            authority: snapshot.authority.clone()?,
            dns: snapshot.dns.clone(),
            accounts: config.dns.clone(),
            has_http: !config.listen.http.is_empty(),
        })
    }

    async fn serve(&self) {
        look(self).await;
    }
}

/// One entry for each host.
pub(super) fn list(gate: &Gate) -> CertificateList {
    let (snapshot, facts, reports) = (gate.snapshot.load(), gate.certificates.facts(), gate.acme.report());
    let directory = &snapshot.config.acme.directory;
    let certificates = snapshot.config.hosts.iter().map(|host| {
        let name = host.name.to_string();
        let report = reports.iter().find(|report| report.wanted.hosts.contains(&name));
        CertificateReport {
            names: std::iter::once(&host.name).chain(&host.aliases).map(ToString::to_string).collect(),
            source: match host.certificate {
                config::CertificateSource::SelfSigned => CertificateSource::SelfSigned,
                config::CertificateSource::Files(_) => CertificateSource::Files,
                config::CertificateSource::Acme(_) => CertificateSource::Acme,
            },
            served: facts.iter().find(|fact| fact.host == name).map(served),
            acme: report.map(|report| asked_for(report, directory)),
            host: name,
        }
    });
    CertificateList { certificates: certificates.collect() }
}

/// Asks for an attempt now.
pub(super) fn renew(gate: &Gate, name: Option<&str>) -> Result<Renewal, String> {
    let awaited = gate.acme.renew(name);
    if !awaited.is_empty() {
        let awaited = awaited.into_iter().map(|it| AwaitedAttempt { name: it.name, attempts: it.attempts });
        return Ok(Renewal { awaited: awaited.collect() });
    }
    let list = list(gate);
    let known = name.and_then(|name| list.certificates.iter().find(|certificate| certificate.is_called(name)));
    Err(match (name, known.map(|certificate| certificate.source)) {
        (None, _) => "no certificate of this gate comes from an authority by ACME".into(),
        (Some(name), None) => format!("no host or certificate is called {name}; `certificates list` shows all"),
        (Some(name), Some(CertificateSource::Files)) => {
            format!("the certificate of {name} comes from files: whoever puts them there renews it")
        }
        (Some(name), Some(CertificateSource::SelfSigned)) => {
            format!("the certificate of {name} is the gate's own, which renews it by itself")
        }
        // Between a reload and the moment when it is taken up.
        (Some(name), Some(CertificateSource::Acme)) => format!("the certificate of {name} is new: it is asked for now"),
    })
}

fn served(fact: &CertificateFacts) -> ServedCertificate {
    ServedCertificate {
        not_before: fact.not_before,
        not_after: fact.not_after,
        self_signed: fact.origin == CertificateOrigin::SelfSigned,
        sha256: fact.sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
        last_error: fact.last_error.clone(),
    }
}

fn asked_for(report: &Report, directory: &str) -> AcmeReport {
    let (certificate, memory) = (&report.wanted.certificate, &report.memory);
    AcmeReport {
        name: report.wanted.name(),
        names: certificate.names.iter().map(ToString::to_string).collect(),
        directory: directory.to_owned(),
        challenges: certificate.terms.challenges.iter().map(|challenge| challenge.as_str().to_owned()).collect(),
        profile: certificate.terms.profile.clone(),
        state: report.activity.as_str().to_owned(),
        step: report.activity.step(),
        issuer: report.issuer().map(str::to_owned),
        not_after: report.not_after(),
        renew_at: report.renew_at(),
        renew_because: report.renew_because().map(str::to_owned),
        explanation_url: report.explanation_url().map(str::to_owned),
        next_attempt: report.next_attempt(),
        last_success: memory.last_success,
        last_attempt: memory.last_attempt,
        failures: memory.failures,
        last_error: memory
            .error
            .as_ref()
            .map(|error| AcmeError { step: error.step.clone(), sentence: error.sentence.clone() }),
        attempts: report.attempts,
    }
}
