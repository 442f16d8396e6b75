//! The ctldb: the central database, on MySQL (or MariaDB) and on embedded SQLite. It knows neither the LDB
//! nor actors nor HTTP.
//!
//! [`Ctldb`] runs an [`CtldbOperation`] over a [`Session`] in one transaction under the ledger
//! lock; [`executive`] has the rules of writing as such operations. [`AnySource`] reads the
//! ledger's rows, and [`tail`] reads on after an LDB's position.

// Outside of tests a failure is an error, or an `expect` that names the invariant that is broken.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod ctldb;
pub mod executive;
mod last_row;
pub mod tail;

pub use last_row::{Questions, answer_while, last_row, questions};

#[doc(inline)]
pub use ctldb::{
    AnyCtldb, AnySource, ColumnCollation, Counters, Ctldb, CtldbError, CtldbOperation, LedgerIdentity, LedgerTable,
    Location, MysqlCtldb, MysqlSource, ReadSet, RowChange, SchemaChange, ServerAddress, Session, SqliteCtldb,
    SqliteSource, StoredTable, TableFault, TableLimit, WriterMark, WriterRow, refuse_foreign, refuse_other_database,
    schema_sql,
};
