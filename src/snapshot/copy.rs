//! Makes and checks the copy.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::disk::FILE_MODE;
use crate::failpoint;
use crate::ldb::read::LdbReader;
use crate::ledger::{LdbPosition, Seq};
use crate::schema::Timestamp;

use super::error::SnapshotError;

/// One read transaction for the whole copy: the applier goes on meanwhile, and what
/// it commits is not in it. The target must be empty.
const COPY: &str = "VACUUM INTO ?1";
const CHECK: &str = "PRAGMA quick_check(1)";

/// Where SQLite's header says how the file is written and read, and its value for WAL.
/// VACUUM INTO leaves 1 there, which the original's readers refuse.
const VERSIONS_OFFSET: u64 = 18;
const WAL_VERSIONS: [u8; 2] = [2, 2];

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite's own instructions between two looks at the abort flag: well below a millisecond.
const ABORT_CHECK: i32 = 10_000;

/// Ends a copy that another thread is making.
#[derive(Debug, Clone, Default)]
pub struct Abort(Arc<AtomicBool>);

impl Abort {
    pub fn abort(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_aborted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> Result<(), SnapshotError> {
        if self.0.load(Ordering::Relaxed) { Err(SnapshotError::Aborted) } else { Ok(()) }
    }

    fn watch(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let flag = Arc::clone(&self.0);
        connection.progress_handler(ABORT_CHECK, Some(move || flag.load(Ordering::Relaxed)))
    }
}

/// A whole, checked and flushed copy of an LDB.
#[derive(Debug)]
pub struct Snapshot {
    pub path: PathBuf,
    /// Whose state it is.
    pub position: LdbPosition,
    pub bytes: u64,
    /// Lower-case hex of the file's SHA-256.
    pub sha256: String,
    /// Standard base64 of the file's SHA-1.
    pub sha1: String,
    pub taken_at: Timestamp,
    /// The user's tables, by name.
    pub tables: Vec<TableDigest>,
}

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDigest {
    pub name: String,
    pub rows: u64,
    /// Lower-case hex.
    pub digest: String,
}

/// Copies the LDB to `path`; what may be left there of an earlier copy is removed
/// first. Whatever fails, nothing is left there.
///
/// # Errors
/// [`SnapshotError::Empty`] before the LDB's first statement.
pub fn copy(ldb: &Path, path: &Path, abort: &Abort) -> Result<Snapshot, SnapshotError> {
    let _ = fs::remove_file(path);
    let copied = make(ldb, path, abort).and_then(|()| finish(ldb, path, abort));
    if copied.is_err() {
        // The error that led here says more than one about the rest of a copy.
        let _ = fs::remove_file(path);
    }
    copied
}

fn make(ldb: &Path, path: &Path, abort: &Abort) -> Result<(), SnapshotError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // Made here because SQLite would make it readable to everyone; an empty file it takes.
    let made = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    made.map_err(SnapshotError::io("make", path))?;
    let copy = || -> rusqlite::Result<()> {
        let mut connection = Connection::open_with_flags(ldb, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        abort.watch(&mut connection)?;
        // A path is text to SQLite, whatever its bytes.
        let target = ToSqlOutput::Borrowed(ValueRef::Text(path.as_os_str().as_bytes()));
        connection.execute(COPY, [target]).map(|_| ())
    };
    copy().map_err(SnapshotError::copy(path))?;
    failpoint::hit("snapshot-after-copy");
    Ok(())
}

/// Checks the copy, marks it as the original's readers want it, and brings it to the disk.
fn finish(ldb: &Path, path: &Path, abort: &Abort) -> Result<Snapshot, SnapshotError> {
    check(path, abort)?;
    let position = LdbReader::immutable(path).position().map_err(SnapshotError::Ldb)?;
    if position.seq == Seq::ZERO {
        return Err(SnapshotError::Empty(ldb.to_owned()));
    }
    // SQLite has closed the copy: from here on it is a plain file.
    let io = |doing| SnapshotError::io(doing, path);
    let file = File::options().write(true).open(path).map_err(io("open"))?;
    file.write_all_at(&WAL_VERSIONS, VERSIONS_OFFSET).map_err(io("write"))?;
    file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(io("set the mode of"))?;
    file.sync_all().map_err(io("flush"))?;
    let bytes = file.metadata().map_err(io("look at"))?.len();
    failpoint::hit("snapshot-after-flush");
    let (sha256, sha1) = hashes(path, abort)?;
    let taken_at = Timestamp::now();
    Ok(Snapshot { path: path.to_owned(), position, bytes, sha256, sha1, taken_at, tables: Vec::new() })
}

fn hashes(path: &Path, abort: &Abort) -> Result<(String, String), SnapshotError> {
    let mut file = File::open(path).map_err(SnapshotError::io("open", path))?;
    let (mut sha256, mut sha1) = (Sha256::new(), Sha1::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        abort.check()?;
        let count = file.read(&mut buffer).map_err(SnapshotError::io("read", path))?;
        if count == 0 {
            return Ok((hex::encode(sha256.finalize()), STANDARD.encode(sha1.finalize())));
        }
        sha256.update(&buffer[..count]);
        sha1.update(&buffer[..count]);
    }
}

fn check(path: &Path, abort: &Abort) -> Result<(), SnapshotError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let check = || -> rusqlite::Result<String> {
        let mut connection = Connection::open_with_flags(path, flags)?;
        abort.watch(&mut connection)?;
        connection.query_row(CHECK, [], |row| row.get(0))
    };
    match check().map_err(SnapshotError::copy(path))? {
        report if report == "ok" => Ok(()),
        report => Err(SnapshotError::Damaged { path: path.to_owned(), report }),
    }
}
