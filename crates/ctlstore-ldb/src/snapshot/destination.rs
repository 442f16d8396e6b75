//! A place where snapshots go, of whatever kind. What stands there is at each moment
//! whole: the data goes to a name of its own first, then to the plain key, then the
//! manifest names it; only then older data is removed.

use std::path::{Path, PathBuf};

use ctlstore_core::disk::{self, LockError, ProcessLock, beside, directory_of};
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::{Abort, failpoint};

use super::encode::{self, Stored};
use super::error::SnapshotError;
use super::manifest::{Compression, Manifest};
use super::progress::Progress;
use super::publish_decision::{Published, UnknownSnapshot};
use super::shared_copy::{SharedCopy, clear};
use super::store::{Condition, Store, StoreError, StoreOptions};
use super::take::Snapshot;
use super::{StoreUrl, copy_object, gc, names, priority};

/// How often a manifest that others write at the same time is tried again.
const MANIFEST_TRIES: usize = 5;
/// More than a lock file of ours has.
const MAX_LOCK_BYTES: u64 = 64;

/// What a destination is told.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: StoreUrl,
    /// How many snapshots stay under timestamped names beside the newest.
    pub keep: usize,
    pub options: StoreOptions,
}

impl Target {
    /// Keeps none besides the newest.
    pub fn new(url: StoreUrl) -> Self {
        Self { url, keep: 0, options: StoreOptions::default() }
    }
}

/// A snapshot that a destination took.
#[derive(Debug)]
pub struct Delivered {
    pub position: LdbPosition,
    /// Of the uncompressed file.
    pub bytes: u64,
    /// It is published, but what comes after was not done.
    pub trouble: Option<SnapshotError>,
}

/// One destination; a file is held by this process as long as this value lives.
#[derive(Debug)]
pub(super) struct Destination {
    store: Store,
    compression: Compression,
    keep: usize,
    /// What it had last besides snapshots of ours.
    unknown: Option<UnknownSnapshot>,
    /// One process at a time writes files, so that nobody else can publish between the
    /// look at what is there and the rename. Object stores have conditions instead.
    _lock: Option<ProcessLock>,
}

impl Destination {
    /// Takes hold of the place: a file's directory is made and locked, and what a crash
    /// has left unfinished is removed.
    ///
    /// # Errors
    /// [`SnapshotError::InUse`] while another process holds it.
    pub(super) fn open(target: &Target) -> Result<Self, SnapshotError> {
        let store = Store::with_options(&target.url, &target.options)?;
        if let Some(path) = store.path(store.name()) {
            // Before anything is written beside it.
            Published::look(&store, &Abort::default())?.refuse_foreign(&store)?;
            refuse_foreign_lock(&store, &path)?;
        }
        let lock = store.path(store.name()).map(|path| hold(&path)).transpose()?;
        Ok(Self { compression: Compression::of(store.name()), store, keep: target.keep, unknown: None, _lock: lock })
    }

    /// Whether someone has removed the directory that a file was to be in; it is made
    /// where a destination is opened.
    pub(super) fn is_gone(&self) -> bool {
        self.store.path(self.store.name()).is_some_and(|path| !directory_of(&path).is_dir())
    }

    /// Publishes the round's snapshot if it is news here; `position` is the LDB's. At seq 0
    /// there is none to publish, which is an error where there was one.
    ///
    /// # Errors
    /// What is there stays.
    pub(super) fn offer(
        &mut self,
        position: &LdbPosition,
        copy: &SharedCopy,
        abort: &Abort,
    ) -> Result<Option<Delivered>, SnapshotError> {
        let published = self.look(copy, abort)?;
        if position.seq == Seq::ZERO {
            return self.refuse_nothing(&published);
        }
        if !published.wants(&self.store, position)? {
            self.repair(&published, abort)?;
            return Ok(None);
        }
        let near = self.staging().filter(|path| copy.is_near(path));
        let staged = copy.get(near.as_deref(), abort)?;
        // Compressing and sending may take their time.
        priority::lower();
        // Looked at again: the copy took its time, and is newer than the position.
        let published = self.look(copy, abort)?;
        if !published.wants(&self.store, &staged.snapshot.position)? {
            return Ok(None);
        }
        self.publish(&staged.snapshot, published, abort, copy.progress())
    }

    fn look(&mut self, copy: &SharedCopy, abort: &Abort) -> Result<Published, SnapshotError> {
        let mut published = Published::look(&self.store, abort)?;
        published.refuse_foreign(&self.store)?;
        published.record_unknown(&self.store, &mut self.unknown, || copy.scratch(), abort)?;
        published.refuse_foreign(&self.store)?;
        Ok(published)
    }

    /// An LDB with nothing in it has nothing to publish, which is no news where nothing was.
    fn refuse_nothing(&self, published: &Published) -> Result<Option<Delivered>, SnapshotError> {
        let Some(position) = published.position.as_ref().filter(|position| position.seq > Seq::ZERO) else {
            return Ok(None);
        };
        let (destination, taken) = (self.store.url().to_string(), Seq::ZERO);
        Err(match published.may_have_rows() {
            true => SnapshotError::Emptied { destination, taken },
            false => SnapshotError::Older { destination, published: position.seq, taken },
        })
    }

    /// Where a copy can be made that is then taken without being copied again.
    fn staging(&self) -> Option<PathBuf> {
        self.store.path(self.store.name()).filter(|_| self.compression == Compression::None)
    }

    fn publish(
        &self,
        snapshot: &Snapshot,
        published: Published,
        abort: &Abort,
        progress: &dyn Progress,
    ) -> Result<Option<Delivered>, SnapshotError> {
        let rows = |tables: &[super::TableDigest]| tables.iter().any(|table| table.rows > 0);
        if published.may_have_rows() && !rows(&snapshot.tables) {
            let destination = self.store.url().to_string();
            return Err(SnapshotError::Emptied { destination, taken: snapshot.position.seq });
        }
        let key = self.store.name();
        let name = names::immutable(key, snapshot.position.seq, &snapshot.sha256);
        let stored = self.put_data(snapshot, &name, abort, progress)?;
        let manifest = Manifest::new(snapshot, name, self.compression, stored.bytes, stored.sha256);
        let before = published.manifest.as_ref().map(|before| before.key.clone());
        let named = self.name(snapshot, &manifest, published, abort);
        if named.is_err() {
            self.take_back(&manifest.key, abort);
        }
        if !named? {
            return Ok(None);
        }
        failpoint::hit("snapshot-after-manifest");
        let swept = gc::keep(&self.store, &manifest, snapshot.taken_at, self.keep, abort)
            .and_then(|()| gc::remove_old(&self.store, &manifest, before.as_deref(), abort));
        let trouble = swept.err().map(SnapshotError::from);
        Ok(Some(Delivered { position: snapshot.position.clone(), bytes: snapshot.bytes, trouble }))
    }

    /// Makes data that is there already what the plain key and the manifest lead to.
    /// `false` as for [`Self::put_manifest`].
    fn name(
        &self,
        snapshot: &Snapshot,
        manifest: &Manifest,
        published: Published,
        abort: &Abort,
    ) -> Result<bool, SnapshotError> {
        failpoint::hit("snapshot-before-rename");
        self.put_plain(snapshot, &manifest.key, abort)?;
        failpoint::hit("snapshot-after-rename");
        self.put_manifest(manifest, published, abort)
    }

    /// Removes data that no manifest came to name, so that failing again and again fills
    /// nothing up. What can't be removed now goes with the next snapshot that succeeds.
    fn take_back(&self, key: &str, abort: &Abort) {
        let is_named = |published: Published| published.manifest.is_some_and(|manifest| manifest.key == key);
        // A manifest whose answer was lost may name it after all.
        if Published::look(&self.store, abort).is_ok_and(|published| !is_named(published)) {
            let _ = self.store.delete(key, abort);
        }
    }

    fn put_data(
        &self,
        snapshot: &Snapshot,
        name: &str,
        abort: &Abort,
        progress: &dyn Progress,
    ) -> Result<Stored, SnapshotError> {
        if let Some(path) = self.staging()
            && self.link(&snapshot.path, &path, name).is_ok()
        {
            return Ok(Stored { bytes: snapshot.bytes, sha256: snapshot.sha256.clone() });
        }
        encode::store(snapshot, self.compression, &self.store, name, abort, progress)
    }

    /// The staged file itself under another name, on the same filesystem.
    fn link(&self, staged: &Path, path: &Path, name: &str) -> Result<(), SnapshotError> {
        let link = beside(path, &format!(".link{}", names::UNFINISHED));
        std::fs::hard_link(staged, &link).map_err(SnapshotError::io("link", staged))?;
        Ok(self.store.adopt(&link, name)?)
    }

    fn put_plain(&self, snapshot: &Snapshot, name: &str, abort: &Abort) -> Result<(), SnapshotError> {
        self.clear_wal()?;
        match self.store.copy(name, self.store.name(), abort) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error, StoreError::Aborted | StoreError::DiskFull(_)) => Err(error.into()),
            // Above some size, or without a right of its own, stores copy nothing; and a
            // copy that takes them long says nothing until its end.
            Err(_) => encode::store(snapshot, self.compression, &self.store, self.store.name(), abort, &()).map(|_| ()),
        }
    }

    /// What SQLite may have left beside the old file, opened by someone without
    /// `immutable`, would be taken for a part of the new one.
    fn clear_wal(&self) -> Result<(), SnapshotError> {
        for suffix in ["-wal", "-shm"] {
            if self.store.path(self.store.name()).is_some() {
                self.store.delete(&format!("{}{suffix}", self.store.name()), &Abort::default())?;
            }
        }
        Ok(())
    }

    /// Makes the manifest name the new data. `false` where another publisher was faster
    /// with a snapshot of the same seq, which is as good.
    ///
    /// # Errors
    /// [`SnapshotError::Older`] where it was faster with a newer one.
    fn put_manifest(
        &self,
        manifest: &Manifest,
        mut published: Published,
        abort: &Abort,
    ) -> Result<bool, SnapshotError> {
        let destination = || self.store.url().to_string();
        let json =
            manifest.to_json().map_err(|source| SnapshotError::Manifest { destination: destination(), source })?;
        let name = Manifest::name_of(self.store.name());
        for _ in 0..MANIFEST_TRIES {
            match self.store.put(&name, json.clone(), &published.condition(), abort) {
                Ok(()) => return Ok(true),
                Err(StoreError::Unsupported { .. }) => {
                    self.store.put(&name, json, &Condition::None, abort)?;
                    return Ok(true);
                }
                Err(StoreError::Changed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            published = Published::look(&self.store, abort)?;
            if published.manifest.as_ref().is_some_and(|theirs| theirs == manifest) {
                // Our own, whose answer was lost.
                return Ok(true);
            }
            let wanted = published.wants(&self.store, &manifest.position());
            if let Some(theirs) =
                published.manifest.as_ref().filter(|_| published.is_whole && !matches!(wanted, Ok(true)))
            {
                self.give_way(theirs, manifest, abort)?;
                return wanted;
            }
        }
        Err(StoreError::Changed { place: self.store.place(&name) }.into())
    }

    /// Undoes what lies over another publisher's snapshot.
    fn give_way(&self, theirs: &Manifest, ours: &Manifest, abort: &Abort) -> Result<(), SnapshotError> {
        copy_object::copy(&self.store, theirs, self.store.name(), abort)?;
        if theirs.key != ours.key {
            self.store.delete(&ours.key, abort)?;
        }
        Ok(())
    }

    /// Puts the plain key right where someone has removed or overwritten it.
    fn repair(&self, published: &Published, abort: &Abort) -> Result<(), SnapshotError> {
        match &published.manifest {
            Some(manifest) if published.is_whole && !published.is_plain_right => {
                self.clear_wal()?;
                Ok(copy_object::copy(&self.store, manifest, self.store.name(), abort)?)
            }
            _ => Ok(()),
        }
    }
}

/// A lock file of ours holds a process's number; one of someone else would be written over.
fn refuse_foreign_lock(store: &Store, path: &Path) -> Result<(), SnapshotError> {
    let lock = beside(path, ".lock");
    let Ok(metadata) = lock.symlink_metadata() else { return Ok(()) };
    let is_ours = |text: &[u8]| text.is_empty() || text.starts_with(b"pid ");
    let is_short = metadata.is_file() && metadata.len() <= MAX_LOCK_BYTES;
    match is_short && std::fs::read(&lock).is_ok_and(|text| is_ours(&text)) {
        true => Ok(()),
        false => {
            let what = format!("{} is no lock of ours", lock.display());
            Err(SnapshotError::Foreign { destination: store.url().to_string(), what })
        }
    }
}

fn hold(path: &Path) -> Result<ProcessLock, SnapshotError> {
    let directory = directory_of(path);
    disk::create_directory(directory).map_err(SnapshotError::io("make", directory))?;
    let lock = ProcessLock::take(path).map_err(|error| match error {
        LockError::Held { holder } => SnapshotError::InUse { path: path.to_owned(), holder },
        LockError::Io(source) => SnapshotError::io("lock", path)(source),
    })?;
    clear(path)?;
    Ok(lock)
}
