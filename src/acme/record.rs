//! The one TXT record that stands while the authority looks for it, and its end whatever happens.
//!
//! It is kept outside of the attempt that needs it: an attempt that is dropped half-way cannot wait for a provider.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::dns::{Dns, DnsError, Presented};

/// At most one record at a time.
#[derive(Debug, Default)]
pub struct Record {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    /// Set perhaps, not yet seen.
    Presenting(String),
    Stands(String, Arc<Dns>, Presented),
}

impl Record {
    /// Returns once all servers of the zone show the record.
    pub async fn present(&self, dns: &Arc<Dns>, name: &str, value: &str) -> Result<(), DnsError> {
        *self.state.lock() = State::Presenting(name.to_owned());
        let presented = dns.present(name, value).await;
        let (state, result) = match presented {
            Ok(presented) => (State::Stands(name.to_owned(), dns.clone(), presented), Ok(())),
            Err(error) => (State::None, Err(error)),
        };
        *self.state.lock() = state;
        result
    }

    /// Takes the record away, if there is one. A record that stays does no harm but to tidiness: it is logged.
    pub async fn withdraw(&self) {
        let state = std::mem::take(&mut *self.state.lock());
        if let State::Stands(name, dns, presented) = state
            && let Err(error) = dns.withdraw(presented).await
        {
            log::warn!("acme: the TXT record at _acme-challenge.{name} stays, remove it by hand: {error}");
        }
    }

    /// The same after an attempt that was broken off, and within the second that a shutdown has.
    pub async fn withdraw_in_haste(&self) {
        let name = match &*self.state.lock() {
            State::None => return,
            State::Presenting(name) | State::Stands(name, ..) => name.clone(),
        };
        let is_standing = matches!(&*self.state.lock(), State::Stands(..));
        let withdrawn = is_standing && tokio::time::timeout(HASTE, self.withdraw()).await.is_ok();
        if !withdrawn {
            log::warn!("acme: stopped while a TXT record was set, it may stay at _acme-challenge.{name}");
        }
    }
}

/// What a shutdown waits for a provider.
const HASTE: Duration = Duration::from_secs(1);
