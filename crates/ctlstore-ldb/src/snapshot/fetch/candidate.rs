//! Finds what is published at a place without downloading it: by the manifest, and by what
//! the store says of an object. Entry points: [`published_manifest`], [`find`], [`still_has`].

use ctlstore_core::Abort;

use crate::snapshot::manifest::{FORMAT_VERSION, Manifest, ManifestError};
use crate::snapshot::snapshot_url::SnapshotUrl;
use crate::snapshot::store::{ObjectInfo, Store, StoreError};

use super::error::{BadSnapshot, FetchError};
use super::overwritten;

/// A snapshot that is there, as far as the store can say without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// The object that the manifest names is there, in the size that the manifest says.
    Manifest(Box<Manifest>),
    /// An object without a manifest, or one that was written after its manifest. The text tells it from later
    /// ones: its etag, or its size and time. If there is a manifest, the manifest's hash is added.
    Object(String),
}

/// The manifest that is published at `url`; `None` if there is none. Reads nothing else.
///
/// # Errors
/// Those of the store, and a manifest that can't be read.
pub fn published_manifest(url: &SnapshotUrl, abort: &Abort) -> Result<Option<Manifest>, FetchError> {
    let store = Store::open(url)?;
    Ok(read_manifest(&store, store.name(), abort)?.map(|(manifest, _)| manifest))
}

/// The snapshot that is published at `url`. `None` if the store does not say, or if the object is missing
/// or has another size than its manifest says.
///
/// # Errors
/// Those of the store, and a manifest that can't be read.
pub fn find(url: &SnapshotUrl, abort: &Abort) -> Result<Option<Candidate>, FetchError> {
    let store = Store::open(url)?;
    let Some((manifest, written)) = find_manifest(&store, store.name(), abort)? else {
        let info = head(&store, store.name(), abort)?;
        return Ok(info.and_then(|info| store.identity(&info)).map(Candidate::Object));
    };
    if let Some(plain) = overwritten::newer_plain(&store, &manifest, &written, abort)? {
        // Only a download tells which of the two counts.
        let plain = store.identity(&plain).unwrap_or_default();
        return Ok(Some(Candidate::Object(format!("{plain} or {}", manifest.stored_sha256))));
    }
    let named = head(&store, &manifest.key, abort)?;
    // A host takes the plain key if the object that the manifest names is gone.
    let object = named.map_or_else(|| head(&store, store.name(), abort), |info| Ok(Some(info)))?;
    let is_whole = object.is_some_and(|info| info.size == Some(manifest.stored_bytes));
    Ok(is_whole.then(|| Candidate::Manifest(Box::new(manifest))))
}

/// Whether the snapshot that was found at `url` as `known` is still there. It is if it is still
/// published, or if a later one of its ledger is and the object of `known` has stayed.
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
    // The plain key always holds the snapshot that was published last.
    if now.ledger_id != known.ledger_id || now.seq < known.seq || known.key == store.name() {
        return Ok(false);
    }
    let object = head(&store, &known.key, abort)?;
    Ok(object.is_some_and(|info| info.size == Some(known.stored_bytes)))
}

/// As [`read_manifest`]. A store that denies the request counts as one without a manifest,
/// because stores that hide their objects deny requests for missing ones too.
pub(super) fn find_manifest(
    store: &Store,
    name: &str,
    abort: &Abort,
) -> Result<Option<(Manifest, ObjectInfo)>, FetchError> {
    match read_manifest(store, name, abort) {
        Err(FetchError::Refused(StoreError::Denied { .. })) => Ok(None),
        read => read,
    }
}

/// The manifest of the object `name`, and the store's facts about the manifest; `None` if there is none.
fn read_manifest(store: &Store, name: &str, abort: &Abort) -> Result<Option<(Manifest, ObjectInfo)>, FetchError> {
    let (json, info) = match store.read(&Manifest::name_of(name), Manifest::MAX_BYTES, abort) {
        Ok(read) => read,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let place = || if name == store.name() { store.url().to_string() } else { store.place(name) };
    Manifest::parse(&json).map(|manifest| Some((manifest, info))).map_err(|error| {
        FetchError::bad(&place())(match error {
            ManifestError::Newer(found) => {
                BadSnapshot::NewerFormat { what: "manifest", found: found.to_string(), known: FORMAT_VERSION }
            }
            other => BadSnapshot::Mismatch(other.to_string()),
        })
    })
}

fn head(store: &Store, name: &str, abort: &Abort) -> Result<Option<ObjectInfo>, FetchError> {
    match store.head(name, abort) {
        Ok(info) => Ok(Some(info)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
