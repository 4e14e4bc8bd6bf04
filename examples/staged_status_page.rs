//! Serves the status page of a household that does not exist: for its screenshots, and for whoever works on its looks.
//!
//!     cargo run --example staged_status_page -- 127.0.0.1:9181 /tmp/staged.sock
//!     hearthgate top --socket /tmp/staged.sock
//!
//! The page and the terminal are the gate's own; only what they show is made up. Bans can be lifted.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use hearthgate::admin::{
    AcmeError, AcmeReport, AdminServer, BanCause, BanList, BanReport, BanTarget, CertificateList, CertificateReport,
    CertificateSource, Control, Explanation, HostStatus, LastReload, Listeners, NewBan, Overview, RecentRefusal,
    Refusal, ReloadOutcome, ReloadReport, Removal, Renewal, ServedCertificate, Status,
};
use hearthgate::history::{Hour, Latency, SAMPLES, Sample};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The gate that is not there.
struct Staged {
    bans: Mutex<Vec<BanReport>>,
    listeners: Listeners,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:9181".into());
    let socket = arguments.next().unwrap_or_else(|| "/tmp/hearthgate-staged.sock".into());
    let tcp = tokio::net::TcpListener::bind(&address).await.context(address)?;
    let admin = hearthgate::config::Admin { listen: None, token: None, socket: socket.into() };
    let gate = Arc::new(Staged::new());
    let _server = AdminServer::start(&admin, Some(tcp), prometheus::Registry::new(), gate).await?;
    std::future::pending().await
}

impl Staged {
    fn new() -> Self {
        let all = |port| vec![SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0_u16; 8], port))];
        let admin = Some(SocketAddr::from(([127, 0, 0, 1], 9180)));
        let bans = vec![
            ban("203.0.113.9/32", BanCause::Failures, 12 * MINUTE, 3 * MINUTE, None, 1),
            ban("2001:db8:7:aa00::/56", BanCause::Neighbours, 3 * DAY, DAY, None, 3),
            ban("198.51.100.0/24", BanCause::Operator, 29 * DAY, DAY, Some("scans for cameras"), 1),
        ];
        Self { bans: Mutex::new(bans), listeners: Listeners { https: all(443), http: all(80), admin } }
    }

    fn list(&self) -> BanList {
        let bans = self.bans.lock().map(|bans| bans.clone()).unwrap_or_default();
        BanList { total: bans.len() as u64, bans }
    }
}

#[async_trait::async_trait]
impl Control for Staged {
    async fn reload(&self) -> ReloadReport {
        ReloadReport { outcome: ReloadOutcome::Unchanged, generation: 4, errors: vec![], keys_needing_restart: vec![] }
    }

    fn status(&self) -> Status {
        let at = SystemTime::now() - 26 * MINUTE;
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            generation: 4,
            uptime_seconds: 11 * DAY.as_secs() + 4000,
            last_reload: Some(LastReload { at, outcome: ReloadOutcome::Accepted, errors: vec![] }),
            listeners: self.listeners.clone(),
            connections_open: 14,
            websockets_open: 6,
            bans_active: self.list().total,
            clients_hidden_behind: None,
            hosts: vec![
                host("home.example.org", "http://192.168.1.20:8123"),
                host("grandma.example.org", "http://192.168.7.2:8123"),
                host("photos.example.org", "http://192.168.1.31:2342"),
            ],
            dynamic_dns: None,
            counters: [].into(),
        }
    }

    fn overview(&self) -> Overview {
        Overview {
            at: SystemTime::now(),
            status: self.status(),
            unready: None,
            certificates: self.certificates(),
            bans: self.list(),
            refusals: refusals(),
            refusals_passed_over: 212,
            known_devices: 9,
            throttled_accounts: 0,
            hour: Hour { samples: (0..SAMPLES).map(|at| (at > 20).then(|| sample(at))).collect() },
        }
    }

    fn certificates(&self) -> CertificateList {
        let failed = AcmeError {
            step: "dns-01 for grandma.example.org".into(),
            sentence: "the DNS provider refuses the token: make a new one, and put it into secrets.yaml".into(),
        };
        let certificates = vec![
            certificate("home.example.org", CertificateSource::Acme, 61, None),
            certificate("grandma.example.org", CertificateSource::Acme, 33, Some(failed)),
            certificate("photos.example.org", CertificateSource::SelfSigned, 301, None),
        ];
        CertificateList { certificates }
    }

    fn renew(&self, _: Option<&str>) -> Result<Renewal, String> {
        Err("nothing is renewed on a stage".into())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn bans(&self, _: usize) -> BanList {
        self.list()
    }

    fn add_ban(&self, _: NewBan) -> Result<BanReport, String> {
        Err("nobody is banned on a stage".into())
    }

    fn remove_bans(&self, target: BanTarget) -> Removal {
        let is_meant = |ban: &mut BanReport| match target {
            BanTarget::Network(network) => ban.network == network,
            BanTarget::Address(address) => ban.network.contains(&address),
        };
        let Ok(mut bans) = self.bans.lock() else { return Removal::default() };
        Removal { removed: bans.extract_if(.., is_meant).map(|ban| ban.network).collect() }
    }

    fn explain(&self, address: IpAddr) -> Explanation {
        Explanation {
            address,
            counted_as: address.into(),
            standing: hearthgate::admin::Standing::Unknown,
            never_ban: None,
            ban: None,
            failures: hearthgate::admin::FailureCount { count: 0, limit: 10, window_seconds: 600, key: "a".into() },
            attempts_in_flight: 0,
            login_retry_seconds: None,
            rate_limits: vec![],
            requests_open: 0,
            connections_open: 0,
            last_refusal: None,
        }
    }
}

fn host(name: &str, upstream: &str) -> HostStatus {
    let (name, upstream, health) = (name.into(), upstream.into(), "healthy".into());
    HostStatus { name, upstream, health, is_up: Some(true), advice: None, certificate: None }
}

fn ban(network: &str, cause: BanCause, left: Duration, age: Duration, reason: Option<&str>, strikes: u32) -> BanReport {
    let now = SystemTime::now();
    BanReport {
        network: network.parse().unwrap_or_default(),
        since: now - age,
        until: now + left,
        remaining_seconds: left.as_secs(),
        cause,
        reason: reason.map(str::to_owned),
        strikes,
    }
}

fn certificate(host: &str, source: CertificateSource, days: u32, failed: Option<AcmeError>) -> CertificateReport {
    let now = SystemTime::now() + DAY / 2;
    let (not_before, not_after) = (now + days * DAY - 90 * DAY, now + days * DAY);
    let self_signed = source == CertificateSource::SelfSigned;
    let names = vec![host.to_owned()];
    let acme = (source == CertificateSource::Acme).then(|| AcmeReport {
        name: host.into(),
        names: names.clone(),
        directory: "https://acme-v02.api.letsencrypt.org/directory".into(),
        challenges: vec!["dns-01".into()],
        profile: None,
        state: "idle".into(),
        step: None,
        issuer: None,
        not_after: Some(not_after),
        renew_at: Some(not_after - 30 * DAY),
        renew_because: None,
        explanation_url: None,
        next_attempt: failed.as_ref().map(|_| now - DAY / 2 + 40 * MINUTE),
        last_success: Some(not_before),
        last_attempt: Some(not_before),
        failures: u32::from(failed.is_some()),
        last_error: failed,
        attempts: 1,
    });
    let sha256 = String::new();
    let served = Some(ServedCertificate { not_before, not_after, self_signed, sha256, last_error: None });
    CertificateReport { host: host.into(), names, source, served, acme }
}

fn refusals() -> Vec<RecentRefusal> {
    let rows = [
        (14, [203, 0, 113, 9], "home.example.org", "banned", "guard.bans"),
        (41, [203, 0, 113, 9], "home.example.org", "banned", "guard.bans"),
        (160, [203, 0, 113, 9], "home.example.org", "login_throttle", "guard.login.max_failures"),
        (420, [192, 0, 2, 77], "home.example.org", "not_public", "hosts[].surface"),
        (425, [192, 0, 2, 77], "home.example.org", "odd_path", "hosts[].surface"),
        (1300, [192, 0, 2, 201], "photos.example.org", "rate_limit", "guard.rate_limits.api"),
        (2100, [198, 51, 100, 4], "home.example.org", "malformed", ""),
    ];
    let now = SystemTime::now();
    let rows = rows.into_iter().map(|(age, client, host, reason, key)| RecentRefusal {
        client: IpAddr::from(client),
        refusal: Refusal {
            at: now - age * Duration::from_secs(1),
            reason: reason.into(),
            host: Some(host.into()),
            key: Some(key.to_owned()).filter(|key| !key.is_empty()),
        },
    });
    rows.collect()
}

/// An evening: a family that comes home, a scan at half past, a guesser at the end.
fn sample(at: usize) -> Sample {
    let x = at as f32;
    // Not random, and looks it.
    let noise = |seed: f32| ((x * 12.9898 + seed * 78.233).sin() * 43_758.547).fract().abs();
    let home = 1.0 / (1.0 + (-(x - 150.0) / 25.0).exp());
    let bump = |middle: f32, width: f32| (-((x - middle) / width).powi(2)).exp();
    let scan = bump(215.0, 9.0);
    let guesses = if (318..342).contains(&at) { 1.0 } else { 0.0 };
    let fine = 1.2 + 3.5 * home + 1.6 * noise(1.0) + 2.5 * bump(265.0, 12.0);
    let p50 = 0.011 + 0.006 * noise(2.0) + 0.02 * bump(265.0, 14.0);
    Sample {
        fine,
        client_errors: 0.1 * noise(3.0) + 3.2 * scan + 0.8 * guesses,
        server_errors: if (80..84).contains(&at) { 1.5 } else { 0.0 },
        refused: [
            if at > 342 { 0.4 * noise(4.0) } else { 0.0 },
            0.5 * guesses * noise(5.0),
            2.1 * scan * (0.6 + 0.4 * noise(6.0)),
            0.9 * scan * noise(7.0),
            0.12 * noise(8.0).powi(3) + 0.4 * scan,
        ],
        failed_logins: (guesses * (1.0 + 3.0 * noise(9.0))).floor(),
        latency: Some(Latency { p50, p95: p50 * 3.4 + 0.09 * noise(10.0).powi(4) }),
        own_p95: Some(0.0006 + 0.0004 * noise(12.0)),
        connections: whole(6.0 + 8.0 * home + 3.0 * noise(11.0) + 9.0 * scan),
        websockets: whole(2.0 + 4.0 * home),
        upstreams: 3,
        upstreams_up: if (78..86).contains(&at) { 2 } else { 3 },
    }
}

#[expect(clippy::cast_sign_loss, reason = "nothing on this stage is negative")]
fn whole(value: f32) -> u32 {
    value as u32
}
