//! What is on the screen, and what a key does to it. Pure.

use ipnet::IpNet;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::admin::Overview;

/// Everything that is drawn.
#[derive(Debug)]
pub(super) struct State {
    pub overview: Overview,
    /// Why what is shown is not the newest.
    pub trouble: Option<String>,
    pub is_paused: bool,
    /// The row of the ban that is marked.
    pub marked: usize,
    /// The ban that is lifted if the answer is yes.
    pub asked: Option<IpNet>,
}

/// What a key wants to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Quit,
    Unban(IpNet),
}

impl State {
    pub fn new(overview: Overview) -> Self {
        Self { overview, trouble: None, is_paused: false, marked: 0, asked: None }
    }

    /// A new picture has come, or none.
    pub fn answered(&mut self, answer: Result<Overview, String>) {
        match answer {
            Ok(overview) if !self.is_paused => {
                // Who was marked stays marked, whoever comes above it.
                let marked = self.marked_network();
                self.overview = overview;
                let place = self.overview.bans.bans.iter().position(|ban| Some(ban.network) == marked);
                self.marked = place.unwrap_or(self.marked.min(self.last()));
                self.trouble = None;
            }
            Ok(_) => self.trouble = None,
            Err(why) => self.trouble = Some(why),
        }
    }

    pub fn press(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Wish::Quit;
        }
        // Whatever is not yes is no.
        if let Some(network) = self.asked.take() {
            return if key.code == KeyCode::Char('y') { Wish::Unban(network) } else { Wish::Nothing };
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('u') => self.asked = self.marked_network(),
            KeyCode::Down | KeyCode::Char('j') => self.marked = (self.marked + 1).min(self.last()),
            KeyCode::Up | KeyCode::Char('k') => self.marked = self.marked.saturating_sub(1),
            _ => {}
        }
        Wish::Nothing
    }

    fn marked_network(&self) -> Option<IpNet> {
        self.overview.bans.bans.get(self.marked).map(|ban| ban.network)
    }

    fn last(&self) -> usize {
        self.overview.bans.bans.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::admin::{BanCause, BanReport, fixtures};

    fn overview(networks: &[&str]) -> Overview {
        let mut overview = fixtures::overview();
        let bans = networks.iter().map(|network| BanReport {
            network: network.parse().unwrap(),
            since: UNIX_EPOCH,
            until: UNIX_EPOCH,
            remaining_seconds: 60,
            cause: BanCause::Failures,
            reason: None,
            strikes: 1,
        });
        overview.bans.bans = bans.collect();
        overview
    }

    fn press(state: &mut State, sign: char) -> Wish {
        state.press(KeyEvent::new(KeyCode::Char(sign), KeyModifiers::NONE))
    }

    const ONE: &str = "192.0.2.1/32";
    const TWO: &str = "192.0.2.2/32";

    #[test]
    fn a_ban_is_lifted_after_a_yes_and_nothing_else() {
        let mut state = State::new(overview(&[ONE, TWO]));
        assert_eq!((press(&mut state, 'j'), press(&mut state, 'u')), (Wish::Nothing, Wish::Nothing));
        assert_eq!(state.asked, Some(TWO.parse().unwrap()));
        assert_eq!(press(&mut state, 'q'), Wish::Nothing, "no is not the end");
        assert_eq!(state.asked, None);
        press(&mut state, 'u');
        assert_eq!(press(&mut state, 'y'), Wish::Unban(TWO.parse().unwrap()));
        assert_eq!(press(&mut state, 'y'), Wish::Nothing);
    }

    #[test]
    fn what_is_asked_stays_what_it_was_when_the_list_moves() {
        let mut state = State::new(overview(&[ONE]));
        press(&mut state, 'u');
        state.answered(Ok(overview(&[TWO, ONE])));
        assert_eq!(state.marked, 1);
        assert_eq!(press(&mut state, 'y'), Wish::Unban(ONE.parse().unwrap()));
    }

    #[test]
    fn the_mark_stays_on_the_list() {
        let mut state = State::new(overview(&[ONE, TWO]));
        for _ in 0..5 {
            press(&mut state, 'j');
        }
        assert_eq!(state.marked, 1);
        state.answered(Ok(overview(&[])));
        assert_eq!((state.marked, press(&mut state, 'u'), state.asked), (0, Wish::Nothing, None));
        press(&mut state, 'k');
        assert_eq!(state.marked, 0);
    }

    #[test]
    fn a_pause_keeps_the_picture() {
        let mut state = State::new(overview(&[ONE]));
        press(&mut state, 'p');
        state.answered(Ok(overview(&[])));
        assert_eq!(state.overview.bans.bans.len(), 1);
        press(&mut state, 'p');
        state.answered(Err("gone".into()));
        assert_eq!(state.trouble.as_deref(), Some("gone"));
        state.answered(Ok(overview(&[])));
        assert_eq!((state.overview.bans.bans.len(), state.trouble), (0, None));
    }

    #[test]
    fn there_are_three_ways_out() {
        let mut state = State::new(overview(&[]));
        assert_eq!(press(&mut state, 'q'), Wish::Quit);
        assert_eq!(state.press(KeyEvent::from(KeyCode::Esc)), Wish::Quit);
        state.asked = Some(ONE.parse().unwrap());
        assert_eq!(state.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::Quit);
    }
}
