//! Checks whether the LDB's file is sound, through a connection with an empty cache. The
//! applier's own connection may have pages in its cache that are damaged on the disk. Entry
//! points: [`IntegrityMonitor`] for quick checks, [`IntegrityCheck`] for a whole one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use ctlstore_core::disk::FileId;

use super::bookkeeping;
use super::connection::BUSY_TIMEOUT;
use super::error::LdbError;

/// Reads every page, and checks the trees of the tables. One finding is enough.
const CHECK: &str = "PRAGMA quick_check(1)";
const PAGE_SIZE: &str = "PRAGMA page_size";

/// How often the header and the bookkeeping are read anew.
const HEADER_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// SQLite's own instructions between two calls that ask whether to end: well below a millisecond.
const END_CHECK: i32 = 10_000;

/// The findings of earlier checks of the file.
#[derive(Debug)]
pub struct IntegrityMonitor {
    /// The file's size. It never shrinks, because an LDB is not vacuumed in place.
    bytes: u64,
    header_checked: Instant,
    /// The corruption that was found. It stays, because only another file helps.
    corruption: Option<String>,
}

impl IntegrityMonitor {
    pub fn new(file: &Path) -> Self {
        Self { bytes: size_of(file), header_checked: Instant::now(), corruption: None }
    }

    /// Makes the checks that cost next to nothing: the size each time, and the header and the
    /// bookkeeping every ten seconds.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`], from the first finding on.
    pub fn check_header(&mut self, file: &Path) -> Result<(), LdbError> {
        self.refuse_corrupt(file)?;
        let before = std::mem::replace(&mut self.bytes, size_of(file));
        if self.bytes < before {
            return self.record(whole_pages(file).and_then(|()| read_all(file, || false)));
        }
        if self.header_checked.elapsed() < HEADER_CHECK_INTERVAL {
            return Ok(());
        }
        self.header_checked = Instant::now();
        let position = open(file).and_then(|connection| bookkeeping::position(&connection));
        self.record(position.map(drop).map_err(|error| failed(file, &error)))
    }

    /// Begins a check of the whole file. It reads the size, and only the thread that checkpoints
    /// may do that: any other may find the file half extended.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`], from the first finding on.
    pub(super) fn begin_check(&mut self, file: &Path, id: FileId) -> Result<IntegrityCheck, LdbError> {
        self.refuse_corrupt(file)?;
        self.record(whole_pages(file))?;
        Ok(IntegrityCheck { file: file.to_owned(), id })
    }

    /// # Errors
    /// [`LdbError::Corrupt`] once corruption was found.
    pub fn refuse_corrupt(&self, file: &Path) -> Result<(), LdbError> {
        self.corruption.as_deref().map_or(Ok(()), |reason| Err(corrupt(file, reason)))
    }

    /// Remembers corruption.
    pub fn record(&mut self, outcome: Result<(), LdbError>) -> Result<(), LdbError> {
        outcome.inspect_err(|error| {
            if let LdbError::Corrupt { reason, .. } = error {
                self.corruption = Some(reason.clone());
            }
        })
    }
}

/// The answer to a report that the LDB is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrityVerdict {
    /// The whole file was read since, and is sound.
    Sound,
    /// The file was not checked since: another check was too short a time ago, or the checked file
    /// was replaced meanwhile.
    NotChecked,
}

/// A check of the whole file. It takes as long as reading the file, so it is for another thread
/// than the one that applies. It is one read transaction, so the WAL grows meanwhile.
#[derive(Debug)]
pub struct IntegrityCheck {
    file: PathBuf,
    id: FileId,
}

impl IntegrityCheck {
    /// The file that is checked.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn is_at(&self, id: FileId) -> bool {
        self.id == id
    }

    /// Reads the file until its end, or until `is_ended` returns true.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`] if it is damaged; others if it can't be read, or was ended.
    pub fn run(&self, is_ended: impl FnMut() -> bool + Send + 'static) -> Result<(), LdbError> {
        read_all(&self.file, is_ended)
    }
}

fn failed(file: &Path, error: &rusqlite::Error) -> LdbError {
    LdbError::sqlite(file, "looking at it", error)
}

fn corrupt(file: &Path, reason: &str) -> LdbError {
    LdbError::Corrupt { path: file.to_owned(), reason: reason.to_owned() }
}

/// The size; 0 if the file is gone, which is noticed elsewhere.
fn size_of(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn read_all(file: &Path, is_ended: impl FnMut() -> bool + Send + 'static) -> Result<(), LdbError> {
    let report = check(file, is_ended).map_err(|error| failed(file, &error))?;
    if report == "ok" {
        return Ok(());
    }
    // The first line only names the database.
    Err(corrupt(file, report.lines().last().unwrap_or(&report)))
}

/// Checks that the file ends with a whole page. SQLite would read zeroes for the missing part.
fn whole_pages(file: &Path) -> Result<(), LdbError> {
    let asked = open(file).and_then(|connection| connection.query_row(PAGE_SIZE, [], |row| row.get(0)));
    let page_bytes: u32 = asked.map_err(|error| failed(file, &error))?;
    let bytes = size_of(file);
    if bytes.is_multiple_of(page_bytes.into()) {
        return Ok(());
    }
    Err(corrupt(file, &format!("{bytes} bytes are no whole number of pages")))
}

fn check(file: &Path, is_ended: impl FnMut() -> bool + Send + 'static) -> rusqlite::Result<String> {
    let mut connection = open(file)?;
    connection.progress_handler(END_CHECK, Some(is_ended))?;
    connection.query_row(CHECK, [], |row| row.get(0))
}

/// Opens the file through SQLite. Closing a plain descriptor of the file would drop the locks
/// that this process has on it.
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn made() -> (tempfile::TempDir, PathBuf, FileId) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ldb.db");
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY);").unwrap();
        drop(connection);
        let id = FileId::of(&file).unwrap().unwrap();
        (directory, file, id)
    }

    /// As a write that is half done leaves it.
    fn extend(file: &Path) {
        let bytes = fs::metadata(file).unwrap().len();
        File::options().write(true).open(file).unwrap().set_len(bytes + 100).unwrap();
    }

    #[test]
    fn a_checkpoint_that_extends_the_file_during_a_check_is_no_damage() {
        let (_directory, file, id) = made();
        let check = IntegrityMonitor::new(&file).begin_check(&file, id).unwrap();
        extend(&file);
        check.run(|| false).unwrap();
    }

    #[test]
    fn no_whole_number_of_pages_is_damage_before_the_rest_is_read() {
        let (_directory, file, id) = made();
        extend(&file);
        let mut monitor = IntegrityMonitor::new(&file);
        assert!(monitor.begin_check(&file, id).unwrap_err().is_corrupt());
        assert!(monitor.refuse_corrupt(&file).unwrap_err().is_corrupt());
    }
}
