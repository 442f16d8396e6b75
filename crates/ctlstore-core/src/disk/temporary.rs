//! Names for large files in the making. [`TemporaryName::claim`] gives one that is this
//! process's own while the value lives, and removes what killed processes have left under
//! the others. The kernel lets go of a name's lock however its process ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::files::{FileId, beside};

/// Processes that may have such a file of one stem at a time.
const MAX_NAMES: usize = 64;
/// Nobody else reads what is not finished.
const LOCK_MODE: u32 = 0o600;

/// A file's name; the file itself is made by the holder, and goes with this value.
#[derive(Debug)]
pub struct TemporaryName {
    path: PathBuf,
    lock: Lock,
}

#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl TemporaryName {
    /// The first free name of those that begin as `stem` and end in `suffix`.
    ///
    /// # Errors
    /// The last reason why none could be taken.
    pub fn claim(stem: &Path, suffix: &str) -> io::Result<Self> {
        let mut claimed = None;
        let mut last = io::Error::other(format!("{MAX_NAMES} processes have files as {}", stem.display()));
        for number in 0..MAX_NAMES {
            let path = beside(stem, &format!("-{number}{suffix}"));
            let lock = beside(stem, &format!("-{number}.lock"));
            // Beyond the first free name only what was left is of interest.
            if claimed.is_some() && path.symlink_metadata().is_err() && lock.symlink_metadata().is_err() {
                continue;
            }
            match Self::take(path, lock) {
                Ok(Some(name)) if claimed.is_none() => claimed = Some(name),
                // Dropped, which removes what was left.
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        claimed.ok_or(last)
    }

    /// `None` while another process has it.
    fn take(path: PathBuf, lock: PathBuf) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        // In a directory that others may write a link could lead anywhere.
        options.read(true).write(true).create(true).truncate(false).mode(LOCK_MODE).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&lock)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever had it before may have removed it just now.
        if FileId::of(&lock)? != Some(FileId::of_file(&file)?) {
            return Ok(None);
        }
        remove(&path)?;
        Ok(Some(Self { path, lock: Lock { path: lock, file } }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        // What can't be removed now goes with the next claim.
        let _ = remove(&self.path);
        let _ = fs::remove_file(&self.lock.path);
        let _ = self.lock.file.unlock();
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_what_another_works_on_stays() {
        let directory = tempfile::tempdir().unwrap();
        let stem = directory.path().join("verify");
        let first = TemporaryName::claim(&stem, ".incoming").unwrap();
        fs::write(first.path(), "at work").unwrap();
        // Left by a kill: a file whose lock nobody holds, and one without a lock.
        fs::write(directory.path().join("verify-1.incoming"), "left").unwrap();
        fs::write(directory.path().join("verify-1.lock"), "").unwrap();
        fs::write(directory.path().join("verify-7.incoming"), "left").unwrap();
        fs::write(directory.path().join("verify-x.incoming"), "another's").unwrap();
        let second = TemporaryName::claim(&stem, ".incoming").unwrap();
        assert_eq!(second.path(), directory.path().join("verify-1.incoming"));
        assert!(!second.path().exists() && !directory.path().join("verify-7.incoming").exists());
        assert_eq!(fs::read_to_string(first.path()).unwrap(), "at work");
        drop((first, second));
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["verify-x.incoming"]);
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (stem, foreign) = (directory.path().join("verify"), directory.path().join("foreign"));
        std::os::unix::fs::symlink(&foreign, directory.path().join("verify-0.lock")).unwrap();
        let name = TemporaryName::claim(&stem, ".incoming").unwrap();
        assert_eq!(name.path(), directory.path().join("verify-1.incoming"));
        assert!(!foreign.exists());
    }
}
