//! The history of changes: every change of the LDB, kept for some time in segment
//! files beside it, so that a client of the change feed can go on where it was after
//! the changelog was rotated, the node was restarted or killed, or the LDB was
//! replaced by a snapshot.
//!
//! Records are numbered by one. Those of an LDB transaction are written before it
//! commits, and marked as committed behind it; what a crash leaves in between is told
//! by the LDB's seq: had it committed, the mark is put behind it, else it is cut off.
//! Where changes are not known, a record says so in their place: clients start over,
//! none of them misses anything in silence. The applier writes ([`History`]), any
//! number of processes read ([`HistoryTail`], [`HistoryCursor`]); nobody else touches the files.

mod cursor;
mod diff;
mod line;
mod recovery;
mod segment;
mod tail;
mod writer;

use std::path::{Path, PathBuf};

use ctlstore_core::disk::beside;

pub use cursor::{HistoryCursor, TooOld, at_ledger_seq, given_again};
pub use diff::DiffError;
pub use line::{Op, Record, TableChange, What};
pub use tail::{Grown, HistoryTail};
pub use writer::History;

/// Lines of one LDB transaction that are kept, in bytes. Beyond, clients start over.
const MAX_PENDING_BYTES: usize = 16 * 1024 * 1024;

/// How much of the history is kept where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryOptions {
    pub directory: PathBuf,
    /// The bytes that all segments together may have, and one transaction more.
    pub retain_bytes: u64,
}

impl HistoryOptions {
    /// The history of the LDB at `ldb`; every process that reads the LDB finds it by that.
    pub fn beside(ldb: &Path, retain_bytes: u64) -> Self {
        Self { directory: directory_of(ldb), retain_bytes }
    }
}

/// Where the history of the LDB at `ldb` is.
pub fn directory_of(ldb: &Path) -> PathBuf {
    beside(ldb, ".changes")
}

/// Why the history can't be written or read. The rows are committed all the same.
#[derive(Debug, thiserror::Error)]
#[error("history of changes {path} failed while {action}: {source}")]
pub struct HistoryError {
    pub path: PathBuf,
    pub action: &'static str,
    pub source: std::io::Error,
}

impl HistoryError {
    fn new(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self { path: path.to_owned(), action, source }
    }
}
