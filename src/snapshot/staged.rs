//! The copy of the LDB that all destinations of a round share: made when the first one
//! wants it, removed when the last one is done with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{LockError, ProcessLock, beside, directory_of};

use super::error::SnapshotError;
use super::progress::Progress;
use super::take::{Abort, Snapshot, take};

/// Ends the names of copies, so that what a crash leaves is known as such.
pub(super) const STAGED: &str = ".staged.tmp";
/// Processes that may stage beside one LDB at the same time.
const MAX_ROOMS: usize = 16;

/// A finished copy; its file goes with it.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) snapshot: Snapshot,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // The next start removes what this can't.
        let _ = fs::remove_file(&self.snapshot.path);
    }
}

/// A place beside the LDB for copies, this process's own while this value lives.
#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    /// Held for its lock.
    _lock: ProcessLock,
}

impl Room {
    /// Takes the first free one and clears what a crash has left there.
    fn take(ldb: &Path) -> Result<Self, SnapshotError> {
        for number in 0..MAX_ROOMS {
            let path = room_path(ldb, number);
            match ProcessLock::take(&path) {
                Ok(lock) => {
                    clear(&path)?;
                    return Ok(Self { path, _lock: lock });
                }
                Err(LockError::Held { .. }) => {}
                Err(LockError::Io(source)) => return Err(SnapshotError::io("lock", &path)(source)),
            }
        }
        let holder = format!("{MAX_ROOMS} processes");
        Err(SnapshotError::InUse { path: ldb.to_owned(), holder })
    }
}

fn room_path(ldb: &Path, number: usize) -> PathBuf {
    beside(ldb, &format!(".snapshot-{number}"))
}

/// What the copies of all rounds share.
#[derive(Debug)]
pub(super) struct Stage {
    ldb: PathBuf,
    room: Mutex<Option<Room>>,
}

impl Stage {
    pub(super) fn new(ldb: &Path) -> Self {
        Self { ldb: ldb.to_owned(), room: Mutex::new(None) }
    }

    /// Removes what killed processes have left beside the LDB.
    pub(super) fn clear(&self) {
        for path in (0..MAX_ROOMS).map(|number| room_path(&self.ldb, number)) {
            if beside(&path, ".lock").exists()
                && let Ok(_lock) = ProcessLock::take(&path)
            {
                // What can't be removed is in nobody's way.
                let _ = clear(&path);
            }
        }
    }

    /// Where the copy of round `number` may be made, beside the LDB.
    fn path(&self, number: u64) -> Result<PathBuf, SnapshotError> {
        let mut room = locked(&self.room);
        let room = match &mut *room {
            Some(room) => room,
            none => none.insert(Room::take(&self.ldb)?),
        };
        Ok(beside(&room.path, &format!(".{number}{STAGED}")))
    }
}

/// The one copy of a round.
#[derive(Debug)]
pub(super) struct SharedCopy {
    stage: Arc<Stage>,
    number: u64,
    copy: Mutex<Option<Arc<Staged>>>,
}

impl SharedCopy {
    pub(super) fn new(stage: &Arc<Stage>, number: u64) -> Self {
        Self { stage: Arc::clone(stage), number, copy: Mutex::new(None) }
    }

    /// The copy, made now if nobody has asked before. It is made beside `destination`, a
    /// file on whose filesystem it need not be copied again, where that works.
    pub(super) fn get(&self, destination: Option<&Path>, abort: &Abort) -> Result<Arc<Staged>, SnapshotError> {
        let mut made = locked(&self.copy);
        if let Some(staged) = &*made {
            return Ok(Arc::clone(staged));
        }
        // A node shows the outcome; who takes a snapshot by hand asks for more.
        let nobody: Arc<dyn Progress> = Arc::new(());
        let there = destination.map(|path| beside(path, &format!(".{}{STAGED}", self.number)));
        let snapshot = match there.map(|path| take(&self.stage.ldb, &path, abort, &nobody)) {
            Some(Ok(snapshot)) => snapshot,
            // That destination will say so itself; the others need not suffer.
            Some(Err(error)) if !error.is_of_the_place() => return Err(error),
            _ => take(&self.stage.ldb, &self.stage.path(self.number)?, abort, &nobody)?,
        };
        let staged = Arc::new(Staged { snapshot });
        *made = Some(Arc::clone(&staged));
        Ok(staged)
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
        let Some(rest) = file.to_str().and_then(|file| file.strip_prefix(name)) else { continue };
        // With what SQLite left when it was killed in the middle of a copy.
        let is_left = rest.starts_with('.') && (rest.ends_with(".tmp") || rest.ends_with(".tmp-journal"));
        if is_left {
            fs::remove_file(entry.path()).map_err(SnapshotError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// A thread that panicked has ended the process already.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
