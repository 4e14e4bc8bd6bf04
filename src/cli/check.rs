//! `hearthgate check`, also spelled `hearthgate -t`: is this configuration right?

use std::io::Write;
use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{ConfigArgument, Exit};
use crate::config::{Config, ConfigError};
use crate::reload::{self, Unusable};

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
    let verdict = Verdict::of(Config::load(file));
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &verdict.report(file))?;
        writeln!(out)?;
        return Ok(verdict.exit());
    }
    match verdict {
        Verdict::Accepted { hosts } => writeln!(out, "{}: {}", file.display(), summary(hosts))?,
        Verdict::Wrong(error) => return Err(error.into()),
        Verdict::Unusable(unusable) => return Err(unusable.into()),
    }
    Ok(Exit::Good)
}

/// What a start or a reload with this file would come to.
enum Verdict {
    Accepted {
        hosts: usize,
    },
    /// The file itself.
    Wrong(ConfigError),
    /// What the file names: certificates, keys, authorities.
    Unusable(Unusable),
}

impl Verdict {
    fn of(loaded: Result<Config, ConfigError>) -> Self {
        let config = match loaded {
            Ok(config) => config,
            Err(error) => return Self::Wrong(error),
        };
        let hosts = config.hosts.len();
        match reload::check(config) {
            Ok(()) => Self::Accepted { hosts },
            Err(unusable) => Self::Unusable(unusable),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Accepted { .. } => Exit::Good,
            Self::Wrong(_) | Self::Unusable(_) => Exit::BadConfig,
        }
    }

    /// The same keys whether the file is right or wrong.
    fn report(&self, file: &Path) -> serde_json::Value {
        let (findings, omitted, problems) = match self {
            Self::Accepted { .. } => (&[][..], 0, &[][..]),
            Self::Wrong(error) => (error.findings.as_slice(), error.omitted, &[][..]),
            Self::Unusable(Unusable(problems)) => (&[][..], 0, problems.as_slice()),
        };
        json!({
            "file": file.display().to_string(),
            "accepted": matches!(self, Self::Accepted { .. }),
            "findings": findings,
            "omitted": omitted,
            "problems": problems,
        })
    }
}

fn summary(hosts: usize) -> String {
    match hosts {
        1 => "accepted, 1 host".to_owned(),
        count => format!("accepted, {count} hosts"),
    }
}
