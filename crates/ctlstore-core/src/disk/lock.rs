//! One owner per file: a lock on a file beside it, held while the owner lives. The
//! kernel lets go of it when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::files::{FILE_MODE, beside};
use super::own::{has_other_names, open_unlinked};

/// The longest part of the lock file that an error repeats, in bytes.
const MAX_HOLDER_BYTES: u64 = 64;

/// The text before the holder's number.
const HOLDER: &str = "pid ";

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
        let mut file = open_unlinked(&mut options, &beside(path, ".lock"))?;
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
        let _ = write_holder(&mut file);
        Ok(Self { file })
    }
}

/// Names this process in the file, unless that has a text of somebody else.
fn write_holder(file: &mut File) -> io::Result<()> {
    let mut there = Vec::new();
    file.take(MAX_HOLDER_BYTES).read_to_end(&mut there)?;
    let is_ours = there.is_empty() || there.starts_with(HOLDER.as_bytes());
    if !is_ours || has_other_names(file)? {
        return Ok(());
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{HOLDER}{}", std::process::id())
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
    fn nothing_of_somebody_else_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let (path, lock) = (directory.path().join("ldb.db"), directory.path().join("ldb.db.lock"));
        let theirs = directory.path().join("theirs");
        std::fs::write(&theirs, "pid file of another program").unwrap();
        std::os::unix::fs::symlink(&theirs, &lock).unwrap();
        let error = ProcessLock::take(&path).unwrap_err().to_string();
        assert!(error.contains("ldb.db.lock is a symbolic link"), "{error}");
        std::fs::remove_file(&lock).unwrap();
        std::fs::hard_link(&theirs, &lock).unwrap();
        drop(ProcessLock::take(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "pid file of another program");
        std::fs::remove_file(&lock).unwrap();
        std::fs::write(&lock, "a lock of another kind").unwrap();
        drop(ProcessLock::take(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&lock).unwrap(), "a lock of another kind");
    }

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
