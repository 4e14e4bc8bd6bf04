//! The `acme` section, and what a host says of its own certificate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::node::{Kind, Node};
use super::read::Section;
use super::values::{self, Input, Zero, quoted};
use super::{CertificateFiles, HostPattern, Secret};

/// The authority that certificates are asked of (RFC 8555), and how names are shown to be ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The URL of the authority's directory.
    pub directory: String,
    /// Where the authority writes to when something is wrong.
    pub email: Option<String>,
    /// Trust only the authorities in this file (PEM) when speaking to the directory.
    pub ca_file: Option<PathBuf>,
    /// The account that the authority demands beforehand (RFC 8555, section 7.3.4).
    pub external_account: Option<ExternalAccount>,
    pub propagation: Propagation,
    /// What holds for hosts that say nothing else.
    pub terms: AcmeTerms,
}

/// How one certificate is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeTerms {
    /// Tried in this order; those that cannot work for a name are passed over. Not empty, none twice.
    pub challenges: Vec<Challenge>,
    /// A kind of certificate that the authority offers, such as `shortlived`.
    pub profile: Option<String>,
    pub on_failure: OnFailure,
}

/// A certificate that the gate asks for by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeCertificate {
    /// At least one, none twice. Hosts that name the same share the certificate.
    pub names: Vec<HostPattern>,
    pub terms: AcmeTerms,
}

/// How a name is shown to be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// A TXT record (RFC 8555, section 8.4); the only one for wildcards, and the only one that needs no open port.
    Dns01,
    /// A certificate on port 443 (RFC 8737).
    TlsAlpn01,
    /// A file on port 80 (RFC 8555, section 8.3).
    Http01,
}

/// What clients see while there is no certificate yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnFailure {
    /// The gate's own certificate, which browsers warn of.
    SelfSigned,
    /// The end of the TLS handshake.
    Refuse,
}

/// What proves to the authority that a customer of its own is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    pub key_id: String,
    /// As the authority gives it: base64url.
    pub hmac_key: Secret,
}

/// How long a TXT record may take to be seen before the authority is told to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propagation {
    /// Ask the zone's servers at all.
    pub check: bool,
    pub timeout: Duration,
    /// Where the zone's servers are looked up; empty: the system's resolvers.
    pub resolvers: Vec<SocketAddr>,
}

/// Where a host's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// Made by the gate and kept in the state directory.
    SelfSigned,
    /// Files that somebody else renews.
    Files(CertificateFiles),
    /// Asked for and renewed by the gate.
    Acme(AcmeCertificate),
}

impl Challenge {
    /// As in YAML, on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }

    /// Only a TXT record speaks for all names of a zone (RFC 8555, section 7.1.3).
    pub fn allows(self, name: &HostPattern) -> bool {
        match (self, name) {
            (Self::Dns01, _) | (_, HostPattern::Exact(_)) => true,
            (Self::TlsAlpn01 | Self::Http01, HostPattern::Wildcard(_)) => false,
        }
    }
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            directory: LETS_ENCRYPT.to_owned(),
            email: None,
            ca_file: None,
            external_account: None,
            propagation: Propagation::default(),
            terms: AcmeTerms::default(),
        }
    }
}

impl Default for AcmeTerms {
    fn default() -> Self {
        Self {
            challenges: vec![Challenge::Dns01, Challenge::TlsAlpn01, Challenge::Http01],
            profile: None,
            on_failure: OnFailure::SelfSigned,
        }
    }
}

impl Default for Propagation {
    fn default() -> Self {
        Self { check: true, timeout: Duration::from_secs(300), resolvers: Vec::new() }
    }
}

/// What a host's certificate is read against.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    /// What holds for hosts that say nothing else.
    pub terms: &'a AcmeTerms,
    /// There is an account that can set TXT records.
    pub dns: bool,
    /// There is a listener for plain HTTP.
    pub http: bool,
}

/// Reads the section; what it leaves out takes its default.
pub(super) fn acme(mut section: Section<'_>) -> Acme {
    let directory = directory(&mut section);
    let email = section.read("email", email);
    let ca_file = section.path("ca_file");
    let external_account = external_account(&mut section);
    let propagation = propagation(section.section("propagation"));
    let terms = terms(&mut section, &AcmeTerms::default());
    section.finish();
    Acme { directory, email, ca_file, external_account, propagation, terms }
}

fn directory(section: &mut Section<'_>) -> String {
    let directory = section.read("directory", directory_url).unwrap_or_else(|| LETS_ENCRYPT.to_owned());
    let staging = section.read("staging", values::boolean).unwrap_or(false);
    match (staging, directory == LETS_ENCRYPT) {
        (true, true) => LETS_ENCRYPT_STAGING.to_owned(),
        (true, false) => {
            let message = "only `directory: letsencrypt` has a staging environment: write the URL of this one's";
            section.conflict("staging", &["directory", "staging"], message);
            directory
        }
        (false, _) => directory,
    }
}

fn directory_url(input: &Input) -> Result<String, String> {
    let expected = "`letsencrypt` or the https URL of an authority's directory";
    input.strict_text(expected)?;
    input.parse(expected, |text| match text {
        "letsencrypt" => Ok(LETS_ENCRYPT.to_owned()),
        url => https_url(url).ok_or_else(|| input.expected(expected)),
    })
}

/// `text` if it is an absolute https URL without user, query and fragment.
pub(super) fn https_url(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let is_plain = uri.scheme_str() == Some("https")
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && uri.query().is_none()
        && !text.contains('#');
    is_plain.then(|| text.to_owned())
}

fn email(input: &Input) -> Result<String, String> {
    let expected = "an address such as `anna@example.org`";
    input.strict_text(expected)?;
    input.parse(expected, |text| {
        let is_address = text.split_once('@').is_some_and(|(user, domain)| !user.is_empty() && domain.contains('.'));
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'?' | b':'));
        if is_address && is_plain { Ok(text.to_owned()) } else { Err(input.expected(expected)) }
    })
}

fn external_account(section: &mut Section<'_>) -> Option<ExternalAccount> {
    let present = section.has("external_account");
    let mut section = section.section("external_account");
    let key_id = section.read("key_id", |input| Ok(input.strict_text("the key's name")?.to_owned()));
    let hmac_key = section.secret("hmac_key");
    if let Some(key) = &hmac_key
        && URL_SAFE_NO_PAD.decode(key.expose().trim_end_matches('=')).is_err()
    {
        section.conflict("hmac_key", &[], "it is not base64url, as authorities give such keys: copy it again");
    }
    if present {
        for key in ["key_id", "hmac_key"].into_iter().filter(|key| !section.has(key)) {
            section.missing(key);
        }
    }
    section.finish();
    Some(ExternalAccount { key_id: key_id?, hmac_key: hmac_key? })
}

fn propagation(mut section: Section<'_>) -> Propagation {
    let default = Propagation::default();
    let check = section.read("check", values::boolean).unwrap_or(default.check);
    let timeout = section.read("timeout", values::span(SECOND..=HOUR, Zero::Refused)).unwrap_or(default.timeout);
    let resolvers = section.list("resolvers", resolver).unwrap_or_default();
    section.finish();
    Propagation { check, timeout, resolvers: resolvers.into_iter().map(|(_, address)| address).collect() }
}

/// An address of a name server, port 53 unless it names another.
pub(super) fn resolver(input: &Input) -> Result<SocketAddr, String> {
    let expected = "an address such as `1.1.1.1` or `[2620:fe::fe]:53`";
    input.strict_text(expected)?;
    input.parse(expected, |text| {
        let address = text.parse().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, DNS_PORT)));
        address.map_err(|_| input.expected(expected))
    })
}

/// Reads what a certificate says of its own; what it leaves out is as in `base`.
fn terms(section: &mut Section<'_>, base: &AcmeTerms) -> AcmeTerms {
    let challenges = section.list("challenges", values::choice(&CHALLENGES)).map(|challenges| {
        if challenges.is_empty() {
            section.conflict("challenges", &[], "an empty list leaves no way to a certificate: name at least one");
        }
        let mut distinct = Vec::new();
        for (node, challenge) in challenges {
            if distinct.contains(&challenge) {
                let path = section.path_of("challenges");
                section.reader().problem(node.id, &path, format!("`{}` is named twice", challenge.as_str()));
            } else {
                distinct.push(challenge);
            }
        }
        distinct
    });
    let profile = section.read("profile", profile);
    let on_failure = section.read("on_failure", values::choice(&ON_FAILURE));
    AcmeTerms {
        challenges: challenges.unwrap_or_else(|| base.challenges.clone()),
        profile: profile.or_else(|| base.profile.clone()),
        on_failure: on_failure.unwrap_or(base.on_failure),
    }
}

fn profile(input: &Input) -> Result<String, String> {
    let expected = "a word such as `shortlived`";
    let text = input.strict_text(expected)?;
    let is_word = !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
    input.parse(expected, |_| if is_word { Ok(text.to_owned()) } else { Err(input.expected(expected)) })
}

/// Reads a host's `certificate`: `acme`, or a mapping; `own` are the host's names.
pub(super) fn certificate(section: &mut Section<'_>, own: &[HostPattern], means: Means<'_>) -> CertificateSource {
    if let Some((_, Node { id, kind: Kind::Text(word), .. })) = section.take("certificate") {
        if word != "acme" {
            let message = "expected `acme`, or a mapping such as `{chain_file: a.pem, key_file: b.pem}`";
            section.reader().problem(*id, &section.path_of("certificate"), message);
        }
        let certificate =
            acme_certificate(Section::absent(section.reader(), section.path_of("certificate"), *id), own, means);
        return CertificateSource::Acme(certificate);
    }
    let present = section.has("certificate");
    let mut section = section.section("certificate");
    let (chain_file, key_file) = (section.path("chain_file"), section.path("key_file"));
    let acme = section.section("acme");
    let source = if section.has("acme") {
        for key in ["chain_file", "key_file"].into_iter().filter(|key| section.has(key)) {
            section.conflict(key, &[], "files and `acme` exclude each other: keep one");
        }
        CertificateSource::Acme(acme_certificate(acme, own, means))
    } else {
        if present {
            for key in ["chain_file", "key_file"].into_iter().filter(|key| !section.has(key)) {
                section.missing(key);
            }
        }
        match (chain_file, key_file) {
            (Some(chain_file), Some(key_file)) => CertificateSource::Files(CertificateFiles { chain_file, key_file }),
            _ => CertificateSource::SelfSigned,
        }
    };
    section.finish();
    source
}

fn acme_certificate(mut section: Section<'_>, own: &[HostPattern], means: Means<'_>) -> AcmeCertificate {
    let names = section.list("names", |input| {
        let expected = "a host name such as `ha.example.org`";
        input.strict_text(expected)?;
        input.parse(expected, HostPattern::parse)
    });
    let names = match names {
        None => own.to_vec(),
        Some(names) => {
            let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
            for missing in own.iter().filter(|name| !names.iter().any(|other| covers(other, name))) {
                let message = format!("{} is not among them: add it", quoted(&missing.to_string()));
                section.conflict("names", &["names"], message);
            }
            let mut distinct: Vec<HostPattern> = Vec::new();
            for name in names {
                if !distinct.contains(&name) {
                    distinct.push(name);
                }
            }
            distinct
        }
    };
    let terms = terms(&mut section, means.terms);
    for name in &names {
        if let Some(problem) = means.problem(name, &terms.challenges) {
            section.conflict("challenges", &["names", "challenges"], problem);
        }
    }
    section.finish();
    AcmeCertificate { names, terms }
}

impl Means<'_> {
    /// Why `name` can be shown by none of the challenges.
    fn problem(self, name: &HostPattern, challenges: &[Challenge]) -> Option<String> {
        let works = |challenge: &&Challenge| match challenge {
            Challenge::Dns01 => self.dns,
            Challenge::TlsAlpn01 => true,
            Challenge::Http01 => self.http,
        };
        let mut allowed = challenges.iter().filter(|challenge| challenge.allows(name)).peekable();
        if allowed.peek().is_none() {
            return Some(format!("`{name}` can only be had by dns-01: add it"));
        }
        if allowed.clone().any(|challenge| works(&challenge)) {
            return None;
        }
        Some(match allowed.any(|challenge| *challenge == Challenge::Dns01) {
            true => format!("`{name}` is to be had by dns-01, and `dns` is empty: add an account there"),
            false => format!("`{name}` is to be had by http-01, and `listen.http` is empty: add port 80"),
        })
    }
}

/// Whether a certificate for `pattern` is good for `name`.
fn covers(pattern: &HostPattern, name: &HostPattern) -> bool {
    match (pattern, name) {
        (HostPattern::Wildcard(zone), HostPattern::Exact(name)) => {
            name.split_once('.').is_some_and(|(_, rest)| rest == zone)
        }
        _ => pattern == name,
    }
}

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
const CHALLENGES: [(&str, Challenge); 3] =
    [("dns-01", Challenge::Dns01), ("tls-alpn-01", Challenge::TlsAlpn01), ("http-01", Challenge::Http01)];
const ON_FAILURE: [(&str, OnFailure); 2] = [("self_signed", OnFailure::SelfSigned), ("refuse", OnFailure::Refuse)];
const DNS_PORT: u16 = 53;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
