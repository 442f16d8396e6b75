//! Finds out what a destination has, as cheaply as possible. It reads the manifest and asks
//! the store for sizes. An object without a manifest, such as a snapshot of the original, is
//! downloaded once, because hosts may have started from it. Entry point:
//! [`DestinationState::read`]. Whether a snapshot may follow is `publish_decision`'s to say.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use ctlstore_core::Abort;
use ctlstore_core::disk::{IMMUTABLE, beside, file_uri};
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_reader::read::LdbReader;

use super::digest::any_rows;
use super::error::SnapshotError;
use super::fetch::check_plain_object;
use super::gc;
use super::manifest::{Compression, Manifest, ManifestError};
use super::names;
use super::store::{Condition, ObjectInfo, Store, StoreError};

/// The present content of a destination.
#[derive(Debug, Clone, Default)]
pub(super) struct DestinationState {
    /// The position of the published snapshot, as far as it is known without reading all of it.
    pub(super) position: Option<LdbPosition>,
    pub(super) manifest: Option<Manifest>,
    /// The etag of the manifest, good or bad; `None` if there is no manifest.
    pub(super) etag: Option<String>,
    /// The object that the manifest names is there.
    pub(super) is_whole: bool,
    /// The object at the plain key is the same one.
    pub(super) is_plain_right: bool,
    /// Whether the snapshot has rows; `None` if that is not known.
    has_rows: Option<bool>,
    /// The object at the plain key, if it is not the one that the manifest describes.
    unknown: Option<ObjectInfo>,
    /// A description of what is there, if it is known to be no snapshot.
    foreign: Option<String>,
}

/// The result of checking an object without a manifest.
#[derive(Debug)]
pub(super) struct UnknownSnapshot {
    /// Tells the object from later ones. Without an identity the object is downloaded each time.
    identity: Option<String>,
    /// Its position, and whether it has rows; `None` if no host could start from it.
    found: Option<(LdbPosition, bool)>,
}

impl DestinationState {
    /// # Errors
    /// Those of the store, and a manifest of a newer version than ours.
    pub(super) fn read(store: &Store, abort: &Abort) -> Result<Self, SnapshotError> {
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
                    // No reader can use a broken manifest. It may be replaced, but by nothing older.
                    Err(_) => {}
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let plain = if_there(store.head(key, abort))?;
        if let Some(manifest) = &this.manifest {
            let size = |info: &ObjectInfo| info.size == Some(manifest.stored_bytes);
            // The size alone is no proof, so an object of any other name is not copied to the plain key.
            let is_ours = manifest.key == names::immutable(key, Seq(manifest.seq), &manifest.sha256);
            let named = if_there(store.head(&manifest.key, abort))?;
            this.is_whole = is_ours && named.as_ref().is_some_and(size);
            let sum = |info: &ObjectInfo| info.checksum.as_ref().is_none_or(|sum| *sum == manifest.sha1);
            // Earlier versions made the plain key a second name of the same file, so a program that writes to one
            // writes to both.
            let is_same_file = |info: &ObjectInfo| {
                store.path(key).is_some() && named.as_ref().is_some_and(|named| named.etag == info.etag)
            };
            this.is_plain_right = plain.as_ref().is_some_and(|info| size(info) && sum(info) && !is_same_file(info));
        }
        match &this.manifest {
            Some(manifest) => {
                this.position = Some(manifest.position());
                this.has_rows = Some(manifest.has_rows());
            }
            None => this.position = newest_name(store, abort)?,
        }
        let has_published = this.position.is_some();
        if let (Some(path), Some(_)) = (plain_file(store), &plain) {
            this.read_plain_file(&path);
        } else if !this.is_plain_right {
            this.unknown = plain;
        }
        if !has_published {
            this.foreign = this.find_foreign(store);
        }
        Ok(this)
    }

    /// Describes what is at our names though no snapshot was published there.
    fn find_foreign(&self, store: &Store) -> Option<String> {
        let key = store.name();
        if let Some(path) = store.path(key) {
            let exists = |path: &Path| path.symlink_metadata().is_ok();
            if path.is_symlink() {
                return Some(format!("{} is a link, as a node's ldb is", path.display()));
            }
            // A database with a WAL is in use. A WAL without a database is a part of another one.
            if let Some(wal) = ["-wal", "-shm"].map(|suffix| beside(&path, suffix)).iter().find(|wal| exists(wal)) {
                return Some(format!("{} belongs to a database in use", wal.display()));
            }
            let is_snapshot = self.position.is_some() || self.unknown.is_some();
            if exists(&path) && !is_snapshot {
                return Some(format!("{} is no snapshot", path.display()));
            }
        }
        // Beside a snapshot, or beside an object that was not downloaded yet, it is a damaged manifest.
        let is_alone = self.position.is_none() && self.unknown.is_none();
        (self.etag.is_some() && is_alone).then(|| format!("{} is no manifest", store.place(&Manifest::name_of(key))))
    }

    /// # Errors
    /// [`SnapshotError::Foreign`] if a snapshot would take the place of something else.
    pub(super) fn refuse_foreign(&self, store: &Store) -> Result<(), SnapshotError> {
        match &self.foreign {
            Some(what) => Err(SnapshotError::Foreign { destination: store.url().to_string(), what: what.clone() }),
            None => Ok(()),
        }
    }

    /// Reads the position of a plain file in the file itself. The original, an older version of
    /// ours, or a process that was killed before it wrote the manifest may have left the file.
    fn read_plain_file(&mut self, path: &Path) {
        let Ok(position) = LdbReader::immutable(path).position() else { return };
        if self.position.as_ref().is_some_and(|known| known.seq != position.seq) {
            self.is_plain_right = false;
        }
        self.raise(position, || has_rows(path));
    }

    /// Downloads the object that no manifest describes, unless it is the `known` one. Needs
    /// room at `scratch` meanwhile.
    ///
    /// # Errors
    /// Those of the store, and [`SnapshotError::Unknown`] for a snapshot of a newer version than ours.
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
            None => UnknownSnapshot { identity, found: check_plain_object(store, &scratch()?, abort)? },
        };
        let has_checksum = info.checksum.is_some();
        match known.insert(unknown).found.clone() {
            Some((position, has_rows)) => self.raise(position, || Some(has_rows)),
            // The original's uploads have a checksum, so an object with one was a snapshot once.
            None if self.position.is_none() && !has_checksum => {
                self.foreign = Some(format!("{} is no snapshot", store.place(store.name())));
            }
            None => {}
        }
        Ok(())
    }

    /// Takes `position` over, if it is further on. Hosts may have started from that snapshot.
    fn raise(&mut self, position: LdbPosition, has_rows: impl FnOnce() -> Option<bool>) {
        let is_more = |known: &LdbPosition| match &self.manifest {
            Some(_) => known.seq < position.seq,
            // A name tells the seq and nothing else, so a file of the same seq tells more.
            None => known.seq <= position.seq,
        };
        if self.position.as_ref().is_none_or(is_more) {
            self.position = Some(position);
            self.has_rows = has_rows();
            self.is_whole = false;
        }
    }

    /// Whether hosts may have got rows from here. They may, unless it is known that there are none.
    pub(super) fn may_have_rows(&self) -> bool {
        self.has_rows.unwrap_or(self.position.is_some())
    }

    /// The condition for the manifest that replaces this one.
    pub(super) fn condition(&self) -> Condition {
        self.etag.clone().map_or(Condition::Missing, Condition::Is)
    }
}

fn if_there(head: Result<ObjectInfo, StoreError>) -> Result<Option<ObjectInfo>, SnapshotError> {
    match head {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The path of a snapshot that SQLite can read in place: a plain file that is not compressed.
fn plain_file(store: &Store) -> Option<PathBuf> {
    store.path(store.name()).filter(|_| Compression::of(store.name()) == Compression::None)
}

/// The highest seq in an immutable name. A manifest that is lost or broken named that data,
/// or a publisher that was killed was about to name it.
fn newest_name(store: &Store, abort: &Abort) -> Result<Option<LdbPosition>, SnapshotError> {
    let key = store.name();
    let listed = match store.list(&format!("{key}."), abort) {
        Err(error) if error.is_not_found() => return Ok(None),
        listed => listed?,
    };
    let mut named: Vec<_> =
        listed.iter().filter_map(|info| Some((names::seq_of(key, &info.name)?, &info.name))).collect();
    named.sort_unstable_by(|one, other| other.cmp(one));
    // Somebody else's file can have such a name too.
    let newest = named.into_iter().find(|(seq, name)| gc::is_data(store, name, *seq)).map(|(seq, _)| seq);
    Ok(newest.map(|seq| LdbPosition { seq, leader_ts: None, ledger_id: None }))
}

fn has_rows(path: &Path) -> Option<bool> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(file_uri(path, IMMUTABLE), flags).ok()?;
    any_rows(&connection).ok()
}
