//! [`CtldbWriter`]: runs transactions on the writer's connection: begin, lock, run, commit or roll back.
//! The statements within a transaction are those of `session`.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use rusqlite::Connection;

use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::own_tables::{self, FORMAT_VERSION, LEDGER_ID, OUR_FORMAT, SCHEMA_PROBES};
use crate::ctldb::session::CtldbOperation;
use crate::ctldb::sizes::TableSizes;

use super::catalog::Catalog;
use super::definitions;
use super::file::{self, OwnedFile};
use super::open_mark::OpenMark;
use super::session::{LedgerSql, SqliteSession};

const SCHEMA: &str = include_str!("schema.sql");
const TAKE_LOCK: &str = "UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'";
/// The most bytes that a request needs with its ledger rows. With less free the ctldb counts as full.
const LEAST_ROOM: u64 = 1024 * 1024;
/// The ledger rows that may stay unrecorded. So few are searched quickly.
const MAX_NOT_RECORDED: i64 = 10_000;
/// What the last checkpoint waits for programs that read.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
/// Leaves everything as it is, and writes a page.
const REWRITE: &str = "UPDATE ctlstore_meta SET value = value WHERE name = 'format_version'";
const READ_META: &str = "SELECT value FROM ctlstore_meta WHERE name = ?";
const ADD_META: &str = "INSERT OR IGNORE INTO ctlstore_meta (name, value) VALUES (?, ?)";

/// The schema as SQL for an operator.
pub(super) fn schema_sql(ledger: &LedgerTable) -> String {
    ledger.fill(SCHEMA)
}

pub(super) struct CtldbWriter {
    connection: Connection,
    file: OwnedFile,
    catalog: Catalog,
    ledger: LedgerTable,
    ledger_sql: LedgerSql,
    sizes: TableSizes,
}

impl CtldbWriter {
    /// `connection` has `file` open.
    pub fn new(connection: Connection, file: OwnedFile, ledger: LedgerTable, sizes: TableSizes) -> Self {
        let ledger_sql = LedgerSql::new(&ledger);
        Self { connection, file, catalog: Catalog::default(), ledger, ledger_sql, sizes }
    }

    /// Makes missing tables and checks the others.
    pub fn prepare(&mut self) -> Result<(), CtldbError> {
        self.prepare_tables()?;
        // A commit in any case, so that the WAL is not empty while the mark is there.
        self.transaction(|writer| Ok(writer.connection.execute_batch(REWRITE)?))?;
        OpenMark::at(self.file.path()).set(&self.connection)
    }

    fn prepare_tables(&mut self) -> Result<(), CtldbError> {
        self.transaction(|writer| {
            let db = &writer.connection;
            db.execute_batch(&writer.ledger.fill(SCHEMA))?;
            db.execute(ADD_META, (FORMAT_VERSION, OUR_FORMAT.to_string()))?;
            db.execute(ADD_META, (LEDGER_ID, uuid::Uuid::new_v4().to_string()))?;
            own_tables::check_format(&db.query_row(READ_META, [FORMAT_VERSION], |row| row.get::<_, String>(0))?)?;
            for probe in SCHEMA_PROBES {
                db.prepare(&writer.ledger.fill(probe))
                    .map_err(|error| CtldbError::Schema(super::error::reason(&error)))?;
            }
            definitions::record(db, &writer.ledger)
        })
    }

    /// Records the ledger's definitions of the tables, if many rows are not recorded yet.
    pub fn record_definitions(&mut self) -> Result<(), CtldbError> {
        if definitions::rows_not_recorded(&self.connection, &self.ledger)? <= MAX_NOT_RECORDED {
            return Ok(());
        }
        self.transaction(|writer| definitions::record(&writer.connection, &writer.ledger))
    }

    /// Runs `operation` under the ledger lock and commits it. Waits for another program that holds the file
    /// until `deadline` at most.
    pub fn write<O: CtldbOperation>(&mut self, operation: &O, deadline: Instant) -> Result<O::Output, CtldbError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.connection.busy_timeout(left.min(file::BUSY_TIMEOUT))?;
        self.transaction(|writer| {
            writer.take_lock()?;
            block_on(operation.run(&mut writer.session()?))
        })
    }

    /// Runs `operation` in a transaction that is rolled back, so that it reads one state and writes nothing.
    pub fn read<O: CtldbOperation>(&mut self, operation: &O) -> Result<O::Output, CtldbError> {
        self.file.check()?;
        self.connection.execute_batch("BEGIN")?;
        let result = self.session().and_then(|mut session| block_on(operation.run(&mut session)));
        self.roll_back()?;
        result
    }

    /// Takes the lock and frees it again. `commit` also writes that to the disk. A disk with little free room counts
    /// as full: the next large request would not fit.
    pub fn check_writable(&mut self, commit: bool) -> Result<(), CtldbError> {
        let free = self.file.free_bytes()?;
        if free < LEAST_ROOM {
            let shown = self.file.path().display();
            return Err(CtldbError::NotWritable(format!("only {free} bytes are free on the disk of {shown}")));
        }
        // This fails if there is no ledger table.
        self.connection.prepare(&self.ledger_sql.append)?;
        // This check does not wait for another program that holds the file, because writes would have to wait for it.
        self.connection.busy_timeout(Duration::ZERO)?;
        let result = if commit { self.transaction(|writer| writer.take_lock()) } else { self.try_lock() };
        self.connection.busy_timeout(file::BUSY_TIMEOUT)?;
        result
    }

    /// Moves the WAL into the file and cuts it to nothing, so that the file is whole by itself. Closes it.
    pub fn close(self) {
        let mark = OpenMark::at(self.file.path());
        let work = || -> Result<(), CtldbError> {
            self.file.check()?;
            // Before the WAL goes: with the mark an empty WAL is one that was lost.
            let was_open = mark.clear();
            self.connection.busy_timeout(CLOSE_TIMEOUT)?;
            let busy: bool = self.connection.query_row(CHECKPOINT, [], |row| row.get(0))?;
            if busy {
                mark.set(&self.connection)?;
            }
            was_open.map_err(|error| CtldbError::Failed(error.to_string()))
        };
        if let Err(error) = work() {
            tracing::warn!(role = "executive", reason = %error, "the ctldb's wal stays as it is");
        }
    }

    fn try_lock(&self) -> Result<(), CtldbError> {
        self.file.check()?;
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let result = self.take_lock();
        self.roll_back()?;
        result
    }

    fn take_lock(&self) -> Result<(), CtldbError> {
        match self.connection.prepare_cached(TAKE_LOCK)?.execute([])? {
            1 => Ok(()),
            _ => Err(own_tables::no_lock_row()),
        }
    }

    fn session(&mut self) -> Result<SqliteSession<'_>, CtldbError> {
        self.catalog.begin(&self.connection)?;
        Ok(SqliteSession::new(&self.connection, &mut self.catalog, &self.ledger_sql, &self.sizes))
    }

    fn transaction<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, CtldbError>) -> Result<T, CtldbError> {
        self.file.check()?;
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let result = work(self).and_then(|output| {
            self.connection.execute_batch("COMMIT")?;
            Ok(output)
        });
        self.sizes.transaction_ended();
        if result.is_err() {
            self.roll_back()?;
        }
        result
    }

    /// Some errors (a full disk among them) have rolled back already.
    fn roll_back(&self) -> Result<(), CtldbError> {
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        Ok(())
    }
}
