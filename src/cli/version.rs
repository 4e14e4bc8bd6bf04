//! `hearthgate version`: one line for scripts and bug reports.

use std::io::Write;

use super::Exit;

pub(super) fn version(out: &mut dyn Write) -> anyhow::Result<Exit> {
    writeln!(out, "hearthgate {}", env!("CARGO_PKG_VERSION"))?;
    Ok(Exit::Good)
}
