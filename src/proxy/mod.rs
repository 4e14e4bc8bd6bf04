//! The only room that knows Pingora's `Session`: a line of intent per phase, each done elsewhere.

mod context;
mod failure;
mod gateway;
mod headers;
mod inspect;
mod peer;
pub mod response;
mod upgrade;

pub use gateway::Gateway;
