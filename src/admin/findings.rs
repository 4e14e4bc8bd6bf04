//! What an operator should know at a glance, and what to do about it. Pure.

use std::time::{Duration, SystemTime};

use super::{CertificateReport, DynamicDnsStatus, HostStatus, Overview, ReloadOutcome};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub what: String,
    /// Empty if nothing can be done but wait.
    pub what_to_do: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It works; not for long, or not as wished.
    Warning,
    /// Somebody stands before a closed door.
    Trouble,
}

impl Overview {
    /// The worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(why) = &self.unready {
            findings.push(trouble(format!("The gate accepts nobody new: {why}"), String::new()));
        }
        findings.extend(self.status.hosts.iter().filter_map(of_upstream));
        findings.extend(self.certificates.certificates.iter().flat_map(|it| of_certificate(it, self.at)));
        findings.extend(self.of_reload());
        findings.extend(self.status.dynamic_dns.iter().flat_map(of_dynamic_dns));
        if let Some(address) = self.status.clients_hidden_behind {
            let advice = "If it is the router's, limits and bans take all clients for one: forward the port without \
                          source NAT, or have a proxy in front name them.";
            findings.push(warning(format!("Nearly all clients show the address {address}"), advice.to_owned()));
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        findings
    }

    fn of_reload(&self) -> Option<Finding> {
        let reload = self.status.last_reload.as_ref().filter(|last| last.outcome == ReloadOutcome::Refused)?;
        let errors =
            if reload.errors.is_empty() { "`hearthgate check` says why.".to_owned() } else { reload.errors.join("\n") };
        let generation = self.status.generation;
        Some(warning(
            format!("The last change of the configuration was refused; generation {generation} serves on"),
            errors,
        ))
    }
}

impl HostStatus {
    /// In a word or two, for people.
    pub fn in_words(&self) -> &str {
        match self.is_up {
            Some(true) if self.advice.is_none() => "healthy",
            _ => &self.health,
        }
    }
}

impl CertificateReport {
    /// What is left of it; `None` if there is none, zero if it is over.
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        Some(self.served.as_ref()?.not_after.duration_since(now).unwrap_or_default())
    }

    /// Whether less than a third of its life is left.
    fn is_late(&self, now: SystemTime) -> bool {
        let life = self.served.as_ref().and_then(|it| it.not_after.duration_since(it.not_before).ok());
        life.zip(self.left(now)).is_some_and(|(life, left)| left < life / 3)
    }
}

fn of_upstream(host: &HostStatus) -> Option<Finding> {
    let advice = host.advice.as_ref()?;
    Some(trouble(format!("{}: {} {}", host.name, host.upstream, answer_of(host)), advice.clone()))
}

fn answer_of(host: &HostStatus) -> String {
    match host.is_up {
        Some(false) => format!("does not answer ({})", host.health),
        _ => host.health.clone(),
    }
}

fn of_certificate(certificate: &CertificateReport, now: SystemTime) -> Vec<Finding> {
    let host = &certificate.host;
    let mut findings = Vec::new();
    let why = certificate.acme.as_ref().and_then(|acme| acme.last_error.as_ref());
    let why = why.map(|error| format!("{}: {}", error.step, error.sentence));
    let files = certificate.served.as_ref().and_then(|served| served.last_error.clone());
    match certificate.left(now) {
        None => {
            let advice = why.unwrap_or_else(|| "`hearthgate certificates show` tells more.".to_owned());
            findings.push(trouble(format!("{host}: there is no certificate, nobody can connect"), advice));
        }
        Some(Duration::ZERO) => {
            let advice = why.or(files).unwrap_or_else(|| "Renew it, or see `hearthgate certificates show`.".to_owned());
            findings.push(trouble(format!("{host}: the certificate has expired, clients refuse it"), advice));
        }
        Some(_) => {
            let late = certificate.is_late(now) && !certificate.served.as_ref().is_some_and(|it| it.self_signed);
            let error = why.or(files);
            if late || error.is_some() {
                let what = if late {
                    format!("{host}: the certificate should have been renewed by now")
                } else {
                    format!("{host}: the last try to renew the certificate has failed")
                };
                findings.push(warning(what, error.unwrap_or_default()));
            }
        }
    }
    findings
}

fn of_dynamic_dns(status: &DynamicDnsStatus) -> impl Iterator<Item = Finding> {
    let failed = status.names.iter().filter_map(|name| name.failure.as_ref().map(|failure| (&name.name, failure)));
    let failed = failed.map(|(name, failure)| {
        warning(format!("{name}: the DNS provider was not told this home's address"), failure.error.clone())
    });
    let problems = status.problems.iter();
    failed
        .chain(problems.map(|problem| warning("This home's address is not known for sure".to_owned(), problem.clone())))
}

fn trouble(what: String, what_to_do: String) -> Finding {
    Finding { level: Level::Trouble, what, what_to_do }
}

fn warning(what: String, what_to_do: String) -> Finding {
    Finding { level: Level::Warning, what, what_to_do }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{DynamicName, DynamicNameFailure, fixtures};

    fn told(change: impl FnOnce(&mut Overview)) -> Vec<(Level, String)> {
        let mut overview = fixtures::overview();
        change(&mut overview);
        overview.findings().into_iter().map(|finding| (finding.level, finding.what)).collect()
    }

    #[test]
    fn a_gate_that_is_well_has_nothing_to_tell() {
        assert_eq!(told(|_| ()), []);
    }

    #[test]
    fn what_is_wrong_is_told_the_worst_first() {
        let findings = told(|overview| {
            overview.status.clients_hidden_behind = Some([192, 168, 1, 1].into());
            overview.status.hosts[0].is_up = Some(false);
            overview.status.hosts[0].health = "refused".into();
            overview.status.hosts[0].advice = Some("is it running".into());
            let reload = overview.status.last_reload.as_mut().unwrap();
            (reload.outcome, reload.errors) = (ReloadOutcome::Refused, vec!["1:1 x".into()]);
        });
        let levels: Vec<_> = findings.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [Level::Trouble, Level::Warning, Level::Warning]);
        assert_eq!(findings[0].1, "ha.example.org: http://192.168.1.20:8123 does not answer (refused)");
        assert!(findings[1].1.contains("was refused; generation 3 serves on"));
        assert!(findings[2].1.contains("192.168.1.1"));
    }

    #[test]
    fn a_name_that_could_not_be_pointed_here_is_told_of() {
        let findings = told(|overview| {
            let next_attempt = overview.at;
            let failure = Some(DynamicNameFailure { error: "the token is wrong".into(), next_attempt });
            let name =
                DynamicName { name: "ha.example.org".into(), ipv4: None, ipv6: None, last_change: None, failure };
            let problems = vec!["nobody tells our IPv6 address".into()];
            overview.status.dynamic_dns = Some(DynamicDnsStatus { names: vec![name], problems });
        });
        assert_eq!(findings.len(), 2);
        assert!(findings[0].1.starts_with("ha.example.org: the DNS provider"));
    }

    #[test]
    fn a_certificate_is_told_of_in_its_last_third() {
        let day = Duration::from_secs(86_400);
        let with_left = |left: Duration| {
            told(|overview| {
                let now = overview.at;
                let served = overview.certificates.certificates[0].served.as_mut().unwrap();
                (served.not_before, served.not_after) = (now + left - 90 * day, now + left);
            })
        };
        assert_eq!(with_left(31 * day), []);
        assert_eq!(with_left(29 * day)[0].0, Level::Warning);
        assert_eq!(with_left(Duration::ZERO)[0].0, Level::Trouble);
        let none = told(|overview| overview.certificates.certificates[0].served = None);
        assert_eq!(none[0].0, Level::Trouble);
    }
}
