//! Gives each data file one owner: a process that holds a kernel lock on `<path>.lock`. Entry
//! point: [`ProcessLock::take`]. The kernel releases the lock when the process ends, also after
//! a kill.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::files::{FILE_MODE, beside};
use super::own::{has_other_names, open_unlinked};

/// The longest part of the lock file that an error repeats, in bytes.
const MAX_HOLDER_BYTES: u64 = 64;

/// The text in the lock file before the process id of its holder.
const HOLDER: &str = "pid ";

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// `holder` is a process, such as `pid 4711`.
    #[error("held by {holder}")]
    Held { holder: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Holds the lock until it is dropped. The lock file stays. If it were removed, a third process
/// could lock a new file of that name while a second one locks the old one.
#[derive(Debug)]
pub struct ProcessLock {
    file: File,
}

impl ProcessLock {
    /// Takes the lock of the data file at `path`, in `<path>.lock`.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that has the lock.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let mut file = open_unlinked(&mut options, &beside(path, ".lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder's name only helps the operator; an error here changes nothing.
                let _ = file.take(MAX_HOLDER_BYTES).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "pid unknown" } else { holder.trim() };
                return Err(LockError::Held { holder: holder.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // On a full disk the lock holds without the process id in its file.
        let _ = write_holder(&mut file);
        Ok(Self { file })
    }
}

/// Writes this process's id into the file, unless another program has written a text there.
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
        // A child process that is just being started has the descriptor too, so closing ours
        // would not be enough. If this fails, the lock ends with the process.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_somebody_else_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        let lock = directory.path().join("ldb.db.lock");
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
