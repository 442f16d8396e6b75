//! The history of changes: every change of the LDB, kept for some time in segment files beside
//! it. So a client of the change feed can go on after a rotation of the changelog, a restart or
//! kill of the node, and the replacement of the LDB by a snapshot.
//!
//! Records are numbered by one. The records of an LDB transaction are written before it
//! commits, and get a commit mark after it. After a crash between the two, the LDB's seq tells
//! whether the transaction had committed. If it had, the mark is added; if not, the records are
//! cut off. If changes are not known, a record in their place tells clients to start over, so
//! no client misses a change in silence.
//!
//! The applier writes ([`History`]). Any number of processes read ([`HistoryTail`],
//! [`HistoryCursor`]). No other program touches the files.

mod cursor;
mod diff;
mod line;
mod recovery;
mod segment;
mod tail;
mod writer;

pub use cursor::{HistoryCursor, TooOld, at_ledger_seq, given_again};
pub use diff::DiffError;
pub(crate) use diff::enter as enter_difference;
pub(crate) use diff::{NamedRows, names_of};
pub use line::{Op, Record, TableChange, What};
pub use segment::{HistoryError, HistoryOptions, directory_of};
pub use tail::{Grown, HistoryTail};
pub use writer::History;
