//! [`SqliteSource`]: reads the ledger of an SQLite ctldb, on a read-only connection of its own and never on
//! the event loop. Another process may own the file, and there may be no file yet.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row};

use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::session::{LedgerIdentity, TableFault};
use ctlstore_core::disk::{self, too_many_open_files};
use ctlstore_core::ledger::{Block, BlockLimit, HeadRow, LedgerInfo, LedgerRow, LedgerSource, Seq, SourceError};
use ctlstore_core::schema::Timestamp;

use super::ownership::refuse_other_database;
use super::{catalog, error, file, ledger_head};

const FIRST: &str = "SELECT seq, statement LIKE 'CREATE TABLE %' FROM {ledger} ORDER BY seq LIMIT 1";
const LAST: &str = "SELECT MAX(seq) FROM {ledger}";
const BLOCK: &str = "SELECT seq, leader_ts, statement FROM {ledger} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?";

/// The time that a query which is given up may need to begin.
const INTERRUPT_WAIT: Duration = Duration::from_millis(100);

/// The ledger in a file of this host.
pub struct SqliteSource {
    path: PathBuf,
    ledger: LedgerTable,
    timeout: Duration,
    open: Option<Open>,
}

/// A connection and its file's identity. Another file may take the path.
struct Open {
    connection: Connection,
    file: (u64, u64),
}

impl SqliteSource {
    /// Each query takes at most `timeout`.
    pub fn new(path: &Path, ledger: LedgerTable, timeout: Duration) -> Self {
        Self { path: path.to_owned(), ledger, timeout, open: None }
    }

    /// The present time by the ctldb's clock, which is this host's.
    pub fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// The ledger's identity.
    pub async fn identity(&mut self) -> Result<LedgerIdentity, SourceError> {
        self.ask(|db, ledger| ledger_head::identity(db, ledger).map_err(|e| source_error(&e, ledger))).await
    }

    /// The first `most` rows after `after`, or of the whole ledger, without their statements.
    pub async fn heads(&mut self, after: Option<Seq>, most: usize) -> Result<Vec<HeadRow>, SourceError> {
        self.ask(move |db, ledger| ledger_head::rows(db, ledger, after, most).map_err(|e| source_error(&e, ledger)))
            .await
    }

    /// The tables that were changed by hand.
    pub async fn table_faults(&mut self) -> Result<Vec<TableFault>, SourceError> {
        self.ask(|db, ledger| catalog::all_faults(db, ledger).map_err(|e| SourceError::Failed(e.to_string()))).await
    }

    /// Runs `question` on a thread that may block. After the time-out it is interrupted.
    async fn ask<T, F>(&mut self, question: F) -> Result<T, SourceError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &LedgerTable) -> Result<T, SourceError> + Send + 'static,
    {
        let path = self.path.clone();
        let ledger = self.ledger.clone();
        let open = self.open.take();
        let (started, interrupt) = tokio::sync::oneshot::channel();
        let work = tokio::task::spawn_blocking(move || {
            let open = current(&path, &ledger, open)?;
            // The receiver may be gone.
            let _ = started.send(open.connection.get_interrupt_handle());
            let answer = question(&open.connection, &ledger);
            Ok((open, answer))
        });
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(Ok((open, answer)))) => {
                self.open = Some(open);
                answer
            }
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(error)) => Err(SourceError::Failed(format!("read {}: {error}", self.path.display()))),
            Err(_) => {
                // If the file could not be opened, there is nothing to interrupt.
                if let Ok(Ok(handle)) = tokio::time::timeout(INTERRUPT_WAIT, interrupt).await {
                    handle.interrupt();
                }
                Err(SourceError::Unavailable("no answer in time".to_owned()))
            }
        }
    }
}

/// The open connection, if its file still has the path. Otherwise a new one.
fn current(path: &Path, ledger: &LedgerTable, open: Option<Open>) -> Result<Open, SourceError> {
    let unavailable = |reason: String| SourceError::Unavailable(format!("{}: {reason}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|e| unavailable(e.to_string()))?;
    let file = (metadata.dev(), metadata.ino());
    match open {
        Some(open) if open.file == file => Ok(open),
        _ => {
            disk::check_database(path).map_err(|e| unavailable(e.to_string()))?;
            // A reader makes files beside a database too, so the file must be a ctldb.
            refuse_other_database(path, ledger).map_err(|_| SourceError::NoLedger(ledger.as_str().to_owned()))?;
            let connection = file::open_reader(path).map_err(|e| unavailable(error::reason(&e)))?;
            Ok(Open { connection, file })
        }
    }
}

impl LedgerSource for SqliteSource {
    async fn describe(&mut self) -> Result<LedgerInfo, SourceError> {
        self.ask(|db, ledger| describe(db, ledger).map_err(|e| source_error(&e, ledger))).await
    }

    async fn read(&mut self, after: Seq, up_to: Option<Seq>, limit: BlockLimit) -> Result<Block, SourceError> {
        self.ask(move |db, ledger| read(db, ledger, after, up_to, limit)).await
    }

    async fn close(&mut self) {
        self.open = None;
    }
}

fn describe(db: &Connection, ledger: &LedgerTable) -> rusqlite::Result<LedgerInfo> {
    // All reads in one transaction, so that they see one state.
    let db = db.unchecked_transaction()?;
    let first: Option<(i64, bool)> =
        db.query_row(&ledger.fill(FIRST), [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let last: Option<i64> = db.query_row(&ledger.fill(LAST), [], |row| row.get(0))?;
    let identity = ledger_head::identity(&db, ledger)?;
    Ok(LedgerInfo {
        ledger_id: identity.ledger_id,
        first: first.map(|(seq, _)| Seq(seq)),
        first_creates_table: first.is_some_and(|(_, creates)| creates),
        last: last.map(Seq),
        low_water: identity.low_water,
    })
}

fn read(
    db: &Connection,
    ledger: &LedgerTable,
    after: Seq,
    up_to: Option<Seq>,
    limit: BlockLimit,
) -> Result<Block, SourceError> {
    let failed = |e: rusqlite::Error| source_error(&e, ledger);
    let mut statement = db.prepare_cached(&ledger.fill(BLOCK)).map_err(failed)?;
    let most = i64::try_from(limit.rows).unwrap_or(i64::MAX);
    let mut rows = statement.query((after.0, up_to.map_or(i64::MAX, |seq| seq.0), most)).map_err(failed)?;
    let mut block = Block::default();
    let mut bytes = 0;
    while block.rows.len() < limit.rows && bytes <= limit.bytes {
        let Some(row) = rows.next().map_err(failed)? else {
            block.at_end = up_to.is_none();
            break;
        };
        let row = match ledger_row(row, ledger) {
            // The rows before a bad row are good. The next read begins with the bad one.
            Err(_) if !block.rows.is_empty() => break,
            read => read?,
        };
        bytes += row.statement.len();
        block.rows.push(row);
    }
    Ok(block)
}

fn ledger_row(row: &Row<'_>, ledger: &LedgerTable) -> Result<LedgerRow, SourceError> {
    let seq = Seq(row.get(0).map_err(|e| source_error(&e, ledger))?);
    let bad = |reason: &str| SourceError::BadRow { seq, reason: reason.to_owned() };
    let leader_ts = match row.get_ref(1).map_err(|e| source_error(&e, ledger))? {
        ValueRef::Null => None,
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            let text = std::str::from_utf8(text).ok().and_then(Timestamp::parse);
            Some(text.ok_or_else(|| bad("leader_ts is not a time"))?)
        }
        _ => return Err(bad("leader_ts is a number")),
    };
    let statement = row.get(2).map_err(|_| bad("statement is not text"))?;
    Ok(LedgerRow { seq, leader_ts, statement })
}

fn source_error(error: &rusqlite::Error, ledger: &LedgerTable) -> SourceError {
    let reason = error::reason(error);
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) if let Some(why) = too_many_open_files() => {
            SourceError::Unavailable(why.to_string())
        }
        _ if reason.starts_with("no such table") => SourceError::NoLedger(ledger.as_str().to_owned()),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::CannotOpen
            | ErrorCode::OperationInterrupted
            | ErrorCode::SystemIoFailure,
        ) => SourceError::Unavailable(reason),
        _ => SourceError::Failed(reason),
    }
}
