//! The copy of the LDB that all destinations of a round share: made when the first one
//! wants it, removed when the last one is done with it.

use std::fs;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ctlstore_core::Abort;
use ctlstore_core::disk::{LockError, ProcessLock, beside, directory_of};

use super::error::SnapshotError;
use super::names::{LOOK, STAGED, is_unfinished};
use super::progress::Progress;
use super::take::{Snapshot, take};

/// Processes that may stage beside one LDB at the same time.
const MAX_SLOTS: usize = 16;

/// A finished copy; its file goes with it.
#[derive(Debug)]
pub(super) struct StagedCopy {
    pub(super) snapshot: Snapshot,
}

impl Drop for StagedCopy {
    fn drop(&mut self) {
        // The next start removes what this can't.
        let _ = fs::remove_file(&self.snapshot.path);
    }
}

/// A place beside the LDB for copies, this process's own while this value lives.
#[derive(Debug)]
pub(super) struct StagingSlot {
    path: PathBuf,
    /// Held for its lock.
    _lock: ProcessLock,
}

impl StagingSlot {
    /// Takes the first free one and clears what a crash has left there.
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

/// What the copies of all rounds share.
pub(super) struct Stage {
    ldb: PathBuf,
    progress: Arc<dyn Progress>,
    room: Mutex<Option<StagingSlot>>,
    copying: Mutex<Copying>,
}

/// Copies that are being made, which a round that waits no longer may leave behind.
#[derive(Debug, Default)]
struct Copying {
    now: u32,
    lately: bool,
}

impl Stage {
    pub(super) fn new(ldb: &Path, progress: Arc<dyn Progress>) -> Self {
        Self { ldb: ldb.to_owned(), progress, room: Mutex::default(), copying: Mutex::default() }
    }

    /// Removes what killed processes have left beside the LDB.
    pub(super) fn clear(&self) {
        for path in (0..MAX_SLOTS).map(|number| slot_path(&self.ldb, number)) {
            if beside(&path, ".lock").exists()
                && let Ok(_lock) = ProcessLock::take(&path)
            {
                // What can't be removed is in nobody's way.
                let _ = clear(&path);
            }
        }
    }

    /// A name beside the LDB that nobody else uses, such as for the copy of a round.
    fn path(&self, name: &str) -> Result<PathBuf, SnapshotError> {
        let mut room = locked(&self.room);
        let room = match &mut *room {
            Some(room) => room,
            none => none.insert(StagingSlot::take(&self.ldb)?),
        };
        Ok(beside(&room.path, &format!(".{name}")))
    }

    /// Whether a copy was in the making since this was last asked.
    pub(super) fn was_copying(&self) -> bool {
        let copying = &mut *locked(&self.copying);
        mem::replace(&mut copying.lately, copying.now > 0)
    }

    fn take(&self, path: &Path, abort: &Abort) -> Result<Snapshot, SnapshotError> {
        let count = |step: fn(&mut Copying)| step(&mut locked(&self.copying));
        count(|copying| (copying.now, copying.lately) = (copying.now + 1, true));
        let taken = take(&self.ldb, path, abort, &self.progress);
        count(|copying| copying.now -= 1);
        taken
    }
}

/// The one copy of a round.
pub(super) struct SharedCopy {
    stage: Arc<Stage>,
    number: u64,
    /// Once it was tried: the copy, or why there is none.
    made: Mutex<Option<Result<Arc<StagedCopy>, String>>>,
    looks: AtomicU64,
}

impl SharedCopy {
    pub(super) fn new(stage: &Arc<Stage>, number: u64) -> Self {
        Self { stage: Arc::clone(stage), number, made: Mutex::new(None), looks: AtomicU64::new(0) }
    }

    /// Who is told how far the round is.
    pub(super) fn progress(&self) -> &dyn Progress {
        self.stage.progress.as_ref()
    }

    /// Where a destination may put down what it looks at.
    pub(super) fn scratch(&self) -> Result<PathBuf, SnapshotError> {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        self.stage.path(&format!("{}.{look}{LOOK}", self.number))
    }

    /// Whether `file` is on the LDB's own filesystem. Elsewhere no copy is made that
    /// others wait for: a mount that hangs would hold them all back. May itself hang there.
    pub(super) fn is_near(&self, file: &Path) -> bool {
        let device = |path: &Path| fs::metadata(directory_of(path)).map(|metadata| metadata.dev());
        matches!((device(file), device(&self.stage.ldb)), (Ok(file), Ok(ldb)) if file == ldb)
    }

    /// The copy, made now if nobody has asked before. It is made beside `destination`, a
    /// near file as which it need not be copied again, where that works.
    ///
    /// # Errors
    /// Whoever asks after it has failed is told [`SnapshotError::NoCopy`].
    pub(super) fn get(&self, destination: Option<&Path>, abort: &Abort) -> Result<Arc<StagedCopy>, SnapshotError> {
        let mut made = locked(&self.made);
        match &*made {
            Some(Ok(staged)) => return Ok(Arc::clone(staged)),
            Some(Err(reason)) => return Err(SnapshotError::NoCopy(reason.clone())),
            None => {}
        }
        let there = destination.map(|path| beside(path, &format!(".{}{STAGED}", self.number)));
        let taken = match there.map(|path| self.stage.take(&path, abort)) {
            Some(Ok(snapshot)) => Ok(snapshot),
            // That destination will say so itself; the others need not suffer.
            Some(Err(error)) if !error.is_of_the_place() => Err(error),
            _ => self.stage.path(&format!("{}{STAGED}", self.number)).and_then(|path| self.stage.take(&path, abort)),
        };
        let staged = taken.map(|snapshot| Arc::new(StagedCopy { snapshot }));
        *made = Some(staged.as_ref().map(Arc::clone).map_err(ToString::to_string));
        staged
    }
}

/// Removes what a killed process has left unfinished beside `path`.
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

/// What a destination that panicked has left is whole: each step is one assignment.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
