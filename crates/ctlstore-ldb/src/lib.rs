//! The LDB's writing half: [`Ldb`] applies the ledger to the local database and writes the
//! [`changelog`] beside it; [`snapshot`] copies the LDB, publishes the copy and fetches it.
//!
//! Blocking code for threads of its own. It depends on `ctlstore-reader`, `ctlstore-sqlite` and
//! `ctlstore-core`, and knows neither the ctldb nor actors nor HTTP servers.

// Outside of tests a failure is an error, or an `expect` that names the invariant it breaks.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod changelog;
mod difference;
mod ldb;
pub mod snapshot;

#[doc(inline)]
pub use ldb::{
    Applied, ApplyError, CatchUp, CatchUpError, CatchUpProgress, Checkpoint, CheckpointMode, ClaimedLdb,
    FORMAT_VERSION, IntegrityCheck, IntegrityVerdict, Ldb, LdbError, LdbOptions, Replaced, Standing, StatementLimits,
    StatementWatch, Versions, refuse_foreign, refuse_other_database,
};
