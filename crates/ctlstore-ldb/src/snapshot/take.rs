//! Takes a snapshot: a compact copy of the LDB at one seq, made while the applier goes on,
//! then checked and hashed. Entry point: [`take`]. It publishes nothing.
//!
//! The copy and the row counts that it is checked against come from one read transaction of
//! the LDB. `VACUUM INTO` makes the same file in half the time. But no other statement can
//! share its transaction, so the state that it copied could not be counted. SQLite's backup
//! copies free and half-empty pages too. An LDB has many of them, because each upsert moves its
//! row to the table's end. docs/lab-notes.md has the figures.

mod check;
mod copy;
mod hash;
mod index;
mod pace;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use ctlstore_core::disk::file_mode;
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_core::{Abort, failpoint};
use ctlstore_reader::read::LdbReader;

use crate::ldb::mark_for_wal;

use super::digest::TableDigest;
use super::error::SnapshotError;
use super::priority;
use super::progress::{Phase, SnapshotProgress};

use check::CheckedCopy;
use copy::CopiedState;
use hash::{FileHashes, hash_file};

/// A whole, checked and flushed copy of an LDB.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub path: PathBuf,
    /// The position of the LDB whose state it is.
    pub position: LdbPosition,
    pub bytes: u64,
    /// Lower-case hex of the file's SHA-256.
    pub sha256: String,
    /// Standard base64 of the file's SHA-1, which the original's programs check.
    pub sha1: String,
    /// When the LDB's state was read.
    pub taken_at: Timestamp,
    /// The tables with data, by name. The applier's own tables are not among them.
    pub tables: Vec<TableDigest>,
}

/// Takes a snapshot of the LDB to `path`. An older file there is removed first. After a
/// failure, nothing is left there.
///
/// # Errors
/// [`SnapshotError::Empty`] before the LDB's first statement, [`SnapshotError::Damaged`]
/// when the copy is not what the LDB held.
pub fn take(
    ldb: &Path,
    path: &Path,
    abort: &Abort,
    progress: &Arc<dyn SnapshotProgress>,
) -> Result<Snapshot, SnapshotError> {
    let _ = fs::remove_file(path);
    let taken = make(ldb, path, abort, progress);
    if taken.is_err() {
        // The first error says more than an error of the removal.
        let _ = fs::remove_file(path);
    }
    taken
}

fn make(
    ldb: &Path,
    path: &Path,
    abort: &Abort,
    progress: &Arc<dyn SnapshotProgress>,
) -> Result<Snapshot, SnapshotError> {
    // Read first, because its error names what is missing better than a copy that fails.
    if LdbReader::new(ldb).last_seq().map_err(SnapshotError::Ldb)? == Seq::ZERO {
        return Err(SnapshotError::Empty(ldb.to_owned()));
    }
    let io = |doing| SnapshotError::io(doing, path);
    // Made here, because SQLite would make it readable for everyone. SQLite takes an empty file.
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(file_mode()).open(path);
    let file = file.map_err(io("make"))?;
    // The process's umask may not take the group's right to read.
    file.set_permissions(Permissions::from_mode(file_mode())).map_err(io("set the mode of"))?;
    let copied = copy::copy(ldb, path, &file, abort, progress)?;
    failpoint::hit("snapshot-after-copy");
    finish(&file).map_err(io("flush"))?;
    failpoint::hit("snapshot-after-flush");
    let (checked, hashes) = check_and_hash(path, &copied, abort, progress)?;
    Ok(Snapshot {
        path: path.to_owned(),
        position: checked.position,
        bytes: hashes.bytes,
        sha256: hashes.sha256,
        sha1: hashes.sha1,
        taken_at: copied.taken_at,
        tables: checked.tables,
    })
}

/// Checks and hashes the finished copy, both at the same time and below the applier's
/// priority. Only the snapshot's destinations wait for them.
fn check_and_hash(
    path: &Path,
    copied: &CopiedState,
    abort: &Abort,
    progress: &Arc<dyn SnapshotProgress>,
) -> Result<(CheckedCopy, FileHashes), SnapshotError> {
    let failed = || SnapshotError::io("start a thread for", path);
    let (checked, hashes) = thread::scope(|scope| {
        let hash = move || {
            priority::lower();
            // The check takes longer, so only its progress is shown.
            hash_file(path, abort, &())
        };
        let check = move || {
            priority::lower();
            check::check(path, copied, abort, progress)
        };
        let hashing = thread::Builder::new().name("snapshot-hash".to_owned()).spawn_scoped(scope, hash);
        let checking = thread::Builder::new().name("snapshot-check".to_owned()).spawn_scoped(scope, check);
        let checked = checking.map_err(failed()).and_then(ended);
        (checked, hashing.map_err(failed()).and_then(ended))
    });
    let checked = checked?;
    let hashes = hashes?;
    progress.at(Phase::Hash, hashes.bytes, Some(hashes.bytes));
    abort.check()?;
    Ok((checked, hashes))
}

fn ended<T>(thread: ScopedJoinHandle<'_, Result<T, SnapshotError>>) -> Result<T, SnapshotError> {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Marks the copy as being in WAL mode, because the original's readers want that, and flushes
/// it. SQLite has closed it and writes it no more.
fn finish(file: &File) -> std::io::Result<()> {
    mark_for_wal(file)?;
    file.sync_all()
}
