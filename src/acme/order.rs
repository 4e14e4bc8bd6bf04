//! One attempt to have one certificate: account, order, a proof for each name, request, check, file.
//!
//! What an earlier attempt has left half-way is finished first. A proof that fails costs the order (RFC 8555, section
//! 7.1.6), so the next challenge of the fallback order is tried with another one. Every wait is bounded.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use instant_acme::{Account, CertificateIdentifier, Error, Identifier, NewOrder, Order, OrderStatus};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};

use super::account::{self, Opened};
use super::challenges::Challenges;
use super::files::{Files, Pending};
use super::memory::{Held, Request};
use super::problem::{self, Failure, Step, plain};
use super::proof::Tried;
use super::record::Record;
use super::transport::{Transport, persistent};
use super::{Settings, aside};
use crate::config::AcmeCertificate;
use crate::tls::{Certificate, CertificateError};

/// What an attempt works with.
pub struct Attempt<'a> {
    pub settings: &'a Settings,
    pub certificate: &'a AcmeCertificate,
    pub request: Request,
    pub held: Option<Held>,
    /// `held` is as wanted, but its time has come.
    pub is_renewal: bool,
    /// What the authority shall know that the new certificate replaces (RFC 9773, section 5).
    pub replaces: Option<CertificateIdentifier<'static>>,
    pub files: &'a Files,
    pub challenges: &'a Arc<Challenges>,
    pub record: &'a Record,
    /// Told how far the attempt is.
    pub progress: &'a (dyn Fn(Step) + Sync),
    pub transport: Transport,
    pub deadline: Instant,
    pub tried: Tried,
}

/// A chain and the key that it belongs to, both PEM.
struct Issued {
    chain: String,
    key: String,
}

/// What an attempt that ended half-way has left.
enum Left {
    Issued(Issued),
    /// All was done but to say so.
    Kept,
}

impl Attempt<'_> {
    /// Returns when the certificate is in its file.
    pub async fn run(&mut self) -> Result<(), Failure> {
        let outcome = self.obtain().await;
        outcome.map_err(|failure| Failure { refused: self.tried.refused(), ..failure })
    }

    async fn obtain(&mut self) -> Result<(), Failure> {
        (self.progress)(Step::Account);
        let mut opened = account::open(self.settings.authority.config(), &self.transport, self.files).await?;
        let issued = match self.resume(&opened.account).await? {
            Some(Left::Kept) => return Ok(()),
            Some(Left::Issued(issued)) => issued,
            None => {
                let order = self.authorized_order(&mut opened).await?;
                self.issue(order, opened.account.id()).await?
            }
        };
        self.keep(issued).await
    }

    /// An order all of whose names are shown to be ours.
    async fn authorized_order(&mut self, opened: &mut Opened) -> Result<Order, Failure> {
        loop {
            (self.progress)(Step::Order);
            let mut order = self.order(opened).await?;
            // Each round costs a name one of its challenges.
            if self.authorize(&mut order).await? {
                return Ok(order);
            }
        }
    }

    async fn order(&self, opened: &mut Opened) -> Result<Order, Failure> {
        self.check_profile(&opened.account)?;
        let acme = self.settings.authority.config();
        let ordered = match self.new_order(&opened.account).await {
            Err(error) if opened.is_lost(&error, SystemTime::now()) => {
                log::warn!("acme: the account is of no use any more, another is made: {}", self.sentence(&error));
                *opened = account::replace(acme, &self.transport, self.files).await?;
                self.new_order(&opened.account).await
            }
            ordered => ordered,
        };
        let order = ordered.map_err(|error| self.failure(Step::Order, &error))?;
        opened.prove(acme, self.files).await;
        Ok(order)
    }

    async fn new_order(&self, account: &Account) -> Result<Order, Error> {
        let identifiers: Vec<_> = self.certificate.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
        let order = || {
            let order = NewOrder::new(&identifiers);
            match &self.certificate.terms.profile {
                Some(profile) => order.profile(profile),
                None => order,
            }
        };
        if let Some(replaced) = &self.replaces {
            match persistent!(account.new_order(&order().replaces(replaced.clone()))) {
                Ok(order) => return Ok(order),
                Err(error) if problem::is_passing(&error) || is_limit(&error) => return Err(error),
                // Somebody else has replaced it, or it is none of this authority's, or the authority does not know the
                // field or does not repeat it, which the library takes for an error.
                Err(_) => {}
            }
        }
        persistent!(account.new_order(&order()))
    }

    fn check_profile(&self, account: &Account) -> Result<(), Failure> {
        let Some(wanted) = &self.certificate.terms.profile else { return Ok(()) };
        let mut offered: Vec<_> = account.profiles().map(|profile| plain(profile.name)).collect();
        if offered.contains(wanted) {
            return Ok(());
        }
        offered.sort_unstable();
        let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
        let sentence = format!("the authority has no profile `{wanted}`, it offers {offered}: correct `profile`");
        Err(Failure::new(Step::Order, sentence))
    }

    /// What an earlier attempt has ordered and not put into its file.
    async fn resume(&self, account: &Account) -> Result<Option<Left>, Failure> {
        let (files, certificate) = (self.files.clone(), self.certificate.clone());
        let pending = aside(move || files.pending(&certificate)).await?;
        let Some(pending) = pending.map_err(|error| Failure::new(Step::Save, error.to_string()))? else {
            return Ok(None);
        };
        let is_ours = pending.account == account.id() && pending.request == self.request;
        let left = if is_ours { self.pick_up(account, pending).await? } else { None };
        if left.is_some() {
            log::info!("acme: a certificate that was ordered before is picked up name={}", self.name());
            return Ok(left);
        }
        self.drop_pending().await?;
        Ok(None)
    }

    async fn pick_up(&self, account: &Account, pending: Pending) -> Result<Option<Left>, Failure> {
        let mut order = match persistent!(account.order(pending.order.clone())) {
            Ok(order) => order,
            Err(error) if problem::is_final(&error) => return Ok(None),
            Err(error) => return Err(self.failure(Step::Issue, &error)),
        };
        // A date in the future is a wrong clock's.
        let is_stuck = SystemTime::now().duration_since(pending.since).is_ok_and(|age| age > PATIENCE_WITH_ORDER);
        let key = pending.key;
        let finished = match order.state().status {
            OrderStatus::Ready => self.finalize(order, key).await,
            OrderStatus::Processing if is_stuck => return Ok(None),
            OrderStatus::Valid | OrderStatus::Processing => self.download(order, key).await,
            OrderStatus::Pending | OrderStatus::Invalid => return Ok(None),
        };
        let issued = match finished {
            Ok(issued) => issued,
            Err(failure) if failure.is_final => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let is_kept = |new: &Certificate| self.held.as_ref().is_some_and(|held| held.sha256 == new.sha256());
        Ok(match self.parse(&issued) {
            // What is had already renews nothing.
            Ok(new) if is_kept(&new) => (!self.is_renewal).then_some(Left::Kept),
            Ok(_) | Err(CertificateError::NotYetValid { .. }) => Some(Left::Issued(issued)),
            // It has expired meanwhile, say.
            Err(_) => None,
        })
    }

    async fn issue(&self, mut order: Order, account: &str) -> Result<Issued, Failure> {
        (self.progress)(Step::Issue);
        let mut pause = FIRST_PAUSE;
        while order.state().status == OrderStatus::Pending {
            self.pause(&mut pause, Step::Issue).await?;
            self.refresh(&mut order).await?;
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| unmade(&error))?.serialize_pem();
        let pending = Pending {
            order: order.url().to_owned(),
            request: self.request.clone(),
            account: account.to_owned(),
            since: SystemTime::now(),
            key: key.clone(),
        };
        let (files, certificate) = (self.files.clone(), self.certificate.clone());
        let saved = aside(move || files.save_pending(&certificate, &pending)).await?;
        saved.map_err(|error| Failure::new(Step::Save, format!("the state directory cannot be written: {error}")))?;
        self.finalize(order, key).await
    }

    async fn finalize(&self, mut order: Order, key: String) -> Result<Issued, Failure> {
        let request = self.signing_request(&key).map_err(|error| unmade(&error))?;
        persistent!(order.finalize_csr(&request)).map_err(|error| self.failure(Step::Issue, &error))?;
        self.download(order, key).await
    }

    fn signing_request(&self, key: &str) -> Result<Vec<u8>, rcgen::Error> {
        let mut params = CertificateParams::default();
        let names = self.certificate.names.iter();
        params.subject_alt_names = names
            .map(|name| Ok(SanType::DnsName(name.to_string().try_into()?)))
            .collect::<Result<_, rcgen::Error>>()?;
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&KeyPair::from_pem(key)?)?.der().to_vec())
    }

    async fn download(&self, mut order: Order, key: String) -> Result<Issued, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            match order.state().status {
                OrderStatus::Valid => break,
                OrderStatus::Invalid => {
                    let why = order.state().error.clone();
                    let sentence = why.map_or_else(
                        || "the authority refuses the order and does not say why".to_owned(),
                        |problem| self.sentence(&Error::Api(problem)),
                    );
                    return Err(Failure { is_final: true, ..Failure::new(Step::Issue, sentence) });
                }
                OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing => {}
            }
            self.pause(&mut pause, Step::Issue).await?;
            self.refresh(&mut order).await?;
        }
        let chain = persistent!(order.certificate()).map_err(|error| self.failure(Step::Issue, &error))?;
        let chain = chain.ok_or_else(|| Failure::new(Step::Issue, "the authority shows no certificate"))?;
        Ok(Issued { chain, key })
    }

    async fn refresh(&self, order: &mut Order) -> Result<(), Failure> {
        match persistent!(async { order.refresh().await.map(|_| ()) }) {
            Err(error) if !problem::is_passing(&error) => Err(self.failure(Step::Issue, &error)),
            // Whoever waits looks again, until patience ends.
            _ => Ok(()),
        }
    }

    /// Checks what was issued, and puts it into its file.
    async fn keep(&self, issued: Issued) -> Result<(), Failure> {
        (self.progress)(Step::Check);
        let useless = |sentence: String| Failure { is_issued: true, ..Failure::new(Step::Check, sentence) };
        match self.parse(&issued) {
            Ok(certificate) => {
                let missing = certificate.uncovered(&self.certificate.names);
                if let Some(name) = missing.first() {
                    self.drop_pending().await?;
                    return Err(useless(format!("the authority has left out `{name}`")));
                }
            }
            // It will be right when the clock is: it is picked up then.
            Err(CertificateError::NotYetValid { not_before, .. }) => {
                let sentence = format!(
                    "the certificate is not valid before {}: check this machine's clock",
                    problem::date(not_before)
                );
                return Err(Failure::new(Step::Check, sentence));
            }
            Err(error) => {
                self.drop_pending().await?;
                return Err(useless(format!("the authority has issued what cannot be used: {error}")));
            }
        }
        (self.progress)(Step::Save);
        let (files, certificate) = (self.files.clone(), self.certificate.clone());
        let saved = aside(move || files.save_certificate(&certificate, &issued.pem())).await?;
        saved.map_err(|error| {
            Failure::new(Step::Save, format!("the certificate cannot be written to the state directory: {error}"))
        })
    }

    fn parse(&self, issued: &Issued) -> Result<Certificate, CertificateError> {
        Certificate::parse(issued.pem().as_bytes(), &self.files.certificate(self.certificate), SystemTime::now())
    }

    async fn drop_pending(&self) -> Result<(), Failure> {
        let (files, certificate) = (self.files.clone(), self.certificate.clone());
        aside(move || files.drop_pending(&certificate)).await
    }

    /// Waits a little longer each time, or as the authority says.
    pub(super) async fn pause(&self, pause: &mut Duration, step: Step) -> Result<(), Failure> {
        let said = self.transport.retry_after().and_then(|at| at.duration_since(SystemTime::now()).ok());
        let length = (*pause).max(said.unwrap_or_default().min(LONGEST_SAID_PAUSE));
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        if Instant::now() + length > self.deadline {
            return Err(Failure::new(step, "the authority is still at work after our patience has ended"));
        }
        tokio::time::sleep(length).await;
        Ok(())
    }

    pub(super) fn failure(&self, step: Step, error: &Error) -> Failure {
        let (retry_after, is_final) = (self.transport.retry_after(), problem::is_final(error));
        Failure { retry_after, is_final, ..Failure::new(step, self.sentence(error)) }
    }

    fn sentence(&self, error: &Error) -> String {
        problem::sentence(error, self.transport.retry_after())
    }

    fn name(&self) -> String {
        self.certificate.names.first().map(ToString::to_string).unwrap_or_default()
    }
}

impl Issued {
    fn pem(&self) -> String {
        format!("{}\n{}", self.chain.trim_end(), self.key)
    }
}

fn is_limit(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem::kind(problem) == "rateLimited" || problem.status == Some(429))
}

fn unmade(error: &rcgen::Error) -> Failure {
    Failure::new(Step::Issue, format!("the key or the request cannot be made: {error}"))
}

/// Between two looks at an order or a name: at first, at most by ourselves, and at most if the authority says so.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Authorities forget orders after some days; one that is at work on one for so long will not finish it.
const PATIENCE_WITH_ORDER: Duration = Duration::from_secs(24 * 3600);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_SAID_PAUSE: Duration = Duration::from_secs(30);
