//! Showing the authority that a name is ours: one name after another, one challenge at a time.
//!
//! Strictly one after another, because some DNS providers have room for one TXT record only.

use std::collections::HashMap;

use instant_acme::{AuthorizationHandle, AuthorizationStatus, Authorizations, ChallengeType, Error, Order};

use super::challenges::Answering;
use super::order::{Attempt, FIRST_PAUSE};
use super::problem::{self, Failure, Step};
use super::transport::persistent;
use crate::config::{Challenge, HostPattern};

/// What was tried in one attempt, in vain.
#[derive(Debug, Default)]
pub struct Tried {
    by_name: HashMap<String, Vec<Try>>,
}

#[derive(Debug)]
struct Try {
    challenge: Challenge,
    sentence: String,
    /// It was the authority that did not find what it looked for.
    is_refused: bool,
}

/// How a challenge ended.
enum Outcome {
    Proven,
    /// Nothing was ready to be looked for, so the order is as good as before.
    NotReady(String),
    /// The authority has looked, and the order is lost.
    Refused(String),
}

/// What the authority wants to know of one name.
struct Wanted {
    name: HostPattern,
    status: AuthorizationStatus,
    offered: Vec<Challenge>,
}

impl Tried {
    /// How often one name was refused: the most of all names.
    pub fn refused(&self) -> usize {
        let counts = self.by_name.values().map(|tries| tries.iter().filter(|tried| tried.is_refused).count());
        counts.max().unwrap_or_default()
    }

    fn of(&self, name: &str) -> &[Try] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Attempt<'_> {
    /// Shows all names of `order`. `false`: a challenge has failed, and the next one needs another order.
    pub(super) async fn authorize(&mut self, order: &mut Order) -> Result<bool, Failure> {
        for index in 0..order.state().authorizations.len() {
            let wanted = persistent!(self.look(order, index));
            let wanted = wanted.map_err(|error| self.failure(Step::Order, &error))?;
            match wanted.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => {
                    let step = Step::Name { name: wanted.name.to_string(), challenge: None };
                    return Err(Failure::new(step, "the authority has closed the name's authorization already"));
                }
            }
            if !self.prove(order, index, &wanted).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn look(&self, order: &mut Order, index: usize) -> Result<Wanted, Error> {
        let mut authorizations = order.authorizations();
        let authorization = nth(&mut authorizations, index).await?;
        let identifier = authorization.identifier().to_string();
        let name = HostPattern::parse(&identifier).map_err(|_| Error::Str("the name in an authorization"))?;
        let offers = |kind: Challenge| authorization.challenges.iter().any(|offer| offer.r#type == on_the_wire(kind));
        let offered = [Challenge::Dns01, Challenge::TlsAlpn01, Challenge::Http01].into_iter().filter(|c| offers(*c));
        Ok(Wanted { name, status: authorization.status, offered: offered.collect() })
    }

    /// Tries the challenges that are left for one name.
    async fn prove(&mut self, order: &mut Order, index: usize, wanted: &Wanted) -> Result<bool, Failure> {
        let name = wanted.name.to_string();
        while let Some(challenge) = self.next_challenge(wanted) {
            (self.progress)(Step::Name { name: name.clone(), challenge: Some(challenge) });
            let outcome = self.answer(order, index, wanted, challenge).await;
            self.record.withdraw().await;
            let (sentence, is_refused) = match outcome? {
                Outcome::Proven => return Ok(true),
                Outcome::NotReady(sentence) => (sentence, false),
                Outcome::Refused(sentence) => (sentence, true),
            };
            let tries = self.tried.by_name.entry(name.clone()).or_default();
            tries.push(Try { challenge, sentence, is_refused });
            if is_refused && let Some(next) = self.next_challenge(wanted) {
                log::info!("acme: {} has failed for {name}, {} is tried", challenge.as_str(), next.as_str());
                return Ok(false);
            }
        }
        Err(self.nothing_left(wanted))
    }

    /// In the configured order: what the authority offers, can work for the name and here, and has not failed yet.
    fn next_challenge(&self, wanted: &Wanted) -> Option<Challenge> {
        let tried = self.tried.of(&wanted.name.to_string());
        let can_work = |challenge: &Challenge| match challenge {
            Challenge::Dns01 => !self.settings.dns.is_empty(),
            Challenge::TlsAlpn01 => true,
            Challenge::Http01 => self.settings.has_http,
        };
        self.certificate.terms.challenges.iter().copied().find(|challenge| {
            wanted.offered.contains(challenge)
                && challenge.allows(&wanted.name)
                && can_work(challenge)
                && !tried.iter().any(|tried| tried.challenge == *challenge)
        })
    }

    fn nothing_left(&self, wanted: &Wanted) -> Failure {
        let name = wanted.name.to_string();
        let tried = self.tried.of(&name);
        let Some(last) = tried.last() else {
            let offered: Vec<_> = wanted.offered.iter().map(|challenge| challenge.as_str()).collect();
            let sentence = format!(
                "none of the configured challenges can work for it; the authority offers {}",
                if offered.is_empty() { "none that we know".to_owned() } else { offered.join(", ") }
            );
            return Failure::new(Step::Name { name, challenge: None }, sentence);
        };
        let sentence = match tried {
            [only] => only.sentence.clone(),
            several => {
                let each = several.iter().map(|tried| format!("{}: {}", tried.challenge.as_str(), tried.sentence));
                each.collect::<Vec<_>>().join("; ")
            }
        };
        Failure::new(Step::Name { name, challenge: Some(last.challenge) }, sentence)
    }

    async fn answer(
        &self,
        order: &mut Order,
        index: usize,
        wanted: &Wanted,
        challenge: Challenge,
    ) -> Result<Outcome, Failure> {
        let step = || Step::Name { name: wanted.name.to_string(), challenge: Some(challenge) };
        let answering = match self.set_up(order, index, wanted, challenge).await? {
            Ok(answering) => answering,
            Err(sentence) => return Ok(Outcome::NotReady(sentence)),
        };
        let ready = {
            let mut authorizations = order.authorizations();
            let mut authorization =
                nth(&mut authorizations, index).await.map_err(|error| self.failure(step(), &error))?;
            match authorization.challenge(on_the_wire(challenge)) {
                Some(mut handle) => persistent!(handle.set_ready()),
                None => return Ok(Outcome::NotReady("the authority does not offer it any more".into())),
            }
        };
        match ready {
            Ok(()) => {}
            Err(error @ Error::Api(_)) if !problem::is_final(&error) => return Err(self.failure(step(), &error)),
            Err(Error::Api(problem)) => {
                return Ok(Outcome::Refused(problem::refusal(Some(&problem), challenge)));
            }
            Err(error) => return Err(self.failure(step(), &error)),
        }
        let outcome = self.settle(order, index, challenge, step()).await;
        drop(answering);
        outcome
    }

    /// Puts the answer where the authority will look for it. The inner error: it cannot be put there.
    async fn set_up(
        &self,
        order: &mut Order,
        index: usize,
        wanted: &Wanted,
        challenge: Challenge,
    ) -> Result<Result<Option<Answering>, String>, Failure> {
        let (zone, step) = (zone_of(&wanted.name), Step::Name { name: wanted.name.to_string(), challenge: None });
        let (token, key_authorization) = {
            let mut authorizations = order.authorizations();
            let mut authorization =
                nth(&mut authorizations, index).await.map_err(|error| self.failure(step, &error))?;
            match authorization.challenge(on_the_wire(challenge)) {
                Some(handle) => (handle.token.clone(), handle.key_authorization()),
                None => return Ok(Err("the authority does not offer it any more".into())),
            }
        };
        Ok(match challenge {
            Challenge::Http01 => {
                Ok(Some(self.challenges.answer_http(zone, &token, key_authorization.as_str().to_owned())))
            }
            Challenge::TlsAlpn01 => {
                let answering = self.challenges.answer_tls_alpn(zone, key_authorization.digest().as_ref());
                answering.map(Some).map_err(|error| error.to_string())
            }
            Challenge::Dns01 => {
                let presented = self.record.present(&self.settings.dns, zone, &key_authorization.dns_value()).await;
                if presented.is_ok() {
                    self.record.lapsed(zone).await;
                }
                presented.map(|()| None).map_err(|error| problem::dns(&error))
            }
        })
    }

    /// Waits until the authority has made up its mind.
    async fn settle(
        &self,
        order: &mut Order,
        index: usize,
        challenge: Challenge,
        step: Step,
    ) -> Result<Outcome, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            self.pause(&mut pause, step.clone()).await?;
            let mut authorizations = order.authorizations();
            let mut authorization =
                nth(&mut authorizations, index).await.map_err(|error| self.failure(step.clone(), &error))?;
            let state = match authorization.refresh().await {
                // The authority looks all the same: what it looks for must stay where it is.
                Err(error) if problem::is_passing(&error) => continue,
                refreshed => refreshed.map_err(|error| self.failure(step.clone(), &error))?,
            };
            match state.status {
                AuthorizationStatus::Valid => return Ok(Outcome::Proven),
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => {
                    let own = state.challenges.iter().find(|other| other.r#type == on_the_wire(challenge));
                    let problem = own.and_then(|own| own.error.as_ref());
                    return Ok(Outcome::Refused(problem::refusal(problem, challenge)));
                }
            }
        }
    }
}

/// The authorization at `index`. Only the first call asks the authority for it.
async fn nth<'s>(authorizations: &'s mut Authorizations<'_>, index: usize) -> Result<AuthorizationHandle<'s>, Error> {
    for _ in 0..index {
        authorizations.next().await.transpose()?;
    }
    authorizations.next().await.unwrap_or(Err(Error::Str("authorization")))
}

/// Names are shown without their `*.`.
fn zone_of(name: &HostPattern) -> &str {
    match name {
        HostPattern::Exact(name) | HostPattern::Wildcard(name) => name,
    }
}

fn on_the_wire(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Dns01 => ChallengeType::Dns01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Http01 => ChallengeType::Http01,
    }
}
