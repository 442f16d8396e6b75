//! The interface of every ctldb. [`Ctldb`] runs an [`CtldbOperation`] in a transaction, and a [`Session`] is the
//! open transaction that the operation uses. Backends implement it; the rules of `executive` use it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use ctlstore_core::ledger::{HeadRow, Seq};
use ctlstore_core::schema::{FamilyName, Field, FieldValue, TableRef, TableSchema, WriterName};

use super::error::CtldbError;

/// How a ctldb compares the string key columns of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnCollation {
    /// Bytewise, nothing padded: as every LDB does.
    Exact,
    /// Bytewise, but trailing spaces don't count. Keys that end in a space are refused.
    Padded,
    /// Different keys may be equal. The stored key must be compared before a write.
    Merging,
}

/// A table that rows can be written to: the ledger defines it, and the ctldb has it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTable {
    /// The definition that every LDB has.
    pub schema: TableSchema,
    /// Columns that only the ctldb has, in lower case. An operator added them by hand.
    pub extra_columns: Vec<String>,
    /// The worst among the string key columns, `Exact` without any.
    pub collation: ColumnCollation,
}

/// A change by hand that makes a table differ from the ledger's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFault {
    /// Its SQL name, `family___table`.
    pub table: String,
    pub reason: String,
    /// The repair that an operator has to make.
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
    /// The writer's own limit in rows per minute, if it has one.
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
    /// Has all values, in column order.
    Upsert { table: Arc<StoredTable>, values: Vec<FieldValue> },
    /// Has the key's values, in column order.
    Delete { table: Arc<StoredTable>, key: Vec<FieldValue> },
}

impl RowChange {
    pub fn table(&self) -> &StoredTable {
        match self {
            Self::Upsert { table, .. } | Self::Delete { table, .. } => table,
        }
    }
}

/// A change of the schema.
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

/// The identity of a ledger, and whether it was pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerIdentity {
    /// The ledger's UUID; `None` on a ctldb that only the original has written.
    pub ledger_id: Option<String>,
    /// The first seq that pruning has left, `None` if no pruning ever ran.
    pub low_water: Option<Seq>,
    /// Whether the original made the ledger table. The column types show it. The original's `seq` is INTEGER,
    /// and its `leader_ts` has no fraction of a second (on SQLite it is not declared TEXT).
    pub made_by_original: bool,
}

/// The rows that an operation will read in any case. A backend on which each query is a round trip can read
/// them together with the lock.
#[derive(Debug, Clone, Default)]
pub struct ReadSet<'a> {
    /// Writers whose rows, own limits and usage are read.
    pub writers: BTreeSet<&'a WriterName>,
    /// The length of a usage bucket in seconds. The ctldb's clock says which bucket is read.
    pub usage_period: i64,
    /// Tables whose limits are read.
    pub tables: BTreeSet<&'a TableRef>,
}

/// The changes that a group's requests make to their writer's rows.
#[derive(Debug, Clone, Copy)]
pub struct WriterMark<'a> {
    pub writer: &'a WriterName,
    /// The new cookie.
    pub cookie: &'a [u8],
    /// The rows to add to its usage.
    pub rows: i64,
}

/// One connection for an operation. If [`Ctldb::write`] runs the operation, the connection is in a
/// transaction that holds the ledger lock.
#[allow(async_fn_in_trait)] // one session stays on one thread
pub trait Session {
    // Reads.

    /// The ctldb's clock, in seconds since 1970.
    async fn now(&mut self) -> Result<i64, CtldbError>;
    /// The ledger's last seq, 0 if it is empty.
    async fn last_seq(&mut self) -> Result<Seq, CtldbError>;
    async fn family_exists(&mut self, family: &FamilyName) -> Result<bool, CtldbError>;
    /// The table as the ledger defines it. If the ctldb has another one, [`CtldbError::ChangedByHand`].
    async fn table(&mut self, table: &TableRef) -> Result<Option<Arc<StoredTable>>, CtldbError>;
    /// As [`Session::table`], but read again from the ctldb: an operator may have repaired it just now.
    async fn table_again(&mut self, table: &TableRef) -> Result<Option<Arc<StoredTable>>, CtldbError> {
        self.table(table).await
    }
    /// All tables of exactly this family, by name, without those that can't be written to.
    async fn tables_of(&mut self, family: &FamilyName) -> Result<Vec<Arc<StoredTable>>, CtldbError>;
    /// The faults of the family's tables that can't be written to because of a change by hand, by name.
    async fn faulty_tables_of(&mut self, family: &FamilyName) -> Result<Vec<TableFault>, CtldbError>;
    /// The bytes of data and indexes as last measured, `None` for a table that was not measured yet.
    async fn table_size(&mut self, table: &TableRef) -> Result<Option<u64>, CtldbError>;
    /// The writer's row. The name is compared bytewise, whatever the collation.
    async fn writer(&mut self, writer: &WriterName) -> Result<Option<WriterRow>, CtldbError>;
    /// The rows that the writer wrote in the bucket that begins at `bucket`, in seconds since 1970.
    async fn usage(&mut self, writer: &WriterName, bucket: i64) -> Result<i64, CtldbError>;
    async fn table_limit(&mut self, table: &TableRef) -> Result<Option<TableLimit>, CtldbError>;
    async fn table_limits(&mut self) -> Result<Vec<(String, String, TableLimit)>, CtldbError>;
    async fn writer_limits(&mut self) -> Result<Vec<(String, i64)>, CtldbError>;
    /// The stored key that is equal to `key` by the ctldb's collation, if there is one. Both are in column
    /// order. For tables whose collation is `Merging`.
    async fn stored_key(
        &mut self,
        table: &StoredTable,
        key: &[FieldValue],
    ) -> Result<Option<Vec<FieldValue>>, CtldbError>;
    async fn ledger_identity(&mut self) -> Result<LedgerIdentity, CtldbError>;
    /// The first `rows` rows of the ledger, in seq order, without their statements.
    async fn ledger_head(&mut self, rows: usize) -> Result<Vec<HeadRow>, CtldbError>;
    /// The ledger's row with this seq, or the first one after it.
    async fn ledger_row_from(&mut self, seq: Seq) -> Result<Option<HeadRow>, CtldbError>;

    // Writes. Only within `Ctldb::write`.

    /// False if it exists already.
    async fn insert_family(&mut self, family: &FamilyName) -> Result<bool, CtldbError>;
    async fn insert_writer(&mut self, writer: &WriterName, row: &WriterRow) -> Result<(), CtldbError>;
    /// Only for a writer that exists, like the next two.
    async fn set_secret(&mut self, writer: &WriterName, secret_hash: &str) -> Result<(), CtldbError>;
    /// Deletes the writer and its limit. Its usage stays counted.
    async fn delete_writer(&mut self, writer: &WriterName) -> Result<(), CtldbError>;
    async fn set_cookie(&mut self, writer: &WriterName, cookie: &[u8]) -> Result<(), CtldbError>;
    async fn add_usage(&mut self, writer: &WriterName, bucket: i64, rows: i64) -> Result<(), CtldbError>;
    /// Sets the cookie of each writer and adds to its usage in the bucket. Each writer occurs once.
    async fn mark_writers(&mut self, bucket: i64, marks: &[WriterMark<'_>]) -> Result<(), CtldbError> {
        for mark in marks {
            self.set_cookie(mark.writer, mark.cookie).await?;
            self.add_usage(mark.writer, bucket, mark.rows).await?;
        }
        Ok(())
    }
    /// Deletes usage in buckets that begin before `before`.
    async fn prune_usage(&mut self, before: i64) -> Result<(), CtldbError>;
    async fn set_table_limit(&mut self, table: &TableRef, limit: TableLimit) -> Result<(), CtldbError>;
    /// False if there was none.
    async fn delete_table_limit(&mut self, table: &TableRef) -> Result<bool, CtldbError>;
    async fn set_writer_limit(&mut self, writer: &WriterName, rows_per_minute: i64) -> Result<(), CtldbError>;
    /// False if there was none.
    async fn delete_writer_limit(&mut self, writer: &WriterName) -> Result<bool, CtldbError>;
    /// Applies row changes in order, in as few round trips as it can.
    async fn apply(&mut self, changes: &[RowChange]) -> Result<(), CtldbError>;
    /// As [`Session::apply`], but the ctldb may refuse a change as late as at the commit. The refusal then
    /// belongs to the whole transaction.
    async fn apply_unanswered(&mut self, changes: &[RowChange]) -> Result<(), CtldbError> {
        self.apply(changes).await
    }
    /// Deletes every row of a table.
    async fn clear(&mut self, table: &TableRef) -> Result<(), CtldbError>;
    /// Appends ledger rows with consecutive seqs, and returns the last one.
    async fn append(&mut self, statements: &[String]) -> Result<Seq, CtldbError>;
    /// Changes the schema and appends `statement` to the ledger, so that no crash leaves one without the
    /// other. Returns the statement's seq. It must be an operation's last write: on some servers it ends the
    /// transaction.
    async fn alter(&mut self, change: &SchemaChange, statement: &str) -> Result<Seq, CtldbError>;
    /// The seq of `statement`, a schema change that this operation has made already, when it ran before: the answer
    /// was lost, and the operation runs again to give it.
    fn finished(&self, _statement: &str) -> Option<Seq> {
        None
    }

    /// Deletes the ledger rows before `first`, and records `first` as the low-water mark. Returns the number
    /// of deleted rows.
    async fn prune_ledger(&mut self, first: Seq) -> Result<u64, CtldbError>;

    // One request of a group can be rolled back by itself.

    async fn savepoint(&mut self) -> Result<(), CtldbError>;
    async fn rollback_to_savepoint(&mut self) -> Result<(), CtldbError>;
}

/// A piece of work on the ctldb, the same on every backend. It may be run again from its start if a
/// connection breaks, so it has no effects but those on the session.
#[allow(async_fn_in_trait)] // run on the backend's own thread, never sent while pending
pub trait CtldbOperation: Send + 'static {
    type Output: Send + 'static;

    /// The rows that `run` will read. It is only a hint: `run` may read more or less.
    fn read_set(&self) -> ReadSet<'_> {
        ReadSet::default()
    }

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError>;
}

/// A system of record. Cheap to clone; clones share connections.
#[allow(async_fn_in_trait)] // its callers are actors, which live on one thread
pub trait Ctldb: Clone + 'static {
    /// Makes missing tables, checks the others, and finds out what the server can do. May be called again; is
    /// called until it has succeeded once.
    async fn prepare(&self) -> Result<(), CtldbError>;

    /// Runs `operation` in one transaction under the ledger lock, and commits it. An operation that refuses
    /// its input says so in its output, and has then written nothing. An error rolls everything back. Tries
    /// again after broken connections, deadlocks and lock-wait time-outs until `deadline`.
    async fn write<O: CtldbOperation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError>;

    /// Runs `operation` without the ledger lock. It must only read.
    async fn read<O: CtldbOperation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError>;

    /// Checks whether rows could be written now, and changes nothing. An error says why not. With `after_failure`
    /// the check is thorough and takes longer: a full disk shows only in a real write.
    async fn check_writable(&self, after_failure: bool, deadline: Instant) -> Result<(), CtldbError>;

    /// Measures all tables again and keeps the sizes for [`Session::table_size`]. Its cost is bounded; the
    /// executive calls it once a minute.
    async fn refresh_table_sizes(&self) -> Result<(), CtldbError>;

    /// Counts of what went wrong and was put right. An embedded ctldb never has to try again, so it has none.
    fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Closes every connection.
    async fn close(&self);
}

/// Counts of what went wrong and was put right, since the ctldb was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Work that was begun again after a deadlock, a lock-wait time-out, or a change of the schema.
    pub contention_retries: u64,
    /// Work that was begun again because the ctldb was away or closed the connection.
    pub unavailable_retries: u64,
    /// Commits whose answer was lost, so that their outcome was looked up.
    pub lost_commits: u64,
    /// Schema changes that were found unfinished and were finished.
    pub intents_finished: u64,
}
