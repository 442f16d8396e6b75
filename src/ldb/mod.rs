//! The local database (LDB): one SQLite file per host that many processes read and
//! one applier writes. The writing half, `Ldb`, opens the file, applies ledger
//! batches and keeps its WAL small; the reading half stands in `read`.
//!
//! Blocking code: it belongs on a thread of its own, never on an actor's event
//! loop. It knows neither actors nor HTTP nor the ctldb.

#[cfg(feature = "node")]
mod apply;
#[cfg(feature = "node")]
mod bookkeeping;
#[cfg(feature = "node")]
mod checkpoint;
#[cfg(feature = "node")]
mod connection;
#[cfg(feature = "node")]
mod error;
#[cfg(feature = "node")]
mod generation;
#[cfg(feature = "node")]
mod guard;
#[cfg(feature = "node")]
mod home;
#[cfg(feature = "node")]
mod inspect;
#[cfg(feature = "node")]
mod ownership;
pub mod read;
#[cfg(feature = "node")]
mod seq_file;
#[cfg(feature = "node")]
mod statement_class;
#[cfg(feature = "node")]
mod statement_reason;
#[cfg(feature = "node")]
mod statement_watch;
#[cfg(feature = "node")]
mod statements;
#[cfg(feature = "node")]
mod versions;
#[cfg(feature = "node")]
mod wal_mark;
#[cfg(feature = "node")]
mod writer;

#[cfg(feature = "node")]
pub use apply::Applied;
#[cfg(feature = "node")]
pub use bookkeeping::FORMAT_VERSION;
#[cfg(feature = "node")]
pub use checkpoint::{Checkpoint, CheckpointMode};
#[cfg(feature = "node")]
pub use error::{ApplyError, LdbError};
#[cfg(feature = "node")]
pub use guard::StatementLimits;
#[cfg(feature = "node")]
pub use home::{Home, Replaced};
#[cfg(feature = "node")]
pub use inspect::{Look, Verdict};
#[cfg(feature = "node")]
pub use ownership::{refuse_foreign, refuse_other_database};
#[cfg(feature = "node")]
pub use statement_watch::StatementWatch;
#[cfg(feature = "node")]
pub use versions::{Standing, Versions};
#[cfg(feature = "node")]
pub use wal_mark::mark_for_wal;
#[cfg(feature = "node")]
pub use writer::{Ldb, LdbOptions};
