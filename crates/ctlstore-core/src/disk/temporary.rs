//! Gives a process a name of its own for a large file in the making. Entry point:
//! [`TemporaryName::claim`], which also removes the files that killed processes have left.
//! A kernel lock keeps each name, and ends with its process, also after a kill.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::file_id::FileId;
use super::files::beside;

/// How many processes may have such a file of one stem at a time.
const MAX_NAMES: usize = 64;
/// Only this user may read an unfinished file.
const LOCK_MODE: u32 = 0o600;

/// A file's name. The holder makes the file itself; it is removed when this value is dropped.
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
    /// The first free name among those that begin with `stem` and end with `suffix`.
    ///
    /// # Errors
    /// The last reason why no name could be had.
    pub fn claim(stem: &Path, suffix: &str) -> io::Result<Self> {
        let mut claimed = None;
        let mut last = io::Error::other(format!("{MAX_NAMES} processes have files as {}", stem.display()));
        for number in 0..MAX_NAMES {
            let path = beside(stem, &format!("-{number}{suffix}"));
            let lock = beside(stem, &format!("-{number}.lock"));
            // After the first free name, only files that were left are looked for.
            if claimed.is_some() && path.symlink_metadata().is_err() && lock.symlink_metadata().is_err() {
                continue;
            }
            match Self::take(path, lock) {
                Ok(Some(name)) if claimed.is_none() => claimed = Some(name),
                // The drop removes the file that was left.
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        claimed.ok_or(last)
    }

    /// `None` while another process has the name.
    fn take(path: PathBuf, lock: PathBuf) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        // In a directory that others may write, a link could lead anywhere.
        options.read(true).write(true).create(true).truncate(false).mode(LOCK_MODE).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&lock)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Its last holder may have removed the lock file just now.
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
        // The next claim removes what can't be removed now.
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
        // A kill has left a file whose lock no process holds, and one without a lock.
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
        let stem = directory.path().join("verify");
        let foreign = directory.path().join("foreign");
        std::os::unix::fs::symlink(&foreign, directory.path().join("verify-0.lock")).unwrap();
        let name = TemporaryName::claim(&stem, ".incoming").unwrap();
        assert_eq!(name.path(), directory.path().join("verify-1.incoming"));
        assert!(!foreign.exists());
    }
}
