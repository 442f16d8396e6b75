//! Keeps a growing copy from holding up the disk. It brings what was written to the disk
//! every few megabytes. A file system that finds hundreds of megabytes at once would let the
//! applier's next commit wait for all of them. Entry point: [`Pace::must_end`].

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ctlstore_core::Abort;

use crate::snapshot::progress::{Phase, SnapshotProgress};

/// Bytes after which writing to the disk begins.
const FLUSH_BYTES: u64 = 4 << 20;
/// How often the file's size is read. A count of rows would say nothing, because rows have any size.
const SIZE_CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// The work that is done while SQLite makes the copy.
pub(super) struct Pace {
    file: File,
    /// The file is on the disk up to here.
    flushed: u64,
    /// The file is on its way to the disk up to here.
    begun: u64,
    size_checked: Instant,
    total: u64,
    abort: Abort,
    progress: Arc<dyn SnapshotProgress>,
    failure: FlushFailure,
}

/// Why a flush failed. SQLite only reports an interrupted copy, so the error waits here.
#[derive(Debug, Clone, Default)]
pub(super) struct FlushFailure(Arc<Mutex<Option<io::Error>>>);

impl FlushFailure {
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Pace {
    /// `total` is the most bytes that the copy can have.
    pub(super) fn new(
        file: &File,
        total: u64,
        abort: &Abort,
        progress: &Arc<dyn SnapshotProgress>,
    ) -> io::Result<Self> {
        Ok(Self {
            file: file.try_clone()?,
            flushed: 0,
            begun: 0,
            size_checked: Instant::now(),
            total,
            abort: abort.clone(),
            progress: Arc::clone(progress),
            failure: FlushFailure::default(),
        })
    }

    pub(super) fn failure(&self) -> FlushFailure {
        self.failure.clone()
    }

    /// Is called every few of SQLite's instructions. True ends the copy.
    pub(super) fn must_end(&mut self) -> bool {
        if self.abort.is_aborted() {
            return true;
        }
        if self.size_checked.elapsed() < SIZE_CHECK_INTERVAL {
            return false;
        }
        let outcome = self.flush_and_report();
        self.size_checked = Instant::now();
        match outcome {
            Ok(()) => false,
            Err(error) => {
                *self.failure.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                true
            }
        }
    }

    fn flush_and_report(&mut self) -> io::Result<()> {
        let written = self.file.metadata()?.len();
        if written >= self.begun + FLUSH_BYTES {
            // Waiting for the stretch before keeps the number of stretches on their way at two.
            write_out(&self.file, self.flushed, self.begun, true)?;
            write_out(&self.file, self.begun, written, false)?;
            self.flushed = self.begun;
            self.begun = written;
        }
        self.progress.at(Phase::Copy, written.min(self.total), Some(self.total));
        Ok(())
    }
}

/// Begins to write a stretch of the file to the disk, or waits until it is there. This does
/// without fsync's journal commit, for which the applier's own commits would have to wait.
fn write_out(file: &File, from: u64, to: u64, wait: bool) -> io::Result<()> {
    let flags = if wait {
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER
    } else {
        libc::SYNC_FILE_RANGE_WRITE
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
        // This kernel or file system can't do it. The flush at the end then writes everything.
        Some(libc::ENOSYS | libc::EINVAL) => Ok(()),
        _ => Err(error),
    }
}
