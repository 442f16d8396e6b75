//! One applier per LDB: a lock on a file beside it, held while the applier lives.
//! The kernel lets go of it when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::LdbError;
use super::filesystem::{FILE_MODE, beside};

/// The longest part of the lock file that an error repeats.
const MAX_HOLDER_BYTES: u64 = 64;

/// Holds the lock until it is dropped. The file stays, as removing it would let a
/// third process lock a file that a second one has just opened.
#[derive(Debug)]
pub struct ApplierLock {
    _file: File,
}

impl ApplierLock {
    /// Takes the lock of the LDB at `path`, or names the process that has it.
    pub fn take(path: &Path) -> Result<Self, LdbError> {
        let lock = beside(path, ".lock");
        let failed = |error| LdbError::io(&lock, "taking the applier's lock", error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&lock)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy; that someone does is enough to stop.
                let _ = file.take(MAX_HOLDER_BYTES).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "pid unknown" } else { holder.trim() };
                return Err(LdbError::Locked { path: path.to_owned(), holder: holder.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // On a full disk the lock is as good without the name in it.
        let _ =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "pid {}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_applier_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ldb.db");
        let first = ApplierLock::take(&path).unwrap();
        let error = ApplierLock::take(&path).unwrap_err().to_string();
        assert!(error.ends_with(&format!("is held by another applier (pid {})", std::process::id())), "{error}");
        drop(first);
        ApplierLock::take(&path).unwrap();
    }
}
