//! `hearthgate top`: is the door open, who knocks, how does it feel, live in a terminal.
//!
//! [`state`] knows what a key does, [`view`] what a state looks like; both are pure. [`live`] has the terminal. Where
//! there is none, one picture is printed as text.

mod live;
mod state;
mod view;

use std::io::{self, IsTerminal, Write};

use clap::Args;

use super::{Exit, SocketArgument};
use crate::admin::Client;
use state::State;

#[derive(Debug, PartialEq, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    socket: SocketArgument,
    /// Print one picture and end
    #[arg(long)]
    once: bool,
}

pub(super) fn top(arguments: &Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    // A gate that does not answer is said in plain words, before anything happens to the terminal.
    let first = State::new(arguments.socket.ask(Client::overview)?);
    if !arguments.once && io::stdout().is_terminal() && io::stdin().is_terminal() {
        let (socket, _) = arguments.socket.find();
        live::show(first, &Client::new(socket))?;
    } else {
        out.write_all(view::text(&first).as_bytes())?;
    }
    Ok(Exit::Good)
}
