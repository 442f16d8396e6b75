//! Works on a ctldb's file as a whole. Entry points: [`copy_database`], [`CtldbFile::check`],
//! [`TemporaryCopy`], and [`set_aside`] for the file that a copy replaces.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rusqlite::backup::{Backup as OnlineBackup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use ctlstore_core::disk;
use ctlstore_core::sql::quoted;
use ctlstore_ctldb::LedgerTable;

use super::super::failure::Failure;

/// How long a copy waits for a lock of another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const CHECK: &str = "PRAGMA quick_check(1)";
const LAST_SEQ: &str = "SELECT COALESCE(MAX(seq), 0) FROM ";
const LEDGER_ID: &str = "SELECT value FROM ctlstore_meta WHERE name = 'ledger_id'";
const HAS_META: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ctlstore_meta'";

/// Copies a whole database in one step. In several steps, a writer would make it begin again.
pub fn copy_database(from: &Path, to: &Path) -> anyhow::Result<()> {
    let source = open(from)?;
    let mut target = Connection::open(to)?;
    let copied = OnlineBackup::new(&source, &mut target)?.step(-1)?;
    anyhow::ensure!(matches!(copied, StepResult::Done), "it is locked by another program");
    // Without WAL mode a reader of the copy makes no files beside it. An executive switches it on again.
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    target.close().map_err(|(_, error)| error)?;
    Ok(disk::flush(to)?)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// The content of a ctldb's file, after it was checked.
pub struct CtldbFile {
    pub ledger_id: Option<String>,
    pub last_seq: i64,
    pub bytes: u64,
}

impl CtldbFile {
    pub fn check(path: &Path, ledger: &LedgerTable) -> anyhow::Result<Self> {
        let shown = path.display();
        let metadata = fs::metadata(path).map_err(|error| Failure::absent(format!("{shown}: {error}")))?;
        let bad = |error: rusqlite::Error| Failure::refused(format!("{shown} is no backup of a ctldb: {error}"));
        let database = open(path).map_err(bad)?;
        let found: String = database.query_row(CHECK, [], |row| row.get(0)).map_err(bad)?;
        if found != "ok" {
            return Err(Failure::refused(format!("{shown} is damaged: {found}")).into());
        }
        let last_seq = format!("{LAST_SEQ}{}", quoted(ledger.as_str()));
        let last_seq = database.query_row(&last_seq, [], |row| row.get(0)).map_err(bad)?;
        let has_meta = database.prepare(HAS_META)?.exists([])?;
        let ledger_id = if has_meta { database.query_row(LEDGER_ID, [], |row| row.get(0)).optional()? } else { None };
        Ok(Self { ledger_id, last_seq, bytes: metadata.len() })
    }
}

/// A file that is removed when this is dropped, unless it took its place.
pub struct TemporaryCopy {
    pub path: PathBuf,
}

impl TemporaryCopy {
    pub fn beside(path: &Path) -> anyhow::Result<Self> {
        let temporary = Self { path: disk::beside(path, &format!(".new-{}", std::process::id())) };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(disk::FILE_MODE);
        options.open(&temporary.path).with_context(|| temporary.path.display().to_string())?;
        Ok(temporary)
    }

    pub fn take_place(self, of: &Path) -> anyhow::Result<()> {
        let renamed = fs::rename(&self.path, of).and_then(|()| disk::flush(disk::directory_of(of)));
        renamed.with_context(|| of.display().to_string())
    }
}

impl Drop for TemporaryCopy {
    fn drop(&mut self) {
        // After it took its place, no file has this name.
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(disk::beside(&self.path, suffix));
        }
    }
}

/// Gives the file, with the content of its WAL, a second name. Removes the WAL, which SQLite would apply
/// to the next file of this name. The path always has a file meanwhile.
pub fn set_aside(path: &Path) -> anyhow::Result<PathBuf> {
    let kept = free_name(path);
    match checkpoint(path) {
        Ok(true) => fs::hard_link(path, &kept)?,
        Ok(false) => return Err(Failure::refused("another program reads it; stop that first").into()),
        // The file can't be read, so its WAL is kept beside it.
        Err(_) => {
            fs::hard_link(path, &kept)?;
            gone(fs::rename(disk::beside(path, "-wal"), disk::beside(&kept, "-wal")))?;
        }
    }
    gone(fs::remove_file(disk::beside(path, "-wal")))?;
    gone(fs::remove_file(disk::beside(path, "-shm")))?;
    // It tells of the file that was set aside.
    gone(fs::remove_file(disk::beside(path, ".open")))?;
    Ok(kept)
}

/// Treats a file that does not exist as removed.
fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Moves the WAL into the database and empties it; false if another program reads it.
fn checkpoint(path: &Path) -> rusqlite::Result<bool> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    database.busy_timeout(BUSY_TIMEOUT)?;
    let busy: bool = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!busy)
}

fn free_name(path: &Path) -> PathBuf {
    let first = disk::beside(path, ".replaced");
    let others = (2..).map(|n| disk::beside(path, &format!(".replaced-{n}")));
    std::iter::once(first.clone()).chain(others).find(|path| !path.exists()).unwrap_or(first)
}
