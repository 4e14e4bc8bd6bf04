//! From a state to what the terminal shows. Pure: the same state and size make the same picture.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline, Widget};

use super::state::State;
use crate::admin::{BanReport, CertificateReport, HostStatus, Level, Overview, RecentRefusal};
use crate::cli::table::{brief, counted, plain, time};

const QUIET: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const GOOD: Style = Style::new().fg(Color::Green);
const WARNING: Style = Style::new().fg(Color::Yellow);
const TROUBLE: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const ACCENT: Color = Color::LightRed;

/// Rows of hosts and bans while others want room too.
const MOST_HOSTS: usize = 5;
const MOST_BANS: usize = 6;
/// A title and three rows of bars.
const CHART_ROWS: u16 = 4;

/// Draws on all of `area`; what has no room is left out, from the end.
pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    draw_with(state, MOST_HOSTS, MOST_BANS, area, buffer);
}

fn draw_with(state: &State, most_hosts: usize, most_bans: usize, area: Rect, buffer: &mut Buffer) {
    let overview = &state.overview;
    let hosts = rows(overview.status.hosts.len(), most_hosts);
    let bans = rows(overview.bans.bans.len(), most_bans);
    let [head, door, feel, banned, refused, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(hosts + 1),
        Constraint::Length(CHART_ROWS + 1),
        Constraint::Length(bans + 1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    header(state, head, buffer);
    hosts_of(overview, door, buffer);
    charts(overview, feel, buffer);
    bans_of(state, banned, buffer);
    refusals_of(overview, refused, buffer);
    footer(state, foot, buffer);
}

/// The same as text, as long as it needs to be.
pub(super) fn text(state: &State) -> String {
    let overview = &state.overview;
    let (hosts, bans) = (overview.status.hosts.len().max(1), overview.bans.bans.len().max(1));
    let fixed = usize::from(CHART_ROWS) + 7;
    let needed = fixed + hosts + bans + overview.refusals.len().max(1);
    let area = Rect::new(0, 0, TEXT_WIDTH, u16::try_from(needed.min(MOST_TEXT)).unwrap_or(u16::MAX));
    let mut buffer = Buffer::empty(area);
    draw_with(state, hosts, bans, area, &mut buffer);
    let width = usize::from(area.width);
    // The last row tells of keys.
    let rows = buffer.content.chunks(width).take(usize::from(area.height) - 1);
    let lines = rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
    let lines: Vec<_> = lines.map(|line| line.trim_end().to_owned()).collect();
    format!("{}\n", lines.join("\n").trim_end())
}

/// In seconds.
const DAY: u64 = 86_400;

const TEXT_WIDTH: u16 = 100;
const MOST_TEXT: usize = 400;

fn rows(count: usize, most: usize) -> u16 {
    u16::try_from(count.clamp(1, most)).unwrap_or(1)
}

fn header(state: &State, area: Rect, buffer: &mut Buffer) {
    let (overview, status) = (&state.overview, &state.overview.status);
    let up = brief(Duration::from_secs(status.uptime_seconds));
    let mut line = vec![
        Span::styled("Hearthgate ", BOLD),
        Span::raw(plain(&status.version)),
        Span::raw(format!(" · up {up} · configuration {} · {}", status.generation, time(overview.at))),
    ];
    if state.is_paused {
        line.push(Span::styled("  paused", WARNING));
    }
    let findings = overview.findings();
    let second = match (&state.trouble, findings.first()) {
        (Some(why), _) => Line::styled(format!("not the newest: {}", plain(why)), TROUBLE),
        (None, None) => Line::styled("All is well", GOOD),
        (None, Some(first)) => {
            let style = if first.level == Level::Trouble { TROUBLE } else { WARNING };
            let more = findings.len() - 1;
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            Line::styled(format!("{}{more}", plain(&first.what)), style)
        }
    };
    Paragraph::new(vec![Line::from(line), second]).render(area, buffer);
}

fn title(text: &str, note: String, area: Rect, buffer: &mut Buffer) -> Rect {
    let [top, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let rule = "─".repeat(usize::from(top.width));
    Line::styled(rule, QUIET).render(top, buffer);
    Line::from(vec![Span::styled(format!("{text} "), BOLD), Span::styled(note, QUIET)]).render(top, buffer);
    rest
}

/// Puts cells into columns; a cell that is too long is cut.
fn row<const N: usize>(cells: [Span<'_>; N], columns: [Constraint; N], area: Rect, buffer: &mut Buffer) {
    for (cell, place) in cells.into_iter().zip(Layout::horizontal(columns).spacing(1).areas::<N>(area)) {
        Line::from(cell).render(place, buffer);
    }
}

fn hosts_of(overview: &Overview, area: Rect, buffer: &mut Buffer) {
    let status = &overview.status;
    let connections = counted(status.connections_open, "connection");
    let note = format!("{connections}, {}", counted(status.websockets_open, "WebSocket"));
    let area = title("Is the door open?", note, area, buffer);
    for (host, place) in status.hosts.iter().zip(area.rows()) {
        let certificate = overview.certificates.certificates.iter().find(|it| it.host == host.name);
        let cells = [
            Span::styled(plain(&host.name), BOLD),
            plain(&host.upstream).into(),
            health(host),
            served(certificate, overview),
        ];
        let columns = [Constraint::Fill(3), Constraint::Fill(4), Constraint::Fill(2), Constraint::Fill(3)];
        row(cells, columns, place, buffer);
    }
}

fn health(host: &HostStatus) -> Span<'static> {
    let style = match (host.is_up, &host.advice) {
        (Some(true), None) => GOOD,
        (None, None) => QUIET,
        _ => TROUBLE,
    };
    Span::styled(plain(host.in_words()), style)
}

fn served(certificate: Option<&CertificateReport>, overview: &Overview) -> Span<'static> {
    let Some(certificate) = certificate else { return "".into() };
    match certificate.left(overview.at) {
        None => Span::styled("no certificate", TROUBLE),
        Some(Duration::ZERO) => Span::styled("expired", TROUBLE),
        Some(left) => {
            let is_failing = certificate.acme.as_ref().is_some_and(|acme| acme.last_error.is_some());
            // Hours matter on the last day only.
            let days = left.as_secs() / DAY;
            let left = if days > 1 { format!("{days}d") } else { brief(left) };
            let text = format!("{left} left, {}", certificate.source.as_str());
            Span::styled(text, if is_failing { WARNING } else { Style::new() })
        }
    }
}

fn charts(overview: &Overview, area: Rect, buffer: &mut Buffer) {
    let area = title("How does it feel?", "the last hour".to_owned(), area, buffer);
    let hour = &overview.hour;
    let places = Layout::horizontal([Constraint::Fill(1); 4]).spacing(2).areas::<4>(area);
    let charts = [
        ("requests/s", hour.series(|sample| Some(sample.answers())), ACCENT),
        ("answer p95 ms", hour.series(|sample| sample.latency.map(|latency| latency.p95 * 1000.0)), Color::Blue),
        ("turned away/s", hour.series(|sample| Some(sample.refused.iter().sum())), Color::Yellow),
        ("bad logins/min", hour.series(|sample| Some(sample.failed_logins * 6.0)), Color::Magenta),
    ];
    for ((name, values, color), place) in charts.into_iter().zip(places) {
        chart(name, &values, color, place, buffer);
    }
}

fn chart(name: &str, values: &[Option<f32>], color: Color, area: Rect, buffer: &mut Buffer) {
    let [top, plot] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let most = values.iter().flatten().copied().fold(0.0, f32::max);
    let now = values.iter().rev().flatten().next().copied().unwrap_or_default();
    let words = vec![Span::raw(format!("{name} ")), Span::styled(short(now), BOLD)];
    Line::from(words).render(top, buffer);
    let bars = bars(values, plot.width);
    Sparkline::default().data(bars).max(1000).style(Style::new().fg(color)).render(plot, buffer);
    if most > 0.0 && plot.height > 0 {
        let label = format!("max {}", short(most));
        let width = u16::try_from(label.len()).unwrap_or(0).min(plot.width);
        Line::styled(label, QUIET).render(Rect { width, height: 1, ..plot }, buffer);
    }
}

/// As many bars as there are columns, each as high as the highest sample in it, in thousandths of the highest of all.
fn bars(values: &[Option<f32>], width: u16) -> Vec<u64> {
    let width = usize::from(width).max(1);
    let most = values.iter().flatten().copied().fold(0.0, f32::max);
    let bar = |column: usize| {
        let (from, to) = (column * values.len() / width, ((column + 1) * values.len()).div_ceil(width));
        let within = values.get(from..to.min(values.len())).unwrap_or_default();
        let highest = within.iter().flatten().copied().fold(0.0, f32::max);
        // In a match on the thousandth, so that nothing negative is cast.
        (0..=1000_u16).rev().find(|step| f32::from(*step) <= highest / most * 1000.0).map_or(0, u64::from)
    };
    if most <= 0.0 { vec![0; width] } else { (0..width).map(bar).collect() }
}

fn short(value: f32) -> String {
    match value {
        value if value <= 0.0 => "0".into(),
        value if value < 9.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn bans_of(state: &State, area: Rect, buffer: &mut Buffer) {
    let list = &state.overview.bans;
    let note = format!(
        "{}, {} known, {} throttled",
        counted(list.total, "ban"),
        counted(state.overview.known_devices, "device"),
        counted(state.overview.throttled_accounts, "account")
    );
    let area = title("Who knocks?", note, area, buffer);
    if list.bans.is_empty() {
        return Line::styled("nobody is banned", QUIET).render(area, buffer);
    }
    // The marked one is always in sight.
    let first = (state.marked + 1).saturating_sub(usize::from(area.height).max(1));
    for ((at, ban), place) in list.bans.iter().enumerate().skip(first).zip(area.rows()) {
        let (mark, style) = if at == state.marked { ("›", BOLD) } else { (" ", Style::new()) };
        let left = format!("{} left", brief(Duration::from_secs(ban.remaining_seconds)));
        let network = Span::styled(ban.network.to_string(), style);
        let columns = [Constraint::Length(1), Constraint::Fill(2), Constraint::Length(12), Constraint::Fill(3)];
        row([mark.into(), network, left.into(), why(ban).into()], columns, place, buffer);
    }
}

fn why(ban: &BanReport) -> String {
    crate::cli::bans::why(ban)
}

fn refusals_of(overview: &Overview, area: Rect, buffer: &mut Buffer) {
    if area.height < 2 {
        return;
    }
    let area = title("Turned away lately", String::new(), area, buffer);
    if overview.refusals.is_empty() {
        return Line::styled("nobody since the start", QUIET).render(area, buffer);
    }
    for (refused, place) in overview.refusals.iter().zip(area.rows()) {
        let columns =
            [Constraint::Length(8), Constraint::Fill(3), Constraint::Fill(3), Constraint::Fill(2), Constraint::Fill(3)];
        row(cells(refused, overview), columns, place, buffer);
    }
}

fn cells(refused: &RecentRefusal, overview: &Overview) -> [Span<'static>; 5] {
    let refusal = &refused.refusal;
    let age = overview.at.duration_since(refusal.at).unwrap_or_default();
    let optional = |text: &Option<String>| plain(text.as_deref().unwrap_or_default());
    [
        Span::styled(format!("{} ago", brief(age)), QUIET),
        refused.client.to_string().into(),
        optional(&refusal.host).into(),
        plain(&refusal.reason).into(),
        Span::styled(optional(&refusal.key), QUIET),
    ]
}

fn footer(state: &State, area: Rect, buffer: &mut Buffer) {
    match state.asked {
        Some(network) => Line::styled(format!("Lift the ban of {network}?  y yes  any other key: no"), WARNING),
        None => Line::styled("q quit  p pause  ↑↓ mark a ban  u unban", QUIET),
    }
    .render(area, buffer);
}

#[cfg(test)]
mod tests;
