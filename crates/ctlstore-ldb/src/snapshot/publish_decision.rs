//! Whether a snapshot may go to a destination, by what stands there, as cheaply as can be told: the manifest is read, the
//! snapshot itself is only looked at. What no manifest speaks of, such as a snapshot of the
//! original, is downloaded once, since hosts may have started from it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use ctlstore_core::Abort;
use ctlstore_core::disk::{IMMUTABLE, beside, file_uri};
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_reader::read::LdbReader;

use super::error::SnapshotError;
use super::fetch::inspect_plain;
use super::gc;
use super::manifest::{Compression, Manifest, ManifestError};
use super::names;
use super::store::{Condition, ObjectInfo, Store, StoreError};
use super::take::any_rows;

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
    /// Whether there are rows in it; `None` where that can't be told.
    has_rows: Option<bool>,
    /// What is at the plain key, where it is not what the manifest speaks of.
    unknown: Option<ObjectInfo>,
    /// What is there that nobody has published, where it is known to be that.
    foreign: Option<String>,
}

/// What an object that no manifest speaks of has turned out to be.
#[derive(Debug)]
pub(super) struct UnknownSnapshot {
    /// What tells it from others; without it, it is looked at each time.
    identity: Option<String>,
    /// Whose state it is, and whether there are rows in it; `None` where no host could start from it.
    found: Option<(LdbPosition, bool)>,
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
                    // Whatever it is, no reader can use it: it is replaced, by nothing older.
                    Err(_) => {}
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let plain = found(store.head(key, abort))?;
        if let Some(manifest) = &this.manifest {
            let size = |info: &ObjectInfo| info.size == Some(manifest.stored_bytes);
            // Another object of the same size is not copied to where hosts look.
            let is_ours = manifest.key == names::immutable(key, Seq(manifest.seq), &manifest.sha256);
            this.is_whole = is_ours && found(store.head(&manifest.key, abort))?.is_some_and(|info| size(&info));
            let sum = |info: &ObjectInfo| info.checksum.as_ref().is_none_or(|sum| *sum == manifest.sha1);
            this.is_plain_right = plain.as_ref().is_some_and(|info| size(info) && sum(info));
        }
        match &this.manifest {
            Some(manifest) => {
                (this.position, this.has_rows) = (Some(manifest.position()), Some(manifest.has_rows()));
            }
            None => this.position = newest_name(store, abort)?,
        }
        let has_published = this.position.is_some();
        if let (Some(path), Some(_)) = (plain_file(store), &plain) {
            this.see_plain_file(&path);
        } else if !this.is_plain_right {
            this.unknown = plain;
        }
        if !has_published {
            this.foreign = this.what_is_foreign(store);
        }
        Ok(this)
    }

    /// What stands at our names though no snapshot was published there: it is someone else's.
    fn what_is_foreign(&self, store: &Store) -> Option<String> {
        let key = store.name();
        if let Some(path) = store.path(key) {
            let exists = |path: &Path| path.symlink_metadata().is_ok();
            if path.is_symlink() {
                return Some(format!("{} is a link, as a node's ldb is", path.display()));
            }
            // With a WAL it is a database in use, and what is there without one is a part of another.
            if let Some(wal) = ["-wal", "-shm"].map(|suffix| beside(&path, suffix)).iter().find(|wal| exists(wal)) {
                return Some(format!("{} belongs to a database in use", wal.display()));
            }
            let is_snapshot = self.position.is_some() || self.unknown.is_some();
            if exists(&path) && !is_snapshot {
                return Some(format!("{} is no snapshot", path.display()));
            }
        }
        // Beside a snapshot, such as the original's, or one that is still to be looked at, it is
        // a manifest that was damaged.
        let is_alone = self.position.is_none() && self.unknown.is_none();
        (self.etag.is_some() && is_alone).then(|| format!("{} is no manifest", store.place(&Manifest::name_of(key))))
    }

    /// # Errors
    /// [`SnapshotError::Foreign`] where a snapshot would take the place of something that
    /// is none.
    pub(super) fn refuse_foreign(&self, store: &Store) -> Result<(), SnapshotError> {
        match &self.foreign {
            Some(what) => Err(SnapshotError::Foreign { destination: store.url().to_string(), what: what.clone() }),
            None => Ok(()),
        }
    }

    /// A plain file tells itself where it stands: left by the original, by an older
    /// version of ours, or by a kill before the manifest was written.
    fn see_plain_file(&mut self, path: &Path) {
        let Ok(position) = LdbReader::immutable(path).position() else { return };
        if self.position.as_ref().is_some_and(|known| known.seq != position.seq) {
            self.is_plain_right = false;
        }
        self.raise(position, || has_rows(path));
    }

    /// Looks into what no manifest speaks of, unless it is the one that is `known` already.
    /// Needs room at `scratch` meanwhile.
    ///
    /// # Errors
    /// Those of the store, and [`SnapshotError::Unknown`] for one of a newer version than ours.
    pub(super) fn record_unknown(
        &mut self,
        store: &Store,
        known: &mut Option<UnknownSnapshot>,
        scratch: impl FnOnce() -> Result<PathBuf, SnapshotError>,
        abort: &Abort,
    ) -> Result<(), SnapshotError> {
        let Some(info) = &self.unknown else { return Ok(()) };
        let identity = store.identity(info);
        let unknown = match known.take().filter(|known| known.identity.is_some() && known.identity == identity) {
            Some(known) => known,
            None => UnknownSnapshot { identity, found: inspect_plain(store, &scratch()?, abort)? },
        };
        let has_checksum = info.checksum.is_some();
        match known.insert(unknown).found.clone() {
            Some((position, has_rows)) => self.raise(position, || Some(has_rows)),
            // The original's uploads have a checksum; where that is, it was one once.
            None if self.position.is_none() && !has_checksum => {
                self.foreign = Some(format!("{} is no snapshot", store.place(store.name())));
            }
            None => {}
        }
        Ok(())
    }

    /// Hosts may have started from this, too.
    fn raise(&mut self, position: LdbPosition, has_rows: impl FnOnce() -> Option<bool>) {
        let is_more = |known: &LdbPosition| match &self.manifest {
            Some(_) => known.seq < position.seq,
            // A name tells of the seq alone.
            None => known.seq <= position.seq,
        };
        if self.position.as_ref().is_none_or(is_more) {
            (self.position, self.has_rows, self.is_whole) = (Some(position), has_rows(), false);
        }
    }

    /// Whether hosts have got rows from here, as far as can be told; where it can't, they may have.
    pub(super) fn may_have_rows(&self) -> bool {
        self.has_rows.unwrap_or(self.position.is_some())
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

/// Where objects are plain files that are not compressed, SQLite reads them in place.
fn plain_file(store: &Store) -> Option<PathBuf> {
    store.path(store.name()).filter(|_| Compression::of(store.name()) == Compression::None)
}

/// The highest seq that an immutable name tells of: of what a manifest that is lost or broken
/// named, or of what a publisher that was killed was about to publish.
fn newest_name(store: &Store, abort: &Abort) -> Result<Option<LdbPosition>, SnapshotError> {
    let key = store.name();
    let listed = match store.list(&format!("{key}."), abort) {
        Err(error) if error.is_not_found() => return Ok(None),
        listed => listed?,
    };
    let mut named: Vec<_> =
        listed.iter().filter_map(|info| Some((names::seq_of(key, &info.name)?, &info.name))).collect();
    named.sort_unstable_by(|one, other| other.cmp(one));
    // A file of somebody else's can have such a name too.
    let newest = named.into_iter().find(|(seq, name)| gc::is_data(store, name, *seq)).map(|(seq, _)| seq);
    Ok(newest.map(|seq| LdbPosition { seq, leader_ts: None, ledger_id: None }))
}

fn has_rows(path: &Path) -> Option<bool> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(file_uri(path, IMMUTABLE), flags).ok()?;
    any_rows(&connection).ok()
}
