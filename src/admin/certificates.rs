//! What the Unix socket says and hears about certificates, as JSON.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The answer to `GET /certificates`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateList {
    /// One for each host, in the order of the configuration.
    pub certificates: Vec<CertificateReport>,
}

/// The certificate of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReport {
    /// As configured.
    pub host: String,
    /// The host and its aliases.
    pub names: Vec<String>,
    /// Where it is to come from, as configured.
    pub source: CertificateSource,
    /// `None` if clients are shown none.
    pub served: Option<ServedCertificate>,
    /// What is being done for it, if it is the gate that asks for it.
    pub acme: Option<AcmeReport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateSource {
    Acme,
    Files,
    SelfSigned,
}

/// What clients are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedCertificate {
    #[serde(with = "super::rfc3339")]
    pub not_before: SystemTime,
    #[serde(with = "super::rfc3339")]
    pub not_after: SystemTime,
    /// Made by the gate itself, so that browsers warn of it.
    pub self_signed: bool,
    /// Hex, as browsers show it.
    pub sha256: String,
    /// Why a newer one in its files is not served.
    pub last_error: Option<String>,
}

/// What is being done for a certificate that the gate asks an authority for. Hosts may share one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeReport {
    /// The certificate's first name, by which it is known.
    pub name: String,
    /// All of its names.
    pub names: Vec<String>,
    /// The URL of the authority's directory.
    pub directory: String,
    /// In the order in which they are tried.
    pub challenges: Vec<String>,
    pub profile: Option<String>,
    /// `idle`; `waiting` after a failure; or `ordering`.
    pub state: String,
    /// How far the attempt is that is under way.
    pub step: Option<String>,
    /// Who has signed the one that is had.
    pub issuer: Option<String>,
    /// The end of the one that is had; `None`: there is none yet.
    #[serde(with = "super::rfc3339::optional")]
    pub not_after: Option<SystemTime>,
    /// When it should be renewed, and why then.
    #[serde(with = "super::rfc3339::optional")]
    pub renew_at: Option<SystemTime>,
    pub renew_because: Option<String>,
    /// Where the authority explains an unusual moment.
    pub explanation_url: Option<String>,
    /// When it is asked for next: later than `renew_at` after a failure.
    #[serde(with = "super::rfc3339::optional")]
    pub next_attempt: Option<SystemTime>,
    #[serde(with = "super::rfc3339::optional")]
    pub last_success: Option<SystemTime>,
    #[serde(with = "super::rfc3339::optional")]
    pub last_attempt: Option<SystemTime>,
    /// Failed attempts since the last that did not fail.
    pub failures: u32,
    /// Why the last attempt has failed; `None` if it did not.
    pub last_error: Option<AcmeError>,
    /// Attempts that have ended since the gate was started.
    pub attempts: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeError {
    /// How far the attempt came, such as `dns-01 for ha.example.org`.
    pub step: String,
    /// What went wrong and what to do.
    pub sentence: String,
}

/// `POST /certificates`: an attempt is to be made now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// A host or one of a certificate's names; `None`: all.
    pub name: Option<String>,
}

/// The answer: whose end to wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    pub awaited: Vec<AwaitedAttempt>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitedAttempt {
    /// [`AcmeReport::name`].
    pub name: String,
    /// [`AcmeReport::attempts`] once it has ended.
    pub attempts: u64,
}

impl CertificateReport {
    /// Whether the operator may call it so: by a host, one of its aliases, or a name in the certificate.
    pub fn is_called(&self, name: &str) -> bool {
        let of_acme = self.acme.iter().flat_map(|acme| &acme.names);
        std::iter::once(&self.host).chain(&self.names).chain(of_acme).any(|own| own.eq_ignore_ascii_case(name))
    }
}

impl CertificateSource {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::Files => "files",
            Self::SelfSigned => "self-signed",
        }
    }
}
