//! A guard, and a million strangers before it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use hearthgate::app::Reach;
use hearthgate::bans::BanList;
use hearthgate::client::ClientAddr;
use hearthgate::clock::{Clock, Moment};
use hearthgate::config::{self, RateLimits, RequestClass, Surface};
use hearthgate::denial::Denial;
use hearthgate::guard::devices::Home;
use hearthgate::guard::fingerprint::{Fingerprint, Kind};
use hearthgate::guard::{Asked, Bouncer, Exposure, Guard, Outcome, Policy, Refusal, Tried, Visitor, host_id};
use hearthgate::metrics::Metrics;
use ipnet::IpNet;

/// Distinct addresses of strangers.
pub const STRANGERS: u32 = 1_000_000;

pub const HOST: &str = "ha.example.org";

/// A guard with the host it stands before.
pub struct Scene {
    pub clock: Clock,
    pub guard: Arc<Guard>,
    pub policy: Arc<Policy>,
}

struct NoConnections;

impl Bouncer for NoConnections {
    fn turn_out(&self, _: IpNet, _: &dyn Fn(ClientAddr) -> bool) {}
}

impl Scene {
    /// As an installation has it that configures nothing.
    pub fn new(bans: Arc<BanList>, metrics: Arc<Metrics>) -> Self {
        let clock = Clock::start();
        let guard = Guard::new(clock, &[7; 32], bans, metrics, Arc::new(NoConnections));
        let policy = Policy {
            guard: Arc::new(config::Guard::default()),
            host: HOST.into(),
            exposure: Exposure { surface: Surface::Login, onboarding: false },
            rate_limits: RateLimits::default(),
            host_id: host_id(HOST),
            has_own_limits: false,
        };
        Self { clock, guard: Arc::new(guard.expect("random bytes")), policy: Arc::new(policy) }
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// As every request does: who is it, and may it pass?
    pub fn request(&self, client: ClientAddr, shown: &[Fingerprint], asked: &Asked) -> Result<Visitor, Refusal> {
        let visitor = self.visitor(client, shown);
        self.guard.admit(&visitor, asked, &self.policy, self.now()).map(|()| visitor)
    }

    /// A login with a password; each `guess` is another one, tried on an account of its own.
    pub fn login(&self, visitor: &Visitor, guess: u64, outcome: Outcome) -> Result<(), Refusal> {
        let tried = Tried { kind: "password", guess, account: Some(guess), proof: None, is_shared: false };
        self.guard.begin(visitor, tried, &self.policy).map(|attempt| attempt.finish(outcome))
    }

    pub fn visitor(&self, client: ClientAddr, shown: &[Fingerprint]) -> Visitor {
        self.guard.visitor(client, shown, &self.policy, self.now())
    }

    pub fn home(&self, client: ClientAddr) -> Home {
        Home { client: client.key(), host: self.policy.host_id }
    }

    /// A device that has logged in, with its bearer.
    pub fn known_device(&self, client: ClientAddr) -> Fingerprint {
        self.prove(client, u64::from(u32::MAX) + 1)
    }

    /// A device that has logged in with token `n`.
    pub fn prove(&self, client: ClientAddr, n: u64) -> Fingerprint {
        let proof = self.token(n);
        self.guard.prove(proof, proof.short(), Duration::from_secs(1800), self.home(client));
        proof
    }

    /// The fingerprint of an access token as Home Assistant gives it, some 180 bytes.
    pub fn token(&self, n: u64) -> Fingerprint {
        self.guard.proof(HOST, token_text(n).as_bytes())
    }

    /// Requests of all classes by stranger `n`.
    pub fn ask_for_everything(&self, n: u32) {
        for class in RequestClass::ALL {
            let _ = self.request(stranger(n), &[], &asked(class));
        }
    }

    /// What stranger `n` was refused, remembered for `explain`.
    pub fn refuse(&self, n: u32) {
        self.guard.refused(stranger(n), Denial::Unproven, &self.policy, self.now());
    }

    pub fn begin_flow(&self, n: u32) {
        self.guard.flows().began(n.into(), stranger(n), self.now());
    }

    pub fn refuse_bearer(&self, n: u32) {
        self.guard.devices().refuse(self.token(n.into()), self.now());
    }

    /// So many wrong passwords of stranger `n`, each on another account: as many as there are without a ban.
    pub fn fail(&self, n: u32, failures: u32) {
        let Ok(visitor) = self.request(stranger(n), &[], &asked(RequestClass::Auth)) else { return };
        for failure in 0..failures {
            let guess = self.guard.short(Kind::Password, HOST, &[n.to_le_bytes(), failure.to_le_bytes()].concat());
            let _ = self.login(&visitor, guess, Outcome::Failed);
        }
    }

    /// Failures that do not yet ban.
    pub fn tolerated(&self) -> u32 {
        self.policy.guard.login.max_failures - 1
    }
}

pub fn asked(class: RequestClass) -> Asked {
    Asked {
        class,
        reach: Reach::Login,
        is_read: true,
        is_upgrade: false,
        says_later: false,
        will_be_proven: false,
        is_attempt: false,
    }
}

/// Every other one has IPv6, and a /48 of its own for each four.
pub fn stranger(n: u32) -> ClientAddr {
    let (half, network) = (n / 2, u128::from(n / 2));
    ClientAddr::new(if n.is_multiple_of(2) {
        IpAddr::V4(Ipv4Addr::from(0x1400_0000 + half))
    } else {
        IpAddr::V6(Ipv6Addr::from(0x2a00_u128 << 112 | (network / 4) << 80 | (network % 4) << 64 | 9))
    })
}

pub fn token_text(n: u64) -> String {
    format!("{n:0180}")
}
