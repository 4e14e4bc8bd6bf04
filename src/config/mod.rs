//! What the YAML file says, as plain data.
//!
//! [`Config::load`] reads one file and either accepts all of it or reports everything that is
//! wrong with it, each finding with its line, key path and a snippet. The sections below are data
//! only: what a section *means* lives in the room that uses it. Nothing here opens a socket or
//! reads a certificate.

mod duration;
mod error;
mod read;
mod secret;
mod sections;
mod size;

pub use error::{ConfigError, Finding};
pub use secret::Secret;
pub use sections::{
    AccessLog, Admin, App, CertificateFiles, Config, ForwardedHeader, Host, HostPattern, Limits, Listen, Reload,
    Timeouts, TrustedProxies, Upstream, UpstreamScheme, UpstreamVerification,
};
pub use size::ByteSize;
