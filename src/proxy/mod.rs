//! The only room that knows Pingora's `Session`: a line of intent per phase, each done elsewhere.

mod asks;
mod bearer;
mod context;
mod failure;
mod gateway;
mod guarded;
mod headers;
mod inspect;
mod peer;
pub mod response;
mod upgrade;
mod verdict;
mod websocket_login;

pub use asks::shows_device;
pub use gateway::Gateway;
