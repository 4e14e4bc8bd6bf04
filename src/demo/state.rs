//! A directory for the demo's certificate and socket: private, and gone at the end.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::page::random_word;

/// Removed when dropped, unless the caller chose it.
pub(super) struct StateDirectory {
    path: PathBuf,
    is_ours: bool,
}

impl StateDirectory {
    /// Opens `chosen`, or a new directory for temporary files that nobody else can read or foresee.
    pub(super) fn open(chosen: Option<PathBuf>) -> io::Result<Self> {
        let is_ours = chosen.is_none();
        let path = match chosen {
            Some(path) => path,
            None => std::env::temp_dir().join(format!("hearthgate-demo-{}", random_word()?)),
        };
        // A directory of ours must be new: one that is there already was laid out by somebody else.
        DirBuilder::new().mode(0o700).recursive(!is_ours).create(&path)?;
        Ok(Self { path: fs::canonicalize(&path)?, is_ours })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StateDirectory {
    fn drop(&mut self) {
        if self.is_ours {
            // What cannot be removed is left to the system's own cleaning of temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn our_own_directory_is_private_and_removed() {
        let state = StateDirectory::open(None).unwrap();
        let path = state.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(path.join("key.pem"), "x").unwrap();
        drop(state);
        assert!(!path.exists());
    }

    #[test]
    fn a_chosen_directory_stays() {
        let directory = tempfile::tempdir().unwrap();
        let chosen = directory.path().join("a/b");
        drop(StateDirectory::open(Some(chosen.clone())).unwrap());
        drop(StateDirectory::open(Some(chosen.clone())).unwrap());
        assert!(chosen.is_dir());
    }
}
