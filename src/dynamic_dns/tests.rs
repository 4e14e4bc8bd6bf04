//! A home whose address changes, a DuckDNS that is told of it, and the zone's servers that show what it was told: all
//! over real sockets, with the time in the test's hand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::*;
use crate::clock::Clock;
use crate::config::{AddressSource, DnsAccount, DnsProvider, Secret};
use crate::dns::fixtures::{Entry, WebServer, World, dns_at};

const NAME: &str = "anna.duckdns.org";
const TOKEN: &str = "a7c4d0ad-114e-40ef-ba1d-d217904a50f2";
/// The home's resolver, and the zone's own server.
const RESOLVER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ZONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const INTERVAL: Duration = Duration::from_secs(300);

/// A service that tells an address, which the test changes.
struct Service {
    says: Arc<Mutex<String>>,
    server: WebServer,
}

impl Service {
    async fn start(at: IpAddr, says: &str) -> Self {
        let says = Arc::new(Mutex::new(says.to_owned()));
        let told = says.clone();
        Self { says, server: WebServer::start_at(at, move |_| (200, format!("{}\n", told.lock()))).await }
    }

    fn say(&self, text: &str) {
        text.clone_into(&mut self.says.lock());
    }

    fn source(&self) -> AddressSource {
        AddressSource::Url(self.server.url())
    }
}

struct Home {
    ipv4: [Service; 2],
    ipv6: Service,
    provider: WebServer,
    /// The provider answers `KO`.
    refuses: Arc<AtomicBool>,
    world: World,
    dns: Arc<Dns>,
    dynamic_dns: Arc<DynamicDns>,
    seconds: AtomicU64,
}

impl Home {
    /// A home at 203.0.113.1 and 2001:db8::1, and a zone that says so.
    async fn new() -> Self {
        let world = World::default();
        world.set(RESOLVER, "duckdns.org", &[Entry::Soa, Entry::Ns("ns1.duckdns.org")]);
        world.set(RESOLVER, "ns1.duckdns.org", &[Entry::A(ZONE)]);
        let port = world.serve(&[RESOLVER, ZONE]).await;
        show(&world, "203.0.113.1", "2001:db8::1");
        let refuses = Arc::new(AtomicBool::new(false));
        let provider = WebServer::start({
            let refuses = refuses.clone();
            move |_| (200, if refuses.load(Relaxed) { "KO" } else { "OK" }.to_owned())
        });
        let provider = provider.await;
        Self {
            ipv4: [
                Service::start(Ipv4Addr::LOCALHOST.into(), "203.0.113.1").await,
                Service::start(Ipv4Addr::LOCALHOST.into(), "203.0.113.1").await,
            ],
            ipv6: Service::start(Ipv6Addr::LOCALHOST.into(), "2001:db8::1").await,
            dns: Arc::new(dns_at(port, &[account(&provider)])),
            provider,
            refuses,
            world,
            dynamic_dns: Arc::new(DynamicDns::new(Arc::new(Metrics::new()))),
            seconds: AtomicU64::new(0),
        }
    }

    fn settings(&self, names: &[&str]) -> Settings {
        let config = config::DynamicDns {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ipv4: self.ipv4.iter().map(Service::source).collect(),
            ipv6: vec![self.ipv6.source()],
            interval: INTERVAL,
        };
        Settings { config, dns: self.dns.clone() }
    }

    /// Looks once, `later` than the last time.
    async fn look(&self, later: Duration) {
        self.seconds.fetch_add(later.as_secs(), Relaxed);
        let now = || Moment::START + Duration::from_secs(self.seconds.load(Relaxed));
        self.dynamic_dns.look(&self.settings(&[NAME]), &now).await;
    }

    fn move_to(&self, ipv4: &str, ipv6: &str) {
        self.ipv4.iter().for_each(|service| service.say(ipv4));
        self.ipv6.say(ipv6);
    }

    /// What DuckDNS was told, without domain and token.
    fn sent(&self) -> Vec<String> {
        let parameters = |target: &str| target.split_once(&format!("&token={TOKEN}&")).unwrap().1.to_owned();
        self.provider.seen().iter().map(|seen| parameters(&seen.target)).collect()
    }

    fn metrics(&self) -> String {
        let families = self.dynamic_dns.metrics.registry().gather();
        let text = prometheus::TextEncoder::new().encode_to_string(&families).unwrap();
        text.lines().filter(|line| line.contains("dynamic_dns")).collect::<Vec<_>>().join("\n")
    }

    fn problems(&self) -> String {
        self.dynamic_dns.report().problems.join("\n")
    }
}

fn account(provider: &WebServer) -> DnsAccount {
    DnsAccount {
        name: "duck".into(),
        zones: vec!["duckdns.org".into()],
        provider: DnsProvider::DuckDns { token: Secret::new(TOKEN.into()), url: provider.url() },
    }
}

/// What the zone's server answers from now on.
fn show(world: &World, ipv4: &str, ipv6: &str) {
    world.set(ZONE, NAME, &[Entry::A(ipv4.parse().unwrap()), Entry::Aaaa(ipv6.parse().unwrap())]);
}

#[tokio::test]
async fn what_the_zone_says_already_is_not_sent() {
    let home = Home::new().await;
    for _ in 0..5 {
        home.look(INTERVAL).await;
    }
    assert!(home.sent().is_empty(), "{:?}", home.sent());
    let metrics = home.metrics();
    assert!(metrics.contains(r#"updates_total{name="anna.duckdns.org",outcome="success"} 0"#), "{metrics}");
    assert!(metrics.contains(r#"last_success_timestamp_seconds{name="anna.duckdns.org"} 1"#), "{metrics}");
    let records = home.dynamic_dns.report().names[0].records;
    assert_eq!(records.ipv4, Some([203, 0, 113, 1].into()));
    assert!(records.ipv6.is_some());
}

#[tokio::test]
async fn a_change_of_both_families_is_one_update() {
    let home = Home::new().await;
    home.look(INTERVAL).await;
    home.move_to("203.0.113.2", "2001:db8::2");
    for _ in 0..5 {
        home.look(INTERVAL).await;
    }
    assert_eq!(home.sent(), ["ip=203.0.113.2&ipv6=2001%3Adb8%3A%3A2"]);
    home.move_to("203.0.113.2", "2001:db8::3");
    home.look(INTERVAL).await;
    home.move_to("203.0.113.4", "2001:db8::3");
    home.look(INTERVAL).await;
    assert_eq!(home.sent()[1..], ["ipv6=2001%3Adb8%3A%3A3", "ip=203.0.113.4"]);
    assert!(home.metrics().contains(r#"outcome="success"} 3"#));
    let report = home.dynamic_dns.report();
    assert!(report.problems.is_empty() && report.names[0].last_change.is_some() && report.names[0].trouble.is_none());
}

#[tokio::test]
async fn at_the_start_a_zone_that_says_something_else_is_corrected() {
    let home = Home::new().await;
    home.move_to("203.0.113.2", "2001:db8::1");
    home.look(INTERVAL).await;
    assert_eq!(home.sent(), ["ip=203.0.113.2"]);
}

#[tokio::test]
async fn a_zone_that_cannot_be_asked_costs_one_update() {
    let home = Home::new().await;
    home.world.set(RESOLVER, "duckdns.org", &[Entry::Failure(domain::base::iana::Rcode::SERVFAIL)]);
    for _ in 0..3 {
        home.look(INTERVAL).await;
    }
    assert_eq!(home.sent(), ["ip=203.0.113.1&ipv6=2001%3Adb8%3A%3A1"]);
}

#[tokio::test]
async fn what_somebody_else_has_changed_is_repaired_within_a_day() {
    let home = Home::new().await;
    home.look(INTERVAL).await;
    show(&home.world, "198.51.100.66", "2001:db8::1");
    home.look(INTERVAL).await;
    assert!(home.sent().is_empty());
    home.look(Duration::from_secs(12 * 3600)).await;
    assert_eq!(home.sent(), ["ip=203.0.113.1"]);
}

#[tokio::test]
async fn a_source_that_lies_does_not_point_the_home_elsewhere() {
    let home = Home::new().await;
    home.look(INTERVAL).await;
    home.ipv4[0].say("198.51.100.66");
    home.look(INTERVAL).await;
    assert!(home.sent().is_empty() && home.problems().is_empty(), "{}", home.problems());
    // Nor when the home moves meanwhile; then the operator is told.
    home.ipv4[1].say("203.0.113.2");
    home.look(INTERVAL).await;
    let problems = home.problems();
    assert!(home.sent().is_empty() && problems.contains("disagree"), "{problems}");
    assert!(problems.contains("127.0.0.1 says 198.51.100.66, 127.0.0.1 says 203.0.113.2"), "{problems}");
    home.ipv4[0].say("203.0.113.2");
    home.look(INTERVAL).await;
    assert_eq!((home.sent(), home.problems()), (vec!["ip=203.0.113.2".to_owned()], String::new()));
}

#[tokio::test]
async fn a_family_that_is_gone_leaves_its_record_alone() {
    let home = Home::new().await;
    home.look(INTERVAL).await;
    home.move_to("203.0.113.2", "this is no address");
    home.look(INTERVAL).await;
    assert_eq!(home.sent(), ["ip=203.0.113.2"]);
    assert!(home.problems().contains("no public IPv6 address found, what is published stays"), "{}", home.problems());
    assert!(home.dynamic_dns.report().names[0].records.ipv6.is_some());
}

#[tokio::test]
async fn an_address_behind_carrier_nat_is_not_published() {
    let home = Home::new().await;
    home.move_to("100.72.3.4", "fd00::1");
    home.look(INTERVAL).await;
    let problems = home.problems();
    assert!(home.sent().is_empty() && problems.contains("carrier NAT") && problems.contains("ULA"), "{problems}");
}

#[tokio::test]
async fn a_source_that_hangs_up_is_passed_over() {
    let mut home = Home::new().await;
    home.ipv4[0].server = WebServer::gone().await;
    home.move_to("203.0.113.2", "2001:db8::1");
    home.look(INTERVAL).await;
    assert_eq!(home.sent(), ["ip=203.0.113.2"]);
}

#[tokio::test]
async fn a_provider_that_refuses_is_left_alone_for_a_while_and_then_obeyed() {
    let home = Home::new().await;
    home.look(INTERVAL).await;
    home.move_to("203.0.113.2", "2001:db8::1");
    home.refuses.store(true, Relaxed);
    home.look(INTERVAL).await;
    home.look(Duration::from_secs(60)).await;
    assert_eq!(home.sent().len(), 1);
    assert!(
        home.metrics().contains(r#"failing{name="anna.duckdns.org"} 1"#) && home.metrics().contains(r#""failure"} 1"#)
    );
    let (error, again) = home.dynamic_dns.report().names[0].trouble.clone().unwrap();
    assert!(!error.is_empty() && !error.contains(TOKEN) && again > Moment::START, "{error}");
    home.refuses.store(false, Relaxed);
    home.look(INTERVAL).await;
    assert_eq!(home.sent(), ["ip=203.0.113.2", "ip=203.0.113.2"]);
    assert!(home.metrics().contains(r#"failing{name="anna.duckdns.org"} 0"#));
    assert!(home.dynamic_dns.report().names[0].trouble.is_none());
}

/// Waits for what must come, and fails if it does not.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn the_task_follows_the_home_and_every_reload() {
    let home = Arc::new(Home::new().await);
    let names = Arc::new(Mutex::new(vec![NAME]));
    let task = tokio::spawn({
        let (home, names, clock) = (home.clone(), names.clone(), Clock::start());
        async move {
            let settings = || {
                let mut settings = home.settings(&names.lock());
                settings.config.interval = Duration::from_millis(50);
                settings
            };
            home.dynamic_dns.tend(settings, || clock.now()).await;
        }
    });
    eventually("the first look", || home.metrics().contains("last_success")).await;
    // A refusal would be waited upon for a minute, did nobody touch the configuration.
    home.refuses.store(true, Relaxed);
    home.move_to("203.0.113.2", "2001:db8::2");
    eventually("the change", || home.metrics().contains(r#""failure"} 1"#)).await;
    home.refuses.store(false, Relaxed);
    *names.lock() = vec![NAME, "nas.anna.duckdns.org"];
    eventually("the new name", || home.metrics().matches(r#""success"} 1"#).count() == 2).await;
    *names.lock() = vec![];
    eventually("the end", || home.metrics().is_empty()).await;
    assert_eq!(home.dynamic_dns.report(), Report { names: vec![], problems: vec![] });
    // No more questions, to anybody.
    let asked = home.ipv4[0].server.seen().len();
    home.dynamic_dns.look(&home.settings(&[]), &|| Moment::START).await;
    assert_eq!(home.ipv4[0].server.seen().len(), asked);
    task.abort();
}
