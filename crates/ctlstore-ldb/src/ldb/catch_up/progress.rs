//! How far an LDB has come while it is brought forward, and why the work ended early. Types only, for the sibling
//! modules: [`CatchUpProgress`] and [`Stop`].

use crate::ldb::error::LdbError;

/// How far an LDB has come while it is brought forward. It is reported often, so its receiver may not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CatchUpProgress {
    pub tables: usize,
    pub tables_done: usize,
    /// Rows that were inserted, changed or deleted so far.
    pub rows: u64,
}

/// Why the work ended early.
#[derive(Debug)]
pub(super) enum Stop {
    Sqlite(rusqlite::Error),
    /// The two files don't fit together as they should.
    Mismatch(String),
    Ldb(LdbError),
    Aborted,
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<LdbError> for Stop {
    fn from(error: LdbError) -> Self {
        Self::Ldb(error)
    }
}
