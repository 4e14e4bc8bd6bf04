//! Hearthgate: the one program a home exposes to the internet.
//!
//! The map, from the outside in:
//!
//! - [`listener`] is the front door: sockets, TLS, and every deadline and bound on what strangers send;
//! - [`proxy`] is the `ProxyHttp` implementation: who may pass, where to, and with which fields;
//! - [`websocket`] carries what is left of a connection after its 101;
//! - [`upstream`] and [`app`] know the servers behind;
//! - [`acme`] asks an authority for certificates and renews them;
//! - [`bans`] remembers who is turned away for a while;
//! - [`config`], [`snapshot`] and [`reload`] turn a YAML file into what is in force;
//! - [`events`] tells the operator what happens;
//! - [`dns`] sets records with providers, and sees them arrive; [`dynamic_dns`] keeps names pointed at this home;
//! - [`tls`], [`admin`], [`metrics`], [`access_log`] and [`cli`] are what an operator meets;
//! - [`server`] wires all of it. `ARCHITECTURE.md` says which room may know which.

#![forbid(unsafe_code)]

pub mod access_log;
pub mod acme;
pub mod admin;
pub mod app;
pub mod bans;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod demo;
pub mod denial;
pub mod dns;
pub mod durable;
pub mod dynamic_dns;
pub mod events;
pub mod exchange;
pub mod guard;
pub mod history;
pub mod http_client;
pub mod listener;
pub mod metrics;
pub mod proxy;
pub mod reload;
pub mod request;
pub mod routing;
pub mod server;
pub mod snapshot;
pub mod state;
pub mod tls;
pub mod upstream;
pub mod websocket;
