//! What is remembered of a certificate over restarts: how it was had, what went wrong, and when to try again. Pure.

use std::fmt;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use instant_acme::CertificateIdentifier;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::problem::Failure;
use super::schedule::{self, Failures, Life, Luck, Why, Window};
use crate::config::{AcmeCertificate, DnsProvider};

/// The content of `<name>.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// What the certificate in the file was asked for.
    pub had: Option<Request>,
    pub last_success: Option<SystemTime>,
    /// That one and those before it, the oldest first; few.
    pub successes: Vec<SystemTime>,
    pub last_attempt: Option<SystemTime>,
    /// Why the last attempt has failed; `None` if it did not.
    pub error: Option<Complaint>,
    /// Failed attempts since the last that did not fail.
    pub failures: u32,
    /// Attempts in a row of which no end is known, the one under way included.
    pub unended: u32,
    pub wait_until: Option<SystemTime>,
    /// Until when the authority itself has had enough of `tried_for`: other tokens or challenges do not change its mind.
    pub told_to_wait_until: Option<SystemTime>,
    /// What the last attempt was made for.
    pub tried_for: Option<Request>,
    /// The operator wants another one, whatever the age of the one that is had.
    pub is_asked: bool,
    /// When the authority found that a name is not ours.
    pub refused: Vec<SystemTime>,
    /// What the last attempt was made with; another wait begins with other settings.
    pub tried_with: Option<Fingerprint>,
    pub renewal: Option<Suggestion>,
}

/// What is asked of an authority. A certificate had for another request is not the one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Sorted.
    names: Vec<String>,
    profile: Option<String>,
    directory: String,
}

/// A failure in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    pub step: String,
    pub sentence: String,
}

/// What the authority says of one certificate's renewal (RFC 9773).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suggestion {
    /// Hex of the certificate's SHA-256: another certificate has another window.
    pub certificate: String,
    /// `None` if the authority says nothing.
    pub window: Option<Window>,
    pub next_poll: SystemTime,
}

/// A salted hash of all that decides over the success of an attempt, tokens included.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    salt: String,
    hash: String,
}

/// The certificate in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub life: Life,
    pub sha256: [u8; 32],
    pub names: Vec<String>,
    pub issuer: Option<String>,
    /// What the authority knows it by (RFC 9773, section 4.1).
    pub identifier: Option<CertificateIdentifier<'static>>,
}

/// When the next attempt is due, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When the certificate itself asks for it.
    pub renewal: SystemTime,
    pub why: Why,
    /// When it is done: not before the wait that a failure has cost.
    pub at: SystemTime,
    /// It is due again too soon after a success, and waits.
    pub is_too_soon: bool,
}

impl Memory {
    /// When the next attempt is due.
    pub fn due(&self, held: Option<&Held>, request: &Request, now: SystemTime) -> Due {
        let (renewal, why) = match held {
            _ if self.is_asked => (now, Why::Asked),
            None => (now, Why::Missing),
            Some(held) if !self.is_for(held, request) => (now, Why::Changed),
            Some(held) => schedule::renewal(held.life, self.window(held)),
        };
        let floor = match (held, why) {
            (Some(held), Why::Authority | Why::Age) => schedule::after_successes(held.life, &self.successes, now),
            (_, Why::Missing | Why::Changed | Why::Asked) | (None, _) => None,
        };
        let is_too_soon = floor.is_some_and(|floor| renewal < floor);
        let moment = floor.map_or(renewal, |floor| floor.max(renewal));
        Due { renewal, why, at: schedule::not_before(moment, self.wait_until, now), is_too_soon }
    }

    /// Whether `held` was had for `request`. What nobody has written down is taken to be right.
    fn is_for(&self, held: &Held, request: &Request) -> bool {
        match &self.had {
            Some(had) => had == request,
            None => {
                let mut names = held.names.clone();
                names.sort_unstable();
                // One from Let's Encrypt's staging is nothing to serve once that is not asked any more.
                let is_staging = held.issuer.as_ref().is_some_and(|issuer| issuer.contains("(STAGING)"));
                names == request.names && (!is_staging || request.directory.contains("staging"))
            }
        }
    }

    fn window(&self, held: &Held) -> Option<&Window> {
        let own = self.renewal.as_ref().filter(|renewal| renewal.certificate == hex(&held.sha256))?;
        own.window.as_ref()
    }

    /// Whether the authority should be asked about the renewal of `held`.
    pub fn is_poll_due(&self, held: &Held, now: SystemTime) -> bool {
        let known = self.renewal.as_ref().filter(|renewal| renewal.certificate == hex(&held.sha256));
        schedule::is_poll_due(known.map(|known| known.next_poll), now)
    }

    /// The authority was asked about the renewal of `held`; `None`: it gave no usable answer, and its last one holds.
    pub fn polled(&mut self, held: &Held, answer: Option<Option<Window>>, next_poll: SystemTime) {
        let window = answer.unwrap_or_else(|| self.window(held).cloned());
        self.renewal = Some(Suggestion { certificate: hex(&held.sha256), window, next_poll });
    }

    /// The operator wants an attempt now, and others until one succeeds.
    pub fn ask(&mut self) {
        self.is_asked = true;
        self.wait_until = None;
    }

    /// An attempt begins, with these settings. Those that differ from the last ones deserve a chance at once.
    ///
    /// Its end sets another wait or none. One that never ends, because the process does, may begin anew at the next start;
    /// but not with each of many: each may cost a refusal that nobody here has counted.
    pub fn try_with(&mut self, settings: &Settings, certificate: &AcmeCertificate, salt: u64, now: SystemTime) {
        self.wait_until = schedule::after_unended(self.unended, now);
        self.unended = self.unended.saturating_add(1);
        self.tried_for = Some(Request::new(certificate, &settings.authority.config().directory));
        if !self.is_tried_with(settings, certificate) {
            self.tried_with = Some(Fingerprint::of(settings, certificate, format!("{salt:016x}")));
        }
    }

    /// Forgets the wait, and the failures that made it long, if it was earned with other settings. What the authority has
    /// said of the same request holds.
    pub fn forgive_if_changed(&mut self, settings: &Settings, certificate: &AcmeCertificate) {
        if self.tried_with.is_some() && !self.is_tried_with(settings, certificate) {
            let request = Request::new(certificate, &settings.authority.config().directory);
            let is_same = self.tried_for.as_ref() == Some(&request);
            self.wait_until = self.told_to_wait_until.filter(|_| is_same);
            self.failures = 0;
        }
    }

    /// Whether the last attempt, or the one under way, was begun with these settings.
    pub fn is_tried_with(&self, settings: &Settings, certificate: &AcmeCertificate) -> bool {
        let known = self.tried_with.as_ref();
        known.is_some_and(|known| *known == Fingerprint::of(settings, certificate, known.salt.clone()))
    }

    pub fn succeeded(&mut self, request: Request, now: SystemTime) {
        self.had = Some(request);
        self.successes.push(now);
        self.successes.drain(..self.successes.len().saturating_sub(schedule::MOST_SUCCESSES));
        (self.last_attempt, self.last_success) = (Some(now), Some(now));
        (self.error, self.wait_until, self.renewal) = (None, None, None);
        (self.failures, self.unended, self.is_asked, self.told_to_wait_until) = (0, 0, false, None);
        self.refused = schedule::still_counting(&self.refused, now);
    }

    /// An attempt was broken off for settings that are gone; what it has cost with the authority it has cost.
    pub fn broken_off(&mut self, refused: usize, now: SystemTime) {
        (self.last_attempt, self.unended, self.wait_until) = (Some(now), 0, None);
        self.refuse(refused, now);
    }

    fn refuse(&mut self, count: usize, now: SystemTime) {
        self.refused.extend(std::iter::repeat_n(now, count));
        self.refused = schedule::still_counting(&self.refused, now);
    }

    pub fn failed(&mut self, failure: &Failure, now: SystemTime, luck: Luck) {
        self.last_attempt = Some(now);
        (self.failures, self.unended) = (self.failures.saturating_add(1), 0);
        self.refuse(failure.refused, now);
        let failures = Failures {
            count: self.failures,
            refused: &self.refused,
            last_refused: failure.refused,
            retry_after: failure.retry_after,
            is_issued: failure.is_issued,
        };
        self.told_to_wait_until = failure.retry_after;
        self.wait_until = Some(schedule::after_failure(failures, now, luck));
        self.error = Some(Complaint { step: failure.step.to_string(), sentence: failure.sentence.clone() });
    }
}

impl Request {
    pub fn new(certificate: &AcmeCertificate, directory: &str) -> Self {
        let mut names: Vec<_> = certificate.names.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        Self { names, profile: certificate.terms.profile.clone(), directory: directory.to_owned() }
    }

    pub fn directory(&self) -> &str {
        &self.directory
    }
}

impl Fingerprint {
    fn of(settings: &Settings, certificate: &AcmeCertificate, salt: String) -> Self {
        let mut context = Context::new(&SHA256);
        let mut add = |part: &str| {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        };
        add(&salt);
        let (acme, terms) = (settings.authority.config(), &certificate.terms);
        add(&format!("{:?}", (&certificate.names, &terms.challenges, &terms.profile, settings.has_http)));
        add(&format!("{acme:?}{:?}", settings.accounts));
        if let Some(account) = &acme.external_account {
            add(account.hmac_key.expose());
        }
        for account in &settings.accounts {
            match &account.provider {
                DnsProvider::DuckDns { token, .. } | DnsProvider::Cloudflare { token, .. } => add(token.expose()),
                DnsProvider::Rfc2136(server) => add(server.key.expose()),
                DnsProvider::Exec { .. } => {}
            }
        }
        Self { salt, hash: hex(context.finish().as_ref()) }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprint").finish_non_exhaustive()
    }
}

/// In lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
