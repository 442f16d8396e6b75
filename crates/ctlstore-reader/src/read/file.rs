//! One LDB file that is open for reading: its connection, its tables, and the transactions of
//! its reads. Entry points: [`LdbFile::find`] for one row, [`LdbFile::transaction`] for several reads.
//!
//! Only SQLite may open the file. If this process closed any other descriptor of it, the process
//! would lose the locks of all its connections to the file.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, Statement, StatementStatus};

use ctlstore_core::disk::{self, FileId, IMMUTABLE, file_uri, too_many_open_files};

use super::error::ReadError;
use super::key::Key;
use super::position::{self, LastApplied};
use super::query_clock::QueryClock;
use super::row::Row;
use super::table::{Table, Tables};
use super::wal_index::{WalIndexHeader, WatchedConnection};

/// How long a read waits for a lock. A reader in WAL mode waits only while the WAL is being
/// recovered after a crash of its writer.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// How many prepared statements are kept: one for each table and number of key columns in use.
const STATEMENTS: usize = 256;
/// Pages of the mapped part are read in the system's page cache, so they cost no memory of this
/// process. SQLite maps at most 2 GiB. Pages after that, and those in the WAL, are copied into the
/// connection's cache. In a file of 2 million rows, a read took 1.6 times as long with 64 MiB mapped.
const PRAGMAS: &str = "PRAGMA query_only = 1; PRAGMA mmap_size = 2147418112; PRAGMA cache_size = -2048";

const BEGIN: &str = "BEGIN";
const END: &str = "END";

/// The identity of the file at `path`; `None` if there is none.
pub(super) fn id_of(path: &Path) -> Result<Option<FileId>, ReadError> {
    FileId::of(path).map_err(|source| ReadError::Path { path: path.to_owned(), source })
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Other processes read and write the file at the same time.
    Shared,
    /// No process writes the file.
    Immutable,
}

impl Access {
    fn open(self, path: &Path) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        match self {
            Self::Shared => Connection::open_with_flags(path, flags),
            Self::Immutable => {
                Connection::open_with_flags(file_uri(path, IMMUTABLE), flags | OpenFlags::SQLITE_OPEN_URI)
            }
        }
    }
}

/// How long reads may share a transaction. An applier that wants to cut its WAL waits so long.
const SHARED_FOR: Duration = Duration::from_millis(5);

pub(super) struct LdbFile {
    connection: WatchedConnection,
    access: Access,
    tables: RefCell<Tables>,
    /// Whether the tables were compared with the schema in this transaction. The schema can't change
    /// within one.
    tables_checked: Cell<bool>,
    /// How far the LDB had come when this was last read.
    progress: Cell<Option<LastApplied>>,
    /// Whether it was read in this transaction.
    progress_checked: Cell<bool>,
    /// The transaction that was left open for the reads that follow.
    shared: Cell<Option<SharedTransaction>>,
    /// The clock of queries, after the connection was prepared for them.
    query_clock: Option<Arc<QueryClock>>,
    id: FileId,
    /// The path at which the file was opened. Links in it may lead to another file now.
    path: PathBuf,
}

/// A transaction that stays open between reads.
#[derive(Clone, Copy)]
struct SharedTransaction {
    /// The wal-index's header before the transaction began; `None` for a file that no process writes.
    header: Option<WalIndexHeader>,
    since: Instant,
}

impl LdbFile {
    /// Opens the file at `path`. `id` was just read from the path. If another file replaces it in
    /// between, the next look at the path finds that one and opens again.
    pub(super) fn open(path: &Path, id: FileId, access: Access) -> Result<Self, ReadError> {
        disk::check_database(path).map_err(|source| ReadError::Path { path: path.to_owned(), source })?;
        let connection = access.open(path).map_err(|error| opening(path, error))?;
        let mut file = Self {
            connection: WatchedConnection::new(connection),
            access,
            tables: RefCell::default(),
            tables_checked: Cell::new(false),
            progress: Cell::new(None),
            progress_checked: Cell::new(false),
            shared: Cell::new(None),
            query_clock: None,
            id,
            path: path.to_owned(),
        };
        file.set_up().map_err(|error| opening(path, error))?;
        if !file.transaction(|file| position::is_ldb(&file.connection))? {
            return Err(ReadError::NotThereYet { path: PathBuf::from(path) });
        }
        if access == Access::Shared {
            file.connection.watch().map_err(|error| opening(path, error))?;
        }
        Ok(file)
    }

    fn set_up(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        // A reader leaves the WAL to the applier, even if it is the last one to close the file.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        // Without this, SQLite would plan a scan again for every bound value, which takes as long
        // as reading a hundred rows. Each table has one key, so one plan is right for all values.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        self.connection.set_prepared_statement_cache_capacity(STATEMENTS);
        self.connection.execute_batch(PRAGMAS)
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Whether this file has not come as far as `other`. One that can't be asked is taken to have.
    pub(super) fn is_behind(&self, other: &Self) -> bool {
        let seq = |file: &Self| file.transaction(|file| position::last_seq(file.connection()));
        matches!((seq(self), seq(other)), (Ok(mine), Ok(others)) if mine < others)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection, so that a query can set its hooks. `prepare` is called once, before the first
    /// query. After that no reads share a transaction any more.
    pub(super) fn connection_for_queries(
        &mut self,
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<Arc<QueryClock>>,
    ) -> Result<(&mut Connection, Arc<QueryClock>), ReadError> {
        self.let_go();
        let connection = self.connection.unwatched();
        let clock = match &self.query_clock {
            Some(clock) => Arc::clone(clock),
            None => Arc::clone(self.query_clock.insert(prepare(connection)?)),
        };
        Ok((connection, clock))
    }

    /// A statement from the connection's cache.
    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, ReadError> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// The table as it is in the current transaction.
    pub(super) fn table(&self, family: &str, table: &str) -> Result<Arc<Table>, ReadError> {
        let mut tables = self.tables.borrow_mut();
        if !self.tables_checked.get() {
            tables.check(&self.connection)?;
            self.tables_checked.set(true);
        }
        match tables.known(family, table) {
            Some(known) => Ok(known),
            None => tables.learn(&self.connection, family, table),
        }
    }

    /// How far the LDB has come in the current transaction.
    pub(super) fn progress(&self) -> Result<LastApplied, ReadError> {
        let known = self.progress.get();
        if let Some(known) = known.filter(|_| self.progress_checked.get()) {
            return Ok(known);
        }
        let seq = position::last_seq(&self.connection)?;
        // A commit changes both or neither, and the seq is the quicker one to read.
        let progress = match known {
            Some(known) if known.seq == seq => known,
            _ => LastApplied { seq, last_update: position::last_update(&self.connection)? },
        };
        self.progress.set(Some(progress));
        self.progress_checked.set(true);
        Ok(progress)
    }

    /// Runs `read` in a read transaction, which ends with it, also after an error or panic. If the
    /// shared transaction is open and current, `read` runs in that one.
    pub(super) fn transaction<T, E: From<ReadError>>(&self, read: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        if self.shared_is_current() {
            return read(self);
        }
        self.begin()?;
        let end = EndOnDrop(self);
        let outcome = read(self);
        drop(end);
        outcome
    }

    /// Runs `read` in a read transaction that stays open for the reads that follow. It sees the LDB as
    /// a new transaction would: each use checks whether a process has committed since. The caller
    /// must call [`LdbFile::let_go`] in time.
    pub(super) fn shared<T>(&self, read: impl FnOnce(&Self) -> Result<T, ReadError>) -> Result<T, ReadError> {
        if !self.shared_is_current() {
            // The header is read before the transaction begins, so it is never newer than the
            // data that the transaction sees.
            let header = self.connection.header();
            if header.is_none() && self.access == Access::Shared {
                // With a rollback journal there is no header to compare, and commits would wait
                // for the open transaction.
                return self.transaction(read);
            }
            self.begin()?;
            self.shared.set(Some(SharedTransaction { header, since: Instant::now() }));
        }
        let outcome = read(self);
        if outcome.is_err() {
            // The error may be the transaction's.
            self.let_go();
        }
        outcome
    }

    /// Ends the shared transaction, if it is open.
    pub(super) fn let_go(&self) {
        if self.shared.take().is_some() {
            drop(EndOnDrop(self));
        }
    }

    /// Whether the shared transaction is open, no process has committed since it began, and its time
    /// is not over. Ends a transaction that is no longer current.
    fn shared_is_current(&self) -> bool {
        let Some(shared) = self.shared.get() else { return false };
        let is_current = shared.header == self.connection.header() && shared.since.elapsed() < SHARED_FOR;
        if !is_current {
            self.let_go();
        }
        is_current
    }

    fn begin(&self) -> Result<(), ReadError> {
        self.prepare(BEGIN)?.raw_execute()?;
        self.tables_checked.set(false);
        self.progress_checked.set(false);
        Ok(())
    }

    /// Hands the row with this key to `read`; `None` if there is no such row. The shared transaction
    /// is used if it is open. The caller must not call this inside another transaction.
    ///
    /// Three more statements around the query (begin, schema version, end) would cost as much as the
    /// query. So the query runs without a transaction if its statement has run before. That
    /// statement was right for the schema at that time. SQLite compares the schema's version
    /// whenever a statement begins; if the schema has changed, it prepares the statement again and
    /// counts that. Then the row is read again, in a transaction.
    pub(super) fn find<K: Key + ?Sized, T>(
        &self,
        (family, name): (&str, &str),
        key: &K,
        read: impl FnOnce(Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        if self.shared_is_current() {
            return self.find_here((family, name), key, read);
        }
        let known = self.tables.borrow_mut().known(family, name);
        if let Some(table) = known.filter(|table| key.parts() == table.key_columns() && key.parts() > 0)
            // An error here is repeated by the read in a transaction below, which tells its reason.
            && let Ok(mut statement) = self.connection.prepare_cached(table.select(key.parts()))
            && statement.get_status(StatementStatus::Run) > 0
            && table.bind(&mut statement, key).is_ok()
        {
            let mut rows = statement.raw_query();
            match rows.next() {
                Ok(Some(row)) if !was_prepared_again(row.as_ref()) => return read(Row::new(&table, row)).map(Some),
                Ok(None) => {
                    drop(rows);
                    if !was_prepared_again(&statement) {
                        return Ok(None);
                    }
                }
                _ => {}
            }
        }
        self.transaction(|file| file.find_here((family, name), key, read))
    }

    /// Does as [`LdbFile::find`] in the current transaction.
    pub(super) fn find_here<K: Key + ?Sized, T>(
        &self,
        (family, name): (&str, &str),
        key: &K,
        read: impl FnOnce(Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let table = self.table(family, name)?;
        if key.parts() != table.key_columns() || key.parts() == 0 {
            return Err(table.arity_error(key.parts()));
        }
        let mut statement = self.prepare(table.select(key.parts()))?;
        table.bind(&mut statement, key)?;
        let mut rows = statement.raw_query();
        match rows.next()? {
            Some(row) => read(Row::new(&table, row)).map(Some),
            None => Ok(None),
        }
    }
}

/// Whether SQLite has prepared the statement again since the last call.
fn was_prepared_again(statement: &Statement<'_>) -> bool {
    statement.reset_status(StatementStatus::RePrepare) > 0
}

/// Ends the open transaction when it is dropped.
struct EndOnDrop<'f>(&'f LdbFile);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        // A transaction without writes can fail to end only if SQLite has ended it already.
        let _ = self.0.prepare(END).and_then(|mut statement| Ok(statement.raw_execute()?));
    }
}

/// Translates SQLite's "unable to open" into its reason.
fn opening(path: &Path, error: rusqlite::Error) -> ReadError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) if too_many_open_files().is_some() => ReadError::TooManyOpenFiles,
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            ReadError::NotReadable { path: path.to_owned() }
        }
        _ => error.into(),
    }
}
