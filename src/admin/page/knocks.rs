//! Who knocks? Refusals of the last hour, bans with a button that lifts them, and who was turned away last.

use std::time::Duration;

use maud::{Markup, html};

use super::chart::{Chart, Series, Unit};
use super::{cell, moment, tile, words};
use crate::admin::{BanCause, BanReport, Overview};
use crate::history::{Group, STEP, Sample};

pub(super) fn section(overview: &Overview, token: &str) -> Markup {
    let hour = &overview.hour;
    let refused = hour.total(|sample| sample.refused.iter().sum());
    let failed: f32 = hour.samples.iter().flatten().map(|sample| sample.failed_logins).sum();
    html! {
        section id="knocks" aria-labelledby="knocks-title" {
            h2 id="knocks-title" { "Who knocks?" }
            dl class="tiles" id="knocks-tiles" data-live="" {
                (tile("Turned away", &words::number(refused), "in the last hour"))
                (tile("Failed logins", &words::number(failed), "in the last hour"))
                (tile("Bans", &overview.bans.total.to_string(), "in force"))
                (tile("Known devices", &overview.known_devices.to_string(), "have logged in"))
                (tile("Throttled accounts", &overview.throttled_accounts.to_string(), "strangers wait"))
            }
            div class="charts" id="knocks-charts" data-live="" { (turned_away(overview)) (failed_logins(overview)) }
            h3 id="bans" { "Bans" }
            div id="ban-list" data-live="" { (bans(overview, token)) }
            h3 { "Turned away lately" }
            div id="refusal-list" data-live="" { (refusals(overview)) }
        }
    }
}

fn turned_away(overview: &Overview) -> Markup {
    let classes = ["g1", "g2", "g3", "g4", "g5"];
    let series = Group::ALL.into_iter().zip(classes).enumerate().map(|(at, (group, class))| Series {
        name: group.title(),
        class,
        values: overview.hour.series(|sample| sample.refused.get(at).copied()),
    });
    Chart { title: "Turned away", unit: Unit::PerSecond, is_stacked: true, series: series.collect() }.render()
}

fn failed_logins(overview: &Overview) -> Markup {
    let a_minute = 60.0 / STEP.as_secs_f32();
    let values = overview.hour.series(|sample: &Sample| Some(sample.failed_logins * a_minute));
    let series = vec![Series { name: "failed", class: "g2", values }];
    Chart { title: "Failed logins", unit: Unit::PerMinute, is_stacked: true, series }.render()
}

fn bans(overview: &Overview, token: &str) -> Markup {
    let list = &overview.bans;
    if list.bans.is_empty() {
        return html! { p class="none" { "Nobody is banned." } };
    }
    html! {
        table class="cards" {
            caption class="unseen" { "Bans, the newest first" }
            thead { tr {
                th scope="col" { "Network" } th scope="col" { "Why" } th scope="col" { "Since" } th scope="col" { "Ends" }
                th scope="col" { "Times" } th scope="col" { span class="unseen" { "Lift" } }
            } }
            tbody {
                @for ban in &list.bans {
                    tr {
                        th scope="row" { code { (ban.network) } }
                        (cell("Why", why(ban)))
                        (cell("Since", moment(ban.since, overview.at)))
                        (cell("Ends", html! { "in " (words::span(Duration::from_secs(ban.remaining_seconds))) }))
                        (cell("Times", html! { (ban.strikes) }))
                        td class="action" { (unban(ban, token)) }
                    }
                }
            }
        }
        @let shown = list.bans.len() as u64;
        @if list.total > shown {
            p class="none" { "The newest " (shown) " of " (list.total) "; " code { "hearthgate bans list" } " shows all." }
        }
    }
}

fn why(ban: &BanReport) -> Markup {
    let cause = match ban.cause {
        BanCause::Failures => "failed logins",
        BanCause::Neighbours => "failed logins of many in it",
        BanCause::Operator => "by the operator",
    };
    html! { (cause) @if let Some(reason) = &ban.reason { ": " (reason) } }
}

/// Works without JavaScript. What it sends is believed only from this very page.
fn unban(ban: &BanReport, token: &str) -> Markup {
    html! {
        form method="post" action="/bans/remove" {
            input type="hidden" name="token" value=(token);
            input type="hidden" name="network" value=(ban.network);
            button { "Unban" span class="unseen" { " " (ban.network) } }
        }
    }
}

fn refusals(overview: &Overview) -> Markup {
    if overview.refusals.is_empty() {
        return html! { p class="none" { "Nobody since the start." } };
    }
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Turned away lately" {
            table class="cards" {
                caption class="unseen" { "Requests that were refused, the newest first" }
                thead { tr {
                    th scope="col" { "Client" } th scope="col" { "When" } th scope="col" { "Host" }
                    th scope="col" { "Reason" } th scope="col" { "Set by" }
                } }
                tbody {
                    @for refused in &overview.refusals {
                        tr {
                            th scope="row" { code { (refused.client) } }
                            (cell("When", moment(refused.refusal.at, overview.at)))
                            (cell("Host", html! { (refused.refusal.host.as_deref().unwrap_or("–")) }))
                            (cell("Reason", html! { (refused.refusal.reason.replace('_', " ")) }))
                            (cell("Set by", match &refused.refusal.key {
                                Some(key) => html! { code { (key) } },
                                None => html! { "–" },
                            }))
                        }
                    }
                }
            }
        }
        @if overview.refusals_passed_over > 0 {
            p class="none" { (overview.refusals_passed_over) " more came too fast to be listed, and are counted above." }
        }
    }
}
