//! The terminal: draws, listens to keys, asks the gate every two seconds, and gives the terminal back however it ends.

use std::io;
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::state::{State, Wish};
use super::view;
use crate::admin::{BanTarget, Client, Overview};

const EVERY: Duration = Duration::from_secs(2);
/// Keys that wait while a picture is drawn.
const KEYS: usize = 64;

/// The terminal as ours; raw and on its other screen until this is dropped. A panic restores it as well: `try_init`
/// sees to that.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows what the gate does until the user or a signal ends it.
pub(super) fn show(state: State, client: &Client) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let screen = Screen(ratatui::try_init().context("cannot draw on this terminal; `--once` needs none")?);
    runtime.block_on(run(screen, state, client))
}

async fn run(mut screen: Screen, mut state: State, client: &Client) -> anyhow::Result<()> {
    let mut keys = keys()?;
    let mut end = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].into_iter().map(signal);
    let (Some(terminate), Some(interrupt), Some(hangup)) = (end.next(), end.next(), end.next()) else { return Ok(()) };
    let (mut terminate, mut interrupt, mut hangup) = (terminate?, interrupt?, hangup?);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut questions = JoinSet::new();
    loop {
        screen.0.draw(|frame| view::draw(&state, frame.area(), frame.buffer_mut()))?;
        tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(key)) => match state.press(key) {
                    Wish::Nothing => {}
                    Wish::Quit => return Ok(()),
                    Wish::Unban(network) => { questions.spawn(unban(client.clone(), network)); }
                },
                // Of another size, it is drawn anew.
                Some(_) => {}
                None => return Ok(()),
            },
            // One at a time: a gate that is slow is not asked the more.
            _ = ticks.tick(), if questions.is_empty() && !state.is_paused => { questions.spawn(ask(client.clone())); }
            Some(Ok(answer)) = questions.join_next() => state.answered(answer),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}

/// A thread waits for keys, since nothing else can; it ends with the process.
fn keys() -> io::Result<mpsc::Receiver<Event>> {
    let (sender, keys) = mpsc::channel(KEYS);
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(keys)
}

async fn ask(client: Client) -> Result<Overview, String> {
    client.overview().await.map_err(|error| error.to_string())
}

/// Lifts a ban and looks at once.
async fn unban(client: Client, network: IpNet) -> Result<Overview, String> {
    client.remove_bans(BanTarget::Network(network)).await.map_err(|error| error.to_string())?;
    ask(client).await
}
