//! `hearthgate bans`: who is banned, and the operator's own bans.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::table::{aligned, brief, counted, plain, time};
use super::{Exit, SocketArgument, explain};
use crate::admin::{BanCause, BanList, BanReport, BanTarget, Client, NewBan};
use crate::config;

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: BansCommand,
}

#[derive(Debug, PartialEq, Subcommand)]
enum BansCommand {
    /// Show the bans in force, the newest first
    List(ListArguments),
    /// Ban a network from now on, on open connections as well
    Add(AddArguments),
    /// Lift the ban of a network, or every ban that covers an address
    Remove(RemoveArguments),
    /// Tell what the running gate knows of a client (the same as `hearthgate explain`)
    Explain(explain::Arguments),
}

#[derive(Debug, PartialEq, Args)]
struct ListArguments {
    #[command(flatten)]
    socket: SocketArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, PartialEq, Args)]
struct AddArguments {
    /// Such as 203.0.113.0/24; an address is the client that it belongs to, in IPv6 its /64
    #[arg(value_parser = BanTarget::parse)]
    network: BanTarget,
    /// For how long: 15m, 12h, 7d
    #[arg(long = "for", value_name = "DURATION", value_parser = config::parse_duration)]
    length: Duration,
    /// Why, in up to 200 characters; for the list
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    socket: SocketArgument,
}

#[derive(Debug, PartialEq, Args)]
struct RemoveArguments {
    /// The network as `bans list` shows it, or an address
    #[arg(value_name = "NETWORK|ADDRESS", value_parser = BanTarget::parse)]
    target: BanTarget,
    #[command(flatten)]
    socket: SocketArgument,
}

pub(super) fn bans(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match &arguments.command {
        BansCommand::List(arguments) => list(arguments, out),
        BansCommand::Add(arguments) => add(arguments, out),
        BansCommand::Remove(arguments) => remove(arguments, out),
        BansCommand::Explain(arguments) => explain::explain(arguments, out),
    }
}

fn list(arguments: &ListArguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let list = arguments.socket.ask(Client::bans)?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &list)?;
        writeln!(out)?;
    } else {
        out.write_all(render(&list).as_bytes())?;
    }
    Ok(Exit::Good)
}

fn add(arguments: &AddArguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let ban = NewBan::new(arguments.network, arguments.length, arguments.reason.clone()).map_err(anyhow::Error::msg)?;
    let report = arguments.socket.ask(async |client: &Client| client.add_ban(&ban).await)?;
    writeln!(out, "{} is banned {}", report.network, until(&report))?;
    Ok(Exit::Good)
}

fn remove(arguments: &RemoveArguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let target = arguments.target;
    let removal = arguments.socket.ask(async |client: &Client| client.remove_bans(target).await)?;
    if removal.removed.is_empty() {
        anyhow::bail!(match target {
            BanTarget::Network(network) =>
                format!("{network} is not banned as such; `hearthgate bans list` shows what is"),
            BanTarget::Address(address) => format!("{address} is not banned"),
        });
    }
    for network in removal.removed {
        writeln!(out, "{network} is no longer banned")?;
    }
    Ok(Exit::Good)
}

fn render(list: &BanList) -> String {
    if list.total == 0 {
        return "nobody is banned\n".to_owned();
    }
    let mut rows = vec![["NETWORK", "UNTIL", "IN", "STRIKES", "CAUSE", "REASON"].map(str::to_owned)];
    rows.extend(list.bans.iter().map(|ban| {
        let reason = plain(ban.reason.as_deref().unwrap_or_default());
        let left = brief(Duration::from_secs(ban.remaining_seconds));
        let strikes = ban.strikes.to_string();
        [ban.network.to_string(), time(ban.until), left, strikes, cause(ban.cause).to_owned(), reason]
    }));
    let mut text = aligned(&rows);
    let shown = list.bans.len() as u64;
    if list.total > shown {
        text.push_str(&format!("{}, the newest {shown} shown\n", counted(list.total, "ban")));
    }
    text
}

fn cause(cause: BanCause) -> &'static str {
    match cause {
        BanCause::Failures => "failures",
        BanCause::Neighbours => "neighbours",
        BanCause::Operator => "operator",
    }
}

/// `until 2026-11-23T21:45:00Z (in 14m)`.
pub(super) fn until(ban: &BanReport) -> String {
    format!("until {} (in {})", time(ban.until), brief(Duration::from_secs(ban.remaining_seconds)))
}

/// Why, in the words of the list: `failures: 10 wrong passwords`.
pub(super) fn why(ban: &BanReport) -> String {
    match &ban.reason {
        Some(reason) => format!("{}: {}", cause(ban.cause), plain(reason)),
        None => cause(ban.cause).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn ban(network: &str, cause: BanCause, seconds: u64, reason: Option<&str>) -> BanReport {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_469_400);
        BanReport {
            network: network.parse().unwrap(),
            since: now,
            until: now + Duration::from_secs(seconds),
            remaining_seconds: seconds,
            cause,
            reason: reason.map(str::to_owned),
            strikes: 2,
        }
    }

    #[test]
    fn the_list_reads_like_this() {
        let bans = vec![
            ban("203.0.113.9/32", BanCause::Failures, 840, None),
            ban("2001:db8:1:200::/56", BanCause::Neighbours, 604_800, Some("12 clients of it failed")),
            ban("198.51.100.0/24", BanCause::Operator, 59, Some("scans\u{1b}[2J")),
        ];
        let expected = "\
NETWORK              UNTIL                 IN   STRIKES  CAUSE       REASON
203.0.113.9/32       2026-11-23T21:44:00Z  14m  2        failures
2001:db8:1:200::/56  2026-11-30T21:30:00Z  7d   2        neighbours  12 clients of it failed
198.51.100.0/24      2026-11-23T21:30:59Z  59s  2        operator    scans [2J
";
        assert_eq!(render(&BanList { total: 3, bans: bans.clone() }), expected);
        assert_eq!(render(&BanList { total: 40, bans }), format!("{expected}40 bans, the newest 3 shown\n"));
        assert_eq!(render(&BanList::default()), "nobody is banned\n");
    }
}
