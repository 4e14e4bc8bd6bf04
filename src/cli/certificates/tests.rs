use std::time::UNIX_EPOCH;

use super::*;
use crate::admin::{AcmeError, CertificateSource};

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_469_400 + seconds)
}

fn served(days: u64, self_signed: bool) -> Option<ServedCertificate> {
    let not_after = at(days * 86_400 + 60);
    Some(ServedCertificate { not_before: at(0), not_after, self_signed, sha256: "ab".repeat(32), last_error: None })
}

fn acme(name: &str) -> AcmeReport {
    AcmeReport {
        name: name.to_owned(),
        names: vec![name.to_owned(), format!("*.{name}")],
        directory: "https://acme.test/directory".to_owned(),
        challenges: vec!["dns-01".to_owned(), "tls-alpn-01".to_owned()],
        profile: Some("shortlived".to_owned()),
        state: "idle".to_owned(),
        step: None,
        issuer: Some("R11".to_owned()),
        not_after: Some(at(89 * 86_400)),
        renew_at: Some(at(60 * 86_400)),
        renew_because: Some("the authority suggests it".to_owned()),
        explanation_url: None,
        next_attempt: Some(at(60 * 86_400)),
        last_success: Some(at(0)),
        last_attempt: Some(at(0)),
        failures: 0,
        last_error: None,
        attempts: 1,
    }
}

fn failing(name: &str) -> AcmeReport {
    AcmeReport {
        issuer: None,
        not_after: None,
        renew_at: Some(at(0)),
        renew_because: Some("there is no certificate yet".to_owned()),
        next_attempt: Some(at(240)),
        last_success: None,
        state: "waiting".to_owned(),
        failures: 3,
        last_error: Some(AcmeError {
            step: format!("tls-alpn-01 for {name}"),
            sentence: "the authority says: Timeout\u{1b}[2J".to_owned(),
        }),
        ..acme(name)
    }
}

fn report(host: &str, source: CertificateSource) -> CertificateReport {
    let self_signed = source == CertificateSource::SelfSigned;
    CertificateReport {
        host: host.to_owned(),
        names: vec![host.to_owned()],
        source,
        served: served(89, self_signed),
        acme: (source == CertificateSource::Acme).then(|| acme(host)),
    }
}

#[test]
fn the_list_reads_like_this() {
    let mut files = report("files.example.org", CertificateSource::Files);
    files.served = served(0, false);
    let mut expired = report("old.example.org", CertificateSource::Files);
    expired.served.as_mut().unwrap().not_after = at(0) - Duration::from_secs(5 * 86_400);
    expired.served.as_mut().unwrap().last_error = Some("cannot read /x".to_owned());
    let mut waiting = report("new.example.org", CertificateSource::Acme);
    (waiting.served, waiting.acme) = (served(396, true), Some(failing("new.example.org")));
    let mut silent = report("silent.example.org", CertificateSource::Acme);
    silent.served = None;
    silent.acme.as_mut().unwrap().step = Some("order".to_owned());
    let certificates = vec![
        report("ha.example.org", CertificateSource::Acme),
        files,
        expired,
        report("lan.example.org", CertificateSource::SelfSigned),
        waiting,
        silent,
    ];
    let expected = "\
HOST                SOURCE       EXPIRES         RENEWS  STATE
ha.example.org      acme         in 89d          in 60d
files.example.org   files        in 1m
old.example.org     files        EXPIRED 5d ago          cannot read /x
lan.example.org     self-signed  in 89d
new.example.org     acme         in 396d         in 0s   self-signed until it is had; failed 3 times, again in 4m: \
tls-alpn-01 for new.example.org: the authority says: Timeout [2J
silent.example.org  acme         none            in 60d  ordering: order
";
    assert_eq!(render_list(&CertificateList { certificates }, at(0)), expected);
}

#[test]
fn one_certificate_is_told_whole() {
    let expected = "\
ha.example.org
  names         ha.example.org
  source        acme
  served        until 2027-02-20T21:31:00Z (in 89d)
  valid from    2026-11-23T21:30:00Z
  sha256        abababababababababababababababababababababababababababababababab
  certificate   ha.example.org, *.ha.example.org
  authority     https://acme.test/directory
  issued by     R11
  challenges    dns-01, tls-alpn-01
  profile       shortlived
  state         idle
  renewal       2027-01-22T21:30:00Z (in 59d): the authority suggests it
  next attempt  2027-01-22T21:30:00Z (in 59d)
  last success  2026-11-23T21:30:00Z (10s ago)
  last attempt  2026-11-23T21:30:00Z (10s ago)
";
    assert_eq!(render(&report("ha.example.org", CertificateSource::Acme), at(10)).unwrap(), expected);
    let mut failed = report("ha.example.org", CertificateSource::Acme);
    (failed.served, failed.acme) = (None, Some(failing("ha.example.org")));
    let text = render(&failed, at(10)).unwrap();
    let end = "  last success  never
  last attempt  2026-11-23T21:30:00Z (10s ago)
  failures      3
  failed at     tls-alpn-01 for ha.example.org
  last error    the authority says: Timeout [2J
";
    assert!(text.contains("  served        nothing: clients are turned away\n") && text.ends_with(end), "{text}");
}
