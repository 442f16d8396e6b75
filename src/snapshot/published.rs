//! What a destination holds, as cheaply as can be told: the manifest is read, the
//! snapshot itself is only looked at.

use crate::ldb::read::{LdbReader, ReadError};
use crate::ledger::LdbPosition;

use super::error::SnapshotError;
use super::manifest::{Manifest, ManifestError};
use super::store::{Condition, ObjectInfo, Store, StoreError};
use super::take::Abort;

/// What a destination holds now.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    /// Whose state it is, as far as can be told without reading all of it.
    pub(super) position: Option<LdbPosition>,
    pub(super) manifest: Option<Manifest>,
    /// The manifest's, good or bad; `None` where there is none.
    pub(super) etag: Option<String>,
    /// The object that the manifest names is there.
    pub(super) is_whole: bool,
    /// The object at the plain key is the same one.
    pub(super) is_plain_right: bool,
}

impl Published {
    /// # Errors
    /// Those of the store, and a manifest of a newer version than ours.
    pub(super) fn look(store: &Store, abort: &Abort) -> Result<Self, SnapshotError> {
        let key = store.name();
        let mut this = Self::default();
        match store.read(&Manifest::name_of(key), Manifest::MAX_BYTES, abort) {
            Ok((bytes, info)) => {
                this.etag = info.etag;
                match Manifest::parse(&bytes) {
                    Ok(manifest) => this.manifest = Some(manifest),
                    Err(source @ ManifestError::Newer(_)) => {
                        return Err(SnapshotError::Manifest { destination: store.url().to_string(), source });
                    }
                    // Whatever it is, no reader can use it: it is replaced.
                    Err(_) => {}
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let plain = found(store.head(key, abort))?;
        if let Some(manifest) = &this.manifest {
            let size = |info: &ObjectInfo| info.size == manifest.stored_bytes;
            this.is_whole = found(store.head(&manifest.key, abort))?.is_some_and(|info| size(&info));
            let sum = |info: &ObjectInfo| info.checksum.as_ref().is_none_or(|sum| *sum == manifest.sha1);
            this.is_plain_right = plain.as_ref().is_some_and(|info| size(info) && sum(info));
        }
        this.position = this.manifest.as_ref().map(Manifest::position);
        if let (Some(path), Some(_)) = (store.path(key), &plain) {
            this.see_plain_file(LdbReader::immutable(path).position());
        }
        Ok(this)
    }

    /// A plain file tells itself where it stands: left by the original, by an older
    /// version of ours, or by a kill before the manifest was written.
    fn see_plain_file(&mut self, position: Result<LdbPosition, ReadError>) {
        let Ok(position) = position else { return };
        if self.position.as_ref().is_some_and(|known| known.seq != position.seq) {
            self.is_plain_right = false;
        }
        if self.position.as_ref().is_none_or(|known| known.seq < position.seq) {
            self.position = Some(position);
            self.is_whole = false;
        }
    }

    /// Whether a snapshot of this position is news.
    ///
    /// # Errors
    /// [`SnapshotError::Older`] and [`SnapshotError::OtherLedger`] where it would take
    /// hosts back or elsewhere.
    pub(super) fn wants(&self, store: &Store, taken: &LdbPosition) -> Result<bool, SnapshotError> {
        let Some(published) = &self.position else { return Ok(true) };
        let destination = || store.url().to_string();
        if let (Some(published), Some(taken)) = (&published.ledger_id, &taken.ledger_id)
            && published != taken
        {
            let (published, taken) = (published.clone(), taken.clone());
            return Err(SnapshotError::OtherLedger { destination: destination(), published, taken });
        }
        if taken.seq < published.seq {
            return Err(SnapshotError::Older {
                destination: destination(),
                published: published.seq,
                taken: taken.seq,
            });
        }
        Ok(published.seq < taken.seq || !self.is_whole)
    }

    /// For the manifest that replaces this one.
    pub(super) fn condition(&self) -> Condition {
        self.etag.clone().map_or(Condition::Missing, Condition::Is)
    }
}

fn found(looked: Result<ObjectInfo, StoreError>) -> Result<Option<ObjectInfo>, SnapshotError> {
    match looked {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
