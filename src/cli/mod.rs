//! The command line: one file per command, and here what they share.
//!
//! Exit codes: 0 good, 1 failed at work, 2 wrong usage, 78 (`EX_CONFIG`) bad configuration, which a
//! service manager should not try again. Answers go to standard output, complaints to standard
//! error. A reader that leaves early (`hearthgate status | head`) is not a failure.

mod bans;
mod certificates;
mod check;
mod demo;
mod events;
mod explain;
mod logging;
mod reload;
mod run;
mod status;
mod table;
mod top;
mod version;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::admin::{Client, ClientError};
use crate::config::{Config, ConfigError};
use crate::reload::Unusable;

/// The one program a home exposes to the internet: a hardened gateway in front of Home Assistant.
#[derive(Debug, Parser)]
#[command(name = "hearthgate", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, PartialEq, Subcommand)]
enum Command {
    /// Serve until told to stop (SIGTERM or Ctrl-C)
    Run(run::Arguments),
    /// Say whether a configuration is right, and what is wrong with it
    #[command(short_flag = 't')]
    Check(check::Arguments),
    /// Have the running gate read its configuration again
    Reload(reload::Arguments),
    /// Show what the running gate is doing
    Status(status::Arguments),
    /// Show the same live, with the last hour, in a terminal
    Top(top::Arguments),
    /// Show, add and lift bans
    Bans(bans::Arguments),
    /// Show the certificates of all hosts, and have them renewed now
    Certificates(certificates::Arguments),
    /// Tell what the running gate knows of a client
    Explain(explain::Arguments),
    /// See whether those who are told of events hear of them
    Events(events::Arguments),
    /// Try the gate without Home Assistant, on this machine only
    Demo(demo::Arguments),
    /// Print the version
    Version,
}

#[derive(Debug, PartialEq, Args)]
struct ConfigArgument {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

#[derive(Debug, PartialEq, Args)]
struct SocketArgument {
    #[command(flatten)]
    file: ConfigArgument,
    /// The gate's Unix socket; by default the one that the configuration file names
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Good,
    Failed,
    /// `EX_CONFIG` of sysexits.h.
    BadConfig,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // Not locked: other threads may print while the gate runs.
    main_with(std::env::args_os(), &mut io::stdout())
}

fn main_with(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> ExitCode {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(error) => {
            // Nobody is left to complain to if this cannot be printed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = execute(command, out).and_then(|exit| Ok(out.flush().map(|()| exit)?));
    exit_of(result, &mut io::stderr()).into()
}

fn execute(command: Command, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments, out),
        Command::Reload(arguments) => reload::reload(&arguments, out),
        Command::Status(arguments) => status::status(&arguments, out),
        Command::Top(arguments) => top::top(&arguments, out),
        Command::Bans(arguments) => bans::bans(&arguments, out),
        Command::Certificates(arguments) => certificates::certificates(&arguments, out),
        Command::Explain(arguments) => explain::explain(&arguments, out),
        Command::Events(arguments) => events::events(&arguments, out),
        Command::Demo(arguments) => demo::demo(&arguments, out),
        Command::Version => version::version(out),
    }
}

/// Complains about a failure and says how it ends. The only place where errors become exit codes.
fn exit_of(result: anyhow::Result<Exit>, complaints: &mut dyn Write) -> Exit {
    let error = match result {
        Ok(exit) => return exit,
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        return Exit::Good;
    }
    // Findings have lines of their own; everything else is one line. A closed standard error ends the talk.
    if let Some(findings) = error.downcast_ref::<ConfigError>() {
        let _ = writeln!(complaints, "{findings}");
        return Exit::BadConfig;
    }
    let _ = writeln!(complaints, "hearthgate: {error:#}");
    if error.is::<Unusable>() { Exit::BadConfig } else { Exit::Failed }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let written = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let rendered = error.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
    written.or(rendered) == Some(io::ErrorKind::BrokenPipe)
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Good => 0,
            Exit::Failed => 1,
            Exit::BadConfig => 78,
        })
    }
}

impl SocketArgument {
    /// Puts a question to the gate behind the named socket, else the configured one, else the usual one.
    ///
    /// A file that is broken now, or not ours to read, must not keep anybody from asking the gate that runs.
    fn ask<T>(&self, question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> anyhow::Result<T> {
        let (socket, is_guess) = self.find();
        let client = Client::new(socket);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let answer = runtime.context("cannot start the runtime")?.block_on(question(&client));
        answer.map_err(|error| match is_guess {
            false => error.into(),
            true => {
                let findings = Config::load(&self.file.config).err().map_or_else(String::new, |e| format!("{e}\n"));
                anyhow::anyhow!("{findings}{error} (a guess, for {GUESSED}; `--socket` names another)")
            }
        })
    }

    /// The socket to ask, and whether it is a guess.
    fn find(&self) -> (PathBuf, bool) {
        match (&self.socket, Config::load(&self.file.config)) {
            (Some(socket), _) => (socket.clone(), false),
            (None, Ok(config)) => (config.admin.socket, false),
            (None, Err(_)) => match Config::admin_socket_in(&self.file.config) {
                Some(socket) => (socket, false),
                None => (PathBuf::from(DEFAULT_SOCKET), true),
            },
        }
    }
}

/// Runs the gate on all cores, until it has ended by itself.
fn serve<T>(gate: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let result = runtime.block_on(gate);
    runtime.shutdown_timeout(STRAGGLERS);
    result
}

const DEFAULT_CONFIG: &str = "/etc/hearthgate/hearthgate.yaml";

/// The default of `admin.socket`.
const DEFAULT_SOCKET: &str = "/var/lib/hearthgate/admin.sock";

const GUESSED: &str = "the configuration file cannot be used";

/// For blocking work that is still under way when everything has been drained.
const STRAGGLERS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
