//! Verifies published snapshots: fetches and checks them. A ledger is pruned only by what
//! was verified here. Entry point: [`Verifier::lowest`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ctlstore_core::ledger::{LdbPosition, VerifiedSnapshot};
use ctlstore_core::{Abort, disk};

use super::fetch::{Candidate, FetchError, Wanted, find, still_has, verify};
use super::progress::SnapshotProgress;
use super::snapshot_url::SnapshotUrl;

/// A file that was not written to for this long was left by a killed process. A download
/// that goes on writes all the time.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

/// The snapshots at some places. A verified snapshot is not fetched again while the same one
/// is published.
#[derive(Debug, Clone)]
pub struct Verifier {
    places: Vec<VerifiedSource>,
    directory: PathBuf,
}

#[derive(Debug, Clone)]
struct VerifiedSource {
    url: SnapshotUrl,
    /// The snapshot that was found there before the last verification, and the one that was verified.
    known: Option<(Candidate, VerifiedSnapshot)>,
}

impl Verifier {
    /// Each fetch needs room in `directory` while it is checked.
    pub fn new(urls: &[SnapshotUrl], directory: impl Into<PathBuf>) -> Self {
        let places = urls.iter().map(|url| VerifiedSource { url: url.clone(), known: None }).collect();
        Self { places, directory: directory.into() }
    }

    /// Verifies the snapshot at each place, and gives the one with the lowest seq. While the
    /// ledger has the rows after that seq, a host can start from any of them. Blocks.
    ///
    /// # Errors
    /// The error of the first place without a good snapshot. [`FetchError::Aborted`] if there is no place.
    pub fn lowest(&mut self, abort: &Abort, progress: &dyn SnapshotProgress) -> Result<VerifiedSnapshot, FetchError> {
        disk::create_own_directory(&self.directory).map_err(|source| FetchError::Io {
            doing: "make",
            path: self.directory.clone(),
            source,
        })?;
        remove_abandoned(&self.directory);
        let mut lowest: Option<VerifiedSnapshot> = None;
        for place in &mut self.places {
            let verified = place.verify(&self.directory, abort, progress)?;
            if lowest.as_ref().is_none_or(|lowest| verified.seq < lowest.seq) {
                lowest = Some(verified);
            }
        }
        lowest.ok_or(FetchError::Aborted)
    }

    /// Whether each place still has what was verified, as far as manifests and sizes tell. A
    /// later snapshot of the same ledger may be published beside it. Blocks, and fetches no
    /// snapshot.
    pub fn stands(&self, abort: &Abort) -> bool {
        self.places.iter().all(|place| place.stands(abort))
    }
}

impl VerifiedSource {
    fn verify(
        &mut self,
        directory: &Path,
        abort: &Abort,
        progress: &dyn SnapshotProgress,
    ) -> Result<VerifiedSnapshot, FetchError> {
        // Found before the fetch, so that a snapshot that replaces it later is found to be another one.
        let found = find(&self.url, abort)?;
        if let Some((known, snapshot)) = &self.known
            && found.as_ref() == Some(known)
        {
            return Ok(snapshot.clone());
        }
        self.known = None;
        let fetched = verify(&self.url, directory, &Wanted::default(), abort, progress)?;
        let LdbPosition { seq, leader_ts, ledger_id } = fetched.position;
        let snapshot = VerifiedSnapshot { seq, leader_ts, ledger_id, url: self.url.to_string() };
        // If the snapshot was replaced meanwhile, the manifest tells which one was fetched.
        let fetched = fetched.manifest.map(|manifest| Candidate::Manifest(Box::new(manifest)));
        let known = match found {
            // The found candidate says more: it changes with the manifest and with the object at the plain key.
            Some(Candidate::Object(_)) => found,
            _ => fetched.or(found),
        };
        self.known = known.map(|found| (found, snapshot.clone()));
        Ok(snapshot)
    }

    fn stands(&self, abort: &Abort) -> bool {
        let Some((known, _)) = &self.known else { return false };
        still_has(&self.url, known, abort).unwrap_or(false)
    }
}

/// Removes what killed processes left. A file that can't be removed only takes space.
fn remove_abandoned(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.ends_with(".incoming"));
        let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        if is_ours && written.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > ABANDONED_AFTER) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
