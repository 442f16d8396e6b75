//! What stands at a place now, told by a manifest and by what a store says of an object
//! without giving it.

use crate::snapshot::SnapshotUrl;
use crate::snapshot::manifest::Manifest;
use crate::snapshot::store::{ObjectInfo, Store, StoreError};
use ctlstore_core::Abort;

use super::error::FetchError;
use super::read_manifest;

/// A snapshot that is there, as far as can be told without downloading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// The object that it names is there, in the size that it says.
    Manifest(Box<Manifest>),
    /// One without a manifest, by what tells it from the one that will take its place.
    Object(String),
}

/// What is at `url`; `None` where that can't be told, since it is not there, not whole,
/// or the store says nothing of it.
///
/// # Errors
/// Those of the store, and a manifest that can't be read.
pub fn find(url: &SnapshotUrl, abort: &Abort) -> Result<Option<Candidate>, FetchError> {
    let store = Store::open(url)?;
    let manifest = match read_manifest(&store, abort) {
        // Stores that hide what there is say so where nothing is.
        Err(FetchError::Refused(StoreError::Denied { .. })) => None,
        read => read?,
    };
    let Some(manifest) = manifest else {
        let info = head(&store, store.name(), abort)?;
        return Ok(info.and_then(|info| store.identity(&info)).map(Candidate::Object));
    };
    let named = head(&store, &manifest.key, abort)?;
    // The plain key is what a host takes where the other one is not kept.
    let object = named.map_or_else(|| head(&store, store.name(), abort), |info| Ok(Some(info)))?;
    let is_whole = object.is_some_and(|info| info.size == Some(manifest.stored_bytes));
    Ok(is_whole.then(|| Candidate::Manifest(Box::new(manifest))))
}

/// Whether what was found at `url` as `known` is there still: published, or beside a later
/// one of its ledger under the name that is its own.
///
/// # Errors
/// Those of [`find`].
pub fn still_has(url: &SnapshotUrl, known: &Candidate, abort: &Abort) -> Result<bool, FetchError> {
    let Some(now) = find(url, abort)? else { return Ok(false) };
    let (Candidate::Manifest(now), Candidate::Manifest(known)) = (&now, known) else { return Ok(now == *known) };
    if now == known {
        return Ok(true);
    }
    let store = Store::open(url)?;
    // Under the plain key there is always the one that was published last.
    if now.ledger_id != known.ledger_id || now.seq < known.seq || known.key == store.name() {
        return Ok(false);
    }
    let object = head(&store, &known.key, abort)?;
    Ok(object.is_some_and(|info| info.size == Some(known.stored_bytes)))
}

fn head(store: &Store, name: &str, abort: &Abort) -> Result<Option<ObjectInfo>, FetchError> {
    match store.head(name, abort) {
        Ok(info) => Ok(Some(info)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
