//! The writing half of the local database (LDB): one SQLite file on a host, which one applier
//! writes and many processes read. [`ClaimedLdb`] owns the path, [`Ldb`] applies ledger batches
//! and keeps the WAL small, [`Versions`] puts whole LDBs beside each other. The reading half is
//! the crate `ctlstore-reader`.
//!
//! Blocking code: it belongs on a thread of its own, never on an actor's event loop. It knows
//! neither actors nor HTTP nor the ctldb.

mod apply;
mod bookkeeping;
mod bound_statements;
mod catch_up;
mod checkpoint;
mod claim;
mod connection;
mod error;
mod generation;
mod integrity;
mod ownership;
mod seq_file;
mod statement_authorizer;
mod statement_class;
mod statement_reason;
mod statement_watch;
mod versions;
mod writer;

pub use apply::{Applied, ApplyError};
pub use bookkeeping::FORMAT_VERSION;
pub use catch_up::{CatchUp, CatchUpError, CatchUpProgress};
pub use checkpoint::{Checkpoint, CheckpointMode};
pub use claim::{ClaimedLdb, Replaced};
pub(crate) use connection::mark_for_wal;
pub use error::LdbError;
pub use integrity::{IntegrityCheck, IntegrityVerdict};
pub use ownership::{refuse_foreign, refuse_other_database};
pub use statement_authorizer::StatementLimits;
pub use statement_watch::StatementWatch;
pub use versions::{Standing, Versions};
pub use writer::{Ldb, LdbOptions};
