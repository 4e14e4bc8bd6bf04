//! Whether a pair of files has changed, without reading it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::CertificateFiles;

/// Tells a changed pair of files from an unchanged one without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairStamp {
    chain: Option<FileStamp>,
    key: Option<FileStamp>,
}

/// Of the file at the end of all links, for certbot moves links. The time of the last change of
/// the inode is there because a copy may preserve the time of modification.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl PairStamp {
    pub(super) fn of(files: &CertificateFiles) -> Self {
        Self { chain: FileStamp::of(&files.chain_file).ok(), key: FileStamp::of(&files.key_file).ok() }
    }
}

impl FileStamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
