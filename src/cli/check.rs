//! `hearthgate check`, also spelled `hearthgate -t`: is this configuration right?

use std::io::Write;
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{ConfigArgument, Exit};
use crate::config::{Config, ConfigError};

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigArgument,
    /// Print the findings as JSON on standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn check(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let file = arguments.file.config.as_path();
    match (Config::load(file), arguments.json) {
        (Ok(config), false) => writeln!(out, "{}: {}", file.display(), summary(&config))?,
        (Err(error), false) => return Err(error.into()),
        (result, true) => {
            serde_json::to_writer_pretty(&mut *out, &report(file, result.as_ref().err()))?;
            writeln!(out)?;
            return Ok(if result.is_ok() { Exit::Good } else { Exit::BadConfig });
        }
    }
    Ok(Exit::Good)
}

fn summary(config: &Config) -> String {
    match config.hosts.len() {
        1 => "accepted, 1 host".to_owned(),
        count => format!("accepted, {count} hosts"),
    }
}

/// The same keys whether the file is right or wrong.
fn report(file: &Path, error: Option<&ConfigError>) -> serde_json::Value {
    let (findings, omitted) = error.map_or((&[][..], 0), |error| (error.findings.as_slice(), error.omitted));
    json!({
        "file": file.display().to_string(),
        "accepted": error.is_none(),
        "findings": findings,
        "omitted": omitted,
    })
}
