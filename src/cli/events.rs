//! `hearthgate events`: do messages arrive?

use std::io::Write;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{ConfigArgument, Exit};
use crate::config::{Config, EventFormat};
use crate::events::{self, Target};
use crate::reload::Unusable;

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Debug, PartialEq, Subcommand)]
enum EventsCommand {
    /// Send a test message to each destination of the configuration, and say how it went
    Test(TestArguments),
}

#[derive(Debug, PartialEq, Args)]
struct TestArguments {
    /// Only this destination
    name: Option<String>,
    #[command(flatten)]
    file: ConfigArgument,
}

pub(super) fn events(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match &arguments.command {
        EventsCommand::Test(arguments) => test(arguments, out),
    }
}

fn test(arguments: &TestArguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let mut destinations = Config::load(&arguments.file.config)?.events;
    if destinations.is_empty() {
        anyhow::bail!("nobody is told: the section `events` of {} is empty", arguments.file.config.display());
    }
    if let Some(name) = &arguments.name {
        let names: Vec<_> = destinations.iter().map(|destination| destination.name.clone()).collect();
        destinations.retain(|destination| destination.name == *name);
        if destinations.is_empty() {
            anyhow::bail!("there is no `{name}` in `events`, known there: {}", names.join(", "));
        }
    }
    let targets = Target::load(&destinations).map_err(Unusable)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let mut exit = Exit::Good;
    for target in &targets {
        let name = &target.destination.name;
        match runtime.block_on(events::test(target)) {
            Ok(status) => writeln!(out, "{name}: sent, answered {status}{}", hint(target))?,
            Err(error) => {
                exit = Exit::Failed;
                writeln!(out, "{name}: not delivered: {error}")?;
            }
        }
    }
    Ok(exit)
}

fn hint(target: &Target) -> &'static str {
    match target.destination.format {
        EventFormat::HomeAssistant => {
            "; Home Assistant says so to unknown webhooks too: look whether the notification is there"
        }
        EventFormat::Ntfy | EventFormat::Json => "",
    }
}
