//! The mark beside an embedded ctldb's file that says that an executive has it open, in `<path>.open`. After a kill the
//! newest commits are in the -wal alone; without that file SQLite would go on from an older state, or from none, and
//! nobody would notice. The mark holds the ledger lock's clock when the executive opened the file. Entry points:
//! [`refuse_lost_wal`] before the file is opened, and [`OpenMark`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use crate::ctldb::error::CtldbError;
use ctlstore_core::disk;

const SUFFIX: &str = ".open";
const UNFINISHED: &str = ".open.tmp";
/// More than a clock has.
const MAX_BYTES: u64 = 64;
/// The header of a WAL. Since the mark is made after a commit, there is more than that.
const WAL_HEADER_BYTES: u64 = 32;
/// Where SQLite's header says which versions may read and write a database, and what it says in WAL mode.
const VERSIONS_OFFSET: u64 = 18;
const WAL_VERSIONS: [u8; 2] = [2, 2];
const HAS_LOCKS: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'locks'";
const CLOCK: &str = "SELECT clock FROM locks WHERE id = 'ledger'";

/// Fails if the file at `path` was left by a kill and its -wal is gone. `is_empty` says that the file has no tables.
pub(super) fn refuse_lost_wal(path: &Path, is_empty: bool) -> Result<(), CtldbError> {
    let wal = disk::beside(path, "-wal");
    let wal_bytes = fs::metadata(&wal).map_or(0, |metadata| metadata.len());
    if wal_bytes > WAL_HEADER_BYTES {
        return Ok(());
    }
    let shown = path.display();
    if OpenMark::at(path).clock()?.is_some() {
        let wal = wal.display();
        let mark = OpenMark::at(path).path.display().to_string();
        return Err(CtldbError::Failed(format!(
            "{shown} was not closed, and {wal} with its newest commits is gone; put that file back, or remove {mark} to \
             go on without them"
        )));
    }
    // An executive that opens a file leaves its lock file there. Versions before the mark moved the WAL late.
    if is_empty && disk::beside(path, ".lock").exists() && !wal.exists() && is_in_wal_mode(path) {
        let wal = wal.display();
        return Err(CtldbError::Failed(format!(
            "{shown} has no tables, and {wal} is gone, which may have them; put that file back, or remove {shown} to \
             begin anew"
        )));
    }
    Ok(())
}

fn is_in_wal_mode(path: &Path) -> bool {
    let mut versions = [0; 2];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut versions, VERSIONS_OFFSET));
    read.is_ok() && versions == WAL_VERSIONS
}

/// The mark of one file.
pub(super) struct OpenMark {
    path: PathBuf,
    unfinished: PathBuf,
    database: PathBuf,
}

impl OpenMark {
    pub fn at(database: &Path) -> Self {
        let [path, unfinished] = [SUFFIX, UNFINISHED].map(|suffix| disk::beside(database, suffix));
        Self { path, unfinished, database: database.to_owned() }
    }

    /// Fails if `connection` sees an older state than the executive that had the file open before.
    pub fn check(&self, connection: &Connection) -> Result<(), CtldbError> {
        let Some(marked) = self.clock()? else { return Ok(()) };
        let has_locks = connection.prepare(HAS_LOCKS)?.exists([])?;
        let found: Option<i64> =
            if has_locks { connection.query_row(CLOCK, [], |row| row.get(0)).optional()? } else { None };
        if found.is_some_and(|found| found >= marked) {
            return Ok(());
        }
        let shown = self.database.display();
        let mark = self.path.display();
        Err(CtldbError::Failed(format!(
            "{shown} was not closed, and its newest commits are gone: its -wal is another one, or the file is; put the \
             right ones back, or remove {mark} to go on with what is there"
        )))
    }

    /// Marks the file as open, once its -wal holds a commit. `connection` sees that commit.
    pub fn set(&self, connection: &Connection) -> Result<(), CtldbError> {
        let clock: i64 = connection.query_row(CLOCK, [], |row| row.get(0))?;
        let write = || -> io::Result<()> {
            let mut file = disk::create_anew(&self.unfinished, disk::FILE_MODE)?;
            writeln!(file, "{clock}")?;
            file.sync_all()?;
            fs::rename(&self.unfinished, &self.path)?;
            disk::flush(disk::directory_of(&self.path))
        };
        write().map_err(|error| CtldbError::Failed(format!("write {}: {error}", self.path.display())))
    }

    /// Says that the file is closed, or about to be.
    pub fn clear(&self) -> io::Result<()> {
        disk::remove_if_there(&self.path)
    }

    fn clock(&self) -> Result<Option<i64>, CtldbError> {
        match disk::read_regular_text(&self.path, MAX_BYTES) {
            // Text of another kind was put there by somebody else.
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CtldbError::Failed(format!("read {}: {error}", self.path.display()))),
        }
    }
}
