//! The ctldb: the system of record, on MySQL (or MariaDB) and on embedded SQLite. Entry points:
//! [`AnyCtldb`] for writing, [`AnySource`] for reading the ledger. The rules of writing are not here but
//! in `executive`.
//!
//! A [`Session`] is the interface of one connection. It knows tables and rows, but no rules. The rules are
//! written once, as [`CtldbOperation`]s over any session. [`Ctldb`] runs an operation: it takes the ledger
//! lock, commits, and retries what is safe to retry. If a commit's answer was lost, it finds out whether
//! the commit happened.

mod any;
mod definition;
mod dry_run;
mod error;
mod mysql;
mod own_tables;
mod session;
mod sizes;
mod sqlite;

pub use any::{AnyCtldb, AnySource, Location, schema_sql};
pub use error::CtldbError;
pub use mysql::{MysqlCtldb, MysqlSource, ServerAddress};
pub use own_tables::LedgerTable;
pub use session::{
    ColumnCollation, Counters, Ctldb, CtldbOperation, LedgerIdentity, ReadSet, RowChange, SchemaChange, Session,
    StoredTable, TableFault, TableLimit, WriterMark, WriterRow,
};
pub use sqlite::{SqliteCtldb, SqliteSource, refuse_foreign, refuse_other_database};
