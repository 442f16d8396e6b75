//! Tells what a file is, and whose, before the LDB's writer or the embedded ctldb touches it.
//! Entry point: [`examine_database`].
//!
//! This crate uses SQLite and `ctlstore-core`. It knows no table of ctlstore.

// Outside of tests, a failure is an error or an `expect` that names the broken invariant.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod examine;

pub use examine::{Contents, ExamineError, Examined, examine_database};
