//! Brings an LDB forward in its own file, to the state of an LDB that was fetched. Programs that opened the file once
//! and never look at the path again then see the new rows too.
//!
//! Entry points: [`Ldb::can_catch_up`] and [`Ldb::catch_up`]. `crate::difference` finds the differences, and `tables`
//! writes them. This module fetches nothing and does not decide when an LDB has to be brought forward.
//!
//! Rows, schema, seq and bookkeeping change in one SQLite transaction. So a reader sees the old state or the new one, and
//! so does the next start after a crash. The transaction runs on a connection of its own, without the bounds that
//! statements of the ledger have. A second connection compares the files and stays at the old state meanwhile.

mod progress;
mod tables;

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::changelog::Changelog;
use crate::difference::{ABORT_CHECK, Comparison, Side};
use ctlstore_core::disk::{IMMUTABLE, directory_of, file_uri, usable_bytes};
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::{Abort, failpoint};

use super::bookkeeping;
use super::connection;
use super::error::LdbError;
use super::writer::Ldb;

use progress::Stop;
use tables::TableWriter;

pub use progress::CatchUpProgress;

const ACTION: &str = "bringing it forward";
const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";
/// The connection that applies batches has nothing to do meanwhile.
const LET_GO_OF_CACHE: &str = "PRAGMA shrink_memory";
const CHECK: &str = "PRAGMA quick_check(1)";

/// The outcome of bringing an LDB forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CatchUp {
    /// The LDB's seq before and after.
    pub from: Seq,
    pub to: Seq,
    /// Tables of families that were compared or written.
    pub tables: usize,
    /// Rows that were inserted, changed or deleted.
    pub rows: u64,
}

/// Why an LDB was not brought forward. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CatchUpError {
    #[error("aborted")]
    Aborted,
    /// Another file has to take its place.
    #[error("ldb {path} can't be brought forward in its own file: {reason}")]
    NotInPlace { path: PathBuf, reason: String },
    #[error("the fetched ldb is damaged: {reason}")]
    FetchedDamaged { reason: String },
    #[error(transparent)]
    Ldb(#[from] LdbError),
}

impl Ldb {
    /// Whether this file can become what the LDB at `to` is. Its seq may not go back: readers know a state of the file
    /// by its seq.
    ///
    /// # Errors
    /// If this LDB's own position can't be read.
    pub fn can_catch_up(&self, to: &LdbPosition) -> Result<bool, LdbError> {
        let at = self.position()?;
        let is_other = matches!((&at.ledger_id, &to.ledger_id), (Some(here), Some(there)) if here != there);
        Ok(!is_other && to.seq > at.seq)
    }

    /// Makes this LDB what the one at `fetched` is, which nobody writes, in one transaction. The WAL grows by the pages
    /// that change, each of them once.
    ///
    /// # Errors
    /// The LDB is as it was. [`CatchUpError::NotInPlace`] if trying again is of no use.
    pub fn catch_up(
        &mut self,
        fetched: &Path,
        abort: &Abort,
        progress: &dyn Fn(CatchUpProgress),
    ) -> Result<CatchUp, CatchUpError> {
        self.check_present()?;
        let outcome = self.prepare_wal().and_then(|()| self.bring_forward(fetched, abort, progress));
        outcome.map_err(|stop| {
            if let Some(changelog) = &mut self.changelog {
                changelog.rolled_back();
            }
            // The frames that it left in the WAL are of no use, and the disk may need their room.
            let _ = self.checkpointer.finish(&self.connection);
            self.error_of(stop, fetched, abort)
        })
    }

    /// Empties the WAL as far as readers let it, and the cache.
    fn prepare_wal(&mut self) -> Result<(), Stop> {
        self.checkpointer.finish(&self.connection)?;
        self.connection.execute_batch(LET_GO_OF_CACHE)?;
        Ok(())
    }

    fn bring_forward(
        &mut self,
        fetched: &Path,
        abort: &Abort,
        progress: &dyn Fn(CatchUpProgress),
    ) -> Result<CatchUp, Stop> {
        let writer = open_writer(self.file(), abort)?;
        writer.execute_batch(BEGIN)?;
        failpoint::hit("catch-up-after-begin");
        let done = self.write_all(&writer, fetched, abort, progress);
        if done.is_err() && !writer.is_autocommit() {
            // The first error tells more than one of the way back.
            let _ = writer.execute_batch(ROLLBACK);
        }
        let (done, ledger_id) = done?;
        failpoint::hit("catch-up-after-commit");
        self.tell(done.to, ledger_id);
        Ok(done)
    }

    /// Writes everything and commits. Gives the ledger's id if the LDB had none.
    fn write_all(
        &mut self,
        writer: &Connection,
        fetched: &Path,
        abort: &Abort,
        progress: &dyn Fn(CatchUpProgress),
    ) -> Result<(CatchUp, Option<String>), Stop> {
        // It begins after the write lock was taken: both connections have the same state.
        let compared = Comparison::open(self.file(), fetched, abort)?;
        let from = compared.seq(Side::Present)?;
        let to = compared.seq(Side::Fetched)?;
        if let Some(changelog) = &mut self.changelog {
            changelog.begin();
        }
        let directory = directory_of(self.file()).to_owned();
        let path = self.path.clone();
        let check_room = || match usable_bytes(&directory) {
            Ok(0) => Err(Stop::Ldb(LdbError::DiskFull { path: path.clone(), action: ACTION })),
            _ => Ok(()),
        };
        let history = self.changelog.as_mut().and_then(Changelog::history_mut);
        let mut tables = TableWriter::new(writer, &compared, history, to, progress, &check_room);
        tables.write_all(&compared.tables()?)?;
        let done = CatchUp { from, to, tables: tables.tables(), rows: tables.rows() };
        failpoint::hit("catch-up-after-rows");
        let ledger_id = self.keep_books_of(writer, &compared, to)?;
        failpoint::hit("catch-up-after-seq");
        self.check_present()?;
        if let Some(changelog) = &mut self.changelog {
            changelog.prepare(from, to);
        }
        failpoint::hit("catch-up-after-history");
        if abort.is_aborted() {
            return Err(Stop::Aborted);
        }
        writer.execute_batch(COMMIT)?;
        Ok((done, ledger_id))
    }

    /// Takes over seq, time and ledger, and numbers the changelog.
    fn keep_books_of(
        &mut self,
        writer: &Connection,
        compared: &Comparison,
        to: Seq,
    ) -> Result<Option<String>, rusqlite::Error> {
        bookkeeping::set_seq(writer, to)?;
        bookkeeping::copy_last_update(writer, compared.last_update()?.as_deref())?;
        let learned = compared.ledger_id(Side::Fetched).filter(|_| compared.ledger_id(Side::Present).is_none());
        if let Some(id) = &learned {
            bookkeeping::set_ledger_id(writer, id)?;
        }
        if let Some(changelog) = &mut self.changelog {
            changelog.jump_over(writer, to)?;
            if changelog.has_file() {
                bookkeeping::set_next_number(writer, changelog.next_number(), to)?;
            }
        }
        Ok(learned)
    }

    /// Tells the world of the commit.
    fn tell(&mut self, seq: Seq, ledger_id: Option<String>) {
        if let Some(changelog) = &mut self.changelog {
            changelog.committed();
            if let (Some(history), Some(id)) = (changelog.history_mut(), &ledger_id) {
                history.adopt(id);
            }
        }
        failpoint::hit("catch-up-after-changelog");
        self.touch(seq);
    }

    /// Turns `stop` into the caller's error.
    fn error_of(&self, stop: Stop, fetched: &Path, abort: &Abort) -> CatchUpError {
        let path = self.path.clone();
        if abort.is_aborted() {
            return CatchUpError::Aborted;
        }
        let error = match stop {
            Stop::Aborted => return CatchUpError::Aborted,
            Stop::Mismatch(reason) => return CatchUpError::NotInPlace { path, reason },
            Stop::Ldb(error) => error,
            Stop::Sqlite(error) => LdbError::sqlite(&self.path, ACTION, &error),
        };
        match error {
            // It may be either file that is meant.
            LdbError::Corrupt { .. } => match damage_of(fetched) {
                Some(reason) => CatchUpError::FetchedDamaged { reason },
                None => error.into(),
            },
            LdbError::Sqlite { reason, .. } => CatchUpError::NotInPlace { path, reason },
            other => other.into(),
        }
    }
}

/// A connection that may change everything, until `abort` ends what it runs.
fn open_writer(file: &Path, abort: &Abort) -> Result<Connection, Stop> {
    let mut writer = connection::open(file)?;
    // Definitions by other programs may hold text in double quotes.
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
    let flag = abort.clone();
    writer.progress_handler(ABORT_CHECK, Some(move || flag.is_aborted()))?;
    Ok(writer)
}

/// The damage of the fetched file, `None` if it is sound.
fn damage_of(fetched: &Path) -> Option<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let report = Connection::open_with_flags(file_uri(fetched, IMMUTABLE), flags)
        .and_then(|connection| connection.query_row(CHECK, [], |row| row.get::<_, String>(0)));
    match report {
        Ok(report) if report == "ok" => None,
        Ok(report) => Some(report),
        Err(error) => matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            .then(|| error.to_string()),
    }
}
