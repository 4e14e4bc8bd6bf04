//! The account with an authority: loaded, or made when there is none that the authority still takes.
//!
//! Making one agrees to the authority's terms of service in the operator's name, as every ACME client does; the
//! documentation of `acme` says so.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{Account, Error, ExternalAccountKey, NewAccount};

use super::aside;
use super::files::{Files, SavedAccount};
use super::problem::{self, Failure, Step};
use super::transport::{Transport, persistent};
use crate::config::{Acme, ExternalAccount};

/// An account that can order.
pub struct Opened {
    pub account: Account,
    standing: Standing,
    /// When it took the place of another one.
    replaced_at: Option<SystemTime>,
}

/// What is known of an account. Each refusal must not cost another one: authorities count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Made a moment ago: if the authority does not take it, another one would fare no better.
    New,
    /// Made earlier; nothing was ever ordered with it.
    Unproven,
    /// It has ordered something.
    Proven,
}

impl Opened {
    /// Whether an error on the way to an order means that this account is of no use any more, and another one may be.
    pub fn is_lost(&self, error: &Error, now: SystemTime) -> bool {
        let Error::Api(problem) = error else { return false };
        // One that is refused as fast as it was made is not what is wrong. A date in the future is a wrong clock's.
        let is_fresh = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < BETWEEN_REPLACEMENTS);
        if self.replaced_at.is_some_and(is_fresh) {
            return false;
        }
        match (problem::kind(problem), self.standing) {
            ("accountDoesNotExist", Standing::Unproven | Standing::Proven) => true,
            // Deactivated or revoked. Of an account that was never good for anything, it may mean something else.
            ("unauthorized", Standing::Proven) => true,
            _ => false,
        }
    }

    /// Something was ordered with it.
    pub async fn prove(&mut self, acme: &Acme, files: &Files) {
        if self.standing == Standing::Proven {
            return;
        }
        self.standing = Standing::Proven;
        change(acme, files, |saved| SavedAccount { is_proven: true, ..saved }).await;
    }
}

/// Loads the account, or makes one.
pub async fn open(acme: &Acme, transport: &Transport, files: &Files) -> Result<Opened, Failure> {
    let (reading, directory, key_id) = (files.clone(), acme.directory.clone(), key_id(acme));
    let saved = aside(move || reading.account(&directory, key_id.as_deref())).await?;
    // Read wrongly as none, it would cost another account.
    match saved.map_err(|error| Failure::new(Step::Account, error.to_string()))? {
        Some(saved) => {
            let standing = if saved.is_proven { Standing::Proven } else { Standing::Unproven };
            let (email, replaced_at) = (saved.email.clone(), saved.replaced_at);
            let opened = Account::builder_with_http(Box::new(transport.clone())).from_credentials(saved.credentials);
            let account = opened.await.map_err(|error| failure(&error, transport))?;
            let opened = Opened { account, standing, replaced_at };
            if email == acme.email {
                return Ok(opened);
            }
            match tell_contact(acme, &opened.account, files).await {
                Ok(()) => Ok(opened),
                Err(error) if opened.is_lost(&error, SystemTime::now()) => replace(acme, transport, files).await,
                Err(error) => {
                    let why = problem::sentence(&error, transport.retry_after());
                    log::warn!("acme: the account keeps its old contact, tried again next time: {why}");
                    Ok(opened)
                }
            }
        }
        None => create(acme, transport, files, None).await,
    }
}

/// Makes another account, which then takes the place of the one that there is.
pub async fn replace(acme: &Acme, transport: &Transport, files: &Files) -> Result<Opened, Failure> {
    create(acme, transport, files, Some(SystemTime::now())).await
}

async fn create(
    acme: &Acme,
    transport: &Transport,
    files: &Files,
    replaced_at: Option<SystemTime>,
) -> Result<Opened, Failure> {
    let unwritable =
        |error| Failure::new(Step::Account, format!("the account cannot be kept in the state directory: {error}"));
    // An account whose key cannot be kept is lost with the process, and authorities count them.
    let trying = files.clone();
    aside(move || trying.try_writing()).await?.map_err(unwritable)?;
    let contact = contact(acme);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let external = acme.external_account.as_ref().map(external_key).transpose()?;
    let builder = || Account::builder_with_http(Box::new(transport.clone()));
    let created = persistent!(builder().create(&new, acme.directory.clone(), external.as_ref()));
    let (account, credentials) = created.map_err(|error| failure(&error, transport))?;
    let saved = SavedAccount {
        directory: acme.directory.clone(),
        email: acme.email.clone(),
        external_key_id: key_id(acme),
        is_proven: false,
        replaced_at,
        credentials,
    };
    let writing = files.clone();
    aside(move || writing.save_account(&saved)).await?.map_err(unwritable)?;
    log::info!("acme: an account was made directory={}", acme.directory);
    Ok(Opened { account, standing: Standing::New, replaced_at })
}

async fn tell_contact(acme: &Acme, account: &Account, files: &Files) -> Result<(), Error> {
    let contact = contact(acme);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    persistent!(account.update_contacts(&contact))?;
    log::info!("acme: the account's contact was changed directory={}", acme.directory);
    let email = acme.email.clone();
    change(acme, files, |saved| SavedAccount { email, ..saved }).await;
    Ok(())
}

/// Changes what is written down of the account.
async fn change(acme: &Acme, files: &Files, change: impl FnOnce(SavedAccount) -> SavedAccount + Send + 'static) {
    let (files, directory, key_id) = (files.clone(), acme.directory.clone(), key_id(acme));
    let kept = aside(move || match files.account(&directory, key_id.as_deref())? {
        Some(saved) => files.save_account(&change(saved)),
        None => Ok(()),
    });
    if let Ok(Err(error)) = kept.await {
        log::warn!("acme: the file of the account cannot be written, the old one stays: {error}");
    }
}

fn key_id(acme: &Acme) -> Option<String> {
    acme.external_account.as_ref().map(|account| account.key_id.clone())
}

fn contact(acme: &Acme) -> Vec<String> {
    acme.email.iter().map(|email| format!("mailto:{email}")).collect()
}

fn external_key(account: &ExternalAccount) -> Result<ExternalAccountKey, Failure> {
    // Some authorities give it out with padding, some in the other alphabet.
    let text = account.hmac_key.expose().trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    let key = URL_SAFE_NO_PAD.decode(text);
    let key = key.map_err(|_| {
        Failure::new(Step::Account, "`acme.external_account.hmac_key` is not base64url: copy it again, as a whole")
    })?;
    Ok(ExternalAccountKey::new(account.key_id.clone(), &key))
}

fn failure(error: &Error, transport: &Transport) -> Failure {
    let retry_after = transport.retry_after();
    Failure { retry_after, ..Failure::new(Step::Account, problem::sentence(error, retry_after)) }
}

/// Authorities count accounts; ten in three hours are Let's Encrypt's limit for an address.
const BETWEEN_REPLACEMENTS: Duration = Duration::from_secs(24 * 3600);
