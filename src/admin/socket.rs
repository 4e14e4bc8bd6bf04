//! The Unix socket of the command line, as a file that is ours from bind to shutdown.
//!
//! Only root and the gate's own user get in: by the file's mode 0600, and by the peer's credentials,
//! which also cover the instant between `bind` and `chmod`.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A bound socket whose file goes away with it.
pub(super) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: a file that another gate has put there since is not ours to remove.
    identity: (u64, u64),
    owner: u32,
}

impl AdminSocket {
    /// Creates the directory (mode 0700) and the socket; removes a stale one that nobody answers on.
    ///
    /// # Errors
    ///
    /// If another gate answers there, if the path is something other than a socket, or if the
    /// system refuses. The message names the path.
    pub(super) async fn bind(path: &Path) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("admin.socket {}: {error}", path.display()));
        Self::bind_unnamed(path).await.map_err(named)
    }

    async fn bind_unnamed(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        remove_stale(path).await?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let file = fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.to_owned(), identity: identity(&file), owner: file.uid() })
    }

    /// The next connection, whoever it is from.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }

    pub(super) fn is_allowed(&self, peer: &UnixStream) -> bool {
        peer.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == self.owner)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == self.identity) {
            // Nothing to be done about a failure: the next start removes a stale socket itself.
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of another kind"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another gate is running and answers here")),
        Err(error) => Err(error),
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
