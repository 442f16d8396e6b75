//! One LDB file that is open for reading: its connection and its tables.
//!
//! Never open the file by other means than SQLite: on closing any descriptor of
//! it, this process would lose the locks of all its connections to it.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, ErrorCode, OpenFlags, Statement, StatementStatus};

use ctlstore_core::disk::{self, FileId, IMMUTABLE, file_uri, too_many_open_files};

use super::error::ReadError;
use super::key::Key;
use super::position::{self, Progress};
use super::row::Row;
use super::table::{Table, Tables};
use super::wal_index::{Header, WatchedConnection};

/// How long a read waits for a lock. WAL readers wait for none but while the WAL
/// is being recovered after a crash of its writer.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// Prepared statements kept: one for each table and number of key columns in use.
const STATEMENTS: usize = 256;
/// What is mapped is read where the page cache of the system has it, at no cost in
/// memory of our own; 2 GiB is the most that SQLite takes. Pages beyond it, and those
/// in the WAL, are copied into the cache: of 2 million rows with 64 MiB mapped, a read
/// took 1.6 times as long.
const PRAGMAS: &str = "PRAGMA query_only = 1; PRAGMA mmap_size = 2147418112; PRAGMA cache_size = -2048";

const BEGIN: &str = "BEGIN";
const END: &str = "END";

/// The file at `path`, `None` when there is none.
pub(super) fn id_of(path: &Path) -> Result<Option<FileId>, ReadError> {
    FileId::of(path).map_err(|source| ReadError::Path { path: path.to_owned(), source })
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Others read and write it meanwhile.
    Shared,
    /// Nobody writes it.
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

/// How long the reads of a moment may share a transaction: what an applier that cuts
/// its WAL waits for.
const SHARED_FOR: Duration = Duration::from_millis(5);

pub(super) struct LdbFile {
    connection: WatchedConnection,
    access: Access,
    tables: RefCell<Tables>,
    /// Whether the tables have been held against the schema in this transaction, in
    /// which it can't move again.
    tables_checked: Cell<bool>,
    /// How far the LDB was when that was last asked.
    progress: Cell<Option<Progress>>,
    /// Whether that was in this transaction.
    progress_checked: Cell<bool>,
    /// The transaction that was left open for the reads that follow.
    shared: Cell<Option<Shared>>,
    /// The clock of the SQL of others, once the connection is prepared for it.
    query_clock: Option<Arc<super::query::Clock>>,
    id: FileId,
    /// As it was opened by; its links may lead elsewhere since.
    path: PathBuf,
}

/// A transaction that is open between reads.
#[derive(Clone, Copy)]
struct Shared {
    /// The wal-index's header before the transaction began, `None` for a file that
    /// nobody writes.
    header: Option<Header>,
    since: Instant,
}

impl LdbFile {
    /// Opens what is at `path`, which `id` was just read from. When another file takes
    /// the path meanwhile, the next look finds that and opens again.
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
        if !file.transaction(position::is_ldb)? {
            return Err(ReadError::NotThereYet { path: PathBuf::from(path) });
        }
        if access == Access::Shared {
            file.connection.watch().map_err(|error| opening(path, error))?;
        }
        Ok(file)
    }

    fn set_up(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        // A reader leaves the WAL to the applier, also when it is the last to close it.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        // SQLite would plan a scan anew for every value that is bound to it, which takes as
        // long as reading a hundred rows. Each table has one key, so there is one plan.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        self.connection.set_prepared_statement_cache_capacity(STATEMENTS);
        self.connection.execute_batch(PRAGMAS)
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// For statements that are not ours, which are kept in no cache.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The same, to change its hooks, `prepare`d before the first of those. From then on no
    /// reads share a transaction.
    pub(super) fn connection_for_queries(
        &mut self,
        prepare: impl FnOnce(&Connection) -> rusqlite::Result<Arc<super::query::Clock>>,
    ) -> Result<(&mut Connection, Arc<super::query::Clock>), ReadError> {
        self.let_go();
        let connection = self.connection.unwatched();
        let clock = match &self.query_clock {
            Some(clock) => Arc::clone(clock),
            None => Arc::clone(self.query_clock.insert(prepare(connection)?)),
        };
        Ok((connection, clock))
    }

    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'_>, ReadError> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// What the table is within the current transaction.
    pub(super) fn table(&self, family: &str, table: &str) -> Result<Arc<Table>, ReadError> {
        let mut tables = self.tables.borrow_mut();
        if !self.tables_checked.get() {
            tables.check(self)?;
            self.tables_checked.set(true);
        }
        match tables.known(family, table) {
            Some(known) => Ok(known),
            None => tables.learn(self, family, table),
        }
    }

    /// How far the LDB is within the current transaction.
    pub(super) fn progress(&self) -> Result<Progress, ReadError> {
        let known = self.progress.get();
        if let Some(known) = known.filter(|_| self.progress_checked.get()) {
            return Ok(known);
        }
        let seq = position::last_seq(self)?;
        // A commit moves both or none, and of the two the seq is the one that is quick to read.
        let progress = match known {
            Some(known) if known.seq == seq => known,
            _ => Progress { seq, last_update: position::last_update(self)? },
        };
        self.progress.set(Some(progress));
        self.progress_checked.set(true);
        Ok(progress)
    }

    /// Runs `read` in a read transaction, which ends with it however it ends; in the
    /// shared one, where that is open and sees the LDB as it is.
    pub(super) fn transaction<T, E: From<ReadError>>(&self, read: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        if self.shared_is_current() {
            return read(self);
        }
        self.begin()?;
        let open = OpenTransaction(self);
        let outcome = read(self);
        drop(open);
        outcome
    }

    /// Runs `read` in a read transaction that stays open for the reads that follow, and
    /// sees the LDB as one begun now would: each use asks whether anybody has committed
    /// since. Somebody has to call [`LdbFile::let_go`] in time.
    pub(super) fn shared<T>(&self, read: impl FnOnce(&Self) -> Result<T, ReadError>) -> Result<T, ReadError> {
        if !self.shared_is_current() {
            // Before the transaction begins: so it is never newer than what the transaction sees.
            let header = self.connection.header();
            if header.is_none() && self.access == Access::Shared {
                // A rollback journal's commits would wait for it, unseen.
                return self.transaction(read);
            }
            self.begin()?;
            self.shared.set(Some(Shared { header, since: Instant::now() }));
        }
        let outcome = read(self);
        if outcome.is_err() {
            // It may be the transaction's.
            self.let_go();
        }
        outcome
    }

    /// Ends the shared transaction, if it is open.
    pub(super) fn let_go(&self) {
        if self.shared.take().is_some() {
            drop(OpenTransaction(self));
        }
    }

    /// Whether the shared transaction is open and nobody has committed since it began;
    /// ends it when it is of no more use.
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

    /// Hands the row with this key to `read`; `None` when there is no such row. Not to be
    /// called within a transaction, but the shared one is used where it is open.
    ///
    /// A transaction of three statements (begin, schema version, end) around the query
    /// would cost as much as the query. So the query runs by itself where its statement
    /// has run before: it was right for the schema of then, and SQLite, which compares
    /// the schema's version whenever a statement begins, prepares and counts it anew
    /// when the schema has moved since.
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
            // What fails here fails again below, where the reason is known.
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

    /// The same within the current transaction.
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

/// Whether SQLite has prepared it again since this was last asked.
fn was_prepared_again(statement: &Statement<'_>) -> bool {
    statement.reset_status(StatementStatus::RePrepare) > 0
}

struct OpenTransaction<'f>(&'f LdbFile);

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        // It has nothing to write, so all that its end can meet is that SQLite ended it before.
        let _ = self.0.prepare(END).and_then(|mut statement| Ok(statement.raw_execute()?));
    }
}

/// Says what SQLite's "unable to open" means here.
fn opening(path: &Path, error: rusqlite::Error) -> ReadError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) if too_many_open_files().is_some() => ReadError::TooManyOpenFiles,
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            ReadError::NotReadable { path: path.to_owned() }
        }
        _ => error.into(),
    }
}
