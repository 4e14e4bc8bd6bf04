//! `hearthgate reload`: has the running gate read its configuration again.

use std::io::Write;

use clap::Args;

use super::{Exit, SocketArgument};
use crate::admin::{Client, ReloadOutcome, ReloadReport};

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
}

pub(super) fn reload(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let report = arguments.socket.ask(Client::reload)?;
    match report.outcome {
        ReloadOutcome::Accepted | ReloadOutcome::Unchanged => {
            out.write_all(render(&report).as_bytes())?;
            Ok(Exit::Good)
        }
        ReloadOutcome::Refused => anyhow::bail!(render(&report).trim_end().to_owned()),
    }
}

fn render(report: &ReloadReport) -> String {
    let generation = report.generation;
    let mut text = match report.outcome {
        ReloadOutcome::Accepted => format!("configuration accepted, generation {generation} serves now\n"),
        ReloadOutcome::Unchanged => format!("configuration unchanged, generation {generation} goes on\n"),
        ReloadOutcome::Refused => format!("configuration refused, generation {generation} goes on\n"),
    };
    for error in &report.errors {
        text.push_str(error);
        text.push('\n');
    }
    if !report.keys_needing_restart.is_empty() {
        text.push_str(&format!("changed, but needs a restart: {}\n", report.keys_needing_restart.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_all_errors_and_which_keys_need_a_restart() {
        let report = ReloadReport {
            outcome: ReloadOutcome::Refused,
            generation: 3,
            errors: vec!["a.yaml:1: listen: wrong".into(), "a.yaml:9: hosts: none".into()],
            keys_needing_restart: vec!["listen.https".into(), "admin.listen".into()],
        };
        let expected = "configuration refused, generation 3 goes on\na.yaml:1: listen: wrong\n\
                        a.yaml:9: hosts: none\nchanged, but needs a restart: listen.https, admin.listen\n";
        assert_eq!(render(&report), expected);
    }
}
