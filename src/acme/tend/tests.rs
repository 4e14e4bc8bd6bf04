//! Whole attempts, against an authority that fails as it is told.

use std::path::PathBuf;

use tempfile::TempDir;

use super::fixtures::FakeAuthority;
use super::*;
use crate::acme::fixtures::settings;
use crate::acme::{Authority, certificate_file};
use crate::config;

/// A gate without anything but its certificates.
struct Home {
    authority: Arc<FakeAuthority>,
    acme: Arc<Acme>,
    settings: Mutex<Settings>,
    directory: TempDir,
    served: Mutex<u32>,
}

#[async_trait::async_trait]
impl Surroundings for Home {
    fn settings(&self) -> Option<Settings> {
        Some(self.settings.lock().clone())
    }

    async fn serve(&self) {
        *self.served.lock() += 1;
    }
}

impl Home {
    async fn new(certificate: &str) -> Self {
        let authority = FakeAuthority::start().await;
        let directory = tempfile::tempdir().unwrap();
        let acme = Acme::new(directory.path(), authority.challenges.clone(), Arc::new(Metrics::new()));
        let mut settings = settings("", &[("ha.example.org", certificate)]);
        // The configuration takes https only, and this authority is on this machine.
        let config = config::Acme { directory: authority.directory(), ..config::Acme::default() };
        settings.authority = Arc::new(Authority::new(&config).unwrap());
        let (settings, served) = (Mutex::new(settings), Mutex::new(0));
        Self { authority, acme: Arc::new(acme), settings, directory, served }
    }

    /// The same state directory after a restart.
    fn restart(&mut self) {
        let challenges = self.authority.challenges.clone();
        self.acme = Arc::new(Acme::new(self.directory.path(), challenges, Arc::new(Metrics::new())));
    }

    /// Tends until so many attempts have ended; what is known then.
    async fn attempts(&self, count: u64) -> Report {
        let until = async {
            loop {
                if let Some(report) = self.acme.report().into_iter().find(|report| report.attempts >= count) {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = self.acme.tend(self) => unreachable!("it tends for ever"),
            report = until => report,
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("no end: {:?}", self.acme.report()),
        }
    }

    fn file(&self) -> PathBuf {
        certificate_file(self.directory.path(), &self.settings.lock().wanted[0].certificate)
    }

    fn pending(&self) -> PathBuf {
        self.file().with_extension("pending")
    }
}

const BOTH: &str = "{acme: {challenges: [tls-alpn-01, http-01]}}";

fn sentence(report: &Report) -> String {
    report.memory.error.as_ref().map_or_else(String::new, |error| format!("{}: {}", error.step, error.sentence))
}

#[tokio::test]
async fn a_certificate_is_had_kept_and_served() {
    let home = Home::new(BOTH).await;
    let report = home.attempts(1).await;
    assert_eq!(sentence(&report), "");
    assert_eq!(
        home.authority.log(),
        ["account", "order ha.example.org", "tls-alpn-01 ha.example.org", "finalize", "certificate"]
    );
    assert_eq!((*home.served.lock(), report.activity.clone()), (1, Activity::Idle));
    assert!(home.file().exists() && !home.pending().exists());
    let left = report.next_attempt().unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(56 * 86_400) && left < Duration::from_secs(61 * 86_400), "{left:?}");
    assert!(home.authority.challenges.tls_alpn("ha.example.org").is_none());
    // Another one uses the same account.
    assert_eq!(home.acme.renew(Some("HA.example.org")), [Awaited { name: "ha.example.org".into(), attempts: 2 }]);
    assert_eq!(sentence(&home.attempts(2).await), "");
    assert_eq!(home.authority.log()[0], "order ha.example.org");
    assert!(home.acme.renew(Some("other.example.org")).is_empty());
}

#[tokio::test]
async fn what_the_authority_does_not_find_is_followed_by_the_next_challenge() {
    let home = Home::new(BOTH).await;
    home.authority.plan(|plan| plan.blind_to = vec!["tls-alpn-01"]);
    let report = home.attempts(1).await;
    assert_eq!(sentence(&report), "");
    let order = "order ha.example.org";
    let expected = ["account", order, "tls-alpn-01 ha.example.org", order, "http-01 ha.example.org", "finalize"];
    assert_eq!(home.authority.log()[..6], expected);
}

#[tokio::test]
async fn an_attempt_that_is_refused_says_why_and_waits() {
    let home = Home::new(BOTH).await;
    home.authority.plan(|plan| plan.blind_to = vec!["tls-alpn-01", "http-01"]);
    let report = home.attempts(1).await;
    assert_eq!(
        sentence(&report),
        "http-01 for ha.example.org: tls-alpn-01: the authority says: no tls-alpn-01 (connection); port 443 of the \
         name must reach this gate; http-01: the authority says: no http-01 (connection); port 80 of the name must \
         reach this gate"
    );
    assert_eq!((report.memory.failures, report.memory.refused.len(), *home.served.lock()), (1, 2, 0));
    assert!(!home.file().exists());
    // A restart does not end the wait, other settings do.
    let mut home = home;
    home.restart();
    home.authority.log();
    let waiting = async {
        while home.acme.report().first().is_none_or(|it| it.activity != Activity::Waiting) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = home.acme.tend(&home) => {}
        () = waiting => {}
    }
    assert!(home.authority.log().is_empty());
    home.settings.lock().wanted[0].certificate.terms.challenges = vec![config::Challenge::TlsAlpn01];
    home.authority.plan(|plan| plan.blind_to.clear());
    assert_eq!(sentence(&home.attempts(1).await), "");
}

#[tokio::test]
async fn an_authority_that_has_had_enough_is_left_alone() {
    let home = Home::new(BOTH).await;
    home.authority.plan(|plan| plan.answers.push_back(("/order", 429, "rateLimited", Some(7200))));
    let report = home.attempts(1).await;
    assert!(sentence(&report).starts_with("order: the authority takes no more orders until 2"), "{report:?}");
    let left = report.next_attempt().unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(7100) && left <= Duration::from_secs(7200), "{left:?}");
}

#[tokio::test]
async fn nonces_may_be_refused_again_and_again() {
    let home = Home::new(BOTH).await;
    let bad = |path| std::iter::repeat_n((path, 400, "badNonce", None), 7);
    home.authority.plan(|plan| plan.answers.extend(bad("/order").chain(bad("/finalize")).chain(bad("/challenge"))));
    assert_eq!(sentence(&home.attempts(1).await), "");
}

#[tokio::test]
async fn an_account_that_is_forgotten_is_made_anew_once() {
    let home = Home::new(BOTH).await;
    home.attempts(1).await;
    home.authority.log();
    home.authority.plan(|plan| plan.forgets_accounts = true);
    home.acme.renew(None);
    assert_eq!(sentence(&home.attempts(2).await), "");
    assert_eq!(home.authority.log()[..2], ["account", "order ha.example.org"]);
}

#[tokio::test]
async fn an_account_is_replaced_once_a_day_and_not_before_there_is_another() {
    let home = Home::new(BOTH).await;
    home.attempts(1).await;
    home.authority.plan(|plan| {
        plan.forgets_accounts = true;
        plan.answers.push_back(("/account", 503, "serverInternal", None));
    });
    home.acme.renew(None);
    assert!(sentence(&home.attempts(2).await).starts_with("account: "));
    home.acme.renew(None);
    assert_eq!(sentence(&home.attempts(3).await), "", "the old one is still there, and found to be of no use");
    home.authority.log();
    home.authority.plan(|plan| plan.forgets_accounts = true);
    home.acme.renew(None);
    let report = home.attempts(4).await;
    assert_eq!(sentence(&report), "order: the authority says: as planned (accountDoesNotExist)");
    assert!(home.authority.log().is_empty(), "no other account was made");
}

#[tokio::test]
async fn a_new_account_that_may_not_order_is_not_replaced() {
    let home = Home::new(BOTH).await;
    for attempt in 1..=3 {
        home.authority.plan(|plan| plan.answers.push_back(("/order", 403, "unauthorized", None)));
        home.acme.renew(None);
        let report = home.attempts(attempt).await;
        assert_eq!(sentence(&report), "order: the authority says: as planned (unauthorized)");
    }
    let accounts = home.authority.log().iter().filter(|line| *line == "account").count();
    assert_eq!(accounts, 1);
}

/// As if the process had ended between the order and the file, and nothing made it wait.
async fn cut_off() -> Home {
    let mut home = Home::new(BOTH).await;
    std::fs::create_dir_all(home.file().join("in the way")).unwrap();
    let report = home.attempts(1).await;
    assert!(sentence(&report).starts_with("file: the certificate cannot be written"), "{report:?}");
    assert!(home.pending().exists());
    std::fs::remove_dir_all(home.file()).unwrap();
    forget(&mut home);
    home
}

/// A restart without what is remembered of attempts.
fn forget(home: &mut Home) {
    home.restart();
    home.authority.log();
    std::fs::remove_file(home.file().with_extension("json")).unwrap();
}

#[tokio::test]
async fn an_order_that_was_cut_off_is_finished_after_a_restart() {
    let home = cut_off().await;
    assert_eq!(sentence(&home.attempts(1).await), "");
    assert_eq!(home.authority.log(), ["certificate"]);
    assert!(home.file().exists() && !home.pending().exists());
}

#[tokio::test]
async fn an_order_that_is_done_survives_an_authority_that_is_busy() {
    let mut home = cut_off().await;
    home.authority.plan(|plan| plan.answers.push_back(("/order/", 503, "serverInternal", None)));
    let report = home.attempts(1).await;
    assert!(sentence(&report).starts_with("certificate: the authority says: as planned"), "{report:?}");
    assert!(home.pending().exists());
    forget(&mut home);
    assert_eq!(sentence(&home.attempts(1).await), "");
    assert_eq!(home.authority.log(), ["certificate"]);
}

#[tokio::test]
async fn an_order_that_never_ends_is_followed_by_another_after_a_day() {
    let home = cut_off().await;
    home.authority.plan(|plan| plan.stuck_orders = 1);
    let mut pending: serde_json::Value = serde_json::from_slice(&std::fs::read(home.pending()).unwrap()).unwrap();
    pending["since"]["secs_since_epoch"] = 1_700_000_000.into();
    std::fs::write(home.pending(), pending.to_string()).unwrap();
    assert_eq!(sentence(&home.attempts(1).await), "");
    assert_eq!(home.authority.log()[0], "order ha.example.org");
}

#[tokio::test]
async fn an_authority_that_is_busy_while_it_looks_is_waited_for() {
    let home = Home::new(BOTH).await;
    home.authority.plan(|plan| plan.busy_while_looking = 2);
    assert_eq!(sentence(&home.attempts(1).await), "");
}

#[tokio::test]
async fn other_settings_end_an_attempt_that_is_under_way() {
    let home = Home::new(BOTH).await;
    home.authority.plan(|plan| plan.busy_while_looking = 10_000);
    let change = async {
        let mut log = home.authority.log();
        while !log.contains(&"tls-alpn-01 ha.example.org".to_owned()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            log.extend(home.authority.log());
        }
        // A look at the same settings breaks nothing off.
        home.acme.wake();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!home.authority.log().iter().any(|line| line.starts_with("order")));
        home.authority.plan(|plan| (plan.busy_while_looking, plan.answers) = Default::default());
        home.settings.lock().wanted[0].certificate.terms.challenges = vec![config::Challenge::Http01];
        home.acme.wake();
    };
    let (report, ()) = tokio::join!(home.attempts(1), change);
    assert_eq!(sentence(&report), "");
    let log: Vec<_> = home.authority.log().into_iter().filter(|line| !line.starts_with("/auth")).collect();
    assert_eq!(log[..2], ["order ha.example.org", "http-01 ha.example.org"]);
}

#[tokio::test]
async fn an_authority_that_does_not_repeat_what_is_replaced_renews() {
    let home = Home::new(BOTH).await;
    home.authority.plan(|plan| plan.ignores_replaces = true);
    home.attempts(1).await;
    home.authority.log();
    home.acme.renew(None);
    assert_eq!(sentence(&home.attempts(2).await), "");
    let order = "order ha.example.org";
    assert_eq!(home.authority.log()[..3], [order, order, "tls-alpn-01 ha.example.org"]);
}

#[tokio::test]
async fn a_certificate_that_is_not_what_was_asked_for_replaces_nothing() {
    let home = Home::new("{acme: {challenges: [http-01], names: [ha.example.org, b.example.org]}}").await;
    home.settings.lock().has_http = true;
    home.attempts(1).await;
    let before = std::fs::read(home.file()).unwrap();
    home.authority.plan(|plan| plan.leaves_out = Some("b.example.org"));
    home.acme.renew(None);
    let report = home.attempts(2).await;
    assert_eq!(sentence(&report), "check: the authority has left out `b.example.org`");
    assert!(std::fs::read(home.file()).unwrap() == before && !home.pending().exists());
    let left = report.next_attempt().unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(33 * 3600), "the authority's allowance is small: {left:?}");
}

#[tokio::test]
async fn an_authority_that_is_not_there_is_said() {
    let home = Home::new(BOTH).await;
    home.authority.plan(|plan| plan.answers.push_back(("/directory", 503, "serverInternal", None)));
    let report = home.attempts(1).await;
    let said = "account: the authority says: as planned (serverInternal); the fault is on its side";
    assert_eq!(sentence(&report), said);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = config::Acme { directory: format!("http://{gone}/directory"), ..config::Acme::default() };
    home.settings.lock().authority = Arc::new(Authority::new(&config).unwrap());
    let report = home.attempts(2).await;
    assert!(sentence(&report).starts_with("account: the authority does not answer: cannot connect"), "{report:?}");
}
