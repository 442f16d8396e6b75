//! The ledger of an embedded ctldb, as the poller reads it: through a read-only
//! connection of its own, on threads for blocking work, while the executive of this
//! or of another process writes.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row};

use crate::ctldb::LedgerTable;
use crate::ctldb::meta::{LEDGER_ID, LOW_WATER_SEQ};
use crate::ledger::{Block, BlockLimit, LedgerInfo, LedgerRow, LedgerSource, Seq, SourceError};
use crate::schema::Timestamp;
use crate::sql::{self, Statement};

use super::file;

const ROWS: &str = "SELECT seq, leader_ts, statement FROM {ledger} WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
const FIRST: &str = "SELECT seq, statement FROM {ledger} ORDER BY seq LIMIT 1";
const LAST: &str = "SELECT MAX(seq) FROM {ledger}";
const META: &str = "SELECT value FROM ctlstore_meta WHERE name = ?1";
const HAS_TABLE: &str = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";

/// Reads a ctldb's file; opens it when it is first asked, and again after a failure.
#[derive(Debug)]
pub struct SqliteSource {
    path: PathBuf,
    ledger: LedgerTable,
    /// Away while a read is under way, and gone when that read was given up.
    connection: Option<Connection>,
}

impl SqliteSource {
    pub fn new(path: &Path, ledger: LedgerTable) -> Self {
        Self { path: path.to_owned(), ledger, connection: None }
    }

    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Connection, &LedgerTable) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let (connection, path, ledger) = (self.connection.take(), self.path.clone(), self.ledger.clone());
        let blocking = tokio::task::spawn_blocking(move || {
            let connection = match connection {
                Some(open) => open,
                None => file::open_reader(&path).map_err(|e| failed(&e))?,
            };
            let result = work(&connection, &ledger)?;
            Ok((connection, result))
        });
        let outcome = blocking.await.map_err(|e| SourceError::Failed(format!("read the ledger: {e}")))?;
        let (connection, result) = outcome?;
        self.connection = Some(connection);
        Ok(result)
    }
}

impl LedgerSource for SqliteSource {
    async fn describe(&mut self) -> Result<LedgerInfo, SourceError> {
        self.run(describe).await
    }

    async fn read(&mut self, after: Seq, up_to: Option<Seq>, limit: BlockLimit) -> Result<Block, SourceError> {
        self.run(move |connection, ledger| read(connection, ledger, after, up_to, limit)).await
    }

    async fn close(&mut self) {
        self.connection = None;
    }
}

fn describe(connection: &Connection, ledger: &LedgerTable) -> Result<LedgerInfo, SourceError> {
    let describe = || -> rusqlite::Result<Option<LedgerInfo>> {
        // All of it from one moment.
        let moment = connection.unchecked_transaction()?;
        let has = |table: &str| moment.query_row(HAS_TABLE, [table], |row| row.get::<_, bool>(0));
        if !has(ledger.as_str())? {
            return Ok(None);
        }
        let has_meta = has("ctlstore_meta")?;
        let meta = |name: &str| -> rusqlite::Result<Option<String>> {
            if has_meta { moment.query_row(META, [name], |row| row.get(0)).optional() } else { Ok(None) }
        };
        let first = moment
            .query_row(&ledger.fill(FIRST), [], |row| Ok((Seq(row.get(0)?), row.get::<_, String>(1)?)))
            .optional()?;
        let last: Option<i64> = moment.query_row(&ledger.fill(LAST), [], |row| row.get(0))?;
        let creates_table = |(_, text): &(Seq, String)| matches!(sql::parse(text), Statement::CreateTable { .. });
        Ok(Some(LedgerInfo {
            ledger_id: meta(LEDGER_ID)?,
            first_creates_table: first.as_ref().is_some_and(creates_table),
            first: first.map(|(seq, _)| seq),
            last: last.map(Seq),
            low_water: meta(LOW_WATER_SEQ)?.and_then(|seq| seq.parse().ok()).map(Seq),
        }))
    };
    describe().map_err(|e| failed(&e))?.ok_or_else(|| SourceError::NoLedger(ledger.as_str().to_owned()))
}

fn read(
    connection: &Connection,
    ledger: &LedgerTable,
    after: Seq,
    up_to: Option<Seq>,
    limit: BlockLimit,
) -> Result<Block, SourceError> {
    let up_to = up_to.map_or(i64::MAX, |seq| seq.0);
    let most = i64::try_from(limit.rows).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(&ledger.fill(ROWS)).map_err(|e| failed(&e))?;
    let mut found = statement.query([after.0, up_to, most]).map_err(|e| failed(&e))?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next().map_err(|e| failed(&e))? {
        let row = ledger_row(row)?;
        bytes += row.statement.len();
        rows.push(row);
        if bytes >= limit.bytes {
            return Ok(Block { rows, at_end: false });
        }
    }
    Ok(Block { at_end: rows.len() < limit.rows, rows })
}

fn ledger_row(row: &Row<'_>) -> Result<LedgerRow, SourceError> {
    let seq = Seq(row.get(0).map_err(|e| failed(&e))?);
    let bad = |reason: &str| SourceError::BadRow { seq, reason: reason.to_owned() };
    let leader_ts = match row.get_ref(1).map_err(|e| failed(&e))? {
        ValueRef::Null => None,
        ValueRef::Text(text) => {
            let moment = std::str::from_utf8(text).ok().and_then(Timestamp::parse);
            Some(moment.ok_or_else(|| bad("leader_ts is no timestamp"))?)
        }
        _ => return Err(bad("leader_ts is no text")),
    };
    let statement = row.get(2).map_err(|_| bad("statement is no text"))?;
    Ok(LedgerRow { seq, leader_ts, statement })
}

fn failed(error: &rusqlite::Error) -> SourceError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            SourceError::Unavailable(error.to_string())
        }
        _ => SourceError::Failed(error.to_string()),
    }
}
