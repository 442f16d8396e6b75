//! Finds out whether another program wrote a snapshot's plain key after the manifest beside it was written. The
//! original's supervisor does: it knows no manifests, and puts each of its snapshots at the plain key. Entry point:
//! [`newer_plain`]. It downloads nothing: only `download` tells whether the object is sound.

use std::time::{Duration, Instant};

use crate::snapshot::manifest::{Compression, Manifest};
use crate::snapshot::store::{ObjectInfo, Store, StoreError};
use ctlstore_core::Abort;
use ctlstore_core::ledger::LdbPosition;
use ctlstore_reader::read::LdbReader;

use super::error::FetchError;

/// How often a repeated fetch asks the store about the plain key, besides the manifest. Requests cost money.
const PLAIN_KEY_INTERVAL: Duration = Duration::from_secs(60);

/// The memory of a source that is asked again and again about the object at its plain key.
#[derive(Debug, Default)]
pub(super) struct KnownPlain {
    /// The identity of an object that was of no more use than the one that the manifest names.
    pub passed_over: Option<String>,
    /// When the store was last asked about the plain key, and the hash that the manifest had then.
    asked: Option<(String, Instant)>,
}

impl KnownPlain {
    /// Whether to ask the store about the plain key now. If so, the caller has to ask: it counts as done.
    pub fn is_due(&mut self, manifest: &Manifest) -> bool {
        let is_known =
            |(hash, at): &(String, Instant)| *hash == manifest.stored_sha256 && at.elapsed() < PLAIN_KEY_INTERVAL;
        let is_due = !self.asked.as_ref().is_some_and(is_known);
        if is_due {
            self.asked = Some((manifest.stored_sha256.clone(), Instant::now()));
        }
        is_due
    }
}

/// The object at the plain key, if it may be a newer snapshot than the one that `manifest` names. `written` has the
/// store's facts about the manifest, which a publisher of ours writes last.
///
/// # Errors
/// Only [`FetchError::Aborted`]: an object that the store does not describe counts as missing.
pub(super) fn newer_plain(
    store: &Store,
    manifest: &Manifest,
    written: &ObjectInfo,
    abort: &Abort,
) -> Result<Option<ObjectInfo>, FetchError> {
    let Some(plain) = head(store, abort)? else { return Ok(None) };
    let has_other_size = plain.size.is_some_and(|size| size != manifest.stored_bytes);
    let is_other = match plain.checksum.as_deref().map(str::trim).filter(|sum| !sum.is_empty()) {
        Some(sum) => has_other_size || (!manifest.sha1.is_empty() && sum != manifest.sha1),
        None => has_other_size || plain.modified > written.modified,
    };
    Ok((is_other && !is_known_to_be_older(store, manifest)).then_some(plain))
}

/// `None` if nothing is there, or if the store does not tell.
fn head(store: &Store, abort: &Abort) -> Result<Option<ObjectInfo>, FetchError> {
    match store.head(store.name(), abort) {
        Ok(info) => Ok(Some(info)),
        Err(StoreError::Aborted) => Err(FetchError::Aborted),
        Err(_) => Ok(None),
    }
}

/// Whether a sound snapshot at the position `found` counts instead of the one that the manifest names.
pub(super) fn is_news(found: &LdbPosition, manifest: &Manifest) -> bool {
    found.seq > manifest.position().seq
}

/// Whether the plain key is known to have nothing newer. A file that is not compressed is read in place.
fn is_known_to_be_older(store: &Store, manifest: &Manifest) -> bool {
    let file = store.path(store.name()).filter(|_| Compression::of(store.name()) == Compression::None);
    let position = file.and_then(|path| LdbReader::immutable(&path).position().ok());
    position.is_some_and(|position| position.seq <= manifest.position().seq)
}
