//! Versioned LDBs: a directory of whole LDBs that no program writes, each in
//! `<milliseconds, 13 digits>/ldb.db`. [`Versions`] puts a new one there, complete at the moment
//! that it appears, and removes old ones. Readers find the newest with the reader crate's `read`.
//!
//! Unfinished versions are beside the directory, never in it, because programs that look for
//! versions use whatever they find there.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ctlstore_core::disk::{self, LockError, ProcessLock, beside, directory_of, file_mode};
use ctlstore_core::failpoint;
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_reader::read::{LdbReader, VERSION_DIGITS, VERSIONED_LDB, is_version};

use super::connection::mark_for_wal;
use super::error::LdbError;
use super::generation::unix_millis;

/// The highest number of a version.
const LAST_NUMBER: u64 = 10_u64.pow(VERSION_DIGITS as u32) - 1;

/// A claimed directory of versions. The claim is held as long as this value lives.
#[derive(Debug)]
pub struct Versions {
    directory: PathBuf,
    /// The number of versions that stay.
    keep: usize,
    _lock: ProcessLock,
}

/// The versions in the directory.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The newest version that can be read: its directory and its position.
    pub newest: Option<(PathBuf, LdbPosition)>,
    /// Why a newer version can't be read, if there is one.
    pub unreadable: Option<String>,
    /// The ledger of the versions. Not all of them may name it.
    pub ledger_id: Option<String>,
}

impl Standing {
    pub fn seq(&self) -> Option<Seq> {
        self.newest.as_ref().map(|(_, position)| position.seq)
    }
}

impl Versions {
    /// Claims `directory`, makes it, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// If another process has claimed it, or the filesystem fails.
    pub fn claim(directory: &Path, keep: usize) -> Result<Self, LdbError> {
        let failed = |action| move |error| LdbError::io(directory, action, error);
        disk::create_own_directory(directory).map_err(failed("creating the directory"))?;
        let lock = ProcessLock::take(directory).map_err(|error| match error {
            LockError::Held { holder } => LdbError::VersionsClaimed { path: directory.to_owned(), holder },
            LockError::Io(error) => LdbError::io(directory, "taking the lock", error),
        })?;
        let versions = Self { directory: directory.to_owned(), keep, _lock: lock };
        versions.clear_incoming().map_err(failed("removing what is unfinished"))?;
        versions.remove_old()?;
        Ok(versions)
    }

    /// Reads the versions, newest first, until one can be read.
    ///
    /// # Errors
    /// If the directory can't be listed.
    pub fn standing(&self) -> Result<Standing, LdbError> {
        let mut standing = Standing::default();
        let there = self.directories().map_err(|error| LdbError::io(&self.directory, "looking for versions", error))?;
        for version in there.into_iter().filter(|version| has_ldb(version)) {
            match LdbReader::immutable(version.join(VERSIONED_LDB)).position() {
                Ok(position) => {
                    standing.ledger_id = standing.ledger_id.or_else(|| position.ledger_id.clone());
                    standing.newest.get_or_insert((version, position));
                }
                Err(error) if standing.newest.is_none() && standing.unreadable.is_none() => {
                    standing.unreadable = Some(format!("{}: {error}", version.display()));
                }
                Err(_) => {}
            }
            if standing.newest.is_some() && standing.ledger_id.is_some() {
                break;
            }
        }
        Ok(standing)
    }

    /// The path at which a file is made for [`install`](Self::install). No file is there.
    ///
    /// # Errors
    /// If the filesystem fails.
    pub fn incoming(&self) -> Result<PathBuf, LdbError> {
        let incoming = self.unfinished();
        let make = || {
            self.clear_incoming()?;
            disk::create_new_directory(&incoming)
        };
        make().map_err(|error| LdbError::io(&incoming, "making room for a version", error))?;
        Ok(incoming.join(VERSIONED_LDB))
    }

    /// Makes the finished file at [`incoming`](Self::incoming) the newest version, and gives its
    /// directory.
    ///
    /// # Errors
    /// If the filesystem fails. Readers then find what was there before, or the whole new version.
    pub fn install(&self) -> Result<PathBuf, LdbError> {
        let incoming = self.unfinished();
        let install = || {
            finish(&incoming.join(VERSIONED_LDB))?;
            disk::flush(&incoming)?;
            // The operator may have removed it to begin anew.
            disk::create_directory(&self.directory)?;
            let version = self.directory.join(self.next_name()?);
            failpoint::hit("versioned-before-rename");
            fs::rename(&incoming, &version)?;
            failpoint::hit("versioned-after-rename");
            disk::flush(&self.directory)?;
            disk::flush(directory_of(&self.directory))?;
            Ok(version)
        };
        install().map_err(|error| LdbError::io(&self.directory, "putting a version there", error))
    }

    /// Removes all but the newest versions. Readers that have an old one open keep it.
    ///
    /// # Errors
    /// If the filesystem fails. The next call tries again.
    pub fn remove_old(&self) -> Result<(), LdbError> {
        let removing = beside(&self.directory, ".removing");
        let remove = || {
            remove_all(&removing)?;
            let there = self.directories()?;
            let kept = there.iter().filter(|version| has_ldb(version)).take(self.keep).last();
            // Directories without an LDB are not counted. They go too if they are older.
            for old in there.iter().filter(|version| kept.is_some_and(|kept| *version < kept)) {
                if stranger_in(old)?.is_some() {
                    // Another program keeps more there than a version, and may go on to.
                    continue;
                }
                // Renamed first, so that no reader finds a version of which a part is gone.
                fs::rename(old, &removing)?;
                failpoint::hit("versioned-before-removal");
                remove_all(&removing)?;
            }
            Ok(())
        };
        remove().map_err(|error| LdbError::io(&self.directory, "removing old versions", error))
    }

    fn unfinished(&self) -> PathBuf {
        beside(&self.directory, ".incoming")
    }

    fn clear_incoming(&self) -> io::Result<()> {
        remove_all(&self.unfinished())
    }

    /// The directories of versions, newest first.
    fn directories(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in entries(&self.directory)? {
            let entry = entry?;
            if is_version(&entry.file_name()) && entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// A number above every number that is there, whatever has it and whatever the clock says.
    fn next_name(&self) -> io::Result<String> {
        let mut next = u64::try_from(unix_millis()).unwrap_or(LAST_NUMBER);
        for entry in entries(&self.directory)? {
            let name = entry?.file_name();
            let taken = name.to_str().filter(|_| is_version(&name)).and_then(|name| name.parse::<u64>().ok());
            next = next.max(taken.map_or(0, |taken| taken + 1));
        }
        if next > LAST_NUMBER {
            return Err(io::Error::other("there is no higher number than that of the newest version"));
        }
        Ok(format!("{next:0width$}", width = VERSION_DIGITS))
    }
}

/// Finishes a fetched file so that every reader takes it, and flushes it.
fn finish(file: &Path) -> io::Result<()> {
    let open = disk::open_own(OpenOptions::new().read(true).write(true), file)?;
    // The process's umask must not take the group's right to read.
    open.set_permissions(Permissions::from_mode(file_mode()))?;
    mark_for_wal(&open)?;
    open.sync_all()
}

fn has_ldb(version: &Path) -> bool {
    fs::metadata(version.join(VERSIONED_LDB)).is_ok_and(|metadata| metadata.is_file())
}

/// The entries of `directory`; none if it is gone.
fn entries(directory: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

/// Removes the directory of a version, which may be missing. A directory with anything else in
/// it stays.
///
/// # Errors
/// For such a directory, and for a plain file of its name.
fn remove_all(directory: &Path) -> io::Result<()> {
    match fs::symlink_metadata(directory) {
        Ok(metadata) if metadata.is_symlink() => disk::remove_if_there(directory),
        Ok(_) => match stranger_in(directory)? {
            None => fs::remove_dir_all(directory),
            Some(name) => {
                let message = format!("{} has {}, which is no part of a version", directory.display(), name.display());
                Err(io::Error::other(message))
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The name of anything in `directory` that is neither an LDB nor what SQLite puts beside one.
fn stranger_in(directory: &Path) -> io::Result<Option<PathBuf>> {
    for entry in entries(directory)? {
        let entry = entry?;
        let ours = ["", "-wal", "-shm", "-journal"];
        let name = PathBuf::from(entry.file_name());
        let is_ours = ours.iter().any(|suffix| name == beside(Path::new(VERSIONED_LDB), suffix));
        if !is_ours || entry.file_type()?.is_dir() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
