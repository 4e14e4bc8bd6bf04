//! The login inside a WebSocket: what the guard thinks of its first message, and what Home Assistant says to it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::bearer::{self, LIFETIME};
use crate::app::AttemptKind;
use crate::app::home_assistant::websocket::{self as app, Auth};
use crate::config::RequestClass;
use crate::denial::Denial;
use crate::exchange::Connection;
use crate::guard::devices::{Credit, Home};
use crate::guard::fingerprint::{Fingerprint, Kind};
use crate::guard::{Attempt, Guard, Outcome, Policy, Tried, Visitor, Who};
use crate::websocket::greet::{Decision, Doorkeeper, End, Verdict};

/// One WebSocket's way to its verdict.
#[derive(Clone)]
pub(super) struct WebSocketLogin(Arc<Inner>);

struct Inner {
    guard: Arc<Guard>,
    policy: Arc<Policy>,
    visitor: Visitor,
    connection: Arc<Connection>,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    attempt: Option<Attempt>,
    /// A token that is taken for good already.
    believed: Option<Fingerprint>,
    /// How long the token is to be believed.
    lifetime: Duration,
    /// The cookie that came with the 101.
    cookie: Option<Fingerprint>,
}

impl WebSocketLogin {
    pub fn new(guard: &Arc<Guard>, visitor: &Visitor, policy: &Arc<Policy>, connection: &Arc<Connection>) -> Self {
        Self(Arc::new(Inner {
            guard: guard.clone(),
            policy: policy.clone(),
            visitor: *visitor,
            connection: connection.clone(),
            under_way: Mutex::default(),
        }))
    }

    pub fn policy(&self) -> &Arc<Policy> {
        &self.0.policy
    }

    /// The client was given a cookie.
    pub fn given(&self, cookie: Fingerprint) {
        self.0.under_way.lock().cookie = Some(cookie);
    }
}

impl Inner {
    /// Whether a stranger may try at all: behind a banned address only what is known already may.
    fn admit(&self, who: Who) -> Result<(), Decision> {
        let now = self.guard.now();
        if who.is_stranger() && self.guard.ban_of(self.visitor.client, &self.policy.guard, now).is_some() {
            self.guard.refused(self.visitor.client, Denial::Banned, &self.policy, now);
            return Err(Decision::Drop);
        }
        // At home the upgrade itself was not counted, so that neighbours do not use up each other's.
        if self.visitor.is_home && self.guard.take(who, RequestClass::Websocket, &self.policy, now).is_err() {
            self.guard.refused(self.visitor.client, Denial::RateLimit, &self.policy, now);
            return Err(Decision::RefuseLater);
        }
        Ok(())
    }

    fn first_message(&self, text: &str) -> Result<(), Decision> {
        let auth = app::read_auth(text);
        let (proof, guess) = match &auth {
            Auth::Token(token) => {
                let proof = self.guard.proof(&self.policy.host, token.expose().as_bytes());
                (Some(proof), proof.short())
            }
            Auth::Password(password) => {
                (None, self.guard.short(Kind::Password, &self.policy.host, password.expose().as_bytes()))
            }
            // Nothing is tried; Home Assistant will say what is wrong with it.
            Auth::None => return self.admit(self.visitor.who()),
        };
        let mut visitor = self.visitor;
        let credit = proof.map(|proof| self.guard.devices().credit(proof, self.guard.now()));
        if let Some(Credit::Good { device } | Credit::Expired { device }) = credit {
            visitor.device = Some(device);
        }
        self.admit(visitor.who())?;
        self.under_way.lock().lifetime = match &auth {
            Auth::Token(token) => bearer::lifetime(token.expose().as_bytes(), &self.guard),
            Auth::Password(_) | Auth::None => LIFETIME,
        };
        if matches!(credit, Some(Credit::Good { .. })) {
            self.under_way.lock().believed = proof;
            return Ok(());
        }
        let tried = Tried { kind: AttemptKind::WebSocket.as_str(), guess, account: None, proof, is_shared: false };
        match self.guard.begin(&visitor, tried, &self.policy) {
            Ok(attempt) => self.under_way.lock().attempt = Some(attempt),
            Err(refusal) if refusal.denial == Denial::StaleCredential => return Err(Decision::RefuseAsInvalid),
            Err(_) => return Err(Decision::RefuseLater),
        }
        Ok(())
    }

    fn proven(&self) {
        let UnderWay { attempt, believed, lifetime, cookie } = std::mem::take(&mut *self.under_way.lock());
        let home = Home { client: self.visitor.client.key(), host: self.policy.host_id };
        let device = match (&attempt, believed) {
            (Some(attempt), _) => attempt.device(),
            (None, Some(token)) => self.guard.prove(token, token.short(), lifetime, home),
            (None, None) => return,
        };
        if let Some(cookie) = cookie {
            self.guard.prove(cookie, device, self.policy.guard.known_device_lifetime, home);
        }
        if let Some(attempt) = attempt {
            attempt.finish(Outcome::Succeeded { lifetime });
        }
        self.connection.set_proven();
    }

    fn refused(&self, outcome: Outcome) {
        let UnderWay { attempt, believed, .. } = std::mem::take(&mut *self.under_way.lock());
        if let Some(attempt) = attempt {
            attempt.finish(outcome);
        }
        // What was taken for good and is refused is out at once.
        if let Some(token) = believed.filter(|_| outcome == Outcome::Failed) {
            self.guard.revoke(token);
        }
    }
}

#[async_trait]
impl Doorkeeper for WebSocketLogin {
    fn first_message(&self, text: &str) -> Decision {
        self.0.first_message(text).err().unwrap_or(Decision::Pass)
    }

    fn upstream_message(&self, text: &str) -> Verdict {
        match app::judge_websocket(text) {
            None => Verdict::NotYet,
            Some(app::Verdict::Proven) => {
                self.0.proven();
                Verdict::Accepted
            }
            Some(app::Verdict::Refused) => {
                self.0.refused(Outcome::Failed);
                Verdict::Refused
            }
            Some(app::Verdict::Malformed) => {
                self.0.refused(Outcome::Unjudged);
                Verdict::Refused
            }
        }
    }

    async fn banned(&self) {
        self.0.connection.seat.turned_out().await;
    }

    fn parted(&self, end: End) {
        match end {
            // Not the client's doing.
            End::Upstream | End::Shutdown | End::UpstreamUnreadable => self.0.refused(Outcome::Unjudged),
            _ => self.0.refused(Outcome::Abandoned),
        }
    }
}
