//! The gate as its operator sees it: what `admin` asks, answered from the parts.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use ipnet::IpNet;
use tokio::sync::watch;

use super::tidings::Tidings;
use super::{certificates, dynamic_dns};
use crate::acme::Acme;
use crate::admin::{
    self, BanCause, BanList, BanReport, BanTarget, Certificate, CertificateList, Control, Explanation, FailureCount,
    HostStatus, Listeners, NewBan, Overview, RateLimitState, RecentRefusal, ReloadReport, Removal, Renewal, Status,
};
use crate::bans::{Ban, Cause, Reason};
use crate::client::{ClientAddr, is_within};
use crate::config::{Config, RequestClass, UpstreamScheme};
use crate::denial::Denial;
use crate::dynamic_dns::DynamicDns;
use crate::guard::{Guard, LastRefusal};
use crate::history::{History, Refused};
use crate::listener::Places;
use crate::metrics::Metrics;
use crate::reload::Reloader;
use crate::snapshot::Snapshot;
use crate::tls::{CertificateOrigin, CertificateStore};
use crate::upstream::health::{self, Condition};

/// What the operator may see and do.
pub(super) struct Gate {
    pub started: Instant,
    pub listeners: Listeners,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub certificates: Arc<CertificateStore>,
    pub connections: Arc<Places>,
    pub requests: Arc<Places>,
    pub metrics: Arc<Metrics>,
    pub reloader: Reloader,
    pub guard: Arc<Guard>,
    pub tidings: Arc<Tidings>,
    pub acme: Arc<Acme>,
    pub dynamic_dns: Arc<DynamicDns>,
    pub history: History,
    pub draining: watch::Receiver<bool>,
}

#[async_trait]
impl Control for Gate {
    async fn reload(&self) -> ReloadReport {
        self.reloader.reload().await
    }

    fn status(&self) -> Status {
        let snapshot = self.snapshot.load();
        let facts = self.certificates.facts();
        let hosts = snapshot.upstreams.iter().map(|upstream| {
            let certificate = facts.iter().find(|fact| fact.host == *upstream.host);
            let condition = upstream.condition();
            let scheme = match upstream.config.scheme {
                UpstreamScheme::Http => "http",
                UpstreamScheme::Https => "https",
            };
            HostStatus {
                name: upstream.host.to_string(),
                upstream: format!("{scheme}://{}", upstream.authority()),
                health: condition.to_string(),
                is_up: is_up(condition),
                advice: advice(condition),
                certificate: certificate.map(|fact| Certificate {
                    not_after: fact.not_after,
                    self_signed: fact.origin == CertificateOrigin::SelfSigned,
                }),
            }
        });
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            generation: snapshot.generation,
            uptime_seconds: self.started.elapsed().as_secs(),
            last_reload: self.reloader.last_reload(),
            listeners: self.listeners.clone(),
            connections_open: self.connections.open() as u64,
            bans_active: self.guard.bans().active() as u64,
            clients_hidden_behind: self.guard.clients_hidden_behind().map(ClientAddr::ip),
            websockets_open: self.metrics.front_door.websockets_open(),
            hosts: hosts.collect(),
            dynamic_dns: dynamic_dns::status(&self.dynamic_dns, self.guard.clock()),
            counters: self.metrics.denial_counts(),
        }
    }

    fn overview(&self) -> Overview {
        let (totals, snapshot) = (self.metrics.totals(), self.snapshot.load());
        let refusals = self.history.refusals().newest();
        Overview {
            at: SystemTime::now(),
            status: self.status(),
            unready: self.ready().err(),
            certificates: certificates::list(self),
            bans: self.bans(admin::BANS_SHOWN),
            refusals: refusals.iter().map(|refused| Self::recent(refused, &snapshot.config)).collect(),
            refusals_passed_over: self.history.refusals().passed_over(),
            known_devices: totals.known_devices,
            throttled_accounts: totals.throttled_accounts,
            hour: self.history.hour(self.guard.now()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        if *self.draining.borrow() { Err("shutting down".into()) } else { Ok(()) }
    }

    fn bans(&self, most: usize) -> BanList {
        let mut bans = self.guard.bans().list(self.guard.now());
        let total = bans.len() as u64;
        bans.sort_by_key(|ban| std::cmp::Reverse(ban.since()));
        bans.truncate(most);
        BanList { total, bans: bans.iter().map(|ban| self.report(ban)).collect() }
    }

    fn add_ban(&self, ban: NewBan) -> Result<BanReport, String> {
        let snapshot = self.snapshot.load();
        let network = ban.network();
        if let Some(never) = snapshot.config.guard.never_ban.networks.iter().find(|never| never.contains(&network)) {
            return Err(format!("{network} is within {never}, which guard.never_ban names"));
        }
        let reason = ban.reason().map(Reason::new).transpose().map_err(|refused| refused.to_string())?;
        let ban = self.guard.ban_by_operator(network, ban.length(), reason, &snapshot.config.guard);
        let ban = ban.map_err(|refused| refused.to_string())?;
        Ok(self.report(&ban))
    }

    fn remove_bans(&self, target: BanTarget) -> Removal {
        let mut removed = Vec::new();
        match target {
            BanTarget::Network(network) => removed.extend(self.guard.unban(network).then_some(network)),
            BanTarget::Address(address) => {
                while let Some(ban) = self.guard.bans().find(address, self.guard.now()) {
                    self.guard.unban(ban.network);
                    removed.push(ban.network);
                }
                self.guard.forgive(ClientAddr::new(address));
            }
        }
        self.metrics.guard.bans_lifted.inc_by(removed.len() as u64);
        Removal { removed }
    }

    fn certificates(&self) -> CertificateList {
        certificates::list(self)
    }

    fn renew(&self, name: Option<&str>) -> Result<Renewal, String> {
        certificates::renew(self, name)
    }

    fn explain(&self, address: IpAddr) -> Explanation {
        let snapshot = self.snapshot.load();
        let guard = &snapshot.config.guard;
        let client = ClientAddr::new(address);
        let standing = self.guard.standing(client, guard);
        let key = standing.key;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Explanation {
            address,
            counted_as: key.network(),
            standing: if standing.is_home { admin::Standing::Known } else { admin::Standing::Unknown },
            never_ban: standing.never_banned.then(|| never_banned_by(client, &snapshot.config)),
            ban: self.guard.bans().find(address, self.guard.now()).map(|ban| self.report(&ban)),
            failures: FailureCount {
                count: count(standing.failures),
                limit: guard.login.max_failures,
                window_seconds: guard.login.window.as_secs(),
                key: "guard.login.max_failures".into(),
            },
            attempts_in_flight: count(standing.attempts_in_flight),
            login_retry_seconds: standing.login_wait.map(|wait| wait.as_secs() + 1),
            rate_limits: self.rate_limits(client, &snapshot),
            requests_open: self.requests.open_of(key) as u64,
            connections_open: self.connections.open_of(key) as u64,
            last_refusal: standing.last_refusal.map(|refusal| self.refusal(&refusal, &snapshot.config)),
        }
    }
}

impl Gate {
    fn report(&self, ban: &Ban) -> BanReport {
        let (clock, now) = (self.guard.clock(), self.guard.now());
        let until = clock.wall(ban.until);
        let client = ClientAddr::new(ban.network.addr()).key().network();
        BanReport {
            network: ban.network,
            since: until.checked_sub(ban.lasts).unwrap_or(until),
            until,
            remaining_seconds: now.until(ban.until).as_secs(),
            cause: match ban.cause {
                Cause::Operator => BanCause::Operator,
                Cause::Login if ban.network == client => BanCause::Failures,
                Cause::Login => BanCause::Neighbours,
            },
            reason: ban.reason.as_ref().map(ToString::to_string),
            strikes: ban.strikes,
        }
    }

    fn rate_limits(&self, client: ClientAddr, snapshot: &Snapshot) -> Vec<RateLimitState> {
        let mut states: Vec<RateLimitState> = Vec::new();
        for host in &snapshot.config.hosts {
            let Some(route) = snapshot.routes.named(&host.name) else { continue };
            for class in RequestClass::ALL {
                let Some(limit) = route.policy.rate_limits.of(class) else { continue };
                let Some(remaining) = self.guard.requests_left(client, class, &route.policy) else { continue };
                let key = snapshot.config.rate_limit_key(host, class);
                // Hosts without limits of their own share one count.
                if remaining == limit.burst || states.iter().any(|state| state.key == key) {
                    continue;
                }
                let (class, rate) = (class.as_str().to_owned(), limit.rate.to_string());
                states.push(RateLimitState { class, remaining, burst: limit.burst, rate, dry_run: limit.dry_run, key });
            }
        }
        states
    }

    fn recent(refused: &Refused, config: &Config) -> RecentRefusal {
        let host = config.hosts.iter().find(|host| Some(host.name.to_string().as_str()) == refused.host.as_deref());
        // What is no denial's word is a login over a WebSocket that had to wait.
        let denial = Denial::ALL.into_iter().find(|denial| denial.reason() == refused.reason);
        let key = match (denial.unwrap_or(Denial::LoginThrottle), host, refused.class) {
            (Denial::RateLimit, Some(host), Some(class)) => Some(config.rate_limit_key(host, class)),
            (denial, _, _) => key_of(denial).map(str::to_owned),
        };
        let host = refused.host.as_ref().map(ToString::to_string);
        let refusal = admin::Refusal { at: refused.at, reason: refused.reason.into(), host, key };
        RecentRefusal { client: refused.client, refusal }
    }

    fn refusal(&self, refusal: &LastRefusal, config: &Config) -> admin::Refusal {
        let host = config.hosts.iter().find(|host| host.name.to_string() == *refusal.host);
        admin::Refusal {
            at: self.guard.clock().wall(refusal.at),
            reason: refusal.denial.reason().into(),
            host: Some(refusal.host.to_string()),
            key: match (refusal.denial, host) {
                (Denial::RateLimit, Some(host)) => refusal.class.map(|class| config.rate_limit_key(host, class)),
                (denial, _) => key_of(denial).map(str::to_owned),
            },
        }
    }
}

/// The key of the configuration behind a refusal, if there is one.
fn key_of(denial: Denial) -> Option<&'static str> {
    match denial {
        Denial::Banned => Some("guard.bans"),
        Denial::LoginThrottle => Some("guard.login.max_failures"),
        Denial::AccountThrottle => Some("guard.login.account_failures"),
        Denial::StaleCredential | Denial::StaleGrant => Some("guard.login.repeats"),
        Denial::Unproven | Denial::NotPublic | Denial::OddPath => Some("hosts[].surface"),
        Denial::Onboarding => Some("hosts[].onboarding"),
        Denial::ClientCertificate => Some("hosts[].client_ca_file"),
        Denial::RateLimit => Some("guard.rate_limits"),
        Denial::BodySize => Some("hosts[].body_size"),
        Denial::SlowHead => Some("timeouts.request_head"),
        Denial::SlowBody => Some("limits.body_rate"),
        Denial::UriLength => Some("limits.uri_length"),
        Denial::HeadSize => Some("limits.head_size"),
        Denial::HeaderCount => Some("limits.header_count"),
        Denial::Connections => Some("limits.connections"),
        Denial::ConnectionsPerClient => Some("limits.connections_per_client"),
        Denial::Requests => Some("limits.requests"),
        Denial::RequestsPerClient => Some("limits.requests_per_client"),
        Denial::BadForwarding => Some("trusted_proxies"),
        Denial::Misdirected => Some("hosts"),
        Denial::WriteStall => Some("timeouts.write_stall"),
        _ => None,
    }
}

fn is_up(condition: Condition) -> Option<bool> {
    match condition {
        Condition::Unknown => None,
        Condition::Healthy => Some(true),
        Condition::Trouble(_) => Some(false),
        // It answers; nobody has anything of its answers.
        Condition::Distrusts { .. } => Some(true),
    }
}

fn advice(condition: Condition) -> Option<String> {
    match condition {
        Condition::Unknown | Condition::Healthy => None,
        Condition::Trouble(trouble) => Some(trouble.advice().to_owned()),
        Condition::Distrusts { gate } => Some(health::distrust_advice(gate)),
    }
}

/// What in `guard.never_ban` says so.
fn never_banned_by(client: ClientAddr, config: &Config) -> String {
    let never_ban = &config.guard.never_ban;
    let network = never_ban.networks.iter().find(|network| is_within(client.ip(), &[**network]));
    network.map_or_else(|| never_ban.names.join(", "), IpNet::to_string)
}
