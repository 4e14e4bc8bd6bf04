//! A chart of the last hour as inline SVG, with its axes and legend as text beside it.
//!
//! The drawing is stretched to the width there is; words are not, so that a telephone shows them as large as a desk does.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::words;
use crate::history::SAMPLES;

/// What is drawn.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    pub unit: Unit,
    /// Lines, or areas one upon the other.
    pub is_stacked: bool,
    pub series: Vec<Series<'a>>,
}

/// One line or area.
pub(super) struct Series<'a> {
    pub name: &'a str,
    /// Of the style sheet, which gives it its colour.
    pub class: &'static str,
    pub values: Vec<Option<f32>>,
}

#[derive(Clone, Copy)]
pub(super) enum Unit {
    PerSecond,
    PerMinute,
    Seconds,
    Open,
    Hosts,
}

impl Unit {
    fn title(self) -> &'static str {
        match self {
            Self::PerSecond => "per second",
            Self::PerMinute => "per minute",
            Self::Seconds => "time",
            Self::Open => "open",
            Self::Hosts => "hosts",
        }
    }

    /// What is counted in whole has a whole half.
    fn least_top(self) -> f32 {
        match self {
            Self::Open | Self::Hosts => 2.0,
            Self::PerSecond | Self::PerMinute | Self::Seconds => 0.0,
        }
    }

    fn write(self, value: f32) -> String {
        match self {
            Self::PerSecond | Self::PerMinute | Self::Open | Self::Hosts => words::number(value),
            Self::Seconds => words::seconds(value),
        }
    }
}

impl Chart<'_> {
    pub fn render(&self) -> Markup {
        let layers = self.layers();
        let most = layers.iter().flatten().flatten().copied().fold(0.0, f32::max);
        let top = round_up(most).max(self.unit.least_top());
        let is_empty = layers.iter().flatten().all(Option::is_none);
        html! {
            figure class={ "chart" @if !self.is_stacked { " lines" } } {
                figcaption { (self.title) " " span class="unit" { (self.unit.title()) } }
                div class="plot" {
                    div class="y" aria-hidden="true" {
                        span { (self.unit.write(top)) }
                        span { (self.unit.write(top / 2.0)) }
                        span { "0" }
                    }
                    div class="canvas" {
                        svg viewBox={ "0 0 " (SAMPLES - 1) " 100" } preserveAspectRatio="none" role="img"
                            aria-label=(self.in_words(most)) {
                            path class="grid" d={ "M0 0H" (SAMPLES - 1) "M0 50H" (SAMPLES - 1) } {}
                            @for drawn in self.draw(&layers, top) {
                                path class=(drawn.class) d=(drawn.path) {}
                            }
                            path class="base" d={ "M0 100H" (SAMPLES - 1) } {}
                        }
                        @if is_empty { p class="empty" { "The first picture comes after ten seconds." } }
                    }
                    div class="x" aria-hidden="true" {
                        span { "60 min ago" } span { "45" } span { "30" } span { "15" } span { "now" }
                    }
                }
                ul class="legend" {
                    @for series in &self.series {
                        li { i class=(series.class) {} (series.name) " " b { (self.latest(series)) } }
                    }
                }
            }
        }
    }

    /// What there is to see, for those who do not.
    fn in_words(&self, most: f32) -> String {
        let mut text =
            format!("{}, {}, last hour; at most {}; now", self.title, self.unit.title(), self.unit.write(most));
        for series in &self.series {
            // Writing to a string cannot fail.
            let _ = write!(text, " {} {},", series.name, self.latest(series));
        }
        text.trim_end_matches(',').to_owned()
    }

    fn latest(&self, series: &Series<'_>) -> String {
        series.values.last().copied().flatten().map_or_else(|| "–".to_owned(), |value| self.unit.write(value))
    }

    /// The height of each series' upper edge.
    fn layers(&self) -> Vec<Vec<Option<f32>>> {
        let mut below = vec![0.0; SAMPLES];
        let layer = |series: &Series<'_>| {
            let edge = series.values.iter().zip(&mut below).map(|(value, below)| {
                let value = value.filter(|value| value.is_finite())?;
                if !self.is_stacked {
                    return Some(value);
                }
                *below += value;
                Some(*below)
            });
            edge.collect()
        };
        self.series.iter().map(layer).collect()
    }

    /// The highest layer first, so that lower ones cover it: an area then needs no lower edge but the axis.
    fn draw(&self, layers: &[Vec<Option<f32>>], top: f32) -> Vec<Drawn> {
        let mut drawn: Vec<_> =
            layers.iter().zip(&self.series).map(|(layer, series)| self.drawn(layer, series, top)).collect();
        if self.is_stacked {
            drawn.reverse();
        }
        drawn
    }

    fn drawn(&self, layer: &[Option<f32>], series: &Series<'_>, top: f32) -> Drawn {
        let form = if self.is_stacked { "area" } else { "line" };
        Drawn { class: format!("{form} {}", series.class), path: path(layer, top, self.is_stacked) }
    }
}

struct Drawn {
    class: String,
    path: String,
}

/// One stroke for each run of samples without a gap; an area is closed down to the axis.
fn path(layer: &[Option<f32>], top: f32, is_closed: bool) -> String {
    let mut path = String::new();
    let mut begun = None;
    for (at, value) in layer.iter().enumerate() {
        match (value, begun) {
            (Some(value), _) => {
                let command = if begun.is_none() { 'M' } else { 'L' };
                let y = 100.0 - 100.0 * (value / top).clamp(0.0, 1.0);
                // Writing to a string cannot fail.
                let _ = write!(path, "{command}{at} {y:.1}");
                begun = begun.or(Some(at));
            }
            (None, Some(first)) => begun = end(&mut path, first, at - 1, is_closed),
            (None, None) => {}
        }
    }
    if let Some(first) = begun {
        end(&mut path, first, layer.len() - 1, is_closed);
    }
    path
}

fn end(path: &mut String, first: usize, last: usize, is_closed: bool) -> Option<usize> {
    // Writing to a string cannot fail. What has no width is given one, to be seen.
    let _ = match is_closed {
        true => write!(path, "L{last} 100L{first} 100Z"),
        false => write!(path, "h0"),
    };
    None
}

/// The next of 1, 2, 4, 10, ... that is no less; never zero.
fn round_up(value: f32) -> f32 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10_f32.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value * 0.999).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_round_number() {
        for (value, expected) in [(0.0, 1.0), (0.034, 0.04), (1.0, 1.0), (1.1, 2.0), (4.1, 10.0), (61.0, 100.0)] {
            assert!((round_up(value) - expected).abs() < expected * 1e-3, "{value}: {}", round_up(value));
        }
    }

    #[test]
    fn a_gap_is_not_drawn_over() {
        let layer = [Some(0.0), Some(1.0), None, Some(2.0), None];
        assert_eq!(path(&layer, 2.0, false), "M0 100.0L1 50.0h0M3 0.0h0");
        assert_eq!(path(&layer, 2.0, true), "M0 100.0L1 50.0L1 100L0 100ZM3 0.0L3 100L3 100Z");
        assert_eq!(path(&[None, None], 1.0, true), "");
    }

    #[test]
    fn stacked_series_stand_on_each_other_and_say_what_they_are() {
        let mut values = vec![None; SAMPLES];
        values[SAMPLES - 1] = Some(2.0);
        let series = ["good", "<bad>"].map(|name| Series { name, class: "c1", values: values.clone() });
        let chart = Chart { title: "Requests", unit: Unit::PerSecond, is_stacked: true, series: series.into() };
        let text = chart.render().into_string();
        assert!(text.contains("M359 0.0") && text.contains("M359 50.0"), "{text}");
        assert!(text.contains("Requests, per second, last hour; at most 4; now good 2, &lt;bad&gt; 2"), "{text}");
        assert!(!text.contains("style="), "the policy forbids it");
    }
}
