//! Where the lines go: appended to a file that others may move away, or to standard output.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Takes whole lines and says how many of them were lost.
pub(super) struct Output {
    file: File,
    /// `None` for standard output.
    rotation: Option<Rotation>,
    /// The last write ended within a line; the next one begins with a line feed.
    is_torn: bool,
    is_failing: bool,
}

struct Rotation {
    path: PathBuf,
    interval: Duration,
    looked: Option<Instant>,
}

impl Output {
    /// Opens `path` for appending, creating it with mode 0640.
    pub(super) fn file(path: &Path, interval: Duration) -> io::Result<Self> {
        let rotation = Rotation { path: path.to_owned(), interval, looked: None };
        Ok(Self { rotation: Some(rotation), ..Self::stream(open(path)?) })
    }

    pub(super) fn stream(file: File) -> Self {
        Self { file, rotation: None, is_torn: false, is_failing: false }
    }

    /// Writes `lines` and returns how many of them did not arrive whole.
    pub(super) fn write(&mut self, lines: &[u8], now: Instant) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        self.follow_rotation(now);
        let mut rest = lines;
        let result = self.mend().and_then(|()| write_all(&mut self.file, &mut rest));
        if rest.len() < lines.len() {
            // Something arrived; its last byte tells whether a line was torn.
            self.is_torn = lines.get(lines.len() - rest.len() - 1) != Some(&b'\n');
        }
        self.report(result.err());
        rest.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        Ok(())
    }

    fn follow_rotation(&mut self, now: Instant) {
        let Some(rotation) = &mut self.rotation else { return };
        if rotation.looked.is_some_and(|looked| now.duration_since(looked) < rotation.interval) {
            return;
        }
        rotation.looked = Some(now);
        if rotation.is_current(&self.file) {
            return;
        }
        match open(&rotation.path) {
            Ok(file) => {
                self.file = file;
                self.is_torn = false;
            }
            // The old file still takes lines, which is better than losing them.
            Err(error) => self.report(Some(error)),
        }
    }

    /// One message when trouble begins and one when it ends, not one per batch.
    fn report(&mut self, failure: Option<io::Error>) {
        match failure {
            Some(error) if !self.is_failing => {
                self.is_failing = true;
                log::error!("access log cannot be written, lines are dropped error={error}");
            }
            None if self.is_failing => {
                self.is_failing = false;
                log::info!("access log is written again");
            }
            _ => {}
        }
    }
}

impl Rotation {
    fn is_current(&self, file: &File) -> bool {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        match (std::fs::metadata(&self.path), file.metadata()) {
            (Ok(named), Ok(open)) => identity(named) == identity(open),
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => false,
            // A directory that cannot be read now says nothing about the file.
            _ => true,
        }
    }
}

/// Like `Write::write_all`, but `rest` tells what did not arrive.
fn write_all(file: &mut File, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => *rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("access log {}: {error}", path.display()));
    OpenOptions::new().append(true).create(true).mode(0o640).open(path).map_err(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_moved_away_is_left_and_a_new_one_begun() {
        let directory = tempfile::tempdir().unwrap();
        let (file, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let mut output = Output::file(&file, Duration::from_secs(1)).unwrap();
        let start = Instant::now();
        assert_eq!(output.write(b"1\n", start), 0);
        std::fs::rename(&file, &moved).unwrap();
        assert_eq!(output.write(b"2\n", start + Duration::from_millis(900)), 0, "too early to look again");
        assert_eq!(output.write(b"3\n", start + Duration::from_millis(1000)), 0);
        assert_eq!(std::fs::read(&moved).unwrap(), b"1\n2\n");
        assert_eq!(std::fs::read(&file).unwrap(), b"3\n");

        std::fs::remove_file(&file).unwrap();
        assert_eq!(output.write(b"4\n", start + Duration::from_secs(5)), 0);
        assert_eq!(std::fs::read(&file).unwrap(), b"4\n");
    }

    #[test]
    fn the_old_file_is_kept_while_the_new_one_cannot_be_opened() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, moved) = (directory.path().join("logs"), directory.path().join("old"));
        std::fs::create_dir(&logs).unwrap();
        let mut output = Output::file(&logs.join("access.log"), Duration::ZERO).unwrap();
        std::fs::rename(&logs, &moved).unwrap();
        assert_eq!(output.write(b"1\n", Instant::now()), 0);
        assert_eq!(std::fs::read(moved.join("access.log")).unwrap(), b"1\n");
    }

    #[test]
    fn a_full_disk_loses_lines_by_count_and_is_tried_again() {
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let mut output = Output::stream(full);
        assert_eq!(output.write(b"1\n2\n", Instant::now()), 2);

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("access.log");
        output.file = File::create(&file).unwrap();
        output.is_torn = true;
        assert_eq!(output.write(b"3\n", Instant::now()), 0);
        assert_eq!(std::fs::read(&file).unwrap(), b"\n3\n", "a torn line is ended first");
        assert!(!output.is_torn && !output.is_failing);
    }
}
