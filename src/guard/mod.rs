//! May this client pass? Rate limits, login throttling, bans, known devices, and what a host shows to strangers.
//!
//! The rules are pure functions of plain values and a [`Moment`] (`visitor`, `ledger`, `rate_limit`, `devices`, `flows`);
//! [`Guard`] holds their bounded stores, which a reload never touches, and is the one place where a verdict becomes a
//! ban, a metric or a line in the log. It knows no sockets: `proxy` and `listener` ask and obey.

mod attempt;
pub mod cookie;
pub mod devices;
mod explain;
pub mod fingerprint;
pub mod flows;
mod hidden;
pub mod ledger;
pub mod rate_limit;
pub mod table;
mod visitor;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

pub use attempt::{Attempt, Outcome, Tried};
pub use explain::{LastRefusal, Standing};
pub use visitor::{Asked, Exposure, Visitor, Who};

use crate::app::AttemptKind;
use crate::bans::{Ban, BanList, Cause, Escalation, Reason, RefusedBan};
use crate::client::{ClientAddr, is_within};
use crate::clock::{Clock, Moment};
use crate::config::{self, RateLimits, RequestClass};
use crate::denial::Denial;
use crate::metrics::{Fill, InForce, Metrics};
use cookie::Cookie;
use devices::{Credit, Devices, Home};
use explain::Refusals;
use fingerprint::{Fingerprint, Fingerprints, Kind};
use flows::Flows;
use hidden::Hidden;
use ledger::Ledger;
use rate_limit::{BucketKey, Buckets, Limit};

/// A request that may not pass, and when it may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub denial: Denial,
    pub retry_after: Option<Duration>,
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self { denial, retry_after: None }
    }
}

/// What the configuration says about the host that is asked.
#[derive(Debug, Clone)]
pub struct Policy {
    pub guard: Arc<config::Guard>,
    /// The host as configured.
    pub host: Arc<str>,
    pub exposure: Exposure,
    pub rate_limits: RateLimits,
    /// Tells hosts apart in four bytes: see [`host_id`].
    pub host_id: u32,
    /// Its rate limits are its own; all other hosts share theirs.
    pub has_own_limits: bool,
}

/// A hash of a host's name (FNV-1a), the same in every process: hosts are the operator's, nobody aims at collisions. Never
/// zero.
pub fn host_id(host: &str) -> u32 {
    let hash = host.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.max(1)
}

/// Closes the connections of clients that were banned.
pub trait Bouncer: Send + Sync {
    /// Ends the connections from `network` on which nobody has proven a session; where somebody lives, only those that
    /// the guard is not asked about again.
    fn turn_out(&self, network: IpNet, is_home: &dyn Fn(ClientAddr) -> bool);
}

/// Everything traffic has taught the gate about its clients. Bounded: less than 64 MiB in all.
pub struct Guard {
    clock: Clock,
    metrics: Arc<Metrics>,
    bans: Arc<BanList>,
    bouncer: Arc<dyn Bouncer>,
    /// Under a key kept in the state directory: credentials of known devices outlive the process.
    keys: Fingerprints,
    /// Under a key of this process: passwords, accounts, logins under way.
    session_keys: Fingerprints,
    buckets: Buckets,
    ledger: Ledger,
    /// Guesses of what opens one picture: counted apart, so that no album delays a login.
    capabilities: Ledger,
    devices: Devices,
    flows: Flows,
    refusals: Refusals,
    hidden: Hidden,
    /// What the names in `guard.never_ban` mean at present.
    never_ban_addresses: ArcSwap<Vec<IpAddr>>,
}

/// Clients with a request in hand or lately; full buckets are forgotten first.
const BUCKETS: usize = 131_072;

impl Guard {
    /// `key` signs cookies and hashes credentials.
    ///
    /// # Errors
    ///
    /// If the system gives no random bytes.
    pub fn new(
        clock: Clock,
        key: &[u8; 32],
        bans: Arc<BanList>,
        metrics: Arc<Metrics>,
        bouncer: Arc<dyn Bouncer>,
    ) -> anyhow::Result<Self> {
        metrics.guard.begin_at_zero(AttemptKind::ALL.map(AttemptKind::as_str), Cause::ALL.map(Cause::as_str));
        let mut session_key = [0; 32];
        aws_lc_rs::rand::fill(&mut session_key).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        Ok(Self {
            clock,
            metrics,
            bans,
            bouncer,
            keys: Fingerprints::new(key),
            session_keys: Fingerprints::new(&session_key),
            buckets: Buckets::new(BUCKETS),
            ledger: Ledger::default(),
            capabilities: Ledger::small(),
            devices: Devices::default(),
            flows: Flows::default(),
            refusals: Refusals::default(),
            hidden: Hidden::default(),
            never_ban_addresses: ArcSwap::default(),
        })
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What is remembered of a credential that may prove a session at `host`.
    pub fn proof(&self, host: &str, token: &[u8]) -> Fingerprint {
        self.keys.of(Kind::Token, host, token)
    }

    /// The gate's own cookie at `host`, if a request has one.
    pub fn cookie(&self, host: &str, headers: &http::HeaderMap) -> Option<Fingerprint> {
        Cookie::read(headers, &self.keys, host)
    }

    /// A new cookie for a browser at `host`; `None` if the system gives no random bytes.
    pub fn mint_cookie(&self, host: &str) -> Option<Cookie> {
        Cookie::mint(&self.keys, host)
    }

    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    pub fn bans(&self) -> &BanList {
        &self.bans
    }

    /// A short fingerprint, of something at `host`, under the key of this process.
    pub fn short(&self, kind: Kind, host: &str, secret: &[u8]) -> u64 {
        self.session_keys.of(kind, host, secret).short()
    }

    /// Replaces what the names in `guard.never_ban` mean.
    pub fn set_never_ban_addresses(&self, addresses: Vec<IpAddr>) {
        self.never_ban_addresses.store(Arc::new(addresses));
    }

    /// What the names in `guard.never_ban` mean at present.
    pub fn never_ban_addresses(&self) -> Arc<Vec<IpAddr>> {
        self.never_ban_addresses.load_full()
    }

    /// Whether a client is never banned.
    pub fn is_never_banned(&self, client: ClientAddr, config: &config::Guard) -> bool {
        is_within(client.ip(), &config.never_ban.networks)
            || self.never_ban_addresses.load().iter().any(|ip| ClientAddr::new(*ip).key() == client.key())
    }

    /// Takes note of a connection: if nearly all show one private address, somebody hides them.
    pub fn connected(&self, client: ClientAddr, now: Moment) {
        if let Some(router) = self.hidden.connected(client, now) {
            log::warn!(
                "nearly all clients show one address: if it is the router's, it hides who they are, and limits and bans \
                 take them for one client; forward the port without source NAT, or have a proxy name them address={router}"
            );
        }
    }

    /// The private address that nearly all clients show.
    pub fn clients_hidden_behind(&self) -> Option<ClientAddr> {
        self.hidden.behind()
    }

    /// Whether a connection is closed before anything is said: it is banned, and nobody known lives there.
    pub fn closes_door_to(&self, client: ClientAddr, config: &config::Guard, now: Moment) -> bool {
        config.bans.answer == config::BanAnswer::Close
            && self.ban_of(client, config, now).is_some()
            && !self.is_home(client, config, now)
    }

    /// Whether somebody known lives at an address: who comes from there may be about to say so.
    pub fn is_home(&self, client: ClientAddr, config: &config::Guard, now: Moment) -> bool {
        self.devices.is_anyones_home(client.key(), config.known_device_lifetime, now)
    }

    /// The ban in force for a client.
    pub fn ban_of(&self, client: ClientAddr, config: &config::Guard, now: Moment) -> Option<Ban> {
        let ban = self.bans.find(client.ip(), now)?;
        let holds = config.bans.enabled || ban.cause == Cause::Operator;
        Some(ban).filter(|_| holds && !self.is_never_banned(client, config))
    }

    /// Whether a ban is in force for a client.
    pub fn is_banned(&self, client: ClientAddr, config: &config::Guard) -> bool {
        self.ban_of(client, config, self.now()).is_some()
    }

    /// Who asks: `shown` are the fingerprints of what the request shows as proof of a session.
    pub fn visitor(&self, client: ClientAddr, shown: &[Fingerprint], policy: &Policy, now: Moment) -> Visitor {
        let config = &policy.guard;
        let (mut good, mut expired) = (None, None);
        for credential in shown {
            match self.devices.credit(*credential, now) {
                Credit::Good { device } => good = good.or(Some(device)),
                Credit::Expired { device } => expired = expired.or(Some(device)),
                Credit::Revoked { .. } | Credit::Bad { .. } | Credit::Unknown => {}
            }
        }
        let key = client.key();
        // Behind an address that the whole world shares, nobody is at home.
        let is_own = self.hidden.behind() != Some(client);
        Visitor {
            client,
            device: good.or(expired),
            is_proven: good.is_some(),
            may_read: is_own && self.devices.is_home(key, policy.host_id, config.proof_extends_to_address, now),
            is_home: is_own && self.devices.is_home(key, policy.host_id, config.known_device_lifetime, now),
            banned: self.ban_of(client, config, now).map(|ban| now.until(ban.until)),
        }
    }

    /// Whether the request may pass: ban, surface, rate limit.
    ///
    /// # Errors
    ///
    /// The first reason against it.
    pub fn admit(&self, visitor: &Visitor, asked: &Asked, policy: &Policy, now: Moment) -> Result<(), Refusal> {
        visitor::check_ban(visitor, asked)
            .map_err(|(denial, left)| Refusal { denial, retry_after: Some(left) })
            .and_then(|()| visitor::check_surface(visitor, asked, policy.exposure).map_err(Refusal::from))
            .and_then(|()| {
                // Whoever comes with a WebSocket to a home says who it is in its first message: counted there.
                let says_later = asked.says_later && visitor.is_home;
                if says_later { Ok(()) } else { self.take(visitor.who(), asked.class, policy, now) }
            })
            .inspect_err(|refusal| self.refused_class(visitor.client, refusal.denial, Some(asked.class), policy, now))
    }

    /// Takes one request of a class from somebody's budget.
    pub fn take(&self, who: Who, class: RequestClass, policy: &Policy, now: Moment) -> Result<(), Refusal> {
        let Some(rate_limit) = policy.rate_limits.of(class) else { return Ok(()) };
        let limit = Limit::new(rate_limit.rate.count, rate_limit.rate.per, rate_limit.burst);
        let key = BucketKey::new(who, class, policy);
        let taken = self.buckets.update(key, now, Default::default, |bucket| bucket.take(limit, now));
        match taken {
            Err(_) if rate_limit.dry_run => {
                self.metrics.guard.would_refuse(&policy.host, Denial::RateLimit);
                Ok(())
            }
            taken => taken.map_err(|wait| Refusal { denial: Denial::RateLimit, retry_after: Some(wait) }),
        }
    }

    /// Remembers why a client was refused last, and counts it.
    pub fn refused(&self, client: ClientAddr, denial: Denial, policy: &Policy, now: Moment) {
        self.refused_class(client, denial, None, policy, now);
    }

    fn refused_class(
        &self,
        client: ClientAddr,
        denial: Denial,
        class: Option<RequestClass>,
        policy: &Policy,
        now: Moment,
    ) {
        self.metrics.guard.refused(&policy.host, denial);
        let refusal = LastRefusal { denial, class, host: policy.host.clone(), at: now };
        self.refusals.remember(client.key(), refusal, now);
    }

    /// A session was proven: its credential and its address are known from now on.
    pub fn prove(&self, proof: Fingerprint, device: u64, lifetime: Duration, home: Home) -> u64 {
        let now = self.now();
        let device = self.devices.prove(proof, device, lifetime, now);
        self.devices.prove_home(home, device, now);
        device
    }

    /// A credential was refused within its time, or given back: out of the lane, and its device with it.
    pub fn revoke(&self, credential: Fingerprint) {
        if let Credit::Good { device } = self.devices.credit(credential, self.now()) {
            self.devices.revoke_device(device);
        }
        self.devices.refuse(credential, self.now());
    }

    /// Bans a network for the failures of its clients, and turns its strangers out.
    fn ban(&self, network: IpNet, config: &config::Guard, now: Moment) {
        let ban = self.bans.strike(network, &escalation(&config.bans), now);
        log::warn!(
            "client banned network={network} for={} strikes={}",
            humantime::format_duration(Duration::from_secs(now.until(ban.until).as_secs())),
            ban.strikes
        );
        self.metrics.guard.banned(ban.cause.as_str());
        self.turn_out(network, config, now);
    }

    fn turn_out(&self, network: IpNet, config: &config::Guard, now: Moment) {
        self.bouncer.turn_out(network, &|client| self.is_home(client, config, now));
    }

    /// Bans a network by the operator's word, whoever lives there.
    pub fn ban_by_operator(
        &self,
        network: IpNet,
        span: Duration,
        reason: Option<Reason>,
        config: &config::Guard,
    ) -> Result<Ban, RefusedBan> {
        let now = self.now();
        let ban = self.bans.add(network, span, reason, now)?;
        self.metrics.guard.banned(ban.cause.as_str());
        self.turn_out(network, config, now);
        Ok(ban)
    }

    /// Lifts a ban, and forgets what led to it.
    pub fn unban(&self, network: IpNet) -> bool {
        let was_banned = self.bans.remove(network, self.now());
        let client = ClientAddr::new(network.addr());
        if client.key().network() == network {
            self.forgive(client);
        }
        self.ledger.forgive_network(&network);
        was_banned
    }

    /// Forgets a client's failures.
    pub fn forgive(&self, client: ClientAddr) {
        self.ledger.forgive(Who::Client(client.key()));
        self.capabilities.forgive(Who::Client(client.key()));
    }

    /// Forgets what no longer counts, and says how much is left. To be called about once a minute.
    pub fn sweep(&self, config: &config::Guard) {
        let now = self.now();
        self.buckets.sweep(now);
        self.ledger.sweep(now);
        self.capabilities.sweep(now);
        self.devices.sweep(now);
        self.flows.sweep(now);
        self.refusals.sweep(now);
        self.bans.sweep(&escalation(&config.bans), now);
        self.measure(config, now);
    }

    /// Brings the gauges up to date.
    fn measure(&self, config: &config::Guard, now: Moment) {
        let stores = [
            ("rate_limits", self.buckets.fill()),
            ("logins", self.ledger.fill()),
            ("capabilities", self.capabilities.fill()),
            ("devices", self.devices.fill()),
            ("flows", self.flows.fill()),
            ("refusals", self.refusals.fill()),
            ("bans", self.bans_fill()),
        ];
        for (store, fill) in stores {
            self.metrics.guard.store(store, fill);
        }
        self.metrics.guard.in_force(InForce {
            bans: self.bans.active(),
            bans_expired: self.bans.expirations(),
            banned_homes: self.banned_homes(config, now),
            devices: self.devices.devices(),
            credentials: self.devices.len(),
            throttled_accounts: self.ledger.throttled_accounts(now),
            clients_hidden: self.hidden.behind().is_some(),
        });
    }

    fn bans_fill(&self) -> Fill {
        Fill { entries: self.bans.len(), capacity: self.bans.capacity(), evictions: self.bans.evictions() }
    }

    /// How many addresses from which a session was proven are banned now, whoever's doing that was.
    fn banned_homes(&self, config: &config::Guard, now: Moment) -> usize {
        if self.bans.active() == 0 {
            return 0;
        }
        let homes = self.devices.homes(config.known_device_lifetime, now).into_iter();
        homes.filter(|home| self.ban_of(ClientAddr::new(home.network().addr()), config, now).is_some()).count()
    }
}

fn escalation(bans: &config::Bans) -> Escalation {
    Escalation { first: bans.first, factor: bans.factor, max: bans.max, clean_period: bans.forgive_after }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
