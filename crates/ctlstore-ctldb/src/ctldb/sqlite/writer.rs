//! A transaction's life on the writer's connection: begin, lock, run, commit or
//! roll back. What happens within it is the session's.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use rusqlite::Connection;

use crate::ctldb::meta::{self, FORMAT_VERSION, LEDGER_ID, OUR_FORMAT, SCHEMA_PROBES};
use crate::ctldb::{CtldbError, LedgerTable, Operation, sizes::TableSizes};

use super::catalog::Catalog;
use super::definitions;
use super::file::{self, OwnedFile};
use super::session::{LedgerSql, SqliteSession};

const SCHEMA: &str = include_str!("schema.sql");
const TAKE_LOCK: &str = "UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'";
/// What a request with its ledger rows takes at most, in bytes. With less free the ctldb counts as full.
const LEAST_ROOM: u64 = 1024 * 1024;
/// Ledger rows that may go unrecorded: fewer are looked through in a moment.
const MAX_NOT_RECORDED: i64 = 10_000;
const READ_META: &str = "SELECT value FROM ctlstore_meta WHERE name = ?";
const ADD_META: &str = "INSERT OR IGNORE INTO ctlstore_meta (name, value) VALUES (?, ?)";

/// The schema as one would make it by hand.
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
    /// `connection` is to `file`.
    pub fn new(connection: Connection, file: OwnedFile, ledger: LedgerTable, sizes: TableSizes) -> Self {
        let ledger_sql = LedgerSql::new(&ledger);
        Self { connection, file, catalog: Catalog::default(), ledger, ledger_sql, sizes }
    }

    /// Creates what is missing and checks what is there.
    pub fn prepare(&mut self) -> Result<(), CtldbError> {
        self.transaction(|writer| {
            let db = &writer.connection;
            db.execute_batch(&writer.ledger.fill(SCHEMA))?;
            db.execute(ADD_META, (FORMAT_VERSION, OUR_FORMAT.to_string()))?;
            db.execute(ADD_META, (LEDGER_ID, uuid::Uuid::new_v4().to_string()))?;
            meta::check_format(&db.query_row(READ_META, [FORMAT_VERSION], |row| row.get::<_, String>(0))?)?;
            for probe in SCHEMA_PROBES {
                db.prepare(&writer.ledger.fill(probe))
                    .map_err(|error| CtldbError::Schema(super::error::reason(&error)))?;
            }
            definitions::record(db, &writer.ledger)
        })
    }

    /// Records what the ledger says of the tables, where much of it is not recorded yet.
    pub fn record_definitions(&mut self) -> Result<(), CtldbError> {
        if definitions::rows_not_recorded(&self.connection, &self.ledger)? <= MAX_NOT_RECORDED {
            return Ok(());
        }
        self.transaction(|writer| definitions::record(&writer.connection, &writer.ledger))
    }

    /// Runs `operation` under the ledger lock and commits it. A stranger that holds the
    /// file is waited for until `deadline` at most.
    pub fn write<O: Operation>(&mut self, operation: &O, deadline: Instant) -> Result<O::Output, CtldbError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.connection.busy_timeout(left.min(file::BUSY_TIMEOUT))?;
        self.transaction(|writer| {
            writer.take_lock()?;
            block_on(operation.run(&mut writer.session()?))
        })
    }

    /// Runs `operation` on one state of the database. What it writes is undone.
    pub fn read<O: Operation>(&mut self, operation: &O) -> Result<O::Output, CtldbError> {
        self.file.check()?;
        self.connection.execute_batch("BEGIN")?;
        let result = self.session().and_then(|mut session| block_on(operation.run(&mut session)));
        self.roll_back()?;
        result
    }

    /// Takes the lock and lets it go again; `commit` writes that to the disk. Little room is as none: the next large
    /// request would not fit.
    pub fn check_writable(&mut self, commit: bool) -> Result<(), CtldbError> {
        let free = self.file.free_bytes()?;
        if free < LEAST_ROOM {
            let shown = self.file.path().display();
            return Err(CtldbError::NotWritable(format!("only {free} bytes are free on the disk of {shown}")));
        }
        // Preparing it tells whether the ledger's table is there.
        self.connection.prepare(&self.ledger_sql.append)?;
        // Nobody's write waits because somebody else has the file for a while.
        self.connection.busy_timeout(Duration::ZERO)?;
        let result = if commit { self.transaction(|writer| writer.take_lock()) } else { self.try_lock() };
        self.connection.busy_timeout(file::BUSY_TIMEOUT)?;
        result
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
            _ => Err(meta::no_lock_row()),
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
