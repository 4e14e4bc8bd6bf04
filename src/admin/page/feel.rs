//! How does it feel? Requests, how long they wait for an answer, and who is connected.

use maud::{Markup, html};

use super::chart::{Chart, Series, Unit};
use super::{tile, words};
use crate::admin::Overview;
use crate::history::{Hour, Sample};

pub(super) fn section(overview: &Overview) -> Markup {
    let (hour, status) = (&overview.hour, &overview.status);
    let latest = hour.latest();
    let time = |value: Option<f32>| value.map_or_else(|| "–".to_owned(), words::seconds);
    let own = hour.samples.iter().rev().flatten().find_map(|sample| sample.own_p95);
    let latency = hour.samples.iter().rev().flatten().find_map(|sample| sample.latency);
    html! {
        section id="feel" data-live="" aria-labelledby="feel-title" {
            h2 id="feel-title" { "How does it feel?" }
            dl class="tiles" {
                (tile("Requests", &words::number(latest.map_or(0.0, Sample::answers)), "a second"))
                (tile("Half answered within", &time(latency.map(|it| it.p50)), "by the upstream"))
                (tile("19 of 20 within", &time(latency.map(|it| it.p95)), "by the upstream"))
                (tile("The gate adds", &time(own), "at most, to 19 of 20"))
                (tile("Connections", &status.connections_open.to_string(), "open"))
                (tile("WebSockets", &status.websockets_open.to_string(), "open"))
            }
            div class="charts" { (requests(hour)) (answers(hour)) (connections(hour)) (upstreams(hour)) }
        }
    }
}

fn requests(hour: &Hour) -> Markup {
    let series = |name, class, of: fn(&Sample) -> f32| Series { name, class, values: hour.series(|it| Some(of(it))) };
    let series = vec![
        series("answered", "c1", |sample| sample.fine),
        series("4xx, refused ones too", "c2", |sample| sample.client_errors),
        series("5xx", "c3", |sample| sample.server_errors),
    ];
    Chart { title: "Requests", unit: Unit::PerSecond, is_stacked: true, series }.render()
}

fn answers(hour: &Hour) -> Markup {
    let series = vec![
        Series { name: "19 of 20", class: "c2", values: hour.series(|sample| sample.latency.map(|it| it.p95)) },
        Series { name: "the gate adds", class: "g3", values: hour.series(|sample| sample.own_p95) },
        Series { name: "half", class: "c1", values: hour.series(|sample| sample.latency.map(|it| it.p50)) },
    ];
    Chart { title: "Until the upstream answers", unit: Unit::Seconds, is_stacked: false, series }.render()
}

fn connections(hour: &Hour) -> Markup {
    let series =
        |name, class, of: fn(&Sample) -> u32| Series { name, class, values: hour.series(|it| Some(of(it) as f32)) };
    let series = vec![
        series("connections", "c1", |sample| sample.connections),
        series("WebSockets", "c2", |sample| sample.websockets),
    ];
    Chart { title: "Connections", unit: Unit::Open, is_stacked: false, series }.render()
}

fn upstreams(hour: &Hour) -> Markup {
    let series =
        |name, class, of: fn(&Sample) -> u32| Series { name, class, values: hour.series(|it| Some(of(it) as f32)) };
    let series = vec![
        series("answer", "up", |sample| sample.upstreams_up),
        series("do not", "c3", |sample| sample.upstreams.saturating_sub(sample.upstreams_up)),
    ];
    Chart { title: "Upstreams", unit: Unit::Hosts, is_stacked: true, series }.render()
}
