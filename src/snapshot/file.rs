//! Snapshots as files: finished under another name, then renamed into place.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::disk::{self, LockError, ProcessLock, beside, directory_of};
use crate::failpoint;
use crate::ldb::read::{LdbReader, ReadError};

use super::copy::{Abort, Snapshot};
use super::destination::Published;
use super::error::SnapshotError;

/// One file that is replaced again and again, by one process at a time.
#[derive(Debug)]
pub struct FileDestination {
    path: PathBuf,
    /// Held for its lock. With one process at work there is one temporary name, so a
    /// crash leaves at most one unfinished file behind, and nobody else can publish
    /// between the look at what is there and the rename.
    _lock: ProcessLock,
}

impl FileDestination {
    /// Takes hold of the destination: makes its directory, locks it, and removes what
    /// a crash has left unfinished.
    ///
    /// # Errors
    /// [`SnapshotError::InUse`] while another process holds it.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let directory = directory_of(path);
        disk::create_directory(directory).map_err(SnapshotError::io("make", directory))?;
        let lock = ProcessLock::take(path).map_err(|error| match error {
            LockError::Held { holder } => SnapshotError::InUse { path: path.to_owned(), holder },
            LockError::Io(source) => SnapshotError::io("lock", path)(source),
        })?;
        let this = Self { path: path.to_owned(), _lock: lock };
        remove(&this.staging())?;
        // Left by SQLite when it was killed in the middle of a copy.
        remove(&beside(&this.staging(), "-journal"))?;
        Ok(this)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn staging(&self) -> PathBuf {
        beside(&self.path, ".tmp")
    }

    pub(super) fn published(&self) -> Published {
        match LdbReader::immutable(&self.path).position() {
            Ok(position) => Published::At(position),
            Err(ReadError::NotThereYet { .. }) if !self.path.exists() => Published::Nothing,
            Err(error) => Published::Unreadable(error.to_string()),
        }
    }

    pub(super) fn publish(&self, snapshot: &Snapshot, abort: &Abort) -> Result<(), SnapshotError> {
        let staging = self.staging();
        if snapshot.path != staging {
            copy_flushed(&snapshot.path, &staging)?;
        }
        abort.check()?;
        // What SQLite may have left beside the old file, opened by someone without
        // `immutable`, would be taken for a part of the new one.
        for suffix in ["-wal", "-shm"] {
            remove(&beside(&self.path, suffix))?;
        }
        failpoint::hit("snapshot-before-rename");
        fs::rename(&staging, &self.path).map_err(SnapshotError::io("put in place", &self.path))?;
        failpoint::hit("snapshot-after-rename");
        let directory = directory_of(&self.path);
        disk::flush(directory).map_err(SnapshotError::io("flush", directory))
    }
}

/// Removes a file that need not be there.
fn remove(path: &Path) -> Result<(), SnapshotError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(SnapshotError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Copies a finished snapshot, its mode among it, to another file system.
fn copy_flushed(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    let copy = || -> io::Result<()> {
        fs::copy(from, to)?;
        disk::flush(to)
    };
    copy().map_err(SnapshotError::io("copy the snapshot to", to)).inspect_err(|_| {
        // The next try begins anew; the error above is the one that tells.
        let _ = fs::remove_file(to);
    })
}
