//! `hearthgate demo`: the gate in front of a stand-in, to look at.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Exit, logging};
use crate::demo::{self, Options};

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    /// Where the gate listens for HTTPS
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Keeps the self-signed certificate, so that the browser asks only once; by default it is thrown away
    #[arg(long, value_name = "DIRECTORY")]
    state_directory: Option<PathBuf>,
}

pub(super) fn demo(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    logging::start();
    let options = Options { listen: arguments.listen, state_directory: arguments.state_directory.clone() };
    super::serve(demo::run(options, out))?;
    Ok(Exit::Good)
}
