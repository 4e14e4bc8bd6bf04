//! What the guard's stores hold after a million addresses: `cargo bench --bench guard_memory`.
//!
//! Each phase fills one store past its capacity, and is measured by the allocator's own count. Before, between and
//! after them, people who have done nothing are asked for: whatever they may do must not have changed. In the end Prometheus
//! scrapes it.

#![expect(clippy::print_stdout, reason = "its report is what it is for")]

mod flood;

use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hearthgate::bans::{BanList, BanStore, DEFAULT_CAPACITY};
use hearthgate::client::ClientAddr;
use hearthgate::config::RequestClass;
use hearthgate::denial::Denial;
use hearthgate::guard::Outcome;
use hearthgate::guard::fingerprint::Fingerprint;
use hearthgate::metrics::Metrics;
use hearthgate::request::{Protocol, RequestRecord};
use prometheus::TextEncoder;
use tikv_jemalloc_ctl::{epoch, stats};

use flood::{HOST, STRANGERS, Scene, asked, stranger};

/// The allocator of the gate.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What all of it may take.
const GOAL: usize = 64 * 1024 * 1024;
/// What one scrape may take, bytes and time.
const SCRAPE_BYTES: usize = 256 * 1024;
const SCRAPE_TIME: Duration = Duration::from_millis(10);
/// How many people are asked for.
const EACH: u32 = 100;

type Phase = fn(&Scene);

fn main() -> ExitCode {
    let directory = tempfile::tempdir().expect("a directory");
    let bans = Arc::new(BanList::new(DEFAULT_CAPACITY));
    let metrics = Arc::new(Metrics::new());
    metrics.configured(std::iter::once(HOST.into()));
    let scene = Scene::new(bans.clone(), metrics.clone());
    let store = BanStore::open(&directory.path().join("bans.redb"), bans, scene.clock).expect("a file");
    let innocents = Innocents::new(&scene);
    let before = innocents.answers(&scene);
    let mut report = Report::begin();
    let phases: [(&str, Phase); 8] = [
        ("known devices, not by strangers", |scene| (0..12_000).for_each(|n| _ = scene.prove(at_home(n), n.into()))),
        ("requests of all classes", |scene| (0..STRANGERS).for_each(|n| scene.ask_for_everything(n))),
        ("refusals", |scene| (0..STRANGERS).for_each(|n| scene.refuse(n))),
        ("logins begun", |scene| (0..STRANGERS).for_each(|n| scene.begin_flow(n))),
        ("bad bearers", |scene| (0..STRANGERS).for_each(|n| scene.refuse_bearer(n))),
        ("failed logins", |scene| (0..STRANGERS).for_each(|n| scene.fail(n, scene.tolerated()))),
        ("bans", |scene| (0..STRANGERS).for_each(|n| scene.fail(n, scene.tolerated() + 1))),
        ("failed logins again", |scene| (0..STRANGERS).for_each(|n| scene.fail(STRANGERS + n, scene.tolerated()))),
    ];
    let mut are_answered = true;
    for (name, phase) in phases {
        let begun = Instant::now();
        phase(&scene);
        let took = begun.elapsed();
        let same = innocents.answers(&scene) == before;
        are_answered &= same;
        report.line(name, took, same);
    }
    store.close();
    let is_small = scrape_of_a_home(&scene, &metrics);
    scrape_of_a_provider();
    report.verdict(are_answered && is_small)
}

/// What Prometheus gets after all that, and whether it is as small and as quick as it should be.
fn scrape_of_a_home(scene: &Scene, metrics: &Metrics) -> bool {
    let statuses = [0, 101, 200, 304, 404, 503];
    Denial::ALL.iter().for_each(|denial| metrics.guard.refused(HOST, *denial));
    (0..STRANGERS).for_each(|n| {
        let class = RequestClass::ALL[n as usize % RequestClass::ALL.len()];
        metrics.finished(&request(HOST, stranger(n), class, statuses[n as usize % statuses.len()]));
    });
    scene.guard.sweep(&scene.policy.guard);
    let (bytes, took) = scrape(metrics);
    println!("a scrape after {STRANGERS} strangers: {:.0} KiB in {took:.1?}", bytes as f64 / 1024.0);
    bytes < SCRAPE_BYTES && took < SCRAPE_TIME
}

/// The same with a thousand hosts, all of them in use: for the documentation.
fn scrape_of_a_provider() {
    let metrics = Metrics::new();
    let hosts: Vec<Arc<str>> = (0..1000).map(|n| format!("host-{n}.example.org").into()).collect();
    metrics.configured(hosts.iter().cloned());
    for host in &hosts {
        for class in RequestClass::ALL {
            for status in [200, 404] {
                metrics.finished(&request(host, stranger(1), class, status));
            }
        }
    }
    let (bytes, took) = scrape(&metrics);
    println!("a scrape of 1000 hosts in use: {:.0} KiB in {took:.1?}", bytes as f64 / 1024.0);
}

/// The best of five: other builds share the machine.
fn scrape(metrics: &Metrics) -> (usize, Duration) {
    let once = || {
        let begun = Instant::now();
        let text = TextEncoder::new().encode_to_string(&metrics.registry().gather()).expect("text");
        (text.len(), begun.elapsed())
    };
    let (mut bytes, mut took) = once();
    for _ in 0..4 {
        let next = once();
        (bytes, took) = (next.0, took.min(next.1));
    }
    (bytes, took)
}

fn request(host: &str, client: ClientAddr, class: RequestClass, status: u16) -> RequestRecord {
    RequestRecord {
        started: SystemTime::now(),
        remote: client.ip(),
        host: Some(host.into()),
        class: Some(class),
        method: "GET".into(),
        target: "/".into(),
        protocol: Protocol::Http2,
        status,
        request_body_bytes: 10,
        response_body_bytes: 10_000,
        duration: Duration::from_millis(20),
        upstream_duration: Some(Duration::from_millis(10)),
        gate_duration: Some(Duration::from_micros(100)),
        user_agent: None,
        reason: None,
    }
}

/// People who have nothing to do with it: fresh addresses, addresses that mistyped three times, and a known device.
struct Innocents {
    strangers: Vec<ClientAddr>,
    bearer: Fingerprint,
}

/// What one of them is told.
#[derive(Debug, PartialEq, Eq)]
struct Answers {
    device: Option<u64>,
    requests: [bool; RequestClass::ALL.len()],
    login: bool,
}

impl Innocents {
    fn new(scene: &Scene) -> Self {
        let fresh = (0..EACH).flat_map(somebody);
        let mistyped: Vec<_> = (EACH..2 * EACH).flat_map(somebody).collect();
        for (n, client) in (0_u64..).zip(&mistyped) {
            let visitor = scene.visitor(*client, &[]);
            for mistake in 3 * n..3 * n + 3 {
                scene.login(&visitor, mistake, Outcome::Failed).expect("everybody may mistype");
            }
        }
        Self { bearer: scene.known_device(device()), strangers: fresh.chain(mistyped).collect() }
    }

    /// The device asks at home, and from where banned strangers are.
    fn answers(&self, scene: &Scene) -> Vec<Answers> {
        let strangers = self.strangers.iter().map(|client| answers(scene, *client, &[]));
        let places = [device(), stranger(0), stranger(STRANGERS - 1)];
        strangers.chain(places.map(|place| answers(scene, place, &[self.bearer]))).collect()
    }
}

fn answers(scene: &Scene, client: ClientAddr, shown: &[Fingerprint]) -> Answers {
    let requests = RequestClass::ALL.map(|class| scene.request(client, shown, &asked(class)).is_ok());
    let visitor = scene.visitor(client, shown);
    let login = scene.login(&visitor, u64::MAX, Outcome::Unjudged).is_ok();
    Answers { device: visitor.device, requests, login }
}

fn device() -> ClientAddr {
    ClientAddr::new(IpAddr::from([192, 0, 2, 1]))
}

fn at_home(n: u32) -> ClientAddr {
    ClientAddr::new(IpAddr::from((0x0b00_0000 + n).to_be_bytes()))
}

/// Somebody with IPv4, somebody with IPv6.
fn somebody(n: u32) -> [ClientAddr; 2] {
    let n = u16::try_from(n).expect("so many are not needed");
    let [high, low] = n.to_be_bytes();
    [IpAddr::from([198, 51, high, low]), IpAddr::from([0x2001, 0xdb8, n, 0, 0, 0, 0, 9])].map(ClientAddr::new)
}

/// Bytes in use, and resident, since the beginning.
struct Report {
    begin: Bytes,
    last: Bytes,
    most: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bytes {
    allocated: usize,
    resident: usize,
}

impl Bytes {
    fn now() -> Self {
        epoch::advance().expect("jemalloc with statistics");
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next());
        Self {
            allocated: stats::allocated::read().expect("jemalloc with statistics"),
            resident: kibibytes.and_then(|text| text.parse().ok()).unwrap_or(0_usize) * 1024,
        }
    }
}

impl Report {
    fn begin() -> Self {
        println!("{:<34}{:>10}{:>12}{:>12}{:>9}  innocents", "MiB", "more", "allocated", "resident", "seconds");
        let begin = Bytes::now();
        Self { begin, last: begin, most: 0 }
    }

    fn line(&mut self, name: &str, took: Duration, is_same: bool) {
        let now = Bytes::now();
        let more = mebibytes(now.allocated) - mebibytes(self.last.allocated);
        let (allocated, resident) =
            (now.allocated.saturating_sub(self.begin.allocated), now.resident.saturating_sub(self.begin.resident));
        println!(
            "{name:<34}{more:>10.1}{:>12.1}{:>12.1}{:>9.1}  {}",
            mebibytes(allocated),
            mebibytes(resident),
            took.as_secs_f64(),
            if is_same { "as before" } else { "NOT as before" }
        );
        self.most = self.most.max(allocated).max(resident);
        self.last = now;
    }

    fn verdict(self, are_answered: bool) -> ExitCode {
        println!("at most {:.1} MiB, of {:.0}", mebibytes(self.most), mebibytes(GOAL));
        ExitCode::from(u8::from(self.most > GOAL || !are_answered))
    }
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
