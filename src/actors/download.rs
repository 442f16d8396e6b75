//! How far a download of a snapshot has come. The thread that fetches writes it through
//! [`Downloading`]; the actor whose download it is shows it in `/status`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use ctlstore_ldb::snapshot::{Phase, SnapshotProgress};

/// A download as `/status` shows it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Download {
    /// The source that is being asked now, without secrets; `None` if none is.
    pub source: Option<String>,
    /// Whether its snapshot is downloaded and being checked.
    pub is_checking: bool,
    /// Bytes downloaded, as they are stored.
    pub bytes: u64,
    /// The bytes of all of it, if that is known.
    pub total_bytes: Option<u64>,
}

#[derive(Debug)]
pub struct Downloading {
    download: Mutex<Download>,
    /// The metric that counts the bytes.
    counter: Counter,
}

impl Downloading {
    pub fn new(counter: Counter) -> Self {
        Self { download: Mutex::default(), counter }
    }

    pub fn get(&self) -> Download {
        self.lock().clone()
    }

    /// From now on this source is asked; `None` says that no source is asked any more.
    pub fn asks(&self, source: Option<String>) {
        *self.lock() = Download { source, ..Download::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Download> {
        // A panic leaves no such plain value half-written.
        self.download.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotProgress for Downloading {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        let download = &mut *self.lock();
        download.is_checking = phase != Phase::Fetch;
        if download.is_checking {
            return;
        }
        // A download that is begun again counts from 0.
        let more = if done < download.bytes { done } else { done - download.bytes };
        self.counter.inc_by(more);
        download.bytes = done;
        download.total_bytes = total;
    }
}
