//! Whether the LDB's file is what its readers need, found out through a connection that
//! has nothing of it in its cache. The applier's own may know pages by heart that are
//! damaged on the disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use ctlstore_core::disk::FileId;

use super::bookkeeping;
use super::connection::BUSY_TIMEOUT;
use super::error::LdbError;

/// Every page, and that the tables' trees hang together; one finding is enough.
const CHECK: &str = "PRAGMA quick_check(1)";
const PAGE_SIZE: &str = "PRAGMA page_size";

/// How often the beginning of the file is read anew.
const HEADER_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// SQLite's own instructions between two questions whether to go on: well below a millisecond.
const END_CHECK: i32 = 10_000;

/// What is known of the file from the last looks at it.
#[derive(Debug)]
pub struct Inspector {
    /// The file's size. It never shrinks: an LDB is not vacuumed in place.
    bytes: u64,
    glanced: Instant,
    /// What was found. It stays, as only another file helps.
    damage: Option<String>,
}

impl Inspector {
    pub fn new(file: &Path) -> Self {
        Self { bytes: size_of(file), glanced: Instant::now(), damage: None }
    }

    /// Looks at what costs nothing to look at: the size each time, the header and the
    /// bookkeeping now and then.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`], from then on always.
    pub fn check_header(&mut self, file: &Path) -> Result<(), LdbError> {
        self.known(file)?;
        let before = std::mem::replace(&mut self.bytes, size_of(file));
        if self.bytes < before {
            return self.keep(whole_pages(file).and_then(|()| read_all(file, || false)));
        }
        if self.glanced.elapsed() < HEADER_CHECK_INTERVAL {
            return Ok(());
        }
        self.glanced = Instant::now();
        let position = open(file).and_then(|connection| bookkeeping::position(&connection));
        self.keep(position.map(drop).map_err(|error| failed(file, &error)))
    }

    /// Begins a look at all of the file. Only the thread that checkpoints may ask for its
    /// size: any other sees the file half extended now and then.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`], from then on always.
    pub(super) fn look(&mut self, file: &Path, id: FileId) -> Result<IntegrityCheck, LdbError> {
        self.known(file)?;
        self.keep(whole_pages(file))?;
        Ok(IntegrityCheck { file: file.to_owned(), id })
    }

    /// # Errors
    /// [`LdbError::Corrupt`] once damage was found.
    pub fn known(&self, file: &Path) -> Result<(), LdbError> {
        self.damage.as_deref().map_or(Ok(()), |damage| Err(corrupt(file, damage)))
    }

    /// Keeps damage in mind.
    pub fn keep(&mut self, outcome: Result<(), LdbError>) -> Result<(), LdbError> {
        outcome.inspect_err(|error| {
            if let LdbError::Corrupt { reason, .. } = error {
                self.damage = Some(reason.clone());
            }
        })
    }
}

/// What came of someone's word that the LDB is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrityVerdict {
    /// All of it was read since, and is sound.
    Sound,
    /// It was not looked at since: another look was too short a time ago, or at a file
    /// that was replaced meanwhile.
    NotLooked,
}

/// A look at all of the file, which takes as long as reading it: for another thread than
/// the one that applies. It is one read transaction, so the WAL grows meanwhile.
#[derive(Debug)]
pub struct IntegrityCheck {
    file: PathBuf,
    id: FileId,
}

impl IntegrityCheck {
    /// The file that is looked at.
    pub fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn is_at(&self, id: FileId) -> bool {
        self.id == id
    }

    /// Reads the file, unless `is_ended` says that it is to end.
    ///
    /// # Errors
    /// [`LdbError::Corrupt`] where it is damaged; others where it can't be read, or was to end.
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

/// 0 where it is gone, which is found elsewhere.
fn size_of(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}

fn read_all(file: &Path, is_ended: impl FnMut() -> bool + Send + 'static) -> Result<(), LdbError> {
    let report = check(file, is_ended).map_err(|error| failed(file, &error))?;
    if report == "ok" {
        return Ok(());
    }
    // Its first line only says which database.
    Err(corrupt(file, report.lines().last().unwrap_or(&report)))
}

/// SQLite would take what is missing from the last page for zeroes.
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

/// Through SQLite alone: whoever closes a descriptor of the file loses the locks that
/// this process has on it.
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
    fn a_checkpoint_that_extends_the_file_during_a_look_is_no_damage() {
        let (_directory, file, id) = made();
        let look = Inspector::new(&file).look(&file, id).unwrap();
        extend(&file);
        look.run(|| false).unwrap();
    }

    #[test]
    fn no_whole_number_of_pages_is_damage_before_the_rest_is_looked_at() {
        let (_directory, file, id) = made();
        extend(&file);
        let mut inspector = Inspector::new(&file);
        assert!(inspector.look(&file, id).unwrap_err().is_corrupt());
        assert!(inspector.known(&file).unwrap_err().is_corrupt());
    }
}
