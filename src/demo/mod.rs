//! `hearthgate demo`: the gate in front of a stand-in for Home Assistant, on this machine only.
//!
//! Everything lives in memory and in a state directory that is thrown away, unless the caller names
//! one. Nothing listens on more than loopback unless the caller asks for it.

mod addresses;
mod page;
mod settings;
mod stand_in;
mod state;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;

use crate::admin::Listeners;
use crate::server::{self, StartOptions};
use addresses::Addresses;
pub use stand_in::StandIn;
use state::StateDirectory;

/// What the caller may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the gate listens for HTTPS; a loopback address brings the other family's with it.
    pub listen: SocketAddr,
    /// Keeps the self-signed certificate; `None` uses a directory that is removed at the end.
    pub state_directory: Option<PathBuf>,
}

/// Serves until told to stop, after printing to `out` what to open and what to try.
///
/// # Errors
///
/// If the address is taken or the gate cannot start for another reason.
pub async fn run(options: Options, out: &mut dyn Write) -> anyhow::Result<()> {
    let stand_in = StandIn::start().await.context("cannot start the stand-in")?;
    let state = StateDirectory::open(options.state_directory).context("cannot create the state directory")?;
    let config = settings::config(Addresses::find(options.listen)?, stand_in.addr, state.path());
    let socket = config.admin.socket.clone();
    let names = config.hosts.iter().flat_map(|host| [&host.name].into_iter().chain(&host.aliases)).cloned().collect();
    let running = server::start(config, None, StartOptions::default()).await?;
    out.write_all(settings::instructions(&running.listeners, names, &socket).as_bytes())?;
    out.flush()?;
    running.wait_for_signals().await
}

/// What of [`Listeners`] the instructions need.
struct Bound {
    https: u16,
    http: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl From<&Listeners> for Bound {
    fn from(listeners: &Listeners) -> Self {
        Self {
            https: listeners.https.first().map_or(443, SocketAddr::port),
            http: listeners.http.first().copied(),
            admin: listeners.admin,
        }
    }
}
