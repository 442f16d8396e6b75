//! Keeps a growing copy from holding up the disk. What is written is brought there
//! every few megabytes: a file system that finds hundreds of them at once lets the
//! applier's next commit wait until they are through.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::snapshot::progress::{Phase, Progress};

use super::abort::Abort;

/// Bytes between two flushes.
const FLUSH_BYTES: u64 = 8 << 20;
/// How often the file's size is looked at: rows are of any size, so a count of them
/// says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What is done while SQLite makes the copy.
pub(super) struct Pace {
    file: File,
    flushed: u64,
    looked: Instant,
    total: u64,
    abort: Abort,
    progress: Arc<dyn Progress>,
    failure: Failure,
}

/// Why a flush failed, for whoever finds the copy interrupted.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Pace {
    /// `total` is the most bytes that the copy can come to.
    pub(super) fn new(file: &File, total: u64, abort: &Abort, progress: &Arc<dyn Progress>) -> io::Result<Self> {
        Ok(Self {
            file: file.try_clone()?,
            flushed: 0,
            looked: Instant::now(),
            total,
            abort: abort.clone(),
            progress: Arc::clone(progress),
            failure: Failure::default(),
        })
    }

    pub(super) fn failure(&self) -> Failure {
        self.failure.clone()
    }

    /// Comes by every few of SQLite's steps; true ends the copy.
    pub(super) fn must_end(&mut self) -> bool {
        if self.abort.is_aborted() {
            return true;
        }
        if self.looked.elapsed() < LOOK_EVERY {
            return false;
        }
        let outcome = self.look();
        self.looked = Instant::now();
        match outcome {
            Ok(()) => false,
            Err(error) => {
                *self.failure.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                true
            }
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let written = self.file.metadata()?.len();
        if written >= self.flushed + FLUSH_BYTES {
            self.file.sync_data()?;
            self.flushed = written;
        }
        self.progress.at(Phase::Copy, written.min(self.total), Some(self.total));
        Ok(())
    }
}
