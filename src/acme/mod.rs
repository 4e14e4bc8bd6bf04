//! Certificates from an authority (RFC 8555): asked for, renewed in time, and served at once.

mod challenges;

pub use challenges::{ACME_TLS_ALPN, Answering, Challenges, UnusableChallenge};
