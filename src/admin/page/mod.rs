//! The status page: is the door open, who knocks, how does it feel. Pure: a picture in, HTML out.
//!
//! Readable without JavaScript; the script only brings the parts marked `data-live` up to date. Everything is escaped by
//! `maud`; nothing comes from elsewhere, and the policy of the answer lets nothing.

mod chart;
mod door;
mod feel;
mod knocks;
mod words;

use maud::{DOCTYPE, Markup, html};

use super::{Finding, Level, Overview};
use std::time::Duration;

/// The page's own files, and what they are.
pub(super) const STYLE: &str = include_str!("status.css");
pub(super) const SCRIPT: &str = include_str!("status.js");

/// No inline script, no inline style, nothing from anywhere else, no frame around it.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                                 img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Draws the whole page. `token` proves that a form came from it.
pub(super) fn render(overview: &Overview, token: &str) -> String {
    let findings = overview.findings();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (in_short(&findings)) " · Hearthgate" }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href="/status.css";
                script src="/status.js" defer {}
            }
            body {
                a class="skip" href="#main" { "Skip to content" }
                (header(overview))
                main id="main" {
                    (verdict(&findings))
                    (door::section(overview))
                    (knocks::section(overview, token))
                    (feel::section(overview))
                }
                footer {
                    p { "The last hour, from the gate's own memory. What should last longer belongs into Prometheus: "
                        a href="/metrics" { "metrics" } "." }
                }
            }
        }
    };
    markup.into_string()
}

fn header(overview: &Overview) -> Markup {
    let status = &overview.status;
    html! {
        header {
            p class="brand" {
                svg viewBox="0 0 32 32" aria-hidden="true" {
                    path class="wall" d="M4 28V13a12 9 0 0 1 24 0V28H21V17a5 5 0 0 0-10 0V28Z" {}
                    path class="fire" d="M16 17c3 3 4 5 4 7.500a4 4 0 0 1-8 0c0-2 1.200-3 2-4.500.600 1 1 1.500 1.500 1.500.800-1.200.900-2.500.500-4.500Z" {}
                }
                span { "Hearthgate" }
            }
            p class="facts" id="facts" data-live="" {
                span { (status.version) }
                span { "up " (words::span(Duration::from_secs(status.uptime_seconds))) }
                span { "as of " (moment(overview.at, overview.at)) }
            }
            p class="live" id="live" role="status" { a href="/" { "Refresh" } }
        }
    }
}

/// One sentence that answers before anybody reads on, and what there is to do.
fn verdict(findings: &[Finding]) -> Markup {
    let worst = findings.first().map(|finding| finding.level);
    let (class, title) = match worst {
        None => ("good", "All is well"),
        Some(Level::Warning) => ("warning", "It works, and something wants a look"),
        Some(Level::Trouble) => ("trouble", "Something is wrong"),
    };
    html! {
        section id="verdict" class={ "verdict " (class) } data-live="" aria-labelledby="verdict-title" {
            h1 id="verdict-title" { (title) }
            @if findings.is_empty() { p { "Every host answers, every certificate is in its time, and the configuration is the one in the file." } }
            @else {
                ul {
                    @for finding in findings {
                        li class=(class_of(finding.level)) {
                            strong { (word_of(finding.level)) ": " } (finding.what)
                            @for line in finding.what_to_do.lines().filter(|line| !line.is_empty()) { p class="advice" { (line) } }
                        }
                    }
                }
            }
        }
    }
}

fn in_short(findings: &[Finding]) -> &'static str {
    match findings.first().map(|finding| finding.level) {
        None => "well",
        Some(Level::Warning) => "a look, please",
        Some(Level::Trouble) => "trouble",
    }
}

fn class_of(level: Level) -> &'static str {
    match level {
        Level::Warning => "warning",
        Level::Trouble => "trouble",
    }
}

fn word_of(level: Level) -> &'static str {
    match level {
        Level::Warning => "Look",
        Level::Trouble => "Wrong",
    }
}

/// A state by colour and by word.
fn badge(class: &'static str, word: &str) -> Markup {
    html! { span class={ "badge " (class) } { (word) } }
}

/// A moment in UTC, which the script turns into the reader's own time.
fn moment(time: std::time::SystemTime, now: std::time::SystemTime) -> Markup {
    html! { time datetime=(words::stamp(time)) { (words::clock(time, now)) } }
}

/// A cell that says what it is where there is no room for a head above it.
fn cell(label: &str, content: Markup) -> Markup {
    html! { td data-label=(label) { div { (content) } } }
}

fn tile(title: &str, value: &str, note: &str) -> Markup {
    html! { div { dt { (title) } dd { (value) " " small { (note) } } } }
}

/// The hearth of the header, for the browser's tab.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Cpath \
                    fill='%237a7068' d='M4 28V13a12 9 0 0 1 24 0V28H21V17a5 5 0 0 0-10 0V28Z'/%3E%3Cpath \
                    fill='%23c2571a' d='M16 17c3 3 4 5 4 7.500a4 4 0 0 1-8 0c0-2 1.200-3 2-4.500.600 1 1 1.500 1.500 \
                    1.500.800-1.200.900-2.500.500-4.500Z'/%3E%3C/svg%3E";

#[cfg(test)]
mod tests;
