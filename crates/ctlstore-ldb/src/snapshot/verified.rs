//! Snapshots that hosts can really start from: fetched from where they are published,
//! and checked. A ledger is pruned on the word of these alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::snapshot::SnapshotUrl;
use ctlstore_core::ledger::{LdbPosition, VerifiedSnapshot};
use ctlstore_core::{Abort, disk};

use super::Progress;
use super::fetch::{Candidate, FetchError, Wanted, find, still_has, verify};

/// What a killed process left of a fetch is removed when it was not written to for this
/// long; a fetch that goes on is written to all the time.
const LEFT_BEHIND: Duration = Duration::from_secs(60 * 60);

/// The snapshots at some places. One that was verified is not fetched again while what
/// is found there is the same.
#[derive(Debug, Clone)]
pub struct Verifier {
    places: Vec<VerifiedSource>,
    directory: PathBuf,
}

#[derive(Debug, Clone)]
struct VerifiedSource {
    url: SnapshotUrl,
    /// What was verified there, as it was found.
    known: Option<(Candidate, VerifiedSnapshot)>,
}

impl Verifier {
    /// Each fetch needs room in `directory` while it is checked.
    pub fn new(urls: &[SnapshotUrl], directory: impl Into<PathBuf>) -> Self {
        let places = urls.iter().map(|url| VerifiedSource { url: url.clone(), known: None }).collect();
        Self { places, directory: directory.into() }
    }

    /// Verifies the snapshot at each place. Gives the one with the lowest seq, so that a
    /// host can start from any of them. Blocks.
    ///
    /// # Errors
    /// The first place's that has no good one. [`FetchError::Aborted`] also without any place.
    pub fn lowest(&mut self, abort: &Abort, progress: &dyn Progress) -> Result<VerifiedSnapshot, FetchError> {
        disk::create_own_directory(&self.directory).map_err(|source| FetchError::Io {
            doing: "make",
            path: self.directory.clone(),
            source,
        })?;
        clear_away(&self.directory);
        let mut lowest: Option<VerifiedSnapshot> = None;
        for place in &mut self.places {
            let verified = place.verify(&self.directory, abort, progress)?;
            if lowest.as_ref().is_none_or(|lowest| verified.seq < lowest.seq) {
                lowest = Some(verified);
            }
        }
        lowest.ok_or(FetchError::Aborted)
    }

    /// Whether at each place there is still what was verified, also where a later one of the
    /// same ledger is published, as far as manifests and sizes tell. Blocks, and fetches
    /// no snapshot.
    pub fn stands(&self, abort: &Abort) -> bool {
        self.places.iter().all(|place| place.stands(abort))
    }
}

impl VerifiedSource {
    fn verify(
        &mut self,
        directory: &Path,
        abort: &Abort,
        progress: &dyn Progress,
    ) -> Result<VerifiedSnapshot, FetchError> {
        // Before it is fetched: what takes its place later is found to be another one.
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
        // Where someone published meanwhile, its manifest tells which one was fetched.
        let fetched = fetched.manifest.map(|manifest| Candidate::Manifest(Box::new(manifest)));
        self.known = fetched.or(found).map(|found| (found, snapshot.clone()));
        Ok(snapshot)
    }

    fn stands(&self, abort: &Abort) -> bool {
        let Some((known, _)) = &self.known else { return false };
        still_has(&self.url, known, abort).unwrap_or(false)
    }
}

/// Removes what processes that were killed have left. What can't be removed is in
/// nobody's way but the disk's.
fn clear_away(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.ends_with(".incoming"));
        let written = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        if is_ours && written.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > LEFT_BEHIND) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
