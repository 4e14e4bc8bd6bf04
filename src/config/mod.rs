//! What the YAML file says, as plain data.
//!
//! [`Config::load`] reads one file and either accepts all of it or reports everything that is
//! wrong with it, each finding with its line, key path and a snippet. The sections below are data
//! only: what a section *means* lives in the room that uses it. Nothing here opens a socket or
//! reads a certificate.

mod acme;
mod assemble;
mod dns;
mod duration;
mod dynamic_dns;
mod error;
mod events;
mod guard;
mod hosts;
mod lint;
mod lookup;
mod names;
mod node;
mod rate;
mod read;
mod restart;
mod salvage;
mod secret;
mod sections;
mod size;
mod source;
mod suggest;
mod upstream;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;

use lookup::Environment;
use node::Malformed;
use read::Reader;
use source::Source;

pub use acme::{
    Acme, AcmeCertificate, AcmeTerms, CertificateSource, Challenge, ExternalAccount, OnFailure, Propagation,
};
pub use dns::{DnsAccount, DnsProvider, Rfc2136, TsigAlgorithm};
pub use duration::parse as parse_duration;
pub use dynamic_dns::{AddressSource, DynamicDns};
pub use error::{ConfigError, Finding};
pub use events::{EventDestination, EventFormat, Topic};
pub use guard::{BanAnswer, Bans, Guard, LoginLimits, NeverBan, RateLimit, RateLimits, RequestClass, Surface};
pub use rate::Rate;
pub use secret::Secret;
pub use sections::{
    AccessLog, Admin, App, CertificateFiles, Config, ForwardedHeader, Host, HostPattern, Limits, Listen, Reload,
    Timeouts, TrustedProxies, Upstream, UpstreamScheme, UpstreamVerification,
};
pub use size::ByteSize;
pub use values::unmapped;

impl Config {
    /// Reads and checks a file of at most 1 MiB, together with the secrets and tokens that it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = lookup::read_capped(path, MAX_BYTES)
            .map_err(|why| ConfigError::whole_file(path, format!("cannot read the configuration: {why}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::whole_file(path, format!("not UTF-8 from line {line} on: save the file as UTF-8"))
        })?;
        Self::parse(&text, path)
    }

    /// Checks `text` as the content of `file`: relative paths and `secrets.yaml` are looked for beside it.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        Self::parse_in(text, file, &|name| std::env::var(name).ok())
    }

    fn parse_in(text: &str, file: &Path, environment: Environment<'_>) -> Result<Self, ConfigError> {
        if text.len() as u64 > MAX_BYTES {
            return Err(ConfigError::whole_file(file, format!("larger than {MAX_BYTES} bytes")));
        }
        let reader = Reader::new(file, environment);
        if let Some((visible, root)) = lint::revealed(text).filter(|(_, root)| lint::has_hidden_tags(root)) {
            lint::lint(&reader, &root, "");
            return Err(reader.into_error(file, &visible));
        }
        let root = node::parse(text).map_err(|malformed| syntax_error(file, text, malformed))?;
        lint::lint(&reader, &root, "");
        let config = assemble::config(&reader, &root);
        if reader.is_clean() { Ok(config) } else { Err(reader.into_error(file, text)) }
    }
}

fn syntax_error(file: &Path, text: &str, malformed: Malformed) -> ConfigError {
    let finding = Finding {
        line: malformed.place.map(|place| place.line),
        column: malformed.place.map(|place| place.column),
        path: String::new(),
        snippet: Source::new(text).snippet_of(&malformed),
        message: malformed.message,
    };
    ConfigError { file: file.to_owned(), findings: vec![finding], omitted: 0 }
}

const MAX_BYTES: u64 = 1 << 20;
