//! The way to end work that another thread is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends a snapshot that another thread is making, within milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Abort(Arc<AtomicBool>);

/// The work was ended before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("aborted")]
pub struct Aborted;

impl Abort {
    pub fn abort(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_aborted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`Aborted`] once it is.
    pub fn check(&self) -> Result<(), Aborted> {
        if self.is_aborted() { Err(Aborted) } else { Ok(()) }
    }
}
