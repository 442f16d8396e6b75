//! One time that the sources are asked: what they have, whether it is newer than what is
//! here, and if so the version that comes of it. Blocking.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::actors::failures::{kind_of_fetch, kind_of_ldb};
use crate::config::SnapshotUrl;
use crate::ldb::{LdbError, Standing, Versions};
use crate::ledger::{LdbPosition, Seq};
use crate::metrics::{ErrorKind, Metrics};
use crate::snapshot::fetch::{BadSnapshot, FetchError, Fetched, Sources, Unwanted, Wanted};
use crate::snapshot::{Abort, Phase, Progress};

/// Why a round brought no version, or what else went wrong in one that did.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct NoVersion {
    pub kind: ErrorKind,
    message: String,
}

impl From<LdbError> for NoVersion {
    fn from(error: LdbError) -> Self {
        Self { kind: kind_of_ldb(&error), message: error.to_string() }
    }
}

impl From<FetchError> for NoVersion {
    fn from(error: FetchError) -> Self {
        Self { kind: kind_of_fetch(&error), message: error.to_string() }
    }
}

/// A round in which a source had what is wanted.
pub struct Round {
    pub outcome: Outcome,
    /// Of sources that were asked before it, and of versions that should have gone.
    pub troubles: Vec<NoVersion>,
}

pub enum Outcome {
    New(New),
    /// What is published is the newest version.
    Unchanged {
        version: PathBuf,
        seq: Seq,
    },
}

/// A version that has appeared.
pub struct New {
    pub version: PathBuf,
    pub position: LdbPosition,
    /// Of the file.
    pub bytes: u64,
    pub source: String,
    /// From the question for it on.
    pub took: Duration,
}

/// What is on its way, as the status shows it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Download {
    /// The source that is being asked now, without secrets.
    source: Option<String>,
    /// Whether its snapshot is downloaded and being checked.
    is_checking: bool,
    /// Bytes downloaded, as they are stored, and in all where that is known.
    bytes: u64,
    total_bytes: Option<u64>,
}

/// The record of it, which the actor reads while the thread works.
pub struct Progressing {
    download: Mutex<Download>,
    metrics: Arc<Metrics>,
}

impl Progressing {
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { download: Mutex::default(), metrics })
    }

    pub fn download(&self) -> Download {
        self.lock().clone()
    }

    fn asks(&self, source: Option<String>) {
        *self.lock() = Download { source, ..Download::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Download> {
        // Plain values, which no panic leaves half-written.
        self.download.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for Progressing {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        let download = &mut *self.lock();
        download.is_checking = phase != Phase::Fetch;
        if download.is_checking {
            return;
        }
        // It begins at 0 again when a download is begun again.
        let more = if done < download.bytes { done } else { done - download.bytes };
        self.metrics.fetcher.bytes.inc_by(more);
        (download.bytes, download.total_bytes) = (done, total);
    }
}

pub struct Fetching {
    versions: Versions,
    sources: Sources,
    abort: Abort,
    progress: Arc<Progressing>,
}

impl Fetching {
    pub fn new(versions: Versions, urls: Vec<SnapshotUrl>, abort: Abort, progress: Arc<Progressing>) -> Self {
        Self { versions, sources: Sources::new(urls), abort, progress }
    }

    /// Asks the sources in order, until one has a newer snapshot than there is here, or
    /// the same one. Only what is newer is downloaded.
    ///
    /// # Errors
    /// Those of all sources together, where none had either.
    pub fn round(&mut self) -> Result<Round, NoVersion> {
        let outcome = self.ask_all();
        self.progress.asks(None);
        outcome
    }

    fn ask_all(&mut self) -> Result<Round, NoVersion> {
        let standing = self.versions.standing()?;
        let wanted = wanted(&standing);
        let mut troubles = Vec::new();
        for index in 0..self.sources.len() {
            let (began, source) = (Instant::now(), self.sources.url(index).to_string());
            self.progress.asks(Some(source.clone()));
            let incoming = self.versions.incoming()?;
            let error = match self.sources.fetch(index, &incoming, &wanted, &self.abort, &*self.progress) {
                Ok(Fetched { position, bytes, .. }) => {
                    let version = self.versions.install()?;
                    troubles.extend(self.versions.remove_old().err().map(NoVersion::from));
                    let new = New { version, position, bytes, source, took: began.elapsed() };
                    return Ok(Round { outcome: Outcome::New(new), troubles });
                }
                Err(error) => error,
            };
            match &standing.newest {
                Some((version, position)) if is_at(&error, position.seq) => {
                    let outcome = Outcome::Unchanged { version: version.clone(), seq: position.seq };
                    troubles.extend(self.versions.remove_old().err().map(NoVersion::from));
                    return Ok(Round { outcome, troubles });
                }
                _ if matches!(error, FetchError::Aborted) => return Err(error.into()),
                _ => troubles.push(error.into()),
            }
        }
        Err(together(troubles, standing.unreadable))
    }
}

/// A later seq of the same ledger. Where the newest version can't be read, the snapshot
/// of the one before it will do as well.
fn wanted(standing: &Standing) -> Wanted {
    let next = i64::from(standing.unreadable.is_none());
    let from = standing.seq().map(|seq| Seq(seq.0.saturating_add(next)));
    Wanted { ledger_id: standing.ledger_id.clone(), from, ..Wanted::default() }
}

/// Whether a sound snapshot at just this seq was passed over.
fn is_at(error: &FetchError, seq: Seq) -> bool {
    let FetchError::Bad { reason, .. } = error else { return false };
    matches!(**reason, BadSnapshot::Unwanted { reason: Unwanted::Behind { found, .. }, .. } if found == seq)
}

fn together(troubles: Vec<NoVersion>, unreadable: Option<String>) -> NoVersion {
    // What is only not there says less than what is wrong.
    let worst = troubles.iter().map(|trouble| trouble.kind).find(|kind| *kind != ErrorKind::Unavailable);
    let messages: Vec<_> = troubles.into_iter().map(|trouble| trouble.message).chain(unreadable).collect();
    NoVersion { kind: worst.unwrap_or(ErrorKind::Unavailable), message: messages.join("; ") }
}
