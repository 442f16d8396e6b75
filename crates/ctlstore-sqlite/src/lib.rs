//! What both halves that write SQLite files, the LDB's and the embedded ctldb's, ask of a file
//! before they touch it: what it is, and whose. Entry point: [`examine_database`].
//!
//! It knows SQLite and `ctlstore-core`, and no table of ctlstore.

// Outside of tests a failure is an error, or an `expect` that names the invariant it breaks.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod examine;

pub use examine::{Contents, ExamineError, Examined, examine_database};
