//! A request before the guard: who asks, what is tried, and what has to be watched of the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_proxy::Session;

use super::asks::{self, Asks, Said};
use super::bearer::Bearers;
use super::inspect::Accepted;
use super::verdict::{Believed, Watch};
use super::websocket_login::WebSocketLogin;
use crate::app::{AttemptKind, Question};
use crate::client::ClientAddr;
use crate::config::App;
use crate::denial::Denial;
use crate::exchange::Exchange;
use crate::guard::devices::Credit;
use crate::guard::fingerprint::Fingerprint;
use crate::guard::{Attempt, Guard, Refusal, Tried, Visitor};

/// A request that the guard has let pass.
pub(super) struct Passed {
    /// The address by which the application is to know the client.
    pub client: ClientAddr,
    pub watch: Watch,
    /// For so long others were waited for: the client for its body, Home Assistant for a word about a bearer.
    pub waited: Duration,
}

/// Asks the guard about a request. Reads the body of a login, and asks Home Assistant about an unknown bearer.
///
/// # Errors
///
/// The first reason against it.
pub(super) async fn pass(
    guard: &Arc<Guard>,
    bearers: &Bearers,
    session: &mut Session,
    exchange: &Arc<Exchange>,
    accepted: &Accepted,
) -> Result<Passed, Refusal> {
    let asks = Asks::of(session, exchange, accepted, guard);
    exchange.classify(asks.class);
    let begun = Instant::now();
    let said = asks::read(&asks, guard, session, exchange).await;
    let waited = begun.elapsed();
    let proof = said.as_ref().ok().and_then(Said::proof);
    let shown: Vec<Fingerprint> = [asks.cookie, asks.bearer, proof].into_iter().flatten().collect();
    let policy = &accepted.route.policy;
    let visitor = guard.visitor(accepted.client, &shown, policy, guard.now());
    if visitor.device.is_some() {
        exchange.set_known(accepted.client);
    }
    guard.admit(&visitor, &asks.asked(), policy, guard.now())?;
    // Only now: what nobody understands counts as a request like any other.
    let said = said.inspect_err(|denial| guard.refused(accepted.client, *denial, policy, guard.now()))?;
    let mut request = Request { guard, bearers, exchange, accepted, asks: &asks, visitor, waited };
    let watch = request.watch(said).await?;
    let client = asks.flow.map_or(accepted.client, |flow| guard.flows().address_for(flow, accepted.client));
    Ok(Passed { client, watch, waited: request.waited })
}

/// All that is known of one request.
struct Request<'a> {
    guard: &'a Arc<Guard>,
    bearers: &'a Bearers,
    exchange: &'a Arc<Exchange>,
    accepted: &'a Accepted,
    asks: &'a Asks,
    visitor: Visitor,
    waited: Duration,
}

impl Request<'_> {
    /// Begins what the request tries, and says what is to be seen of its answer.
    async fn watch(&mut self, said: Said) -> Result<Watch, Refusal> {
        let mut watch = Watch::new(self.asks, self.accepted, self.guard);
        let mut is_proven = self.visitor.is_proven;
        match (self.asks.question, said) {
            (Question::LoginStep | Question::Token, Said::Guess(tried) | Said::Exchange(tried)) => {
                watch.attempt = Some(self.begin(tried)?);
            }
            // Nobody is logged in yet who could link anything.
            (_, Said::Link) if !self.visitor.is_proven => return Err(Denial::Unproven.into()),
            (_, Said::Revocation(Some(token))) => self.guard.revoke(token),
            (Question::Access(AttemptKind::Bearer | AttemptKind::Basic), _) => {
                is_proven |= self.watch_bearer(&mut watch).await?;
            }
            (Question::Access(kind), _) => watch.attempt = Some(self.begin_capability(kind)?),
            (Question::WebSocket, _) => {
                let policy = &self.accepted.route.policy;
                let login = WebSocketLogin::new(self.guard, &self.visitor, policy, &self.exchange.connection);
                watch.websocket = Some(login);
            }
            _ => {}
        }
        if is_proven {
            self.exchange.set_known(self.accepted.client);
        }
        let connection = &self.exchange.connection;
        if self.asks.is_upgrade {
            connection.begin_websocket(is_proven);
        } else if is_proven && self.accepted.client == connection.peer {
            // What a trusted proxy lends to one of its clients is no other's.
            connection.set_proven();
        }
        Ok(watch)
    }

    fn begin(&self, tried: Tried) -> Result<Attempt, Refusal> {
        self.guard.begin(&self.visitor, tried, &self.accepted.route.policy)
    }

    fn begin_capability(&self, kind: AttemptKind) -> Result<Attempt, Refusal> {
        let tried =
            Tried { kind: kind.as_str(), guess: self.asks.presented, account: None, proof: None, is_shared: false };
        self.guard.begin_capability(&self.visitor, tried, &self.accepted.route.policy)
    }

    /// Whether the bearer is good; a generic application says so by its answer, Home Assistant is asked before.
    async fn watch_bearer(&mut self, watch: &mut Watch) -> Result<bool, Refusal> {
        let (Some(bearer), Some(field)) = (self.asks.bearer, &self.asks.authorization) else { return Ok(false) };
        let is_good = || matches!(self.guard.devices().credit(bearer, self.guard.now()), Credit::Good { .. });
        let kind = self.asks.question.attempt().map_or("bearer", AttemptKind::as_str);
        let tried = Tried { kind, guess: bearer.short(), account: None, proof: Some(bearer), is_shared: true };
        if !is_good() && self.asks.app == App::Generic {
            watch.attempt = Some(self.begin(tried)?);
            return Ok(false);
        }
        if !is_good() {
            let begun = Instant::now();
            let _turn = self.bearers.turn(bearer).await;
            if !is_good() {
                let attempt = self.begin(tried)?;
                self.bearers.prove(attempt, field, self.accepted).await?;
            }
            self.waited += begun.elapsed();
        }
        watch.believed = Some(Believed { bearer, field: field.clone(), accepted: self.accepted.clone() });
        Ok(true)
    }
}
