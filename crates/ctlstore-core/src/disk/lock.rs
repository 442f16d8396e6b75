//! One owner per file: a lock on a file beside it, held while the owner lives. The
//! kernel lets go of it when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::files::{FILE_MODE, beside};

/// The longest part of the lock file that an error repeats, in bytes.
const MAX_HOLDER_BYTES: u64 = 64;

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// By whom, such as `pid 4711`.
    #[error("held by {holder}")]
    Held { holder: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Holds the lock until it is dropped. The lock file stays, as removing it would let
/// a third process lock a file that a second one has just opened.
#[derive(Debug)]
pub struct ProcessLock {
    file: File,
}

impl ProcessLock {
    /// Takes the lock of the file at `path`, in `<path>.lock`, or names the process that has it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let mut file = options.open(beside(path, ".lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy; that someone does is enough to stop.
                let _ = file.take(MAX_HOLDER_BYTES).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "pid unknown" } else { holder.trim() };
                return Err(LockError::Held { holder: holder.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // On a full disk the lock is as good without the name in it.
        let _ =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "pid {}", std::process::id()));
        Ok(Self { file })
    }
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        // A child process that is just being started has the descriptor too, so closing
        // ours would not be enough. Should this fail, the process's end lets go.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_owner_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        let first = ProcessLock::take(&path).unwrap();
        let error = ProcessLock::take(&path).unwrap_err().to_string();
        assert_eq!(error, format!("held by pid {}", std::process::id()));
        drop(first);
        ProcessLock::take(&path).unwrap();
    }
}
