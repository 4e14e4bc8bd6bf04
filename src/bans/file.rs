//! The database file: opened or set aside, read once, written in transactions that a crash cannot tear.
//!
//! The engine checks every page when it opens the file. Should it panic over one nevertheless, that is caught and is
//! one more way for a file to be unusable. This needs `panic = "unwind"`, which is Rust's default.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};

use super::list::BanList;
use super::pending::Changes;
use super::row::{self, Row, WallClock};
use super::store::StoreError;

/// An open file, locked against other processes.
pub(super) struct BanFile {
    database: Database,
}

const BANS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bans");

/// The engine's own default is a gigabyte.
const CACHE_BYTES: usize = 1024 * 1024;

/// Unusable files that are kept; older ones are deleted.
const KEPT: usize = 3;

/// Why it could not be opened.
enum Trouble {
    /// With the file itself: another one will do.
    Unusable(String),
    /// With what is around it: another one would fare no better.
    Around(StoreError),
}

impl BanFile {
    /// Opens `path`, creating it with mode 0600, and reads it. A file that cannot be used is renamed and replaced by an
    /// empty one, with an error logged.
    pub fn open(path: &Path, wall: SystemTime) -> Result<(Self, Vec<Row>), StoreError> {
        let reason = match Self::try_open(path) {
            Ok(opened) => return Ok(opened),
            Err(Trouble::Around(error)) => return Err(error),
            Err(Trouble::Unusable(reason)) => reason,
        };
        let aside = set_aside(path, wall).map_err(|source| StoreError::SetAside {
            path: path.to_owned(),
            reason: reason.clone(),
            source,
        })?;
        log::error!(
            "bans file unusable, all bans are forgotten; add again by hand those you need: \
             path={} set_aside={} reason={reason}",
            path.display(),
            aside.display()
        );
        Self::try_open(path).map_err(|trouble| match trouble {
            Trouble::Around(error) => error,
            Trouble::Unusable(reason) => cannot_open(path, io::Error::other(reason)),
        })
    }

    fn try_open(path: &Path) -> Result<(Self, Vec<Row>), Trouble> {
        let file = open_private(path).map_err(|error| match error.kind() {
            io::ErrorKind::IsADirectory => Trouble::Unusable(error.to_string()),
            _ => Trouble::Around(cannot_open(path, error)),
        })?;
        let opened = catch(|| {
            let database = open_database(file).map_err(|error| sort(path, error))?;
            let ban_file = Self { database };
            let rows = ban_file.read().map_err(Trouble::Unusable)?;
            Ok((ban_file, rows))
        });
        opened.unwrap_or_else(|panic| Err(Trouble::Unusable(panic)))
    }

    fn read(&self) -> Result<Vec<Row>, String> {
        let rows = || -> Result<Option<Vec<Row>>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(BANS) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Some(Vec::new())),
                table => table?,
            };
            let mut rows = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                let Some(row) = Row::read(key.value(), value.value()) else { return Ok(None) };
                rows.push(row);
            }
            Ok(Some(rows))
        };
        let rows = rows().map_err(|error| error.to_string())?;
        rows.ok_or_else(|| "written by another version, or not by hearthgate".to_owned())
    }

    /// Writes `changes` as `list` has them now; when this returns, they are on the disk.
    pub fn write(&self, changes: &Changes, list: &BanList, wall: WallClock) -> Result<(), StoreError> {
        let written = catch(|| self.try_write(changes, list, wall));
        let reason = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        Err(StoreError::Write { reason })
    }

    fn try_write(&self, changes: &Changes, list: &BanList, wall: WallClock) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        if *changes == Changes::All {
            transaction.delete_table(BANS)?;
        }
        let mut table = transaction.open_table(BANS)?;
        match changes {
            Changes::All => {
                for (network, record) in list.portions().flatten() {
                    table.insert(row::key(&network).as_slice(), row::value(&record, wall).as_slice())?;
                }
            }
            Changes::Some(networks) => {
                for network in networks {
                    let key = row::key(network);
                    match list.record(network) {
                        Some(record) => table.insert(key.as_slice(), row::value(&record, wall).as_slice())?,
                        None => table.remove(key.as_slice())?,
                    };
                }
            }
        }
        drop(table);
        transaction.commit()?;
        Ok(())
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn open_database(file: File) -> Result<Database, DatabaseError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder.create_with_backend(FileBackend::new(file)?)
}

/// Tells trouble with the file from trouble around it.
fn sort(path: &Path, error: DatabaseError) -> Trouble {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            Trouble::Around(StoreError::InUse { path: path.to_owned() })
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.raw_os_error().is_some_and(|code| code != EIO) => {
            Trouble::Around(cannot_open(path, error))
        }
        error => Trouble::Unusable(error.to_string()),
    }
}

/// A bad spot on the disk, under this file: another one lies elsewhere. Every other error of the system (no space, no
/// permission) would meet a new file as well.
const EIO: i32 = 5;

fn cannot_open(path: &Path, source: io::Error) -> StoreError {
    StoreError::Open { path: path.to_owned(), source }
}

fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // Nothing that was borrowed is used after a panic: the database is dropped.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        format!("the database engine panicked: {}", text.unwrap_or("without a word"))
    })
}

/// Renames `path` to `<path>.unusable-<seconds since 1970>` and deletes the oldest such files.
fn set_aside(path: &Path, wall: SystemTime) -> io::Result<PathBuf> {
    let seconds = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let aside = (seconds..).map(|seconds| named(path, seconds)).find(|aside| fs::symlink_metadata(aside).is_err());
    let aside = aside.unwrap_or_else(|| named(path, seconds));
    fs::rename(path, &aside)?;
    if let Err(error) = prune(path) {
        log::warn!("old unusable bans files cannot be deleted: path={} error={error}", path.display());
    }
    Ok(aside)
}

fn named(path: &Path, seconds: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".unusable-{seconds}"));
    name.into()
}

fn prune(path: &Path) -> io::Result<()> {
    let mut kept: Vec<u64> = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new(".")))? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        kept.extend(name.rsplit_once('-').and_then(|(_, seconds)| seconds.parse::<u64>().ok()));
    }
    kept.retain(|seconds| named(path, *seconds).is_file());
    kept.sort_unstable();
    kept.dedup();
    kept.iter().rev().skip(KEPT).try_for_each(|seconds| fs::remove_file(named(path, *seconds)))
}
