//! `hearthgate run`: serves until told to stop.

use clap::Args;

use super::{ConfigArgument, Exit, logging};
use crate::config::Config;
use crate::server::{self, StartOptions};

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigArgument,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    logging::start();
    let config = Config::load(&arguments.file.config)?;
    super::serve(gate(config, arguments))?;
    Ok(Exit::Good)
}

async fn gate(config: Config, arguments: &Arguments) -> anyhow::Result<()> {
    let running =
        server::start(config, Some(arguments.file.config.clone()), StartOptions { socket_activation: true }).await?;
    running.wait_for_signals().await
}
