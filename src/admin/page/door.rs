//! Is the door open? Hosts with what stands behind them, certificates, listeners, the configuration.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::{badge, cell, moment, words};
use crate::admin::{CertificateReport, DynamicName, HostStatus, Overview, ReloadOutcome, Status};

pub(super) fn section(overview: &Overview) -> Markup {
    html! {
        section id="door" data-live="" aria-labelledby="door-title" {
            h2 id="door-title" { "Is the door open?" }
            (hosts(overview))
            (facts(&overview.status, overview.at))
        }
    }
}

fn hosts(overview: &Overview) -> Markup {
    html! {
        table class="cards hosts" {
            caption class="unseen" { "Hosts" }
            thead { tr {
                th scope="col" { "Host" } th scope="col" { "Upstream" } th scope="col" { "State" }
                th scope="col" { "Certificate" } th scope="col" { "Next renewal" }
            } }
            tbody {
                @for host in &overview.status.hosts {
                    @let certificate = overview.certificates.certificates.iter().find(|it| it.host == host.name);
                    tr {
                        th scope="row" { (host.name) }
                        (cell("Upstream", html! { (host.upstream) }))
                        (cell("State", state(host)))
                        (cell("Certificate", served(certificate, overview.at)))
                        (cell("Next renewal", renewal(certificate, overview.at)))
                    }
                }
            }
        }
    }
}

fn state(host: &HostStatus) -> Markup {
    let class = match (host.is_up, &host.advice) {
        (_, Some(_)) | (Some(false), _) => "trouble",
        (Some(true), None) => "good",
        (None, None) => "unknown",
    };
    badge(class, host.in_words())
}

fn served(certificate: Option<&CertificateReport>, now: SystemTime) -> Markup {
    let Some(certificate) = certificate else { return html! { "–" } };
    let Some(left) = certificate.left(now) else { return badge("trouble", "none") };
    let is_self_signed = certificate.served.as_ref().is_some_and(|it| it.self_signed);
    html! {
        @if left.is_zero() { (badge("trouble", "expired")) } @else { (words::span(left)) " left" }
        " " small { @if is_self_signed { "self-signed" } @else { (certificate.source.as_str()) } }
    }
}

fn renewal(certificate: Option<&CertificateReport>, now: SystemTime) -> Markup {
    let acme = certificate.and_then(|it| it.acme.as_ref());
    let next = acme.and_then(|acme| acme.next_attempt.or(acme.renew_at));
    let files = certificate.and_then(|it| it.served.as_ref()).and_then(|it| it.last_error.as_deref());
    let error = acme.and_then(|acme| acme.last_error.as_ref()).map(|error| error.sentence.as_str()).or(files);
    html! {
        @match next {
            Some(next) if next <= now => { "now" }
            Some(next) => { "in " (words::span(next.duration_since(now).unwrap_or_default())) }
            None => { small { (not_ours(certificate)) } }
        }
        @if let Some(error) = error { p class="error" { "last error: " (error) } }
    }
}

fn not_ours(certificate: Option<&CertificateReport>) -> &'static str {
    use crate::admin::CertificateSource;
    match certificate.map(|it| it.source) {
        Some(CertificateSource::Files) => "when its files change",
        Some(CertificateSource::SelfSigned) => "by itself, in time",
        Some(CertificateSource::Acme) => "not planned yet",
        None => "–",
    }
}

fn facts(status: &Status, now: SystemTime) -> Markup {
    html! {
        dl class="list" {
            div { dt { "Listens on" } dd { (listeners(status)) } }
            @if let Some(names) = &status.dynamic_dns {
                div { dt { "Dynamic DNS" } dd { (names.names.iter().map(pointed).collect::<Vec<_>>().join(" · ")) } }
            }
            div { dt { "Configuration" } dd {
                "generation " (status.generation)
                @match &status.last_reload {
                    None => { ", as at the start" }
                    Some(last) => {
                        @let age = now.duration_since(last.at).unwrap_or(Duration::ZERO);
                        ", last reload " (outcome(last.outcome)) " " (moment(last.at, now)) " (" (words::span(age)) " ago)"
                    }
                }
            } }
        }
    }
}

/// `home.example.org → 203.0.113.5, 2001:db8::5`.
fn pointed(name: &DynamicName) -> String {
    let addresses = [name.ipv4.map(IpAddr::V4), name.ipv6.map(IpAddr::V6)];
    let addresses: Vec<_> = addresses.into_iter().flatten().map(|address| address.to_string()).collect();
    let addresses = if addresses.is_empty() { "not told yet".to_owned() } else { addresses.join(", ") };
    format!("{} → {addresses}", name.name)
}

fn outcome(outcome: ReloadOutcome) -> Markup {
    match outcome {
        ReloadOutcome::Accepted | ReloadOutcome::Unchanged => badge("good", outcome.as_str()),
        ReloadOutcome::Refused => badge("warning", outcome.as_str()),
    }
}

fn listeners(status: &Status) -> String {
    let join = |name: &str, addresses: &[SocketAddr]| {
        let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        (!list.is_empty()).then(|| format!("{name} {}", list.join(", ")))
    };
    let listeners = &status.listeners;
    let all =
        [join("https", &listeners.https), join("http", &listeners.http), join("admin", listeners.admin.as_slice())];
    all.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}
