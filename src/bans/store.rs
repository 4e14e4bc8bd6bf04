//! What makes bans outlive the process: a thread that writes what has changed in the list.
//!
//! Nobody waits for it and nothing queues up: what has changed is a bounded set in the list, and is written as it is by
//! then. A change is on the disk after 250 ms and the disk's own time; a `kill -9` loses what came after the last
//! write, and never the file. If the disk fails, the list goes on in memory, and all of it is written when the disk is
//! back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::file::BanFile;
use super::list::BanList;
use super::pending::{Changes, Wake};
use super::row::{Row, WallClock};
use super::table::stamp;
use crate::clock::{Clock, Moment};

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "bans.redb";

/// Why bans cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{} is in use: is the gate running already? each needs its own `state_directory`", path.display())]
    InUse { path: PathBuf },
    #[error("cannot open {}: {source}; the gate must be able to write in `state_directory`", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is unusable ({reason}) and cannot be renamed: {source}; move it away", path.display())]
    SetAside { path: PathBuf, reason: String, source: io::Error },
    #[error("cannot start the thread that writes bans: {0}")]
    Thread(io::Error),
    #[error("bans cannot be written: {reason}")]
    Write { reason: String },
}

/// Keeps a list on the disk until it is closed or dropped, which writes what is left.
#[derive(Debug)]
pub struct BanStore {
    list: Arc<BanList>,
    errors: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected once the thread has written everything.
    finished: Receiver<()>,
}

impl BanStore {
    /// Opens or creates the file `path`, takes its bans into `list`, and keeps it up to date from then on.
    ///
    /// Bans go on for what is left of them by the wall clock, and never for longer than they lasted in all. A file that
    /// is corrupt, foreign or of another version is renamed to `<path>.unusable-<seconds since 1970>`, three of which
    /// are kept, with an error logged, and an empty one takes its place. Reads the whole file: not for an async thread.
    ///
    /// # Errors
    ///
    /// If the file cannot be created or written, another process has it open, or there is no thread: bans that would
    /// silently be gone after the next restart are worth a gate that says so when it starts.
    pub fn open(path: &Path, list: Arc<BanList>, clock: Clock) -> Result<Self, StoreError> {
        let (file, rows) = BanFile::open(path, clock.wall(clock.now()))?;
        let wall = WallClock::read(&clock);
        list.pending().track();
        restore(rows, &list, wall, clock.now());
        let errors = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            path: path.to_owned(),
            file: Some(file),
            list: list.clone(),
            clock,
            wall,
            errors: errors.clone(),
            complained: None,
        };
        let (done, finished) = sync_channel(0);
        let spawned = std::thread::Builder::new().name("bans".into()).spawn(move || writer.run(done));
        let thread = spawned.map_err(|error| {
            list.pending().forget();
            StoreError::Thread(error)
        })?;
        Ok(Self { list, errors, thread: Some(thread), finished })
    }

    /// Counts writes that failed; each is tried again.
    pub fn errors(&self) -> Arc<AtomicU64> {
        self.errors.clone()
    }

    /// Writes what has changed and ends the thread; gives up after five seconds if the disk does not answer.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for BanStore {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.list.pending().close();
        if self.finished.recv_timeout(CLOSE_PATIENCE) == Err(RecvTimeoutError::Disconnected) {
            // A panic of the thread has been reported by the panic hook already.
            let _ = thread.join();
            self.list.pending().forget();
        } else {
            log::warn!("bans of the last moments are not written: the disk does not answer");
        }
    }
}

fn restore(rows: Vec<Row>, list: &BanList, wall: WallClock, now: Moment) {
    let at = stamp(now);
    let (total, mut restored) = (rows.len(), 0);
    for row in rows {
        let network = row.network;
        let record = row.record(wall, at);
        // A ban that is over is remembered for its strikes only.
        if (record.is_over && record.strikes == 0) || !list.restore(network, record, at) {
            list.pending().note(network);
        } else {
            restored += 1;
        }
    }
    if total > 0 {
        log::info!("bans restored count={restored} over={}", total - restored);
    }
}

/// The thread's half.
struct Writer {
    path: PathBuf,
    /// `None` after a failure: the engine wants to be opened anew then.
    file: Option<BanFile>,
    list: Arc<BanList>,
    clock: Clock,
    /// By which the times in the file were written.
    wall: WallClock,
    errors: Arc<AtomicU64>,
    /// When a failure was last logged, while it lasts.
    complained: Option<Moment>,
}

impl Writer {
    fn run(mut self, done: SyncSender<()>) {
        loop {
            let wake = self.list.pending().wait(IDLE);
            self.follow_wall_clock();
            let is_written = self.write();
            if wake == Wake::Closing {
                break;
            }
            self.list.pending().rest(if is_written { PAUSE } else { RETRY });
        }
        drop(self);
        drop(done);
    }

    /// A small computer without a clock of its own sets the time minutes after it has started. What was written before
    /// would seem to be over since long, or to last for ever.
    fn follow_wall_clock(&mut self) {
        let wall = WallClock::read(&self.clock);
        if wall.has_jumped(self.wall) {
            log::info!("the wall clock was set: bans are written anew");
            self.wall = wall;
            self.list.pending().note_all();
        }
    }

    fn write(&mut self) -> bool {
        let changes = self.list.pending().take();
        if changes.is_empty() {
            return true;
        }
        match self.try_write(&changes) {
            Ok(()) => self.rejoice(),
            Err(error) => {
                self.list.pending().put_back(changes);
                self.complain(&error);
                return false;
            }
        }
        true
    }

    fn try_write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let (file, changes) = match self.file.take() {
            Some(file) => (file, changes),
            // What has arrived of the failed write nobody knows.
            None => (BanFile::open(&self.path, self.clock.wall(self.clock.now()))?.0, &Changes::All),
        };
        file.write(changes, &self.list, self.wall)?;
        self.file = Some(file);
        Ok(())
    }

    /// Once a minute at most.
    fn complain(&mut self, error: &StoreError) {
        self.errors.fetch_add(1, Relaxed);
        let now = self.clock.now();
        if self.complained.is_none_or(|last| now.since(last) >= COMPLAINT) {
            self.complained = Some(now);
            log::error!("bans hold, but would not outlive a restart: path={} error={error}", self.path.display());
        }
    }

    fn rejoice(&mut self) {
        if self.complained.take().is_some() {
            log::info!("bans are written again: path={}", self.path.display());
        }
    }
}

/// Changes gather for so long before the next write.
const PAUSE: Duration = Duration::from_millis(250);

/// The time between attempts while the disk fails.
const RETRY: Duration = Duration::from_secs(2);

/// How often the wall clock is looked at when nothing happens.
const IDLE: Duration = Duration::from_secs(30);

const COMPLAINT: Duration = Duration::from_secs(60);

/// How long a shutdown waits for the disk.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
