//! What the application's answer says of what was tried: read as it passes, bounded, untouched.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;

use super::asks::Asks;
use super::bearer::{self, LIFETIME};
use super::inspect::Accepted;
use super::websocket_login::WebSocketLogin;
use crate::app::home_assistant::{ANSWER_LIMIT, decode};
use crate::app::{self, Outcome as Answer, Proof, Question, Stage, Tokens};
use crate::client::ClientAddr;
use crate::config::App;
use crate::guard::cookie::Cookie;
use crate::guard::devices::Home;
use crate::guard::fingerprint::{Fingerprint, Kind};
use crate::guard::{Attempt, Guard, Outcome};

/// A bearer that is taken for good, and what it takes to ask about it again.
pub(super) struct Believed {
    pub bearer: Fingerprint,
    pub field: HeaderValue,
    pub accepted: Accepted,
}

/// What is to be seen of one answer.
pub(super) struct Watch {
    pub attempt: Option<Attempt>,
    pub believed: Option<Believed>,
    pub websocket: Option<WebSocketLogin>,
    app: App,
    question: Question,
    guard: Arc<Guard>,
    host: Arc<str>,
    client: ClientAddr,
    flow: Option<u64>,
    known_by: Option<Fingerprint>,
    /// Given to a browser with the answer, and worth something once the answer is a success.
    cookie: Option<Cookie>,
    head: Option<Head>,
    body: BytesMut,
    is_too_long: bool,
}

struct Head {
    status: StatusCode,
    encoding: Option<String>,
}

impl Watch {
    pub fn new(asks: &Asks, accepted: &Accepted, guard: &Arc<Guard>) -> Self {
        Self {
            attempt: None,
            believed: None,
            websocket: None,
            app: asks.app,
            question: asks.question,
            guard: guard.clone(),
            host: accepted.route.name.clone(),
            client: accepted.client,
            flow: asks.flow,
            // One that was only given stays with whoever copied it.
            known_by: asks.cookie.filter(|cookie| guard.devices().knows(*cookie, guard.now())),
            cookie: None,
            head: None,
            body: BytesMut::new(),
            is_too_long: false,
        }
    }

    /// Whether the answer should come unpacked.
    pub fn reads_body(&self) -> bool {
        self.question.is_answered_in_body()
    }

    /// The head of the answer is there. Gives a browser its cookie along with what may be its session.
    pub fn head(&mut self, response: &mut ResponseHeader) -> pingora::Result<()> {
        let status = response.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        let may_prove = match self.question {
            Question::Token => status == StatusCode::OK,
            Question::WebSocket => status == StatusCode::SWITCHING_PROTOCOLS,
            _ => false,
        };
        if may_prove && self.known_by.is_none() {
            self.give_cookie(response)?;
        }
        self.believed = self.believed.take().filter(|_| status == StatusCode::UNAUTHORIZED);
        let encoding = response.headers.get(header::CONTENT_ENCODING);
        let encoding = encoding.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        self.head = Some(Head { status, encoding });
        if !self.reads_body() {
            self.settle();
        }
        Ok(())
    }

    /// A 401 to a good bearer: signed out, or an administrator's view asked for by somebody who is none. Home Assistant
    /// is asked which before the client has the answer, so that its next request finds the verdict.
    pub async fn doubt(&mut self) {
        let Some(Believed { bearer, field, accepted }) = self.believed.take() else { return };
        if let Answer::Failed(_) = bearer::ask(&field, &accepted).await {
            self.guard.revoke(bearer);
            // The answer that raised the doubt was a refusal, too.
            self.guard.devices().refuse(bearer, self.guard.now());
        }
    }

    fn give_cookie(&mut self, response: &mut ResponseHeader) -> pingora::Result<()> {
        let Some(lifetime) = self.cookie_seconds() else { return Ok(()) };
        let Some(cookie) = self.guard.mint_cookie(&self.host) else { return Ok(()) };
        response.append_header(header::SET_COOKIE, cookie.to_field(lifetime))?;
        if let Some(login) = &self.websocket {
            login.given(cookie.fingerprint);
        }
        self.cookie = Some(cookie);
        Ok(())
    }

    fn cookie_seconds(&self) -> Option<u64> {
        let policy =
            self.attempt.as_ref().map(Attempt::policy).or(self.websocket.as_ref().map(WebSocketLogin::policy))?;
        Some(policy.guard.known_device_lifetime.as_secs())
    }

    /// A piece of the answer's body passes.
    pub fn body(&mut self, piece: Option<&Bytes>, end: bool) {
        if !self.reads_body() {
            return;
        }
        if let Some(piece) = piece {
            self.is_too_long |= self.body.len() + piece.len() > ANSWER_LIMIT;
            if !self.is_too_long {
                self.body.extend_from_slice(piece);
            }
        }
        if end {
            self.settle();
        }
    }

    /// The application did not answer: nothing was judged.
    pub fn unanswered(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.finish(Outcome::Unjudged);
        }
    }

    fn settle(&mut self) {
        let Some(head) = self.head.take() else { return };
        let body = std::mem::take(&mut self.body);
        let unpacked = if self.is_too_long { None } else { decode(head.encoding.as_deref(), &body).ok() };
        let answer = app::judge(self.app, self.question, head.status, unpacked.as_deref());
        let attempt = self.attempt.take();
        match (answer, attempt) {
            (Answer::Advanced(flow), attempt) => {
                self.advanced(&flow, attempt.as_ref().and_then(Attempt::account));
                end(attempt, Outcome::Unjudged);
            }
            (Answer::Succeeded(Proof::Token(tokens)), Some(attempt)) => self.issued(&tokens, attempt),
            (Answer::Succeeded(Proof::Login { .. }), attempt) => {
                if let Some(flow) = self.flow {
                    self.guard.flows().ended(flow);
                }
                end(attempt, Outcome::Succeeded { lifetime: LIFETIME });
            }
            (Answer::Succeeded(Proof::Session | Proof::Token(_)), attempt) => {
                end(attempt, Outcome::Succeeded { lifetime: LIFETIME });
            }
            (Answer::Failed(_) | Answer::Unknown, attempt) => end(attempt, Outcome::Failed),
            (Answer::Harmless, attempt) => end(attempt, Outcome::Unjudged),
        }
    }

    fn advanced(&self, flow: &app::Flow, account: Option<u64>) {
        let id = self.guard.short(Kind::Flow, &self.host, flow.id.expose().as_bytes());
        match flow.stage {
            Stage::Start => self.guard.flows().began(id, self.client, self.guard.now()),
            Stage::SecondFactor | Stage::ModuleChoice => self.guard.flows().at_second_factor(id, account),
        }
    }

    /// Tokens were issued: they, and the browser's cookie, are one device.
    fn issued(&self, tokens: &Tokens, attempt: Attempt) {
        let lifetime = attempt.policy().guard.known_device_lifetime;
        let device = attempt.device();
        let home = Home { client: self.client.key(), host: attempt.policy().host_id };
        let prove = |proof, lifetime| self.guard.prove(proof, device, lifetime, home);
        let fingerprint = |secret: &str| self.guard.proof(&self.host, secret.as_bytes());
        prove(fingerprint(tokens.access.expose()), bearer::short_of(tokens.expires_in));
        if let Some(refresh) = &tokens.refresh {
            prove(fingerprint(refresh.expose()), lifetime);
        }
        if let Some(cookie) = self.known_by.or(self.cookie.as_ref().map(|cookie| cookie.fingerprint)) {
            prove(cookie, lifetime);
        }
        attempt.finish(Outcome::Succeeded { lifetime });
    }
}

fn end(attempt: Option<Attempt>, outcome: Outcome) {
    if let Some(attempt) = attempt {
        attempt.finish(outcome);
    }
}
