//! What can go wrong with a record, in sentences that name the account, the step and what to do next.
//!
//! None of them shows a token, a key or a URL. What others have said is quoted on one line and cut.

use std::fmt;
use std::time::Duration;

use super::cloudflare::CloudflareError;
use super::duckdns::DuckDnsError;
use super::exec::ScriptError;
use super::resolver::LookupError;
use super::rfc2136::UpdateError;
use super::transport::DnsName;
use crate::http_client::HttpError;

/// Why a record is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("`{name}` is not a name that DNS can carry")]
    BadName { name: String },
    #[error("no account in `dns` speaks for `{name}`: add one, or the name to an account's `zones`")]
    NoAccount { name: String },
    #[error("`dns.{account}`, with which `{record}` was set, is gone: take the record away by hand")]
    AccountGone { account: String, record: String },
    #[error("`dns.{account}` cannot {step} `{name}`: {reason}")]
    Provider { account: String, step: Step, name: String, reason: ProviderError },
    #[error("the servers that answer for `{name}` cannot be asked: {reason}")]
    Lookup { name: String, reason: LookupError },
    #[error(
        "the TXT record `{record}` is not on all servers of its zone after {} s: expected {}; {seen}. If they are \
         merely slow, set `acme.propagation.timeout` higher",
        .within.as_secs(), quoted(.expected)
    )]
    NotSeen { record: String, expected: String, within: Duration, seen: String },
}

/// What was being done when a provider failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    SetTxt,
    ClearTxt,
    SetAddress,
}

/// What a provider, or its script, has to say.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error(transparent)]
    DuckDns(#[from] DuckDnsError),
    #[error(transparent)]
    Cloudflare(#[from] CloudflareError),
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error(transparent)]
    Script(#[from] ScriptError),
}

impl DnsError {
    /// Whether a provider has certainly changed nothing: it has said no, or was never reached.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Provider { reason, .. } => reason.is_refusal(),
            Self::BadName { .. } | Self::NoAccount { .. } | Self::AccountGone { .. } => true,
            Self::Lookup { .. } | Self::NotSeen { .. } => false,
        }
    }
}

impl ProviderError {
    /// A script that fails may have done half of its work; an answer that got lost may have been a yes.
    fn is_refusal(&self) -> bool {
        match self {
            Self::DuckDns(DuckDnsError::Http(error)) | Self::Cloudflare(CloudflareError::Http(error)) => {
                matches!(error, HttpError::Connect(_))
            }
            Self::DuckDns(error) => !matches!(error, DuckDnsError::Unexpected { .. }),
            Self::Cloudflare(error) => !matches!(error, CloudflareError::Unexpected { .. }),
            Self::Update(error) => !matches!(error, UpdateError::NoAnswer { .. } | UpdateError::Untrusted { .. }),
            Self::Script(error) => matches!(error, ScriptError::Start { .. } | ScriptError::NoAddresses),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SetTxt => "set the TXT record",
            Self::ClearTxt => "take away the TXT record",
            Self::SetAddress => "set the address of",
        })
    }
}

/// A stranger's text on one line, in quotes, control characters escaped, cut after 200 characters.
pub(super) fn quoted(text: &str) -> String {
    let mut signs = text.chars();
    let start: String = signs.by_ref().take(MAX_QUOTED).collect();
    if signs.next().is_some() { format!("{start:?}…") } else { format!("{start:?}") }
}

/// `name` as DNS carries it, without the dot at its end.
pub(super) fn dns_name(name: &str) -> Result<DnsName, DnsError> {
    DnsName::vec_from_str(name).map_err(|_| DnsError::BadName { name: name.to_owned() })
}

const MAX_QUOTED: usize = 200;
