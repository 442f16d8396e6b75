//! The way to end work that another thread is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use crate::snapshot::error::SnapshotError;

/// SQLite's own instructions between two looks at the flag: well below a millisecond.
const ABORT_CHECK: i32 = 10_000;

/// Ends a snapshot that another thread is making, within milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Abort(Arc<AtomicBool>);

impl Abort {
    pub fn abort(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_aborted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`SnapshotError::Aborted`] once it is.
    pub fn check(&self) -> Result<(), SnapshotError> {
        if self.is_aborted() { Err(SnapshotError::Aborted) } else { Ok(()) }
    }

    /// Interrupts the connection's statements once it is.
    pub(super) fn watch(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let this = self.clone();
        connection.progress_handler(ABORT_CHECK, Some(move || this.is_aborted()))
    }
}
