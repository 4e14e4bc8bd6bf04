//! Asking the authority when it would like a certificate to be renewed (RFC 9773).

use std::time::{Duration, SystemTime};

use instant_acme::{Account, Error};

use super::Acme;
use crate::acme::memory::Held;
use crate::acme::problem;
use crate::acme::schedule::{self, Window};
use crate::acme::transport::Transport;
use crate::acme::{Settings, Wanted, aside};

impl Acme {
    /// Asks the authority when it would like `held` to be renewed.
    pub(super) async fn poll(&self, wanted: &Wanted, held: &Held, settings: &Settings) {
        let transport = Transport::new(settings.authority.http.clone());
        let now = SystemTime::now();
        let (answer, next) = match self.ask_window(held, settings, transport).await {
            Ok((window, hint)) => (Some(Some(window)), schedule::next_poll(Some(hint), now)),
            Err(Asked::Nobody) => (Some(None), schedule::next_poll(Some(Duration::MAX), now)),
            Err(Asked::InVain(error)) => {
                let why = problem::sentence(&error, None);
                log::info!("acme: the authority does not say when to renew name={}: {why}", wanted.name());
                (None, schedule::next_poll(Some(Duration::ZERO), now))
            }
        };
        self.with(&wanted.name(), |kept| kept.memory.polled(held, answer, next));
        self.save(wanted, false).await;
    }

    async fn ask_window(
        &self,
        held: &Held,
        settings: &Settings,
        transport: Transport,
    ) -> Result<(Window, Duration), Asked> {
        let identifier = held.identifier.as_ref().ok_or(Asked::Nobody)?;
        let (files, acme) = (self.files.clone(), settings.authority.config().clone());
        let key_id = acme.external_account.map(|account| account.key_id);
        let saved = aside(move || files.account(&acme.directory, key_id.as_deref())).await.ok().ok_or(Asked::Nobody)?;
        let saved = saved.map_err(|error| Asked::InVain(Error::Other(Box::new(error))))?.ok_or(Asked::Nobody)?;
        let account = Account::builder_with_http(Box::new(transport)).from_credentials(saved.credentials).await;
        let (info, hint) =
            account.map_err(Asked::InVain)?.renewal_info(identifier).await.map_err(|error| match error {
                Error::Unsupported(_) => Asked::Nobody,
                error => Asked::InVain(error),
            })?;
        let (start, end) = (info.suggested_window.start.into(), info.suggested_window.end.into());
        // The second is to be ignored (RFC 9773, section 4.2); the first could not be written down.
        if start < SystemTime::UNIX_EPOCH || end <= start {
            return Err(Asked::InVain(Error::Str("a window that ends after it begins")));
        }
        let explanation = info.explanation_url.map(|url| problem::plain(&url));
        Ok((Window { start, end, explanation }, hint))
    }
}

/// Why there is no window.
enum Asked {
    /// The authority does not speak of renewals.
    Nobody,
    InVain(Error),
}
