//! The ctldb: the system of record, on MySQL (or MariaDB) and on embedded SQLite.
//!
//! [`Session`] is what one connection can do, in few round trips; it knows tables
//! and rows but none of the rules of writing. The rules are written once, as
//! [`Operation`]s over any session (`executive/`). [`Ctldb`] runs an operation: it
//! takes the ledger lock, commits, retries what is safe to retry and finds out what
//! became of a commit whose answer was lost.

mod any;
mod counters;
mod definition;
mod dry_run;
mod ledger_table;
mod meta;
mod mysql;
mod session;
mod sizes;
mod sqlite;

pub use any::{AnyCtldb, AnySource, Location};
pub use counters::Counters;
pub use ledger_table::LedgerTable;
pub use mysql::{MysqlCtldb, MysqlSource, ServerAddress};
pub use session::{
    ColumnCollation, CtldbError, LedgerIdentity, ReadSet, RowChange, SchemaChange, Session, StoredTable, TableFault,
    TableLimit, WriterMark, WriterRow,
};
pub use sqlite::{SqliteCtldb, SqliteSource, refuse_foreign, refuse_other_database};

use std::time::Instant;

/// The statements that make a ctldb, as an executive runs them where something is
/// missing: on a MySQL server whose collation for keys is given, or else on SQLite.
pub fn schema_sql(ledger: &LedgerTable, mysql_collation: Option<&str>) -> String {
    match mysql_collation {
        Some(collation) => mysql::schema_sql(ledger, collation),
        None => sqlite::schema_sql(ledger),
    }
}

/// A piece of work on the ctldb, the same on every backend. It may be run again
/// from its start when a connection breaks, so it changes nothing but the session.
#[allow(async_fn_in_trait)] // run on the backend's own thread, never sent while pending
pub trait Operation: Send + 'static {
    type Output: Send + 'static;

    /// What `run` will ask for first. A hint: nothing has to be asked, or is known only then.
    fn read_set(&self) -> ReadSet<'_> {
        ReadSet::default()
    }

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError>;
}

/// A system of record. Cheap to clone; clones share connections.
#[allow(async_fn_in_trait)] // its callers are actors, which live on one thread
pub trait Ctldb: Clone + 'static {
    /// Creates what is missing of the schema, checks what is there, and probes what
    /// the server can do. Safe to call again; called until it has succeeded once.
    async fn prepare(&self) -> Result<(), CtldbError>;

    /// Runs `operation` in one transaction under the ledger lock and commits it.
    /// An operation that refuses its input says so in its output and leaves the
    /// session as it found it; an error rolls everything back. Tries again after
    /// broken connections, deadlocks and lock-wait time-outs until `deadline`.
    async fn write<O: Operation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError>;

    /// Runs `operation` outside the ledger lock; it must only read.
    async fn read<O: Operation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError>;

    /// Asks whether rows could be written now, and changes nothing. An error says why not. `after_failure` also where
    /// that takes longer to find out: a full disk shows only in what is really written.
    async fn check_writable(&self, after_failure: bool, deadline: Instant) -> Result<(), CtldbError>;

    /// Looks at the sizes of all tables again and keeps them for
    /// [`Session::table_size`]. Bounded cost; called once a minute.
    async fn refresh_table_sizes(&self) -> Result<(), CtldbError>;

    /// What it took so far. A ctldb that is this process's own never has to try again.
    fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Closes every connection.
    async fn close(&self);
}
