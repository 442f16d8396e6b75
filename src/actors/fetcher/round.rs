//! One round of the fetcher: asks the sources what they have. A snapshot that is newer than the newest
//! version here becomes a version. Entry point: [`Fetching::round`]. It blocks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::actors::download::Downloading;
use crate::actors::failures::{kind_of_fetch, kind_of_ldb};
use crate::metrics::ErrorKind;
use ctlstore_core::Abort;
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_ldb::snapshot::fetch::{BadSnapshot, FetchError, Fetched, SnapshotSources, Unwanted, Wanted};
use ctlstore_ldb::{LdbError, Standing, Versions};

/// Why a round found no version, or what else failed in a round that did.
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

/// A round in which a source had the wanted snapshot.
pub struct FetchRound {
    pub outcome: FetchOutcome,
    /// Failures of sources that were asked before, and of removing old versions.
    pub troubles: Vec<NoVersion>,
}

pub enum FetchOutcome {
    New(New),
    /// The published snapshot is the newest version here.
    Unchanged {
        version: PathBuf,
        seq: Seq,
    },
}

/// A new version.
pub struct New {
    pub version: PathBuf,
    pub position: LdbPosition,
    /// The size of the file.
    pub bytes: u64,
    pub source: String,
    /// From asking its source to the finished version.
    pub took: Duration,
}

pub struct Fetching {
    versions: Versions,
    sources: SnapshotSources,
    abort: Abort,
    downloading: Arc<Downloading>,
}

impl Fetching {
    pub fn new(versions: Versions, sources: SnapshotSources, abort: Abort, downloading: Arc<Downloading>) -> Self {
        Self { versions, sources, abort, downloading }
    }

    /// Asks the sources in order, until one has a newer snapshot than the newest version here, or the
    /// same one. Only a newer one is downloaded.
    ///
    /// # Errors
    /// If no source has either: the errors of all sources together.
    pub fn round(&mut self) -> Result<FetchRound, NoVersion> {
        let outcome = self.ask_all();
        self.downloading.asks(None);
        outcome
    }

    fn ask_all(&mut self) -> Result<FetchRound, NoVersion> {
        let standing = self.versions.standing()?;
        let wanted = wanted(&standing);
        let mut troubles = Vec::new();
        for index in 0..self.sources.len() {
            let began = Instant::now();
            let source = self.sources.url(index).to_string();
            self.downloading.asks(Some(source.clone()));
            let incoming = self.versions.incoming()?;
            let error = match self.sources.fetch(index, &incoming, &wanted, &self.abort, &*self.downloading) {
                Ok(Fetched { position, bytes, .. }) => {
                    let version = self.versions.install()?;
                    troubles.extend(self.versions.remove_old().err().map(NoVersion::from));
                    let new = New { version, position, bytes, source, took: began.elapsed() };
                    return Ok(FetchRound { outcome: FetchOutcome::New(new), troubles });
                }
                Err(error) => error,
            };
            match &standing.newest {
                Some((version, position)) if is_at(&error, position.seq) => {
                    let outcome = FetchOutcome::Unchanged { version: version.clone(), seq: position.seq };
                    troubles.extend(self.versions.remove_old().err().map(NoVersion::from));
                    return Ok(FetchRound { outcome, troubles });
                }
                _ if matches!(error, FetchError::Aborted) => return Err(error.into()),
                _ => troubles.push(error.into()),
            }
        }
        Err(together(troubles, standing.unreadable))
    }
}

/// A later seq of the same ledger. If the newest version can't be read, the seq of the version before
/// it is enough.
fn wanted(standing: &Standing) -> Wanted {
    let next = i64::from(standing.unreadable.is_none());
    let from = standing.seq().map(|seq| Seq(seq.0.saturating_add(next)));
    Wanted { ledger_id: standing.ledger_id.clone(), from, ..Wanted::default() }
}

/// Whether the source has a good snapshot at exactly this seq.
fn is_at(error: &FetchError, seq: Seq) -> bool {
    let FetchError::Bad { reason, .. } = error else { return false };
    matches!(**reason, BadSnapshot::Unwanted { reason: Unwanted::Behind { found, .. }, .. } if found == seq)
}

fn together(troubles: Vec<NoVersion>, unreadable: Option<String>) -> NoVersion {
    // A source without a snapshot tells less than a source with a bad one.
    let worst = troubles.iter().map(|trouble| trouble.kind).find(|kind| *kind != ErrorKind::Unavailable);
    let messages: Vec<_> = troubles.into_iter().map(|trouble| trouble.message).chain(unreadable).collect();
    NoVersion { kind: worst.unwrap_or(ErrorKind::Unavailable), message: messages.join("; ") }
}
