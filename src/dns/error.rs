//! What can go wrong with a record, in sentences that name the account, the step and what to do next.
//!
//! None of them shows a token, a key or a URL.

/// Why a record is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("no account in `dns` speaks for `{name}`: add one, or the name to an account's `zones`")]
    NoAccount { name: String },
    #[error("`{name}` is not a name that DNS can carry")]
    BadName { name: String },
}
