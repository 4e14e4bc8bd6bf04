//! `hearthgate explain`: what the gate knows of a client, and which keys of the configuration matter to it.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use clap::Args;

use super::bans::{until, why};
use super::table::{aligned, brief, counted, plain, time};
use super::{Exit, SocketArgument};
use crate::admin::{self, Client, Explanation, RateLimitState, Refusal, Standing};

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    /// One address, such as 203.0.113.9 or 2001:db8::9
    #[arg(value_parser = admin::address)]
    address: IpAddr,
    #[command(flatten)]
    socket: SocketArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn explain(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let address = arguments.address;
    let explanation = arguments.socket.ask(async |client: &Client| client.explain(address).await)?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &explanation)?;
        writeln!(out)?;
    } else {
        out.write_all(render(&explanation, SystemTime::now()).as_bytes())?;
    }
    Ok(Exit::Good)
}

fn render(explanation: &Explanation, now: SystemTime) -> String {
    let mut text = format!("{}\n\n", verdict(explanation));
    text.push_str(&aligned(&facts(explanation, now)));
    if !explanation.rate_limits.is_empty() {
        text.push('\n');
        text.push_str(&aligned(&limits(&explanation.rate_limits)));
    }
    text
}

/// The one sentence that most people ask for.
fn verdict(explanation: &Explanation) -> String {
    let address = explanation.address;
    match &explanation.ban {
        Some(ban) if ban.network == explanation.counted_as => format!("{address} is banned {}.", until(ban)),
        Some(ban) => format!("{address} is banned with all of {} {}.", ban.network, until(ban)),
        None => format!("{address} is not banned."),
    }
}

/// Each with its name, what it is, and the key that decides it.
fn facts(explanation: &Explanation, now: SystemTime) -> Vec<[String; 3]> {
    let fact = |name: &str, value: String, key: &str| [name.to_owned(), value, key.to_owned()];
    let failures = &explanation.failures;
    let window = brief(Duration::from_secs(failures.window_seconds));
    let in_flight = match explanation.attempts_in_flight {
        0 => String::new(),
        count => format!(", {count} under way"),
    };
    let failed = format!("{} of {} in {window}{in_flight}", failures.count, failures.limit);
    let requests = counted(explanation.requests_open, "request");
    let connections = counted(explanation.connections_open, "connection");
    let mut facts = vec![
        fact("counted as", explanation.counted_as.to_string(), ""),
        fact("standing", standing(explanation.standing), "guard.proof_extends_to_address"),
    ];
    if let Some(ban) = &explanation.ban {
        facts.push(fact("banned for", format!("{}, strike {}", why(ban), ban.strikes), "guard.bans"));
    }
    let never_ban =
        explanation.never_ban.as_ref().map_or_else(|| "no".to_owned(), |entry| format!("yes, {}", plain(entry)));
    facts.push(fact("never banned", never_ban, "guard.never_ban"));
    facts.push(fact("failures", failed, &failures.key));
    if let Some(seconds) = explanation.login_retry_seconds {
        facts.push(fact("next login", format!("in {}", brief(Duration::from_secs(seconds))), "guard.login.delay"));
    }
    facts.push(fact("open now", format!("{requests}, {connections}"), ""));
    let refusal = explanation.last_refusal.as_ref();
    let key = refusal.and_then(|refusal| refusal.key.as_deref()).unwrap_or_default();
    facts.push(fact("last refusal", refusal.map_or_else(|| "none".to_owned(), |it| refused(it, now)), &plain(key)));
    facts
}

fn standing(standing: Standing) -> String {
    match standing {
        Standing::Known => "known: a session was proven from here".to_owned(),
        Standing::Unknown => "unknown: no session was proven from here".to_owned(),
    }
}

fn refused(refusal: &Refusal, now: SystemTime) -> String {
    let age = brief(now.duration_since(refusal.at).unwrap_or_default());
    let host = refusal.host.as_ref().map_or_else(String::new, |host| format!(" at {}", plain(host)));
    format!("{}{host}, {} ({age} ago)", plain(&refusal.reason), time(refusal.at))
}

fn limits(limits: &[RateLimitState]) -> Vec<[String; 4]> {
    let mut rows = vec![["CLASS", "LEFT", "THEN", "KEY"].map(str::to_owned)];
    rows.extend(limits.iter().map(|limit| {
        let dry = if limit.dry_run { ", dry run" } else { "" };
        let left = format!("{} of {}", limit.remaining, limit.burst);
        [plain(&limit.class), left, format!("{}{dry}", plain(&limit.rate)), plain(&limit.key)]
    }));
    rows
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::admin::{BanCause, BanReport, FailureCount};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_469_400 + seconds)
    }

    fn quiet() -> Explanation {
        Explanation {
            address: [192, 0, 2, 1].into(),
            counted_as: "192.0.2.1/32".parse().unwrap(),
            standing: Standing::Unknown,
            never_ban: None,
            ban: None,
            failures: FailureCount { count: 0, limit: 10, window_seconds: 600, key: "guard.login.max_failures".into() },
            attempts_in_flight: 0,
            login_retry_seconds: None,
            rate_limits: Vec::new(),
            requests_open: 1,
            connections_open: 2,
            last_refusal: None,
        }
    }

    #[test]
    fn of_a_quiet_client_there_is_little_to_say() {
        let expected = "\
192.0.2.1 is not banned.

counted as    192.0.2.1/32
standing      unknown: no session was proven from here  guard.proof_extends_to_address
never banned  no                                        guard.never_ban
failures      0 of 10 in 10m                            guard.login.max_failures
open now      1 request, 2 connections
last refusal  none
";
        assert_eq!(render(&quiet(), at(0)), expected);
    }

    #[test]
    fn of_a_banned_client_there_is_more() {
        let ban = BanReport {
            network: "2001:db8:1:200::/56".parse().unwrap(),
            since: at(0),
            until: at(900),
            remaining_seconds: 840,
            cause: BanCause::Neighbours,
            reason: Some("12 clients of it failed".into()),
            strikes: 1,
        };
        let explanation = Explanation {
            address: "2001:db8:1:2ff::9".parse().unwrap(),
            counted_as: "2001:db8:1:2ff::/64".parse().unwrap(),
            standing: Standing::Known,
            never_ban: Some("home.duckdns.org".into()),
            ban: Some(ban),
            attempts_in_flight: 3,
            login_retry_seconds: Some(64),
            rate_limits: vec![RateLimitState {
                class: "auth".into(),
                remaining: 0,
                burst: 60,
                rate: "1/s".into(),
                dry_run: true,
                key: "guard.rate_limits.auth".into(),
            }],
            last_refusal: Some(Refusal {
                at: at(0),
                reason: "rate_limit".into(),
                host: Some("ha.example.org".into()),
                key: Some("guard.rate_limits.auth".into()),
            }),
            ..quiet()
        };
        let expected = "\
2001:db8:1:2ff::9 is banned with all of 2001:db8:1:200::/56 until 2026-11-23T21:45:00Z (in 14m).

counted as    2001:db8:1:2ff::/64
standing      known: a session was proven from here                        guard.proof_extends_to_address
banned for    neighbours: 12 clients of it failed, strike 1                guard.bans
never banned  yes, home.duckdns.org                                        guard.never_ban
failures      0 of 10 in 10m, 3 under way                                  guard.login.max_failures
next login    in 1m                                                        guard.login.delay
open now      1 request, 2 connections
last refusal  rate_limit at ha.example.org, 2026-11-23T21:30:00Z (1m ago)  guard.rate_limits.auth

CLASS  LEFT     THEN          KEY
auth   0 of 60  1/s, dry run  guard.rate_limits.auth
";
        assert_eq!(render(&explanation, at(60)), expected);
    }
}
