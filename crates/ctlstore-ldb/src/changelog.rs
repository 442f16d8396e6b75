//! The changelog: a text file for programs on the host that cache rows. It names every row that
//! the applier changed, with one JSON object on each line. The [`history`] beside it keeps the
//! same changes for clients of the change feed.
//!
//! Entries are numbered without a gap, and a follower that finds a gap drops its caches. So
//! if the file may lack an entry, the numbering jumps. One entry is then written at once after
//! the jump, so that followers need not wait for the next change. The caller says when a
//! transaction begins and ends.

mod capture;
mod changes;
mod entry;
mod file;
mod numbering;
mod pending;
mod statement_entries;
mod statement_scope;
mod tail;
mod writer;

pub mod history;

pub use file::{ChangelogError, ChangelogOptions};
pub(crate) use numbering::Numbering;
pub(crate) use writer::Changelog;
pub use writer::ChangelogCounts;
