//! Asks the sources for a snapshot, in order. Entry point: [`Bootstrap::round`]. [`BootstrapRecord`]
//! keeps what `/status` shows and counts the metrics. It blocks, so it runs on the writer thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::actors::download::{Download, Downloading};
use crate::actors::failures::kind_of_fetch;
use crate::metrics::{ErrorKind, Metrics};
use ctlstore_core::Abort;
use ctlstore_core::ledger::AllowEmpty;
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::ClaimedLdb;
use ctlstore_ldb::snapshot::SnapshotUrl;
use ctlstore_ldb::snapshot::fetch::{ExpansionLimits, FetchError, Fetched, SnapshotSources, Wanted};

/// The sources of snapshots, and what may come from them.
#[derive(Debug, Clone)]
pub struct BootstrapOptions {
    /// Asked in this order.
    pub urls: Vec<SnapshotUrl>,
    pub allow_empty: AllowEmpty,
    pub limits: ExpansionLimits,
}

/// Why no source gave a snapshot.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct NoSnapshot {
    pub kind: ErrorKind,
    pub message: String,
    /// Whether the sources have only snapshots with rows that a restored ctldb lost.
    pub is_lost_history: bool,
}

/// The bootstrap's part of `/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BootstrapDetails {
    /// Snapshots asked for, at each source.
    pub attempts: u64,
    /// Snapshots that were fetched to replace the LDB.
    pub fetched: u64,
    /// The download that runs now.
    #[serde(flatten)]
    pub download: Download,
    /// Why the last round fetched nothing; `None` after one that did.
    pub last_error: Option<String>,
    /// The source of the snapshot that last replaced the LDB.
    pub last_source: Option<String>,
    /// When that snapshot was fetched.
    pub last_at: Option<String>,
    pub last_seq: Option<i64>,
    pub last_bytes: Option<u64>,
}

/// The record, which the actor reads while the thread works.
#[derive(Debug)]
pub struct BootstrapRecord {
    details: Mutex<BootstrapDetails>,
    downloading: Downloading,
    metrics: Arc<Metrics>,
}

impl BootstrapRecord {
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let downloading = Downloading::new(metrics.bootstrap.bytes.clone());
        Arc::new(Self { details: Mutex::default(), downloading, metrics })
    }

    pub fn details(&self) -> BootstrapDetails {
        BootstrapDetails { download: self.downloading.get(), ..self.lock().clone() }
    }

    /// Whether a source is being asked right now.
    pub fn is_active(&self) -> bool {
        self.downloading.get().source.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BootstrapDetails> {
        // A panic leaves no such plain value half-written.
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asks(&self, source: &str) {
        self.metrics.bootstrap.attempts.inc();
        self.lock().attempts += 1;
        self.downloading.asks(Some(source.to_owned()));
    }

    fn fetched(&self, source: &str, fetched: &Fetched, began: Instant) {
        let now = Timestamp::now();
        self.metrics.bootstrap.duration_seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.bootstrap.last_success_seconds.set(now.unix_micros() as f64 / 1e6);
        let (seq, bytes) = (fetched.position.seq, fetched.bytes);
        tracing::info!(role = "applier", source, %seq, bytes, ms = began.elapsed().as_millis() as u64, "snapshot fetched");
        let details = &mut *self.lock();
        details.fetched += 1;
        details.last_error = None;
        details.last_source = Some(source.to_owned());
        details.last_at = Some(now.to_string());
        details.last_seq = Some(seq.0);
        details.last_bytes = Some(bytes);
    }
}

pub struct Bootstrap {
    sources: SnapshotSources,
    allow_empty: AllowEmpty,
    abort: Abort,
    record: Arc<BootstrapRecord>,
}

impl Bootstrap {
    pub fn new(options: BootstrapOptions, abort: Abort, record: Arc<BootstrapRecord>) -> Self {
        Self {
            sources: SnapshotSources::new(options.urls, options.limits),
            allow_empty: options.allow_empty,
            abort,
            record,
        }
    }

    pub fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    pub fn allow_empty(&self) -> AllowEmpty {
        self.allow_empty
    }

    /// Asks every source until one gives a good snapshot. The snapshot is then at `home.incoming()`.
    /// False if all sources were reached and none has a snapshot.
    pub fn round(&mut self, home: &ClaimedLdb, wanted: &Wanted) -> Result<bool, NoSnapshot> {
        let outcome = self.ask_all(home, wanted);
        self.record.downloading.asks(None);
        if let Err(error) = &outcome {
            self.record.lock().last_error = Some(error.message.clone());
        }
        outcome
    }

    fn ask_all(&mut self, home: &ClaimedLdb, wanted: &Wanted) -> Result<bool, NoSnapshot> {
        let mut errors = Vec::new();
        for index in 0..self.sources.len() {
            let began = Instant::now();
            let url = self.sources.url(index).to_string();
            self.record.asks(&url);
            if let Err(error) = home.clear_incoming() {
                return Err(NoSnapshot {
                    kind: ErrorKind::Storage,
                    message: error.to_string(),
                    is_lost_history: false,
                });
            }
            match self.sources.fetch(index, &home.incoming(), wanted, &self.abort, &self.record.downloading) {
                Ok(fetched) => {
                    for error in &errors {
                        tracing::warn!(role = "applier", %error, "a source had no good snapshot, a later one has");
                    }
                    for error in &fetched.passed_over {
                        tracing::warn!(role = "applier", error, "a snapshot was passed over, an older one serves");
                    }
                    self.record.fetched(&fetched.place, &fetched, began);
                    return Ok(true);
                }
                Err(FetchError::Aborted) => return Err(of(&FetchError::Aborted)),
                Err(error) => {
                    self.record.metrics.bootstrap.failed(kind_of_fetch(&error));
                    errors.push(error);
                }
            }
        }
        // A source without a snapshot tells less than a source with a bad one.
        match errors.iter().find(|error| !error.is_not_found()) {
            None => Ok(false),
            Some(first) => {
                let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
                let is_lost_history = errors.iter().all(|error| error.is_not_found() || error.is_lost_history());
                Err(NoSnapshot { kind: kind_of_fetch(first), message: messages.join("; "), is_lost_history })
            }
        }
    }

    /// The error of a round in which all sources were reached and none had a snapshot.
    pub fn nothing_there(&self) -> NoSnapshot {
        let urls: Vec<_> = (0..self.sources.len()).map(|index| self.sources.url(index).to_string()).collect();
        let error = NoSnapshot {
            kind: ErrorKind::Unavailable,
            message: format!("there is no snapshot at {}", urls.join(", ")),
            is_lost_history: false,
        };
        self.record.lock().last_error = Some(error.message.clone());
        error
    }
}

fn of(error: &FetchError) -> NoSnapshot {
    NoSnapshot { kind: kind_of_fetch(error), message: error.to_string(), is_lost_history: false }
}
