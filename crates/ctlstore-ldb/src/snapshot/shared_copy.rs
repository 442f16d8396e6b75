//! The copy of the LDB that all destinations of a round share. The first destination that
//! wants it makes it ([`SharedCopy::get`]); it is removed when the last one drops it.

use std::fs;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ctlstore_core::Abort;
use ctlstore_core::disk::{LockError, ProcessLock, beside, directory_of};

use super::error::SnapshotError;
use super::names::{SCRATCH, STAGED, is_unfinished};
use super::progress::SnapshotProgress;
use super::take::{Snapshot, take};

/// Processes that may stage beside one LDB at the same time.
const MAX_SLOTS: usize = 16;

/// A finished copy. Its file is removed when this value is dropped.
#[derive(Debug)]
pub(super) struct StagedCopy {
    pub(super) snapshot: Snapshot,
}

impl Drop for StagedCopy {
    fn drop(&mut self) {
        // The next start removes a file that this can't remove.
        let _ = fs::remove_file(&self.snapshot.path);
    }
}

/// A name beside the LDB for copies, which this process has to itself while this value lives.
#[derive(Debug)]
pub(super) struct StagingSlot {
    path: PathBuf,
    /// Held for its lock.
    _lock: ProcessLock,
}

impl StagingSlot {
    /// Takes the first free slot, and clears what a crash left there.
    fn take(ldb: &Path) -> Result<Self, SnapshotError> {
        for number in 0..MAX_SLOTS {
            let path = slot_path(ldb, number);
            match ProcessLock::take(&path) {
                Ok(lock) => {
                    clear(&path)?;
                    return Ok(Self { path, _lock: lock });
                }
                Err(LockError::Held { .. }) => {}
                Err(LockError::Io(source)) => return Err(SnapshotError::io("lock", &path)(source)),
            }
        }
        let holder = format!("{MAX_SLOTS} processes");
        Err(SnapshotError::InUse { path: ldb.to_owned(), holder })
    }
}

fn slot_path(ldb: &Path, number: usize) -> PathBuf {
    beside(ldb, &format!(".snapshot-{number}"))
}

/// The state that the copies of all rounds share.
pub(super) struct Staging {
    ldb: PathBuf,
    progress: Arc<dyn SnapshotProgress>,
    slot: Mutex<Option<StagingSlot>>,
    copying: Mutex<Copying>,
}

/// Counts the copies that are being made. A copy may outlast its round.
#[derive(Debug, Default)]
struct Copying {
    now: u32,
    lately: bool,
}

impl Staging {
    pub(super) fn new(ldb: &Path, progress: Arc<dyn SnapshotProgress>) -> Self {
        Self { ldb: ldb.to_owned(), progress, slot: Mutex::default(), copying: Mutex::default() }
    }

    /// Removes what killed processes left beside the LDB.
    pub(super) fn clear(&self) {
        for path in (0..MAX_SLOTS).map(|number| slot_path(&self.ldb, number)) {
            if beside(&path, ".lock").exists()
                && let Ok(_lock) = ProcessLock::take(&path)
            {
                // A file that can't be removed only takes space.
                let _ = clear(&path);
            }
        }
    }

    /// A name beside the LDB that no other process uses.
    fn path(&self, name: &str) -> Result<PathBuf, SnapshotError> {
        let mut slot = locked(&self.slot);
        let slot = match &mut *slot {
            Some(slot) => slot,
            none => none.insert(StagingSlot::take(&self.ldb)?),
        };
        Ok(beside(&slot.path, &format!(".{name}")))
    }

    /// Whether a copy was being made since the last call.
    pub(super) fn was_copying(&self) -> bool {
        let copying = &mut *locked(&self.copying);
        mem::replace(&mut copying.lately, copying.now > 0)
    }

    fn take(&self, path: &Path, abort: &Abort) -> Result<Snapshot, SnapshotError> {
        let count = |step: fn(&mut Copying)| step(&mut locked(&self.copying));
        count(|copying| {
            copying.now += 1;
            copying.lately = true;
        });
        let taken = take(&self.ldb, path, abort, &self.progress);
        count(|copying| copying.now -= 1);
        taken
    }
}

/// The one copy of a round.
pub(super) struct SharedCopy {
    staging: Arc<Staging>,
    number: u64,
    /// Set after the first try: the copy, or why there is none.
    made: Mutex<Option<Result<Arc<StagedCopy>, String>>>,
    scratch_files: AtomicU64,
}

impl SharedCopy {
    pub(super) fn new(staging: &Arc<Staging>, number: u64) -> Self {
        let scratch_files = AtomicU64::new(0);
        Self { staging: Arc::clone(staging), number, made: Mutex::new(None), scratch_files }
    }

    /// Hears how far the round is.
    pub(super) fn progress(&self) -> &dyn SnapshotProgress {
        self.staging.progress.as_ref()
    }

    /// A new name for a download that a destination only checks.
    pub(super) fn scratch(&self) -> Result<PathBuf, SnapshotError> {
        let number = self.scratch_files.fetch_add(1, Ordering::Relaxed);
        self.staging.path(&format!("{}.{number}{SCRATCH}", self.number))
    }

    /// Whether `file` is on the LDB's own filesystem. On another one no shared copy is made,
    /// because a mount that hangs would hold up all destinations. This call may hang there too.
    pub(super) fn is_near(&self, file: &Path) -> bool {
        let device = |path: &Path| fs::metadata(directory_of(path)).map(|metadata| metadata.dev());
        matches!((device(file), device(&self.staging.ldb)), (Ok(file), Ok(ldb)) if file == ldb)
    }

    /// The copy, which the first caller makes. It is made beside `destination` if that works:
    /// a near file, which the destination can then link instead of copying it.
    ///
    /// # Errors
    /// [`SnapshotError::NoCopy`] for every caller after the one that failed.
    pub(super) fn get(&self, destination: Option<&Path>, abort: &Abort) -> Result<Arc<StagedCopy>, SnapshotError> {
        let mut made = locked(&self.made);
        match &*made {
            Some(Ok(staged)) => return Ok(Arc::clone(staged)),
            Some(Err(reason)) => return Err(SnapshotError::NoCopy(reason.clone())),
            None => {}
        }
        let there = destination.map(|path| beside(path, &format!(".{}{STAGED}", self.number)));
        let taken = match there.map(|path| self.staging.take(&path, abort)) {
            Some(Ok(snapshot)) => Ok(snapshot),
            // That destination reports the failure itself; the others get a copy elsewhere.
            Some(Err(error)) if !error.is_of_the_place() => Err(error),
            _ => {
                self.staging.path(&format!("{}{STAGED}", self.number)).and_then(|path| self.staging.take(&path, abort))
            }
        };
        let staged = taken.map(|snapshot| Arc::new(StagedCopy { snapshot }));
        *made = Some(staged.as_ref().map(Arc::clone).map_err(ToString::to_string));
        staged
    }
}

/// Removes what a killed process left unfinished beside `path`.
pub(super) fn clear(path: &Path) -> Result<(), SnapshotError> {
    let directory = directory_of(path);
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let entries = fs::read_dir(directory).map_err(SnapshotError::io("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(SnapshotError::io("list", directory))?;
        let file = entry.file_name();
        if file.to_str().is_some_and(|file| is_unfinished(name, file)) {
            fs::remove_file(entry.path()).map_err(SnapshotError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Takes the lock, also after a panic: each change of the value is one assignment, so it is whole.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
