//! One JSON line per finished request, on standard output or in a file.
//!
//! [`AccessLog::log`] never blocks: records wait in a bounded queue for one thread, and what does
//! not fit is dropped and counted. The thread writes in batches, opens the file anew after
//! logrotate has moved it away, and outlives a full disk: lines it cannot write count as dropped,
//! and it goes on trying. `remote_ip` is the first field of each line, so that fail2ban can hook
//! on it. Whatever strangers put into a request arrives as an escaped, bounded JSON string.
//!
//! Secrets in the target are hidden by [`redact`] unless the configuration says otherwise.
//! Deliberately absent: cookies, request fields other than the user agent, and bodies.

mod file;
mod line;
mod redaction;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::config;
use crate::history::Refusals;
use crate::request::RequestRecord;
use file::Output;
pub use redaction::redact;

/// Where requests are handed in; cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    /// `None` when the access log is off.
    queue: Option<SyncSender<Message>>,
    closed: Arc<AtomicBool>,
    dropped: IntCounter,
    /// For the operator's status page, whether there is an access log or not.
    refusals: Arc<Refusals>,
}

/// The end of the queue that owns the thread. Closing or dropping it writes what still waits.
pub struct AccessLogWriter {
    log: AccessLog,
    thread: Option<JoinHandle<()>>,
    /// Disconnected once the thread has written everything.
    finished: Receiver<()>,
}

/// Keeps the record small: it may stay in a queue of thousands.
enum Message {
    Record(Box<RequestRecord>),
    Close,
}

impl AccessLog {
    /// Opens the output and starts the thread. `dropped` counts lines that were lost.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or the thread cannot be started.
    pub fn start(config: &config::AccessLog, dropped: IntCounter) -> io::Result<(Self, AccessLogWriter)> {
        let refusals = Arc::new(Refusals::default());
        let (done, finished) = sync_channel(0);
        let closed = Arc::new(AtomicBool::new(false));
        if !config.enabled {
            let log = Self { queue: None, closed, dropped, refusals };
            return Ok((log.clone(), AccessLogWriter { log, thread: None, finished }));
        }
        let output = match &config.file {
            Some(path) => Output::file(path, ROTATION_CHECK)?,
            None => Output::stream(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        };
        let (queue, records) = sync_channel(config.queue.max(1));
        let log = Self { queue: Some(queue), closed, dropped: dropped.clone(), refusals };
        let redact = config.redact;
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || {
            write_records(&records, output, redact, &dropped);
            drop(done);
        })?;
        Ok((log.clone(), AccessLogWriter { log, thread: Some(thread), finished }))
    }

    /// The newest of what was refused.
    pub fn refusals(&self) -> Arc<Refusals> {
        self.refusals.clone()
    }

    /// Hands in one finished request; drops and counts it if the queue is full or closed.
    pub fn log(&self, mut record: RequestRecord) {
        self.refusals.note(&record);
        let Some(queue) = &self.queue else { return };
        if self.closed.load(Ordering::Relaxed) {
            return self.dropped.inc();
        }
        line::bound(&mut record);
        if queue.try_send(Message::Record(Box::new(record))).is_err() {
            self.dropped.inc();
        }
    }
}

impl AccessLogWriter {
    /// Writes what waits and ends the thread; gives up after five seconds if nobody takes the lines.
    pub fn close(self) {
        drop(self);
    }

    fn ask_to_close(&self, deadline: Instant) {
        self.log.closed.store(true, Ordering::Relaxed);
        let Some(queue) = &self.log.queue else { return };
        while let Err(TrySendError::Full(_)) = queue.try_send(Message::Close) {
            if Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for AccessLogWriter {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + CLOSE_PATIENCE;
        self.ask_to_close(deadline);
        let left = deadline.saturating_duration_since(Instant::now());
        if self.finished.recv_timeout(left) == Err(RecvTimeoutError::Disconnected) {
            // A panic of the thread has been reported by the panic hook already.
            let _ = thread.join();
        } else {
            log::warn!("access log not written to its end: nobody takes its lines");
        }
    }
}

/// The thread: waits for a record, takes what else is there, writes it in one go.
fn write_records(records: &Receiver<Message>, mut output: Output, redact: bool, dropped: &IntCounter) {
    let mut batch = Vec::with_capacity(BATCH_BYTES + 4096);
    let mut is_closing = false;
    while !is_closing {
        // No sender left is the same as being asked to close.
        let mut next = Some(records.recv().unwrap_or(Message::Close));
        while let Some(message) = next {
            match message {
                // What came in behind it is still written.
                Message::Close => is_closing = true,
                Message::Record(record) => line::append(&record, redact, &mut batch),
            }
            next = records.try_recv().ok();
            if next.is_none() || batch.len() >= BATCH_BYTES {
                dropped.inc_by(output.write(&batch, Instant::now()));
                batch.clear();
            }
        }
    }
}

/// A batch is written once it is this long, even if more records wait.
const BATCH_BYTES: usize = 64 * 1024;

/// The least time between two looks whether the file was moved away.
const ROTATION_CHECK: Duration = Duration::from_secs(1);

/// How long the shutdown waits for a reader of standard output that does not read.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
