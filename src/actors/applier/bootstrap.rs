//! Gets a snapshot for the LDB: from the sources, in order, or as a copy of another LDB of this host. Entry point:
//! [`LdbFetch::round`]. [`BootstrapRecord`] keeps what `/status` shows and counts the metrics.
//!
//! It blocks, so it runs on the writer thread. `managed_ldb` and `catch_up` decide how the snapshot is used.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::actors::download::{Download, Downloading};
use crate::actors::failures::kind_of_fetch;
use crate::metrics::{ErrorKind, Metrics};
use ctlstore_core::Abort;
use ctlstore_core::ledger::{AllowEmpty, LdbPosition, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::snapshot::fetch::{ExpansionLimits, FetchError, SnapshotSources, Wanted};
use ctlstore_ldb::snapshot::{self, SnapshotError, SnapshotProgress, SnapshotUrl};
use ctlstore_ldb::{CatchUp, CatchUpProgress, ClaimedLdb};
use ctlstore_reader::read::LdbReader;

/// The sources of snapshots, and what may come from them.
#[derive(Debug, Clone)]
pub struct BootstrapOptions {
    /// Asked in this order.
    pub urls: Vec<SnapshotUrl>,
    /// The other LDBs of this host. One that can follow the ledger is copied before `urls` are asked.
    pub siblings: Vec<PathBuf>,
    /// Whether this LDB is the first of several, or the only one. The others wait for it.
    pub is_first: bool,
    pub allow_empty: AllowEmpty,
    pub limits: ExpansionLimits,
}

/// Why there is no snapshot.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct NoSnapshot {
    pub kind: ErrorKind,
    pub message: String,
    /// Whether the sources have only snapshots with rows that a restored ctldb lost.
    pub is_lost_history: bool,
}

impl NoSnapshot {
    pub fn new(kind: ErrorKind, message: impl ToString) -> Self {
        Self { kind, message: message.to_string(), is_lost_history: false }
    }

    pub fn aborted() -> Self {
        Self::new(ErrorKind::Internal, FetchError::Aborted)
    }
}

/// The bootstrap's part of `/status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BootstrapDetails {
    /// Snapshots asked for, at each source.
    pub attempts: u64,
    /// Snapshots that were fetched to replace the LDB.
    pub fetched: u64,
    /// Snapshots to which the LDB was brought in its own file.
    pub in_place: u64,
    /// How far that has come, while it is done.
    pub catching_up: Option<CatchingUp>,
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

/// How far an LDB was brought forward in its own file.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CatchingUp {
    pub tables: usize,
    pub tables_done: usize,
    pub rows_changed: u64,
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

    /// Whether a source is being asked, or the LDB brought forward, right now.
    pub fn is_active(&self) -> bool {
        self.downloading.get().source.is_some() || self.lock().catching_up.is_some()
    }

    /// The LDB is brought forward in its own file; `None` ends it.
    pub fn catches_up(&self, progress: Option<CatchUpProgress>) {
        self.lock().catching_up = progress.map(|CatchUpProgress { tables, tables_done, rows }| CatchingUp {
            tables,
            tables_done,
            rows_changed: rows,
        });
    }

    pub fn caught_up(&self, done: CatchUp, began: Instant) {
        let CatchUp { from, to, tables, rows } = done;
        let ms = began.elapsed().as_millis() as u64;
        tracing::info!(role = "applier", %from, seq = %to, tables, rows, ms, "ldb brought forward in its own file");
        self.metrics.bootstrap.in_place.inc();
        self.lock().in_place += 1;
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

    fn fetched(&self, source: &str, (seq, bytes): (Seq, u64), began: Instant) {
        let now = Timestamp::now();
        self.metrics.bootstrap.duration_seconds.observe(began.elapsed().as_secs_f64());
        self.metrics.bootstrap.last_success_seconds.set(now.unix_micros() as f64 / 1e6);
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

pub struct LdbFetch {
    sources: SnapshotSources,
    siblings: Vec<PathBuf>,
    is_first: bool,
    allow_empty: AllowEmpty,
    abort: Abort,
    record: Arc<BootstrapRecord>,
}

impl LdbFetch {
    pub fn new(options: BootstrapOptions, abort: Abort, record: Arc<BootstrapRecord>) -> Self {
        let BootstrapOptions { urls, siblings, is_first, allow_empty, limits } = options;
        Self { sources: SnapshotSources::new(urls, limits), siblings, is_first, allow_empty, abort, record }
    }

    pub fn has_sources(&self) -> bool {
        !self.sources.is_empty() || !self.siblings.is_empty()
    }

    /// Whether an LDB that is missing may come from elsewhere, so that it is not made at once.
    pub fn may_bring_the_first(&self) -> bool {
        !self.sources.is_empty() || !self.is_first
    }

    pub fn allow_empty(&self) -> AllowEmpty {
        self.allow_empty
    }

    /// Ends what takes long.
    pub fn abort(&self) -> &Abort {
        &self.abort
    }

    pub fn record(&self) -> &Arc<BootstrapRecord> {
        &self.record
    }

    /// Puts a good snapshot at `home.incoming()` and returns its position. `None` if all sources were reached and none
    /// has a snapshot.
    pub fn round(&mut self, home: &ClaimedLdb, wanted: &Wanted) -> Result<Option<LdbPosition>, NoSnapshot> {
        let outcome = match self.best_sibling(wanted) {
            Some(sibling) => self.copy(&sibling, home).map(Some),
            None if self.is_first => self.ask_all(home, wanted),
            None => self.wait_for_siblings(),
        };
        self.record.downloading.asks(None);
        if let Err(error) = &outcome {
            self.record.lock().last_error = Some(error.message.clone());
        }
        outcome
    }

    fn ask_all(&mut self, home: &ClaimedLdb, wanted: &Wanted) -> Result<Option<LdbPosition>, NoSnapshot> {
        let mut errors = Vec::new();
        for index in 0..self.sources.len() {
            let began = Instant::now();
            let url = self.sources.url(index).to_string();
            self.record.asks(&url);
            home.clear_incoming().map_err(|error| NoSnapshot::new(ErrorKind::Storage, error))?;
            match self.sources.fetch(index, &home.incoming(), wanted, &self.abort, &self.record.downloading) {
                Ok(fetched) => {
                    for error in &errors {
                        tracing::warn!(role = "applier", %error, "a source had no good snapshot, a later one has");
                    }
                    for error in &fetched.passed_over {
                        tracing::warn!(role = "applier", error, "a snapshot was passed over, an older one serves");
                    }
                    self.record.fetched(&fetched.place, (fetched.position.seq, fetched.bytes), began);
                    return Ok(Some(fetched.position));
                }
                Err(FetchError::Aborted) => return Err(NoSnapshot::aborted()),
                Err(error) => {
                    self.record.metrics.bootstrap.failed(kind_of_fetch(&error));
                    errors.push(error);
                }
            }
        }
        // A source without a snapshot tells less than a source with a bad one.
        match errors.iter().find(|error| !error.is_not_found()) {
            None => Ok(None),
            Some(first) => {
                let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
                let is_lost_history = errors.iter().all(|error| error.is_not_found() || error.is_lost_history());
                Err(NoSnapshot { is_lost_history, ..NoSnapshot::new(kind_of_fetch(first), messages.join("; ")) })
            }
        }
    }

    /// The other LDB of this host that is furthest on, of those that are wanted.
    fn best_sibling(&self, wanted: &Wanted) -> Option<PathBuf> {
        let known = self.siblings.iter().filter_map(|path| Some((LdbReader::new(path).position().ok()?, path)));
        let fit = known.filter(|(position, _)| position.seq > Seq::ZERO && wanted.accepts(position));
        fit.max_by_key(|(position, _)| position.seq).map(|(_, path)| path.clone())
    }

    /// Without a sibling to copy, an LDB that is not the first begins empty if a sibling did.
    fn wait_for_siblings(&self) -> Result<Option<LdbPosition>, NoSnapshot> {
        let is_empty = |path: &PathBuf| LdbReader::new(path).last_seq().is_ok_and(|seq| seq == Seq::ZERO);
        match self.siblings.iter().any(is_empty) {
            true => Ok(None),
            false => Err(NoSnapshot::new(
                ErrorKind::Unavailable,
                format!("none of the ldbs at {} can follow the ledger yet, so that it could be copied", self.places()),
            )),
        }
    }

    /// Copies another LDB of this host.
    fn copy(&self, sibling: &Path, home: &ClaimedLdb) -> Result<LdbPosition, NoSnapshot> {
        let began = Instant::now();
        let shown = sibling.display().to_string();
        self.record.asks(&shown);
        home.clear_incoming().map_err(|error| NoSnapshot::new(ErrorKind::Storage, error))?;
        let silent: Arc<dyn SnapshotProgress> = Arc::new(());
        let copied = snapshot::take(sibling, &home.incoming(), &self.abort, &silent).map_err(|error| match error {
            SnapshotError::Aborted => NoSnapshot::aborted(),
            error @ SnapshotError::DiskFull(_) => NoSnapshot::new(ErrorKind::DiskFull, error),
            error => NoSnapshot::new(ErrorKind::Storage, error),
        });
        let copied = copied.inspect_err(|error| self.record.metrics.bootstrap.failed(error.kind))?;
        self.record.fetched(&shown, (copied.position.seq, copied.bytes), began);
        Ok(copied.position)
    }

    fn places(&self) -> String {
        let urls = (0..self.sources.len()).map(|index| self.sources.url(index).to_string());
        urls.chain(self.siblings.iter().map(|path| path.display().to_string())).collect::<Vec<_>>().join(", ")
    }

    /// The error of a round in which all sources were reached and none had a snapshot.
    pub fn nothing_there(&self) -> NoSnapshot {
        let error = NoSnapshot::new(ErrorKind::Unavailable, format!("there is no snapshot at {}", self.places()));
        self.record.lock().last_error = Some(error.message.clone());
        error
    }
}
