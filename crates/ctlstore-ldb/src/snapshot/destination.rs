//! Publishes snapshots at one destination, of any kind. Entry point: [`Destination::offer`]. The
//! destination is whole at each moment: the data goes to a name of its own, then to the plain
//! key, and then the manifest names it. Only then older data is removed. `publish_decision`
//! decides whether a snapshot may be published.

use std::path::{Path, PathBuf};

use ctlstore_core::disk::{self, LockError, ProcessLock, beside, directory_of};
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_core::{Abort, failpoint};

use super::destination_state::{DestinationState, UnknownSnapshot};
use super::encode::{self, StoredObject};
use super::error::SnapshotError;
use super::manifest::{Compression, Manifest};
use super::progress::SnapshotProgress;
use super::publish_decision::{is_news, refuse_emptied, refuse_empty_ldb};
use super::shared_copy::{SharedCopy, clear};
use super::snapshot_url::SnapshotUrl;
use super::store::{Condition, Store, StoreError, StoreOptions};
use super::take::Snapshot;
use super::{gc, names, priority};

/// How often the manifest is written anew while other publishers write it too.
const MANIFEST_TRIES: usize = 5;
/// More bytes than a lock file of ours has.
const MAX_LOCK_BYTES: u64 = 64;

/// Where to publish, and how.
#[derive(Debug, Clone)]
pub struct Target {
    pub url: SnapshotUrl,
    /// How many snapshots stay under timestamped names besides the newest.
    pub keep: usize,
    pub options: StoreOptions,
}

impl Target {
    /// Keeps no snapshots besides the newest.
    pub fn new(url: SnapshotUrl) -> Self {
        Self { url, keep: 0, options: StoreOptions::default() }
    }
}

/// A snapshot that a destination took.
#[derive(Debug)]
pub struct Delivered {
    pub position: LdbPosition,
    /// Of the uncompressed file.
    pub bytes: u64,
    /// Why the work after the publication failed. The snapshot is published.
    pub trouble: Option<SnapshotError>,
}

/// One destination. While this value lives, no other process can publish to the file.
#[derive(Debug)]
pub(super) struct Destination {
    store: Store,
    compression: Compression,
    keep: usize,
    /// The object without a manifest that was there last.
    unknown: Option<UnknownSnapshot>,
    /// Files have no conditions, so a lock keeps other processes from publishing between the
    /// reading of the state and the rename. Object stores have conditions.
    _lock: Option<ProcessLock>,
}

impl Destination {
    /// Claims the destination: makes and locks a file's directory, and removes what a crash
    /// left unfinished.
    ///
    /// # Errors
    /// [`SnapshotError::InUse`] while another process has claimed it.
    pub(super) fn open(target: &Target) -> Result<Self, SnapshotError> {
        let store = Store::with_options(&target.url, &target.options)?;
        if let Some(path) = store.path(store.name()) {
            // Checked before anything is written beside the file.
            DestinationState::read(&store, &Abort::default())?.refuse_foreign(&store)?;
            refuse_foreign_lock(&store, &path)?;
        }
        let lock = store.path(store.name()).map(|path| hold(&path)).transpose()?;
        Ok(Self { compression: Compression::of(store.name()), store, keep: target.keep, unknown: None, _lock: lock })
    }

    /// Whether the directory of a file was removed. Opening the destination again makes it.
    pub(super) fn is_gone(&self) -> bool {
        self.store.path(self.store.name()).is_some_and(|path| !directory_of(&path).is_dir())
    }

    /// Publishes the round's snapshot if it is news here. `position` is the LDB's; at seq 0
    /// there is nothing to publish, which is an error if the destination has rows.
    ///
    /// # Errors
    /// The destination keeps what it has.
    pub(super) fn offer(
        &mut self,
        position: &LdbPosition,
        copy: &SharedCopy,
        abort: &Abort,
    ) -> Result<Option<Delivered>, SnapshotError> {
        let state = self.read_state(copy, abort)?;
        if position.seq == Seq::ZERO {
            return refuse_empty_ldb(&state, self.store.url()).map(|()| None);
        }
        if !is_news(&state, self.store.url(), position)? {
            self.repair(&state, abort)?;
            return Ok(None);
        }
        let near = self.staging().filter(|path| copy.is_near(path));
        let staged = copy.get(near.as_deref(), abort)?;
        // No applier and no reader waits for compressing and sending.
        priority::lower();
        // Read again, because the copy took time and is newer than the position.
        let state = self.read_state(copy, abort)?;
        if !is_news(&state, self.store.url(), &staged.snapshot.position)? {
            return Ok(None);
        }
        self.publish(&staged.snapshot, state, abort, copy.progress())
    }

    fn read_state(&mut self, copy: &SharedCopy, abort: &Abort) -> Result<DestinationState, SnapshotError> {
        let mut state = DestinationState::read(&self.store, abort)?;
        state.refuse_foreign(&self.store)?;
        state.record_unknown(&self.store, &mut self.unknown, || copy.scratch(), abort)?;
        state.refuse_foreign(&self.store)?;
        Ok(state)
    }

    /// The file beside which a copy can be made so that publishing only links it.
    fn staging(&self) -> Option<PathBuf> {
        self.store.path(self.store.name()).filter(|_| self.compression == Compression::None)
    }

    fn publish(
        &self,
        snapshot: &Snapshot,
        state: DestinationState,
        abort: &Abort,
        progress: &dyn SnapshotProgress,
    ) -> Result<Option<Delivered>, SnapshotError> {
        refuse_emptied(&state, self.store.url(), snapshot.position.seq, &snapshot.tables)?;
        let key = self.store.name();
        let name = names::immutable(key, snapshot.position.seq, &snapshot.sha256);
        let stored = self.put_data(snapshot, &name, abort, progress)?;
        let manifest = stored.manifest(snapshot, name, self.compression);
        let before = state.manifest.as_ref().map(|before| before.key.clone());
        let named = self.name(snapshot, &manifest, state, abort);
        if named.is_err() {
            self.take_back(&manifest.key, abort);
        }
        if !named? {
            return Ok(None);
        }
        failpoint::hit("snapshot-after-manifest");
        let cleaned_up = gc::keep(&self.store, &manifest, snapshot.taken_at, self.keep, abort)
            .and_then(|()| gc::remove_old(&self.store, &manifest, before.as_deref(), abort));
        let trouble = cleaned_up.err().map(SnapshotError::from);
        Ok(Some(Delivered { position: snapshot.position.clone(), bytes: snapshot.bytes, trouble }))
    }

    /// Makes the plain key and the manifest lead to data that is there already. `false` as in
    /// [`Self::put_manifest`].
    fn name(
        &self,
        snapshot: &Snapshot,
        manifest: &Manifest,
        state: DestinationState,
        abort: &Abort,
    ) -> Result<bool, SnapshotError> {
        failpoint::hit("snapshot-before-rename");
        self.put_plain(snapshot, &manifest.key, abort)?;
        failpoint::hit("snapshot-after-rename");
        self.put_manifest(manifest, state, abort)
    }

    /// Removes data that no manifest came to name, so that repeated failures fill nothing up. If
    /// the removal fails, the next snapshot that succeeds removes the data.
    fn take_back(&self, key: &str, abort: &Abort) {
        let is_named = |state: DestinationState| state.manifest.is_some_and(|manifest| manifest.key == key);
        // The answer to our manifest may have been lost, and the manifest may be there.
        if DestinationState::read(&self.store, abort).is_ok_and(|state| !is_named(state)) {
            let _ = self.store.delete(key, abort);
        }
    }

    fn put_data(
        &self,
        snapshot: &Snapshot,
        name: &str,
        abort: &Abort,
        progress: &dyn SnapshotProgress,
    ) -> Result<StoredObject, SnapshotError> {
        if let Some(path) = self.staging()
            && self.link(&snapshot.path, &path, name).is_ok()
        {
            return Ok(StoredObject { bytes: snapshot.bytes, sha256: snapshot.sha256.clone() });
        }
        encode::store(snapshot, self.compression, &self.store, name, abort, progress)
    }

    /// Gives the staged file another name on the same filesystem.
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
            // Stores refuse to copy above some size, or without a right of its own. A store that
            // copies for long says nothing until its end.
            Err(_) => encode::store(snapshot, self.compression, &self.store, self.store.name(), abort, &()).map(|_| ()),
        }
    }

    /// Removes what SQLite may have left beside the old file, if a program opened it without
    /// `immutable`. SQLite would read it as a part of the new file.
    fn clear_wal(&self) -> Result<(), SnapshotError> {
        for suffix in ["-wal", "-shm"] {
            if self.store.path(self.store.name()).is_some() {
                self.store.delete(&format!("{}{suffix}", self.store.name()), &Abort::default())?;
            }
        }
        Ok(())
    }

    /// Makes the manifest name the new data. `false` if another publisher was faster with a
    /// snapshot of the same seq, which is as good.
    ///
    /// # Errors
    /// [`SnapshotError::Older`] if another publisher was faster with a newer snapshot.
    fn put_manifest(
        &self,
        manifest: &Manifest,
        mut state: DestinationState,
        abort: &Abort,
    ) -> Result<bool, SnapshotError> {
        let destination = || self.store.url().to_string();
        let json =
            manifest.to_json().map_err(|source| SnapshotError::Manifest { destination: destination(), source })?;
        let name = Manifest::name_of(self.store.name());
        for _ in 0..MANIFEST_TRIES {
            match self.store.put(&name, json.clone(), &state.condition(), abort) {
                Ok(()) => return Ok(true),
                Err(StoreError::Unsupported { .. }) => {
                    self.store.put(&name, json, &Condition::None, abort)?;
                    return Ok(true);
                }
                Err(StoreError::Changed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            state = DestinationState::read(&self.store, abort)?;
            if state.manifest.as_ref().is_some_and(|theirs| theirs == manifest) {
                // It is our own, whose answer was lost.
                return Ok(true);
            }
            let wanted = is_news(&state, self.store.url(), &manifest.position());
            let theirs = state.manifest.as_ref().filter(|_| state.is_whole && !matches!(wanted, Ok(true)));
            if let Some(theirs) = theirs {
                self.give_way(theirs, manifest, abort)?;
                return wanted;
            }
        }
        Err(StoreError::Changed { place: self.store.place(&name) }.into())
    }

    /// Puts another publisher's snapshot back to the plain key, and removes ours.
    fn give_way(&self, theirs: &Manifest, ours: &Manifest, abort: &Abort) -> Result<(), SnapshotError> {
        self.store.copy_by_any_way(&theirs.key, self.store.name(), &theirs.stored_object(), abort)?;
        if theirs.key != ours.key {
            self.store.delete(&ours.key, abort)?;
        }
        Ok(())
    }

    /// Puts the published snapshot back to the plain key, if that was removed or overwritten.
    fn repair(&self, state: &DestinationState, abort: &Abort) -> Result<(), SnapshotError> {
        match &state.manifest {
            Some(manifest) if state.is_whole && !state.is_plain_right => {
                self.clear_wal()?;
                let expected = manifest.stored_object();
                Ok(self.store.copy_by_any_way(&manifest.key, self.store.name(), &expected, abort)?)
            }
            _ => Ok(()),
        }
    }
}

/// Fails if the lock file was not made by us, because taking the lock would overwrite it.
fn refuse_foreign_lock(store: &Store, path: &Path) -> Result<(), SnapshotError> {
    let lock = beside(path, ".lock");
    let Ok(metadata) = lock.symlink_metadata() else { return Ok(()) };
    let is_ours = |text: &[u8]| text.is_empty() || text.starts_with(b"pid ");
    let is_short = metadata.is_file() && metadata.len() <= MAX_LOCK_BYTES;
    if is_short && std::fs::read(&lock).is_ok_and(|text| is_ours(&text)) {
        return Ok(());
    }
    let what = format!("{} is no lock of ours", lock.display());
    Err(SnapshotError::Foreign { destination: store.url().to_string(), what })
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
