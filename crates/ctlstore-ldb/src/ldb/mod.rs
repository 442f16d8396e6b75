//! The local database (LDB): one SQLite file per host that many processes read and
//! one applier writes. The writing half, `Ldb`, opens the file, applies ledger
//! batches and keeps its WAL small; the reading half stands in `read`.
//!
//! Blocking code: it belongs on a thread of its own, never on an actor's event
//! loop. It knows neither actors nor HTTP nor the ctldb.

mod apply;
mod bookkeeping;
mod bound_statements;
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
mod wal_mark;
mod writer;

pub use apply::Applied;
pub use bookkeeping::FORMAT_VERSION;
pub use checkpoint::{Checkpoint, CheckpointMode};
pub use claim::{ClaimedLdb, Replaced};
pub use error::{ApplyError, LdbError};
pub use integrity::{IntegrityCheck, IntegrityVerdict};
pub use ownership::{refuse_foreign, refuse_other_database};
pub use statement_authorizer::StatementLimits;
pub use statement_watch::StatementWatch;
pub use versions::{Standing, Versions};
pub(crate) use wal_mark::mark_for_wal;
pub use writer::{Ldb, LdbOptions};
