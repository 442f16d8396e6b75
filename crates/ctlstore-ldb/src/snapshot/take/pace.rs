//! Keeps a growing copy from holding up the disk. What is written is brought there
//! every few megabytes: a file system that finds hundreds of them at once lets the
//! applier's next commit wait until they are through.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::snapshot::progress::{Phase, Progress};
use ctlstore_core::Abort;

/// Bytes of which the writing is begun at once.
const FLUSH_BYTES: u64 = 4 << 20;
/// How often the file's size is looked at: rows are of any size, so a count of them
/// says nothing.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What is done while SQLite makes the copy.
pub(super) struct Pace {
    file: File,
    /// Up to where the file is on the disk, and up to where it is on its way there.
    flushed: u64,
    begun: u64,
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
            begun: 0,
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
        if written >= self.begun + FLUSH_BYTES {
            // What was begun before is waited for, so that no more than two stretches
            // are ever on their way.
            write_out(&self.file, self.flushed, self.begun, true)?;
            write_out(&self.file, self.begun, written, false)?;
            (self.flushed, self.begun) = (self.begun, written);
        }
        self.progress.at(Phase::Copy, written.min(self.total), Some(self.total));
        Ok(())
    }
}

/// Begins to bring a stretch of the file to the disk, or waits until it is there.
/// Without fsync's journal commit, which the applier's own would have to wait for.
fn write_out(file: &File, from: u64, to: u64, wait: bool) -> io::Result<()> {
    let flags = match wait {
        true => libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER,
        false => libc::SYNC_FILE_RANGE_WRITE,
    };
    // Zero bytes would mean everything up to the file's end.
    if from == to {
        return Ok(());
    }
    // SAFETY: the descriptor is open as long as `file` is, and no memory is handed over.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), from as i64, (to - from) as i64, flags) };
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        _ if result == 0 => Ok(()),
        // A kernel or file system that can't; the flush at the end does it all.
        Some(libc::ENOSYS | libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}
