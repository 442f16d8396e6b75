//! Snapshots as files: finished under another name, then renamed into place.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::failpoint;
use crate::ldb::read::{LdbReader, ReadError};

use super::copy::{Abort, Snapshot};
use super::destination::Published;
use super::error::SnapshotError;

const DIRECTORY_MODE: u32 = 0o750;

/// One file that is replaced again and again, by one process at a time.
#[derive(Debug)]
pub struct FileDestination {
    path: PathBuf,
    /// Held for its lock. With one process at work there is one temporary name, so a
    /// crash leaves at most one unfinished file behind, and nobody else can publish
    /// between the look at what is there and the rename.
    _lock: File,
}

impl FileDestination {
    /// Takes hold of the destination: makes its directory, locks it, and removes what
    /// a crash has left unfinished.
    ///
    /// # Errors
    /// [`SnapshotError::InUse`] while another process holds it.
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let directory = directory_of(path);
        let builder = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
        builder.map_err(SnapshotError::io("make", directory))?;
        let lock_path = beside(path, ".lock");
        let lock = File::options().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(SnapshotError::io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SnapshotError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(SnapshotError::io("lock", &lock_path)(source)),
        }
        let this = Self { path: path.to_owned(), _lock: lock };
        remove(&this.staging())?;
        // Left by SQLite when it was killed in the middle of a copy.
        remove(&beside(path, ".tmp-journal"))?;
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
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            remove(Path::new(&name))?;
        }
        failpoint::hit("snapshot-before-rename");
        fs::rename(&staging, &self.path).map_err(SnapshotError::io("put in place", &self.path))?;
        failpoint::hit("snapshot-after-rename");
        let directory = directory_of(&self.path);
        let flush = File::open(directory).and_then(|directory| directory.sync_all());
        flush.map_err(SnapshotError::io("flush", directory))
    }
}

/// `.NAME` with `suffix`, in the same directory: no listing of snapshots shows it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
        File::open(to)?.sync_all()
    };
    copy().map_err(SnapshotError::io("copy the snapshot to", to)).inspect_err(|_| {
        // The next try begins anew; the error above is the one that tells.
        let _ = fs::remove_file(to);
    })
}
