//! Files that hold the old content or the new one, whatever becomes of the process or the power.
//!
//! They are the gate's own (0600). Everything here blocks: it waits for the disk.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Replaces a whole file, durable when this returns.
///
/// # Errors
///
/// If the disk refuses; the old file stays.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, |file| file.write_all(content))
}

/// The same, for content that is made line by line.
///
/// # Errors
///
/// If the disk or `write` refuses; the old file stays.
pub fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidFilename));
    };
    let aside = directory.join(format!(".{}.new", name.to_string_lossy()));
    // Left over from a crash; created anew below, so that its mode is ours and no link is followed.
    remove(&aside)?;
    let mut file = BufWriter::new(OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&aside)?);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&aside, path)?;
    // Without this the rename itself may be lost with the power.
    File::open(directory)?.sync_all()
}

/// Removes a file if it is there.
///
/// # Errors
///
/// If it is there and stays.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves a file that cannot be used out of the way, beside itself; the new path.
///
/// # Errors
///
/// If it cannot be moved.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".unusable");
    fs::rename(path, &name)?;
    Ok(name.into())
}

/// Sees to it that there is a directory that only the gate's user can look into.
///
/// # Errors
///
/// If it can be neither made nor closed to others.
pub fn private_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    if directory.metadata()?.permissions().mode() & 0o777 != DIRECTORY_MODE {
        fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        write(&path, b"old").unwrap();
        let broken = replace(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // What is left of it is in nobody's way.
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, FILE_MODE);
    }

    #[test]
    fn a_directory_is_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("a/b");
        fs::create_dir_all(&own).unwrap();
        private_directory(&own).unwrap();
        assert_eq!(own.metadata().unwrap().permissions().mode() & 0o777, DIRECTORY_MODE);
    }

    #[test]
    fn what_is_set_aside_keeps_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        write(&path, b"{").unwrap();
        assert_eq!(set_aside(&path).unwrap(), directory.path().join("a.json.unusable"));
        assert!(!path.exists());
    }
}
