//! Behaviour over real sockets: one gate in this process per test, on ports of its own, in front of a fake upstream.
//!
//! Each test tells one story by its name. A security rule has a test for the refusal and one for the neighbour that
//! must pass. Nothing sleeps for luck: deadlines are shortened by configuration, and what takes time is polled.

#![expect(clippy::unwrap_used, clippy::panic, clippy::large_futures, reason = "a test ends where its story does")]

mod harness;

mod access_log;
mod answers;
mod architecture;
mod away;
mod bodies;
mod challenges;
mod closed;
mod command_line;
mod connections;
mod dashboards;
mod distrust;
mod drain;
mod events;
mod examples;
mod forwarding;
mod guard_bans;
mod guard_bearers;
mod guard_cookie;
mod guard_lane;
mod guard_limits;
mod guard_logins;
mod guard_places;
mod guard_surface;
mod guard_websockets;
mod http2_bodies;
mod http2_floods;
mod http2_refusals;
mod https_upstream;
mod limits;
mod malformed_heads;
mod metrics;
mod names;
mod proxy_protocol;
mod redirect;
mod regression;
mod reload;
mod requests_in_flight;
mod slow_clients;
mod status_page;
mod tls;
mod websocket;
