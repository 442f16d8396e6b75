//! Ends work that another thread is doing. Entry points: [`Abort::abort`] for the thread that
//! wants the end, [`Abort::check`] for the one that works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that two threads share. The working thread looks at it often and ends within milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Abort(Arc<AtomicBool>);

/// The error of work that was ended before it was complete.
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
    /// [`Aborted`] after a call of [`Abort::abort`].
    pub fn check(&self) -> Result<(), Aborted> {
        if self.is_aborted() { Err(Aborted) } else { Ok(()) }
    }
}
