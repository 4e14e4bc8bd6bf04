//! Pictures of a state, sign by sign.

use std::time::UNIX_EPOCH;

use super::*;
use crate::admin::{BanCause, fixtures};

fn state() -> State {
    let mut overview = fixtures::overview();
    overview.bans.total = 1;
    overview.bans.bans = vec![BanReport {
        network: "203.0.113.0/24".parse().unwrap(),
        since: UNIX_EPOCH,
        until: UNIX_EPOCH,
        remaining_seconds: 840,
        cause: BanCause::Operator,
        reason: Some("scans\u{1b}[2J".into()),
        strikes: 1,
    }];
    State::new(overview)
}

fn picture(state: &State, width: u16, height: u16) -> Vec<String> {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(state, area, &mut buffer);
    let rows = buffer.content.chunks(usize::from(width));
    rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()).collect()
}

#[test]
fn an_ordinary_terminal_shows_it_all() {
    let expected = "\
Hearthgate 0.1.0 · up 2h · configuration 3 · 2026-11-23T21:30:00Z
All is well
Is the door open? 12 connections, 3 WebSockets──────────────────────────────────
ha.example.org      http://192.168.1.20:8123   healthy       60d left, files
How does it feel? the last hour─────────────────────────────────────────────────
requests/s 4.0       answer p95 ms 0     turned away/s 1.5    bad logins/min 12
";
    let shown = picture(&state(), 80, 24).join("\n");
    assert!(shown.starts_with(expected), "{shown}");
    for part in [
        "requests/s 4.0",
        "turned away/s 1.5",
        "max 4.0",
        "█",
        "Who knocks? 1 ban, 4 devices known, 1 account throttled",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(
        shown.contains("› 203.0.113.0/24") && shown.contains("14m left") && shown.contains("operator: scans [2J"),
        "{shown}"
    );
    assert!(shown.contains("7s ago") && shown.contains("203.0.113.7") && shown.contains("rate_limit"), "{shown}");
    assert!(shown.ends_with("q quit  p pause  ↑↓ mark a ban  u unban"), "{shown}");
}

#[test]
fn the_footer_asks_and_the_header_tells() {
    let mut state = state();
    state.asked = Some("203.0.113.0/24".parse().unwrap());
    state.trouble = Some("no gate\nis running".into());
    state.is_paused = true;
    let shown = picture(&state, 80, 24);
    assert!(shown[0].ends_with("paused"), "{}", shown[0]);
    assert_eq!(shown[1], "not the newest: no gate is running");
    assert_eq!(shown[23], "Lift the ban of 203.0.113.0/24?  y yes  any other key: no");
}

#[test]
fn no_size_is_too_small_or_too_large() {
    let mut state = state();
    let many = vec![state.overview.bans.bans[0].clone(); 100];
    state.overview.bans.bans = many;
    state.marked = 99;
    for (width, height) in [(1, 1), (2, 40), (80, 3), (20, 10), (500, 200), (80, 24)] {
        assert_eq!(picture(&state, width, height).len(), usize::from(height));
    }
    assert!(picture(&state, 80, 24).iter().any(|line| line.starts_with('›')), "the marked ban is in sight");
}

#[test]
fn the_text_has_every_refusal_and_no_keys() {
    let mut state = state();
    let one = state.overview.refusals[0].clone();
    state.overview.refusals = vec![one; 60];
    let text = text(&state);
    assert_eq!(text.matches("7s ago").count(), 60);
    assert!(!text.contains("q quit") && !text.contains('\u{1b}') && text.ends_with('\n'), "{text}");
}

#[test]
fn bars_are_as_high_as_their_highest_sample() {
    let values: Vec<_> = [1.0, 4.0, 2.0, 0.0].map(Some).into();
    assert_eq!(bars(&values, 2), [1000, 500]);
    assert_eq!(bars(&values, 4), [250, 1000, 500, 0]);
    assert_eq!(bars(&values, 8), [250, 250, 1000, 1000, 500, 500, 0, 0]);
    assert_eq!(bars(&[None, None], 3), [0, 0, 0]);
    assert_eq!(bars(&[], 2), [0, 0]);
}
