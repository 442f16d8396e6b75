//! What a connection to a ctldb can do, whatever the backend.

use std::collections::BTreeSet;
use std::sync::Arc;

use ctlstore_core::ledger::{HeadRow, Seq};
use ctlstore_core::schema::{FamilyName, Field, TableRef, TableSchema, Value, WriterName};

/// Why the ctldb did not do what was asked. What a client did wrong is not here.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CtldbError {
    /// Not reachable, or busy past the deadline. Nothing was written.
    #[error("ctldb is not available: {0}")]
    Unavailable(String),
    /// A deadlock or lock-wait time-out ended the transaction, or it never got its turn. Nothing was written.
    #[error("ctldb is busy: {0}")]
    Contention(String),
    /// The answer to a commit was lost and could not be looked up either.
    #[error("the outcome of the write is unknown: {0}")]
    OutcomeUnknown(String),
    /// The ctldb can't hold what was asked (row or key too large): the client's to mend.
    #[error("{0}")]
    Refused(String),
    /// The server answered that it takes no writes: read-only, full, or without the right to. Nothing was written.
    #[error("ctldb takes no writes: {0}")]
    NotWritable(String),
    /// What the ctldb has of one table is not what the ledger says. Nothing was written.
    #[error("table {table} was changed by hand: {reason}; `ctlstore doctor` tells how to mend it")]
    ChangedByHand { table: TableRef, reason: String },
    /// The schema in the ctldb is newer than this program, or not what it must be.
    #[error("ctldb schema: {0}")]
    Schema(String),
    #[error("ctldb: {0}")]
    Failed(String),
}

/// How a ctldb compares the string keys of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnCollation {
    /// Bytewise, nothing padded: as every LDB does.
    Exact,
    /// Bytewise, but trailing spaces don't count: keys that end in one are refused.
    Padded,
    /// May take different keys for one: compare what is stored before writing.
    Merging,
}

/// A table that rows can be written to: as the ledger says, and the ctldb can hold it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTable {
    /// As in every LDB.
    pub schema: TableSchema,
    /// Columns that only the ctldb has, in lower case: somebody added them by hand.
    pub extra_columns: Vec<String>,
    /// The worst among its string key columns; `Exact` when there are none.
    pub collation: ColumnCollation,
}

/// What was changed by hand about a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFault {
    /// Its SQL name, `family___table`.
    pub table: String,
    pub reason: String,
    /// What an operator does about it.
    pub mend: String,
    /// Whether the executive refuses to write to the table.
    pub blocks_writes: bool,
}

/// A row of `mutators`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterRow {
    /// Lower-case hex of the secret's SHA-256.
    pub secret_hash: String,
    pub cookie: Vec<u8>,
    /// Its own limit in rows per minute, if it has one.
    pub rows_per_minute: Option<i64>,
}

/// A table's own size limit, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLimit {
    pub warn_bytes: i64,
    pub max_bytes: i64,
}

/// One row's change, checked against the table.
#[derive(Debug, Clone)]
pub enum RowChange {
    /// All values, in column order.
    Upsert { table: Arc<StoredTable>, values: Vec<Value> },
    /// The key's values, in column order.
    Delete { table: Arc<StoredTable>, key: Vec<Value> },
}

impl RowChange {
    pub fn table(&self) -> &StoredTable {
        match self {
            Self::Upsert { table, .. } | Self::Delete { table, .. } => table,
        }
    }
}

/// A change of the schema, with everything that is needed to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaChange {
    CreateTable(TableSchema),
    AddColumn(TableRef, Field),
    DropTable(TableRef),
}

impl SchemaChange {
    pub fn table(&self) -> &TableRef {
        match self {
            Self::CreateTable(schema) => schema.table(),
            Self::AddColumn(table, _) | Self::DropTable(table) => table,
        }
    }
}

/// Which ledger this is, and what was done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerIdentity {
    /// The ledger's UUID; `None` on a ctldb that only the original has written.
    pub ledger_id: Option<String>,
    /// The first seq that pruning has left, where it ever ran.
    pub low_water: Option<Seq>,
    /// Whether the ledger table is one that the original makes, told by its column
    /// types: the original's own `seq` is INTEGER and its `leader_ts` has no fraction of
    /// a second (on SQLite it is not declared TEXT).
    pub made_by_original: bool,
}

/// What an operation will ask for in any case, so that a backend for which every question
/// is a round trip can read it together with the lock.
#[derive(Debug, Clone, Default)]
pub struct ReadSet<'a> {
    /// Their rows, own limits and usage.
    pub writers: BTreeSet<&'a WriterName>,
    /// The seconds that usage is counted over: the bucket is the one of the ctldb's clock.
    pub usage_period: i64,
    /// Their limits.
    pub tables: BTreeSet<&'a TableRef>,
}

/// What requests of one writer leave of it.
#[derive(Debug, Clone, Copy)]
pub struct WriterMark<'a> {
    pub writer: &'a WriterName,
    pub cookie: &'a [u8],
    /// Rows to add to its usage.
    pub rows: i64,
}

/// One connection, within a transaction that holds the ledger lock where the
/// operation runs by [`super::Ctldb::write`].
#[allow(async_fn_in_trait)] // one session stays on one thread
pub trait Session {
    // What is there.

    /// The ctldb's clock, seconds since 1970.
    async fn now(&mut self) -> Result<i64, CtldbError>;
    /// The ledger's last seq, 0 when it is empty.
    async fn last_seq(&mut self) -> Result<Seq, CtldbError>;
    async fn family_exists(&mut self, family: &FamilyName) -> Result<bool, CtldbError>;
    /// As the ledger says. A table that the ctldb has otherwise is [`CtldbError::ChangedByHand`].
    async fn table(&mut self, table: &TableRef) -> Result<Option<Arc<StoredTable>>, CtldbError>;
    /// All tables of exactly this family, by name, without those that were changed by hand.
    async fn tables_of(&mut self, family: &FamilyName) -> Result<Vec<Arc<StoredTable>>, CtldbError>;
    /// The family's tables that were changed by hand so that they can't be written to, by name.
    async fn faulty_tables_of(&mut self, family: &FamilyName) -> Result<Vec<TableFault>, CtldbError>;
    /// Bytes of data and indexes as last refreshed, `None` for a table not yet measured.
    async fn table_size(&mut self, table: &TableRef) -> Result<Option<u64>, CtldbError>;
    /// The name is compared bytewise, whatever the collation.
    async fn writer(&mut self, writer: &WriterName) -> Result<Option<WriterRow>, CtldbError>;
    /// Rows written in the bucket that begins at `bucket` (unix seconds).
    async fn usage(&mut self, writer: &WriterName, bucket: i64) -> Result<i64, CtldbError>;
    async fn table_limit(&mut self, table: &TableRef) -> Result<Option<TableLimit>, CtldbError>;
    async fn table_limits(&mut self) -> Result<Vec<(String, String, TableLimit)>, CtldbError>;
    async fn writer_limits(&mut self) -> Result<Vec<(String, i64)>, CtldbError>;
    /// The stored key that the ctldb takes for `key` (the table's key in column
    /// order), if there is one. For tables whose collation is `Merging`.
    async fn stored_key(&mut self, table: &StoredTable, key: &[Value]) -> Result<Option<Vec<Value>>, CtldbError>;
    async fn ledger_identity(&mut self) -> Result<LedgerIdentity, CtldbError>;
    /// The first `rows` rows of the ledger, in seq order, without their statements.
    async fn ledger_head(&mut self, rows: usize) -> Result<Vec<HeadRow>, CtldbError>;
    /// The ledger's row with this seq, or the first one after it.
    async fn ledger_row_from(&mut self, seq: Seq) -> Result<Option<HeadRow>, CtldbError>;

    // What changes it. Only within `Ctldb::write`.

    /// False when it exists already.
    async fn insert_family(&mut self, family: &FamilyName) -> Result<bool, CtldbError>;
    async fn insert_writer(&mut self, writer: &WriterName, row: &WriterRow) -> Result<(), CtldbError>;
    /// Only for a writer that is there, as are the next two.
    async fn set_secret(&mut self, writer: &WriterName, secret_hash: &str) -> Result<(), CtldbError>;
    /// Takes the writer away, and its limit. What it has used stays counted.
    async fn delete_writer(&mut self, writer: &WriterName) -> Result<(), CtldbError>;
    async fn set_cookie(&mut self, writer: &WriterName, cookie: &[u8]) -> Result<(), CtldbError>;
    async fn add_usage(&mut self, writer: &WriterName, bucket: i64, rows: i64) -> Result<(), CtldbError>;
    /// Sets the cookie of each writer and adds to its usage in the bucket. No writer twice.
    async fn mark_writers(&mut self, bucket: i64, marks: &[WriterMark<'_>]) -> Result<(), CtldbError> {
        for mark in marks {
            self.set_cookie(mark.writer, mark.cookie).await?;
            self.add_usage(mark.writer, bucket, mark.rows).await?;
        }
        Ok(())
    }
    /// Forgets usage in buckets that begin before `before`.
    async fn prune_usage(&mut self, before: i64) -> Result<(), CtldbError>;
    async fn set_table_limit(&mut self, table: &TableRef, limit: TableLimit) -> Result<(), CtldbError>;
    /// False when there was none.
    async fn delete_table_limit(&mut self, table: &TableRef) -> Result<bool, CtldbError>;
    async fn set_writer_limit(&mut self, writer: &WriterName, rows_per_minute: i64) -> Result<(), CtldbError>;
    /// False when there was none.
    async fn delete_writer_limit(&mut self, writer: &WriterName) -> Result<bool, CtldbError>;
    /// Applies row changes in order, in as few round trips as it can.
    async fn apply(&mut self, changes: &[RowChange]) -> Result<(), CtldbError>;
    /// As [`Session::apply`], for changes that nobody but the whole transaction answers
    /// for: what the ctldb refuses of them may come up as late as at the commit.
    async fn apply_unanswered(&mut self, changes: &[RowChange]) -> Result<(), CtldbError> {
        self.apply(changes).await
    }
    /// Deletes every row of a table.
    async fn clear(&mut self, table: &TableRef) -> Result<(), CtldbError>;
    /// Appends ledger rows with consecutive seqs and gives the last one.
    async fn append(&mut self, statements: &[String]) -> Result<Seq, CtldbError>;
    /// Changes the schema and appends `statement` to the ledger, so that no crash
    /// leaves one without the other. Gives the statement's seq.
    async fn alter(&mut self, change: &SchemaChange, statement: &str) -> Result<Seq, CtldbError>;

    /// Deletes the ledger rows before `first` and records `first` as the low-water mark.
    /// Gives the number of rows deleted.
    async fn prune_ledger(&mut self, first: Seq) -> Result<u64, CtldbError>;

    // Parts of the transaction that can be taken back: one request of a group.

    async fn savepoint(&mut self) -> Result<(), CtldbError>;
    async fn rollback_to_savepoint(&mut self) -> Result<(), CtldbError>;
}
