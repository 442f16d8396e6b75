//! What is known of a snapshot on its way: written by the thread that fetches it, shown
//! by the actor that answers for that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use ctlstore_ldb::snapshot::{Phase, Progress};

/// As a status shows it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Download {
    /// The source that is being asked now, without secrets.
    pub source: Option<String>,
    /// Whether its snapshot is downloaded and being checked.
    pub is_checking: bool,
    /// Bytes downloaded, as they are stored, and in all where that is known.
    pub bytes: u64,
    pub total_bytes: Option<u64>,
}

#[derive(Debug)]
pub struct Downloading {
    download: Mutex<Download>,
    /// Counts the bytes.
    counter: Counter,
}

impl Downloading {
    pub fn new(counter: Counter) -> Self {
        Self { download: Mutex::default(), counter }
    }

    pub fn get(&self) -> Download {
        self.lock().clone()
    }

    /// From now on this source is asked; `None` ends it.
    pub fn asks(&self, source: Option<String>) {
        *self.lock() = Download { source, ..Download::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Download> {
        // Plain values, which no panic leaves half-written.
        self.download.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Downloading {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        let download = &mut *self.lock();
        download.is_checking = phase != Phase::Fetch;
        if download.is_checking {
            return;
        }
        // It begins at 0 again when a download is begun again.
        let more = if done < download.bytes { done } else { done - download.bytes };
        self.counter.inc_by(more);
        (download.bytes, download.total_bytes) = (done, total);
    }
}
