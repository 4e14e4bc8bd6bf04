//! One attempt to prove a session, from the request to the application's verdict.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::devices::{Credit, Home};
use super::fingerprint::Fingerprint;
use super::ledger::{End, Guess, Toll, Wait};
use super::{Guard, Policy, Refusal, Visitor, Who};
use crate::app::AttemptKind;
use crate::client::ClientKey;
use crate::denial::Denial;
use crate::metrics::LoginOutcome;

/// What is tried, in the guard's terms.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// The kind of attempt in metrics and logs, from a closed set.
    pub kind: &'static str,
    /// A short fingerprint that is the same for the same guess.
    pub guess: u64,
    /// A short fingerprint of the account, if it is known.
    pub account: Option<u64>,
    /// What would be believed from now on: tokens, never passwords.
    pub proof: Option<Fingerprint>,
    /// Requests that carry it at once are one attempt.
    pub is_shared: bool,
}

impl Tried {
    /// The answer to what was refused so often: in the words of the application, where clients tell by them whether they
    /// are signed out.
    fn stale(&self) -> Denial {
        if self.kind == AttemptKind::Token.as_str() { Denial::StaleGrant } else { Denial::StaleCredential }
    }
}

/// What the application has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Failed,
    /// `lifetime`: how long the proof is believed without asking again.
    Succeeded {
        lifetime: Duration,
    },
    /// Nothing about the guess.
    Unjudged,
    /// The client left before it could be said.
    Abandoned,
}

/// An attempt under way. It holds a place of its client's; dropped without a verdict it was abandoned, which counts as
/// failed, so that nobody guesses for free by leaving early.
#[derive(Debug)]
pub struct Attempt {
    guard: Arc<Guard>,
    policy: Arc<Policy>,
    client: ClientKey,
    never_banned: bool,
    guess: Guess,
    tried: Tried,
    scope: Scope,
    ended: bool,
}

/// What a failure counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Login,
    /// `is_trusted`: at home, where old pictures are no attack.
    Capability {
        is_trusted: bool,
    },
}

impl Guard {
    /// Begins an attempt.
    ///
    /// # Errors
    ///
    /// If the client or the account has to wait, or if the same proof was refused so often already that the application
    /// need not be asked.
    pub fn begin(self: &Arc<Self>, visitor: &Visitor, tried: Tried, policy: &Arc<Policy>) -> Result<Attempt, Refusal> {
        let now = self.now();
        let login = &policy.guard.login;
        let (who, account, is_shared) = (visitor.who(), tried.account, tried.is_shared);
        let guess = Guess { who, credential: tried.guess, account, is_shared };
        let begun = match tried.proof.map(|proof| self.devices.credit(proof, now)) {
            Some(Credit::Bad { times } | Credit::Revoked { times }) if times >= login.repeats => {
                Err(Refusal::from(tried.stale()))
            }
            _ => self.ledger.begin(&guess, login, now).map_err(refusal),
        };
        if let Err(refusal) = begun {
            if login.dry_run {
                self.metrics.guard.would_refuse(&policy.host, refusal.denial);
                self.ledger.force(&guess, now);
            } else {
                self.refused(visitor.client, refusal.denial, policy, now);
                self.metrics.guard.login_attempt(tried.kind, LoginOutcome::Refused);
                return Err(refusal);
            }
        }
        Ok(self.attempt(visitor, guess, tried, policy))
    }

    /// Begins an attempt on what opens one picture. They come by the dozen, each with a token of its own: none waits for
    /// another, and a client at home waits for nothing.
    ///
    /// # Errors
    ///
    /// If a stranger has failed too often.
    pub fn begin_capability(
        self: &Arc<Self>,
        visitor: &Visitor,
        tried: Tried,
        policy: &Arc<Policy>,
    ) -> Result<Attempt, Refusal> {
        let (now, who) = (self.now(), visitor.who());
        let login = &policy.guard.login;
        let is_trusted = visitor.is_home || visitor.device.is_some() || login.dry_run;
        if !is_trusted && self.capabilities.is_exhausted(who, login, now) {
            let refusal = Refusal { denial: Denial::LoginThrottle, retry_after: Some(login.window) };
            self.refused(visitor.client, refusal.denial, policy, now);
            return Err(refusal);
        }
        let guess = Guess { who, credential: tried.guess, account: None, is_shared: true };
        self.capabilities.force(&guess, now);
        let mut attempt = self.attempt(visitor, guess, tried, policy);
        attempt.scope = Scope::Capability { is_trusted };
        Ok(attempt)
    }

    fn attempt(self: &Arc<Self>, visitor: &Visitor, guess: Guess, tried: Tried, policy: &Arc<Policy>) -> Attempt {
        Attempt {
            guard: self.clone(),
            policy: policy.clone(),
            client: visitor.client.key(),
            never_banned: self.is_never_banned(visitor.client, &policy.guard),
            guess,
            tried,
            scope: Scope::Login,
            ended: false,
        }
    }
}

fn refusal(wait: Wait) -> Refusal {
    match wait {
        Wait::Client(wait) => Refusal { denial: Denial::LoginThrottle, retry_after: Some(wait) },
        Wait::Account(wait) => Refusal { denial: Denial::AccountThrottle, retry_after: Some(wait) },
    }
}

impl Attempt {
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// The account it is on, if that is known.
    pub fn account(&self) -> Option<u64> {
        self.tried.account
    }

    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The device by which a success is known: the one that tries, or a new one.
    pub fn device(&self) -> u64 {
        match self.guess.who {
            Who::Device(device) => device,
            Who::Client(_) => self.tried.proof.map_or(self.tried.guess, Fingerprint::short),
        }
    }

    /// Where a success is proven.
    fn home(&self) -> Home {
        Home { client: self.client, host: self.policy.host_id }
    }

    /// Ends the attempt with the application's verdict.
    pub fn finish(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (end, counted) = self.settle(outcome);
        self.guard.metrics.guard.login_attempt(self.tried.kind, counted);
        let ledger = match self.scope {
            Scope::Login => &self.guard.ledger,
            Scope::Capability { .. } => &self.guard.capabilities,
        };
        let toll = ledger.end(&self.guess, end, &self.policy.guard.login, self.guard.now());
        if end == End::Failed {
            log::info!(
                "login failed client={} host={} kind={} failures={}/{}",
                self.client,
                self.policy.host,
                self.tried.kind,
                toll.failures,
                self.policy.guard.login.max_failures
            );
        }
        self.pay(&toll);
    }

    /// What the verdict means for the credential, and for counting.
    fn settle(&self, outcome: Outcome) -> (End, LoginOutcome) {
        let (devices, now) = (&self.guard.devices, self.guard.now());
        let credit = self.tried.proof.map(|proof| (proof, devices.credit(proof, now)));
        match (outcome, credit) {
            (Outcome::Succeeded { lifetime }, Some((proof, _))) => {
                self.guard.prove(proof, self.device(), lifetime, self.home());
                (End::Succeeded, LoginOutcome::Succeeded)
            }
            (Outcome::Succeeded { .. }, None) => {
                devices.prove_home(self.home(), self.device(), now);
                (End::Succeeded, LoginOutcome::Succeeded)
            }
            (Outcome::Unjudged, _) => (End::Unjudged, LoginOutcome::Unjudged),
            // What was good once is no guess: a tablet with an old token, a device that was signed out.
            (Outcome::Failed, Some((proof, Credit::Good { .. }))) => {
                self.guard.revoke(proof);
                (End::Unjudged, LoginOutcome::Revoked)
            }
            (Outcome::Failed, Some((proof, Credit::Expired { .. } | Credit::Revoked { .. }))) => {
                devices.refuse(proof, now);
                (End::Unjudged, LoginOutcome::Revoked)
            }
            (Outcome::Failed, Some((proof, Credit::Bad { .. } | Credit::Unknown))) => {
                devices.refuse(proof, now);
                (End::Failed, LoginOutcome::Failed)
            }
            (Outcome::Failed, None) => (End::Failed, LoginOutcome::Failed),
            (Outcome::Abandoned, Some((_, Credit::Good { .. } | Credit::Expired { .. } | Credit::Revoked { .. }))) => {
                (End::Unjudged, LoginOutcome::Abandoned)
            }
            // Browsers break off pictures at every step; who has left has learnt nothing.
            (Outcome::Abandoned, _) if self.scope != Scope::Login => (End::Unjudged, LoginOutcome::Abandoned),
            (Outcome::Abandoned, _) => (End::Failed, LoginOutcome::Abandoned),
        }
    }

    /// Bans whoever has used up its failures. A known device is throttled, never banned: its address is its household's.
    fn pay(&self, toll: &Toll) {
        let config = &self.policy.guard;
        let Who::Client(client) = self.guess.who else { return };
        if self.scope == (Scope::Capability { is_trusted: true }) {
            return;
        }
        let own = toll.exhausted.then(|| client.network());
        let now = self.guard.now();
        // Who is banned already is not banned again for what was in flight.
        let is_free = |network: &IpNet| {
            self.guard.bans.find(network.addr(), now).is_none_or(|ban| !ban.network.contains(network))
        };
        let networks: Vec<IpNet> =
            own.into_iter().chain(toll.exhausted_networks.iter().copied()).filter(is_free).collect();
        if networks.is_empty() || self.never_banned || !config.bans.enabled {
            return;
        }
        if config.login.dry_run {
            self.guard.metrics.guard.would_refuse(&self.policy.host, Denial::Banned);
            log::info!("client would be banned, were it not for login.dry_run client={client}");
            return;
        }
        for network in networks {
            self.guard.ban(network, config, self.guard.now());
        }
        self.guard.ledger.forgive(self.guess.who);
        self.guard.capabilities.forgive(self.guess.who);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned);
    }
}
