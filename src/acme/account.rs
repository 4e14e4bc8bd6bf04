//! The account with an authority: loaded, or made when there is none that the authority still takes.
//!
//! Making one agrees to the authority's terms of service in the operator's name, as every ACME client does; the
//! documentation of `acme` says so.

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
    /// Made a moment ago: if the authority does not take it, another one would fare no better.
    pub is_new: bool,
}

/// Loads the account, or makes one.
pub async fn open(acme: &Acme, transport: &Transport, files: &Files) -> Result<Opened, Failure> {
    let (reading, directory) = (files.clone(), acme.directory.clone());
    let saved = aside(move || reading.account(&directory)).await?;
    let key_id = acme.external_account.as_ref().map(|account| &account.key_id);
    match saved {
        // Another key of the authority's operator means another of its customers.
        Some(saved) if key_id.is_none() || saved.external_key_id.as_ref() == key_id => {
            let email = saved.email.clone();
            let opened = Account::builder_with_http(Box::new(transport.clone())).from_credentials(saved.credentials);
            let account = opened.await.map_err(|error| failure(&error, transport))?;
            if email == acme.email {
                return Ok(Opened { account, is_new: false });
            }
            match tell_contact(acme, &account, files).await {
                Ok(()) => Ok(Opened { account, is_new: false }),
                Err(error) if is_gone(&error) => replace(acme, transport, files).await,
                Err(error) => {
                    let why = problem::sentence(&error, transport.retry_after());
                    log::warn!("acme: the account keeps its old contact, tried again next time: {why}");
                    Ok(Opened { account, is_new: false })
                }
            }
        }
        Some(_) => replace(acme, transport, files).await,
        None => create(acme, transport, files).await,
    }
}

/// Sets the account aside and makes another.
pub async fn replace(acme: &Acme, transport: &Transport, files: &Files) -> Result<Opened, Failure> {
    let (moving, directory) = (files.clone(), acme.directory.clone());
    aside(move || moving.set_account_aside(&directory)).await?;
    create(acme, transport, files).await
}

/// Whether an error on the way to an order means that the account is of no use any more: unknown, deactivated, revoked.
pub fn is_gone(error: &Error) -> bool {
    let Error::Api(problem) = error else { return false };
    matches!(problem::kind(problem), "accountDoesNotExist" | "unauthorized")
}

async fn create(acme: &Acme, transport: &Transport, files: &Files) -> Result<Opened, Failure> {
    let contact = contact(acme);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let external = acme.external_account.as_ref().map(external_key).transpose()?;
    let builder = || Account::builder_with_http(Box::new(transport.clone()));
    let created = persistent!(builder().create(&new, acme.directory.clone(), external.as_ref()));
    let (account, credentials) = created.map_err(|error| failure(&error, transport))?;
    // Before anything is ordered: an account whose key is lost cannot be used up to its end.
    let saved = SavedAccount {
        directory: acme.directory.clone(),
        email: acme.email.clone(),
        external_key_id: acme.external_account.as_ref().map(|account| account.key_id.clone()),
        credentials,
    };
    let writing = files.clone();
    aside(move || writing.save_account(&saved)).await?.map_err(|error| {
        Failure::new(Step::Account, format!("the account cannot be kept in the state directory: {error}"))
    })?;
    log::info!("acme: an account was made directory={}", acme.directory);
    Ok(Opened { account, is_new: true })
}

async fn tell_contact(acme: &Acme, account: &Account, files: &Files) -> Result<(), Error> {
    let contact = contact(acme);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    persistent!(account.update_contacts(&contact))?;
    log::info!("acme: the account's contact was changed directory={}", acme.directory);
    let (files, directory, email) = (files.clone(), acme.directory.clone(), acme.email.clone());
    let kept = aside(move || match files.account(&directory) {
        Some(saved) => files.save_account(&SavedAccount { email, ..saved }),
        None => Ok(()),
    });
    if !matches!(kept.await, Ok(Ok(()))) {
        log::warn!("acme: the account's file cannot be written, its contact is told again next time");
    }
    Ok(())
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
