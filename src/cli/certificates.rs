//! `hearthgate certificates`: what every host is served with, what is done about it, and an attempt at once.

use std::fmt::Write as _;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use clap::{Args, Subcommand};

use super::table::{aligned, brief, plain, time};
use super::{Exit, SocketArgument};
use crate::admin::{
    AcmeReport, AwaitedAttempt, CertificateList, CertificateReport, Client, ClientError, Renew, ServedCertificate,
};

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: CertificatesCommand,
}

#[derive(Debug, PartialEq, Subcommand)]
enum CertificatesCommand {
    /// Show the certificate of each host
    List(ListArguments),
    /// Tell everything about one certificate
    Show(ShowArguments),
    /// Ask for a certificate now, and wait for it
    Renew(RenewArguments),
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
struct ShowArguments {
    /// A host, or a name in its certificate
    name: String,
    #[command(flatten)]
    socket: SocketArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, PartialEq, Args)]
struct RenewArguments {
    /// A host, or a name in its certificate
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// All certificates that an authority issues
    #[arg(long)]
    all: bool,
    /// Return at once; `certificates show` tells how it ends
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    socket: SocketArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn certificates(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match &arguments.command {
        CertificatesCommand::List(arguments) => list(arguments, out),
        CertificatesCommand::Show(arguments) => show(arguments, out),
        CertificatesCommand::Renew(arguments) => renew(arguments, out),
    }
}

fn list(arguments: &ListArguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let list = arguments.socket.ask(Client::certificates)?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &list)?;
        writeln!(out)?;
    } else {
        out.write_all(render_list(&list, SystemTime::now()).as_bytes())?;
    }
    Ok(Exit::Good)
}

fn show(arguments: &ShowArguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let list = arguments.socket.ask(Client::certificates)?;
    let name = &arguments.name;
    let Some(found) = list.certificates.iter().find(|certificate| certificate.is_called(name)) else {
        anyhow::bail!("no host or certificate is called {}; `hearthgate certificates list` shows all", plain(name));
    };
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, found)?;
        writeln!(out)?;
    } else {
        out.write_all(render(found, SystemTime::now())?.as_bytes())?;
    }
    Ok(Exit::Good)
}

/// Exits with 1 if an attempt has failed.
fn renew(arguments: &RenewArguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let wanted = Renew { name: arguments.name.clone() };
    let reports = arguments.socket.ask(async |client: &Client| {
        let awaited = client.renew(&wanted).await?.awaited;
        if arguments.no_wait { reports_on(client, &awaited).await } else { wait_for(client, &awaited).await }
    })?;
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &reports)?;
        writeln!(out)?;
    }
    let mut failures = Vec::new();
    for report in &reports {
        match (&report.last_error, arguments.no_wait) {
            (_, true) if arguments.json => {}
            (_, true) => writeln!(out, "{}: asked for", report.name)?,
            (None, false) if arguments.json => {}
            (None, false) => writeln!(out, "{}: {}", report.name, had(report))?,
            (Some(error), false) => {
                let again =
                    report.next_attempt.map_or_else(String::new, |at| format!("; next attempt at {}", time(at)));
                let (step, sentence) = (plain(&error.step), plain(&error.sentence));
                failures.push(format!("{}: {step}: {sentence}{again}", report.name));
            }
        }
    }
    if failures.is_empty() { Ok(Exit::Good) } else { anyhow::bail!(failures.join("\n")) }
}

/// Asks twice a second until all attempts have ended.
async fn wait_for(client: &Client, awaited: &[AwaitedAttempt]) -> Result<Vec<AcmeReport>, ClientError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reports = reports_on(client, awaited).await?;
        let has_ended = |wanted: &AwaitedAttempt| {
            // One that is no longer configured is waited for in vain.
            let report = reports.iter().find(|report| report.name == wanted.name);
            report.is_none_or(|report| report.attempts >= wanted.attempts)
        };
        if awaited.iter().all(has_ended) {
            return Ok(reports);
        }
        if Instant::now() > deadline {
            return Err(ClientError::Timeout(PATIENCE));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn reports_on(client: &Client, awaited: &[AwaitedAttempt]) -> Result<Vec<AcmeReport>, ClientError> {
    let mut reports: Vec<AcmeReport> = Vec::new();
    for report in client.certificates().await?.certificates.into_iter().filter_map(|certificate| certificate.acme) {
        let is_wanted = awaited.iter().any(|wanted| wanted.name == report.name);
        if is_wanted && !reports.iter().any(|known| known.name == report.name) {
            reports.push(report);
        }
    }
    Ok(reports)
}

fn had(report: &AcmeReport) -> String {
    report.not_after.map_or_else(|| "asked for".to_owned(), |end| format!("had, valid until {}", time(end)))
}

fn render_list(list: &CertificateList, now: SystemTime) -> String {
    let mut rows = vec![["HOST", "SOURCE", "EXPIRES", "RENEWS", "STATE"].map(str::to_owned)];
    rows.extend(list.certificates.iter().map(|certificate| {
        let renews = certificate.acme.as_ref().and_then(|acme| acme.renew_at);
        [
            certificate.host.clone(),
            certificate.source.as_str().to_owned(),
            certificate.served.as_ref().map_or_else(|| "none".to_owned(), |served| expires(served, now)),
            renews.map_or_else(String::new, |at| at.duration_since(now).map_or_else(|_| "now".to_owned(), until)),
            state(certificate, now),
        ]
    }));
    aligned(&rows)
}

fn expires(served: &ServedCertificate, now: SystemTime) -> String {
    match served.not_after.duration_since(now) {
        Ok(left) => until(left),
        Err(error) => format!("EXPIRED {} ago", days(error.duration())),
    }
}

fn until(left: Duration) -> String {
    format!("in {}", days(left))
}

/// Whole days, as certificates are counted; less than two in hours and minutes.
fn days(span: Duration) -> String {
    if span < 2 * DAY { brief(span) } else { format!("{}d", span.as_secs() / DAY.as_secs()) }
}

/// What is going on, or wrong; nothing if all is well.
fn state(certificate: &CertificateReport, now: SystemTime) -> String {
    let mut parts = Vec::new();
    let served = certificate.served.as_ref();
    if let Some(acme) = &certificate.acme {
        if served.is_some_and(|served| served.self_signed) {
            parts.push("self-signed until it is had".to_owned());
        }
        if let Some(step) = &acme.step {
            parts.push(format!("ordering: {}", plain(step)));
        }
        if let Some(error) = &acme.last_error {
            let again = acme.next_attempt.and_then(|at| at.duration_since(now).ok());
            let again = again.map_or_else(String::new, |left| format!(", again in {}", brief(left)));
            let (step, sentence) = (plain(&error.step), plain(&error.sentence));
            parts.push(format!("failed {}{again}: {step}: {sentence}", times(acme.failures)));
        }
    }
    if let Some(error) = served.and_then(|served| served.last_error.as_ref()) {
        parts.push(plain(error));
    }
    parts.join("; ")
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

fn render(certificate: &CertificateReport, now: SystemTime) -> Result<String, std::fmt::Error> {
    let mut text = format!("{}\n", certificate.host);
    let mut line = |key: &str, value: &str| writeln!(text, "  {key:<14}{value}");
    line("names", &certificate.names.join(", "))?;
    line("source", certificate.source.as_str())?;
    match &certificate.served {
        None => line("served", "nothing: clients are turned away")?,
        Some(served) => {
            let by = if served.self_signed { ", self-signed: browsers warn of it" } else { "" };
            line("served", &format!("until {} ({}){by}", time(served.not_after), expires(served, now)))?;
            line("valid from", &time(served.not_before))?;
            line("sha256", &served.sha256)?;
            if let Some(error) = &served.last_error {
                line("problem", &plain(error))?;
            }
        }
    }
    if let Some(acme) = &certificate.acme {
        render_acme(acme, now, &mut line)?;
    }
    Ok(text)
}

fn render_acme(
    acme: &AcmeReport,
    now: SystemTime,
    line: &mut dyn FnMut(&str, &str) -> std::fmt::Result,
) -> std::fmt::Result {
    let moment = |at: SystemTime| match at.duration_since(now) {
        Ok(left) => format!("{} ({})", time(at), until(left)),
        Err(error) => format!("{} ({} ago)", time(at), days(error.duration())),
    };
    line("certificate", &acme.names.join(", "))?;
    line("authority", &plain(&acme.directory))?;
    if let Some(issuer) = &acme.issuer {
        line("issued by", &plain(issuer))?;
    }
    line("challenges", &acme.challenges.join(", "))?;
    if let Some(profile) = &acme.profile {
        line("profile", profile)?;
    }
    match &acme.step {
        Some(step) => line("state", &format!("{}: {}", acme.state, plain(step)))?,
        None => line("state", &acme.state)?,
    }
    if let Some(at) = acme.renew_at {
        let because = acme.renew_because.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let at = if at > now { moment(at) } else { "due".to_owned() };
        line("renewal", &format!("{at}{because}"))?;
    }
    if let Some(url) = &acme.explanation_url {
        line("explanation", &plain(url))?;
    }
    for (key, at) in
        [("next attempt", acme.next_attempt), ("last success", acme.last_success), ("last attempt", acme.last_attempt)]
    {
        line(key, &at.map_or_else(|| "never".to_owned(), moment))?;
    }
    if let Some(error) = &acme.last_error {
        line("failures", &acme.failures.to_string())?;
        line("failed at", &plain(&error.step))?;
        line("last error", &plain(&error.sentence))?;
    }
    Ok(())
}

const DAY: Duration = Duration::from_secs(86_400);
/// Between two looks at an attempt.
const LOOK: Duration = Duration::from_millis(500);
/// Several attempts may be ahead, each of which may wait for records to be seen.
const PATIENCE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
