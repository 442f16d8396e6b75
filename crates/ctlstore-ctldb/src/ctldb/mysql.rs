//! The ctldb on MySQL or MariaDB. Several executives may share it, the original's among them. Entry
//! points: `ctldb` implements the ctldb's interface, `source` reads the ledger.
//!
//! `transaction` runs a write: `begin` or `optimistic` begin it, `open_transaction` and `session` are one
//! open transaction and its calls, `lost_commit` and `finish_ddl` clean up after failures. `schema_change`
//! changes the schema. All of it is used from one single-threaded runtime.

mod address;
mod attempts;
mod begin;
mod catalog;
mod ctldb;
mod ddl;
mod definitions;
mod error;
mod finish_ddl;
mod ledger_head;
mod lost_commit;
mod open_transaction;
mod optimistic;
mod pooled_connection;
mod prefetch;
mod prepare;
mod rows;
mod schema_change;
mod session;
mod shared;
mod source;
mod statement_batch;
mod transaction;

pub use address::ServerAddress;
pub use ctldb::MysqlCtldb;
pub(super) use prepare::schema_sql;
pub use source::MysqlSource;
