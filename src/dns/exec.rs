//! A script that sets records, called as lego's `exec` provider calls it: `COMMAND present|cleanup FQDN. VALUE`.
//!
//! No shell is involved. The script inherits the gate's environment and directory, gets an empty input, and has a time
//! limit, after which it is killed with all that it has started and that has stayed in its process group. lego's raw mode
//! is not offered: it wants the authority's token, which no record needs.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::error;

#[derive(Debug)]
pub(super) struct Script {
    pub command: PathBuf,
    pub timeout: Duration,
}

/// Why a script has not done its work.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error("{} cannot be run: {reason}; is it there, executable, and begins with `#!`?", .command.display())]
    Start { command: PathBuf, reason: std::io::Error },
    #[error("{} was still running after {} s and has been stopped{}", .command.display(), .limit.as_secs(), said(.last))]
    Timeout { command: PathBuf, limit: Duration, last: String },
    #[error("{} failed ({status}){}", .command.display(), said(.last))]
    Failed { command: PathBuf, status: ExitStatus, last: String },
    #[error("a script sets no addresses: give the name to an account of another provider")]
    NoAddresses,
}

impl Script {
    pub async fn set_txt(&self, record: &str, value: &str) -> Result<(), ScriptError> {
        self.run("present", record, value).await
    }

    pub async fn clear_txt(&self, record: &str, value: &str) -> Result<(), ScriptError> {
        self.run("cleanup", record, value).await
    }

    async fn run(&self, action: &str, record: &str, value: &str) -> Result<(), ScriptError> {
        let mut command = Command::new(&self.command);
        command.args([action, &format!("{record}."), value]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let path = || self.command.clone();
        let mut child = command.spawn().map_err(|reason| ScriptError::Start { command: path(), reason })?;
        // Declared after the child, and so dropped before it: the number is still the child's.
        let mut group = Group::of(&child);
        let mut words = Words::default();
        let ended = timeout(self.timeout, words.listen(&mut child)).await;
        let error = match ended {
            Ok(Ok(status)) => {
                group.release();
                if status.success() {
                    return Ok(());
                }
                ScriptError::Failed { command: path(), status, last: words.last() }
            }
            Ok(Err(reason)) => ScriptError::Start { command: path(), reason },
            Err(_) => ScriptError::Timeout { command: path(), limit: self.timeout, last: words.last() },
        };
        words.log(&self.command);
        Err(error)
    }
}

/// The process group of a script; dropped before the script's end, all of it ends.
#[derive(Debug)]
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn of(child: &Child) -> Self {
        Self { leader: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) }
    }

    fn release(&mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader
            && let Err(error) = killpg(leader, Signal::SIGKILL)
        {
            log::warn!("a script's processes cannot be ended: group={leader} error=\"{error}\"");
        }
    }
}

/// The ends of what a script has written.
#[derive(Debug, Default)]
struct Words {
    output: Tail,
    errors: Tail,
}

impl Words {
    /// Waits for the script. What it leaves running in the background may keep its output open: that is not waited for.
    async fn listen(&mut self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let reading = async { tokio::join!(self.output.read(stdout), self.errors.read(stderr)) };
        tokio::pin!(reading);
        let status = tokio::select! {
            status = child.wait() => status,
            _ = &mut reading => return child.wait().await,
        };
        let _ = timeout(LAST_WORDS, reading).await;
        status
    }

    /// The last line that is not empty, of the errors if there is one.
    fn last(&self) -> String {
        self.errors.last_line().or_else(|| self.output.last_line()).unwrap_or_default()
    }

    fn log(&self, command: &Path) {
        let (output, errors) = (self.output.text(), self.errors.text());
        log::warn!("a script for DNS failed: command={command:?} output={output:?} errors={errors:?}");
    }
}

#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    async fn read(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut buffer = [0; MAX_TAIL];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            self.bytes.extend_from_slice(&buffer[..length]);
            let surplus = self.bytes.len().saturating_sub(MAX_TAIL);
            self.bytes.drain(..surplus);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }

    fn last_line(&self) -> Option<String> {
        self.text().lines().last().map(str::to_owned).filter(|line| !line.is_empty())
    }
}

fn said(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!("; its last words: {}", error::quoted(last)) }
}

/// Of each of a script's outputs.
const MAX_TAIL: usize = 4096;
const LAST_WORDS: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
