//! `hearthgate status`: what the running gate is doing, in 80 columns or as JSON.

use std::fmt::Write as _;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use clap::Args;

use super::{Exit, SocketArgument};
use crate::admin::{Certificate, Client, DynamicDnsStatus, DynamicName, HostStatus, Status};

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn status(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let status = arguments.socket.ask(Client::status)?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &status)?;
        writeln!(out)?;
    } else {
        out.write_all(render(&status, SystemTime::now())?.as_bytes())?;
    }
    Ok(Exit::Good)
}

fn render(status: &Status, now: SystemTime) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let up = span(Duration::from_secs(status.uptime_seconds));
    writeln!(text, "hearthgate {}, up {up}, configuration {}", status.version, status.generation)?;
    if let Some(reload) = &status.last_reload {
        writeln!(text, "last reload {}, {}", reload.outcome.as_str(), ago(reload.at, now))?;
    }
    let websockets = status.websockets_open;
    writeln!(
        text,
        "{} connections open, {websockets} of them WebSockets; {} bans",
        status.connections_open, status.bans_active
    )?;
    if let Some(address) = status.clients_hidden_behind {
        writeln!(text, "\nnearly all clients show {address}: if it is the router's, it hides who they are")?;
    }
    writeln!(text)?;
    let listeners = &status.listeners;
    for (name, addresses) in [
        ("https", listeners.https.as_slice()),
        ("http", listeners.http.as_slice()),
        ("admin", listeners.admin.as_slice()),
    ] {
        write_addresses(name, addresses, &mut text)?;
    }
    write_hosts(&status.hosts, now, &mut text)?;
    if let Some(dynamic_dns) = &status.dynamic_dns {
        write_dynamic_dns(dynamic_dns, now, &mut text)?;
    }
    write_counters(status, &mut text)?;
    Ok(text)
}

fn write_addresses(name: &str, addresses: &[SocketAddr], text: &mut String) -> std::fmt::Result {
    for (index, address) in addresses.iter().enumerate() {
        writeln!(text, "{:<7}{address}", if index == 0 { name } else { "" })?;
    }
    Ok(())
}

fn write_hosts(hosts: &[HostStatus], now: SystemTime, text: &mut String) -> std::fmt::Result {
    let mut rows = vec![["HOST", "UPSTREAM", "HEALTH", "CERTIFICATE"].map(str::to_owned)];
    rows.extend(hosts.iter().map(|host| {
        let certificate = host.certificate.as_ref().map_or_else(|| "none".to_owned(), |it| validity(it, now));
        [host.name.clone(), host.upstream.clone(), host.health.clone(), certificate]
    }));
    write_table(&rows, text)
}

fn write_dynamic_dns(status: &DynamicDnsStatus, now: SystemTime, text: &mut String) -> std::fmt::Result {
    let mut rows = vec![["DYNAMIC DNS", "IPV4", "IPV6", "CHANGED"].map(str::to_owned)];
    rows.extend(status.names.iter().map(|name| {
        let shown = |address: Option<IpAddr>| address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let change = name.last_change.map_or_else(|| "-".to_owned(), |at| ago(at, now));
        [name.name.clone(), shown(name.ipv4.map(IpAddr::V4)), shown(name.ipv6.map(IpAddr::V6)), change]
    }));
    write_table(&rows, text)?;
    // Sentences are not cut: they say what to do.
    for name in &status.names {
        write_failure(name, now, text)?;
    }
    for problem in &status.problems {
        writeln!(text, "{problem}")?;
    }
    Ok(())
}

fn write_failure(name: &DynamicName, now: SystemTime, text: &mut String) -> std::fmt::Result {
    let Some(failure) = &name.failure else { return Ok(()) };
    let wait = span(failure.next_attempt.duration_since(now).unwrap_or_default());
    writeln!(text, "{} FAILS, next try in {wait}: {}", name.name, failure.error)
}

fn write_table(rows: &[[String; 4]], text: &mut String) -> std::fmt::Result {
    let widths = widths(rows);
    writeln!(text)?;
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{:<width$}", cut(cell, width)));
        writeln!(text, "{}", cells.collect::<Vec<_>>().join(GAP).trim_end())?;
    }
    Ok(())
}

fn write_counters(status: &Status, text: &mut String) -> std::fmt::Result {
    if status.counters.is_empty() {
        return Ok(());
    }
    let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or_default();
    let name_width = longest(&mut status.counters.keys().map(|name| name.chars().count())).min(NAME_WIDTH);
    let number_width = longest(&mut status.counters.values().map(|number| number.to_string().len()));
    writeln!(text)?;
    for (name, number) in &status.counters {
        writeln!(text, "{:<name_width$}{GAP}{number:>number_width$}", cut(name, name_width))?;
    }
    Ok(())
}

/// As wide as the cells need; what exceeds the line is taken from the widest column, bit by bit.
fn widths(rows: &[[String; 4]]) -> [usize; 4] {
    let mut widths = [0; 4];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    while widths.iter().sum::<usize>() > LINE_WIDTH - 3 * GAP.len() {
        let widest = widths.iter_mut().max();
        *widest.expect("an array of four has a greatest element") -= 1;
    }
    widths
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let mut cut: String = cell.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn validity(certificate: &Certificate, now: SystemTime) -> String {
    let mut text = match certificate.not_after.duration_since(now) {
        Ok(left) => format!("{} left", span(left)),
        Err(error) => format!("EXPIRED {} ago", span(error.duration())),
    };
    if certificate.self_signed {
        text.push_str(", self-signed");
    }
    text
}

fn ago(then: SystemTime, now: SystemTime) -> String {
    format!("{} ago", span(now.duration_since(then).unwrap_or_default()))
}

/// The greatest unit that fits: precise enough for people.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

const GAP: &str = "  ";
const LINE_WIDTH: usize = 80;

/// Leaves room for a gap and the longest `u64`.
const NAME_WIDTH: usize = LINE_WIDTH - 22;

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::admin::{DynamicNameFailure, LastReload, Listeners, ReloadOutcome};

    const DAY: u64 = 86_400;
    const HOUR: Duration = Duration::from_secs(3600);

    fn at(days: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(days * DAY)
    }

    fn host(name: &str, certificate: Option<Certificate>) -> HostStatus {
        HostStatus {
            name: name.into(),
            upstream: "http://192.168.1.20:8123".into(),
            health: "up".into(),
            is_up: Some(true),
            advice: None,
            certificate,
        }
    }

    fn sample() -> Status {
        Status {
            version: "0.1.0".into(),
            generation: 3,
            uptime_seconds: 7200,
            last_reload: Some(LastReload { at: at(99), outcome: ReloadOutcome::Accepted, errors: Vec::new() }),
            listeners: Listeners {
                https: vec![([0, 0, 0, 0], 443).into(), ([0u16; 8], 443).into()],
                http: vec![([0, 0, 0, 0], 80).into()],
                admin: Some(([127, 0, 0, 1], 9180).into()),
            },
            connections_open: 12,
            websockets_open: 3,
            bans_active: 2,
            clients_hidden_behind: None,
            hosts: vec![
                host("home.example.org", Some(Certificate { not_after: at(160), self_signed: false })),
                host("nas.example.org", Some(Certificate { not_after: at(97), self_signed: true })),
                host("lost.example.org", None),
            ],
            dynamic_dns: None,
            counters: [("requests".to_owned(), 123_456), ("refused".to_owned(), 78)].into(),
        }
    }

    #[test]
    fn the_table_reads_like_this() {
        let expected = "\
hearthgate 0.1.0, up 2 hours, configuration 3
last reload accepted, 24 hours ago
12 connections open, 3 of them WebSockets; 2 bans

https  0.0.0.0:443
       [::]:443
http   0.0.0.0:80
admin  127.0.0.1:9180

HOST              UPSTREAM                  HEALTH  CERTIFICATE
home.example.org  http://192.168.1.20:8123  up      60 days left
nas.example.org   http://192.168.1.20:8123  up      EXPIRED 3 days ago, self-si…
lost.example.org  http://192.168.1.20:8123  up      none

refused       78
requests  123456
";
        assert_eq!(render(&sample(), at(100)).unwrap(), expected);
    }

    #[test]
    fn names_that_follow_the_home_have_a_table_of_their_own() {
        let name = |name: &str| DynamicName {
            name: name.into(),
            ipv4: Some([203, 0, 113, 7].into()),
            ipv6: None,
            last_change: Some(at(99)),
            failure: None,
        };
        let failure = DynamicNameFailure { error: "the token is wrong".into(), next_attempt: at(100) + HOUR };
        let new = DynamicName { ipv4: None, last_change: None, failure: Some(failure), ..name("nas.example.org") };
        let problems = vec!["no public IPv6 address found".to_owned()];
        let dynamic_dns = DynamicDnsStatus { names: vec![name("anna.duckdns.org"), new], problems };
        let expected = "
DYNAMIC DNS       IPV4         IPV6  CHANGED
anna.duckdns.org  203.0.113.7  -     24 hours ago
nas.example.org   -            -     -
nas.example.org FAILS, next try in 1 hour: the token is wrong
no public IPv6 address found
";
        let status = Status { dynamic_dns: Some(dynamic_dns), ..sample() };
        let text = render(&status, at(100)).unwrap();
        assert!(text.contains(expected), "{text}");
        let back: Status = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
        assert_eq!(back, status);
        assert!(!serde_json::to_string(&sample()).unwrap().contains("dynamic_dns"));
    }

    #[test]
    fn no_line_is_longer_than_the_screen() {
        let mut status = sample();
        status.hosts[0].name = "a".repeat(300);
        status.hosts[1].health = "down since ".repeat(30);
        status.counters.insert("n".repeat(100), u64::MAX);
        for line in render(&status, at(0)).unwrap().lines() {
            assert!(line.chars().count() <= LINE_WIDTH, "{line}");
        }
    }

    #[test]
    fn spans_use_the_greatest_unit() {
        let table = [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (3599, "59 minutes"),
            (3600, "1 hour"),
            (2 * DAY - 1, "47 hours"),
            (2 * DAY, "2 days"),
        ];
        for (seconds, expected) in table {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }
}
