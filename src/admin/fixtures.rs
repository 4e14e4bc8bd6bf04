//! A gate for tests that remembers what it is told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;

use super::{
    AcmeError, AcmeReport, AwaitedAttempt, BanCause, BanList, BanReport, BanTarget, CertificateList, CertificateReport,
    CertificateSource, Control, Explanation, FailureCount, HostStatus, LastReload, Listeners, NewBan, Overview,
    RecentRefusal, Refusal, ReloadOutcome, ReloadReport, Removal, Renewal, ServedCertificate, Standing, Status,
};
use crate::client::ClientAddr;
use crate::history::{Hour, SAMPLES, Sample};

/// Accepts every reload, and bans whom it is told to, except loopback.
#[derive(Default)]
pub(crate) struct FakeGate {
    pub generation: AtomicU64,
    pub is_unready: AtomicBool,
    /// The oldest first.
    pub bans: Mutex<Vec<BanReport>>,
    pub certificates: Mutex<Vec<CertificateReport>>,
}

#[async_trait::async_trait]
impl Control for FakeGate {
    async fn reload(&self) -> ReloadReport {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        ReloadReport {
            outcome: ReloadOutcome::Accepted,
            generation,
            errors: Vec::new(),
            keys_needing_restart: Vec::new(),
        }
    }

    fn status(&self) -> Status {
        Status {
            version: "0.1.0".into(),
            generation: self.generation.load(Ordering::Relaxed),
            uptime_seconds: 5,
            last_reload: None,
            listeners: Listeners::default(),
            connections_open: 1,
            websockets_open: 0,
            bans_active: 0,
            clients_hidden_behind: None,
            hosts: Vec::new(),
            dynamic_dns: None,
            counters: BTreeMap::new(),
        }
    }

    fn overview(&self) -> Overview {
        Overview { status: self.status(), bans: self.bans(super::BANS_SHOWN), ..overview() }
    }

    fn ready(&self) -> Result<(), String> {
        if self.is_unready.load(Ordering::Relaxed) { Err("draining\nnow".into()) } else { Ok(()) }
    }

    fn bans(&self, most: usize) -> BanList {
        let bans = self.bans.lock();
        BanList { total: bans.len() as u64, bans: bans.iter().rev().take(most).cloned().collect() }
    }

    fn add_ban(&self, ban: NewBan) -> Result<BanReport, String> {
        if ban.network().addr().is_loopback() {
            return Err("127.0.0.0/8 is in guard.never_ban\nreally".into());
        }
        let report = BanReport {
            network: ban.network(),
            since: UNIX_EPOCH,
            until: UNIX_EPOCH + ban.length(),
            remaining_seconds: ban.length().as_secs(),
            cause: BanCause::Operator,
            reason: ban.reason().map(str::to_owned),
            strikes: 1,
        };
        self.bans.lock().push(report.clone());
        Ok(report)
    }

    fn remove_bans(&self, target: BanTarget) -> Removal {
        let is_meant = |ban: &mut BanReport| match target {
            BanTarget::Network(network) => ban.network == network,
            BanTarget::Address(address) => ban.network.contains(&address),
        };
        Removal { removed: self.bans.lock().extract_if(.., is_meant).map(|ban| ban.network).collect() }
    }

    fn certificates(&self) -> CertificateList {
        CertificateList { certificates: self.certificates.lock().clone() }
    }

    /// Every attempt ends at once, as the certificate's last one did.
    fn renew(&self, name: Option<&str>) -> Result<Renewal, String> {
        let mut renewal = Renewal::default();
        for report in self.certificates.lock().iter_mut().filter(|it| name.is_none_or(|name| it.is_called(name))) {
            if let Some(acme) = &mut report.acme {
                acme.attempts += 1;
                renewal.awaited.push(AwaitedAttempt { name: acme.name.clone(), attempts: acme.attempts });
            }
        }
        if renewal.awaited.is_empty() { Err("no such\ncertificate".into()) } else { Ok(renewal) }
    }

    fn explain(&self, address: IpAddr) -> Explanation {
        let ban = self.bans.lock().iter().find(|ban| ban.network.contains(&address)).cloned();
        Explanation {
            address,
            counted_as: ClientAddr::new(address).key().network(),
            standing: Standing::Known,
            never_ban: None,
            ban,
            failures: FailureCount { count: 1, limit: 10, window_seconds: 600, key: "a.b".into() },
            attempts_in_flight: 0,
            login_retry_seconds: Some(2),
            rate_limits: Vec::new(),
            requests_open: 1,
            connections_open: 1,
            last_refusal: Some(Refusal { at: UNIX_EPOCH, reason: "method".into(), host: None, key: None }),
        }
    }
}

/// One host that is well, and a minute of traffic.
pub(crate) fn overview() -> Overview {
    let (now, day) = (UNIX_EPOCH + Duration::from_secs(1_795_469_400), Duration::from_secs(86_400));
    let host = "ha.example.org".to_owned();
    let status = Status {
        generation: 3,
        uptime_seconds: 7200,
        last_reload: Some(LastReload { at: now - day, outcome: ReloadOutcome::Accepted, errors: Vec::new() }),
        listeners: Listeners { https: vec![([0, 0, 0, 0], 443).into()], ..Listeners::default() },
        connections_open: 12,
        websockets_open: 3,
        hosts: vec![HostStatus {
            name: host.clone(),
            upstream: "http://192.168.1.20:8123".into(),
            health: "healthy".into(),
            is_up: Some(true),
            advice: None,
            certificate: None,
        }],
        ..FakeGate::default().status()
    };
    let served = ServedCertificate {
        not_before: now - 30 * day,
        not_after: now + 60 * day,
        self_signed: false,
        sha256: "AA".into(),
        last_error: None,
    };
    let source = CertificateSource::Files;
    let certificate = CertificateReport { names: vec![host.clone()], host, source, served: Some(served), acme: None };
    let (at, reason, key) =
        (now - Duration::from_secs(7), "rate_limit".to_owned(), Some("guard.rate_limits.api".into()));
    let refusal = Refusal { at, reason, host: Some("ha.example.org".into()), key };
    let mut hour = Hour { samples: vec![None; SAMPLES] };
    let sample = Sample { fine: 4.0, refused: [0.0, 0.5, 0.0, 1.0, 0.0], failed_logins: 2.0, ..Sample::default() };
    hour.samples[SAMPLES - 6..].fill(Some(sample));
    Overview {
        at: now,
        status,
        unready: None,
        certificates: CertificateList { certificates: vec![certificate] },
        bans: BanList::default(),
        refusals: vec![RecentRefusal { client: IpAddr::from([203, 0, 113, 7]), refusal }],
        refusals_passed_over: 0,
        known_devices: 4,
        throttled_accounts: 1,
        hour,
    }
}

/// The certificate of a host that an authority issues, with the failure of its last attempt.
pub(crate) fn certificate(host: &str, failure: Option<&str>) -> CertificateReport {
    let names = vec![host.to_owned(), format!("www.{host}")];
    CertificateReport {
        host: host.to_owned(),
        names: vec![host.to_owned()],
        source: CertificateSource::Acme,
        served: None,
        acme: Some(AcmeReport {
            name: host.to_owned(),
            names,
            directory: "https://acme.test/directory".into(),
            challenges: vec!["tls-alpn-01".into()],
            profile: None,
            state: "idle".into(),
            step: None,
            issuer: None,
            not_after: failure.is_none().then_some(UNIX_EPOCH),
            renew_at: Some(UNIX_EPOCH),
            renew_because: None,
            explanation_url: None,
            next_attempt: Some(UNIX_EPOCH),
            last_success: None,
            last_attempt: None,
            failures: u32::from(failure.is_some()),
            last_error: failure.map(|why| AcmeError { step: "order".into(), sentence: why.to_owned() }),
            attempts: 0,
        }),
    }
}
