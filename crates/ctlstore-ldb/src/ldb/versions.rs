//! Versioned LDBs: a directory of whole LDBs that nobody writes, each in
//! `<milliseconds, 13 digits>/ldb.db`. Here is how a new one gets there, complete at the
//! moment that it appears, and how old ones go; readers look for the newest (`read`).
//!
//! What is unfinished lies beside the directory, never in it: programs that look for
//! versions take whatever they find there for one.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ctlstore_core::disk::{self, FILE_MODE, LockError, ProcessLock, beside, directory_of};
use ctlstore_core::failpoint;
use ctlstore_core::ledger::{LdbPosition, Seq};

use super::error::LdbError;
use super::generation::unix_millis;
use super::wal_mark::mark_for_wal;
use ctlstore_reader::read::{LdbReader, VERSION_DIGITS, VERSIONED_LDB, is_version};

/// The largest number of a version.
const LAST_NUMBER: u64 = 10_u64.pow(VERSION_DIGITS as u32) - 1;

/// A claimed directory of versions. The claim is held as long as this lives.
#[derive(Debug)]
pub struct Versions {
    directory: PathBuf,
    /// Versions that stay.
    keep: usize,
    _lock: ProcessLock,
}

/// What is in the directory.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The newest version that can be read: its directory, and where it stands.
    pub newest: Option<(PathBuf, LdbPosition)>,
    /// Why a newer one can't be read, where there is one.
    pub unreadable: Option<String>,
    /// The ledger of the versions; they may not all name it.
    pub ledger_id: Option<String>,
}

impl Standing {
    pub fn seq(&self) -> Option<Seq> {
        self.newest.as_ref().map(|(_, position)| position.seq)
    }
}

impl Versions {
    /// Claims `directory`, makes it, and removes what a crash has left unfinished.
    ///
    /// # Errors
    /// When another process has it, or the filesystem fails.
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

    /// Looks at every version until one can be read.
    ///
    /// # Errors
    /// When the directory can't be listed.
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

    /// Where the file is to be made that [`install`](Self::install) takes. Nothing is
    /// there.
    ///
    /// # Errors
    /// When the filesystem fails.
    pub fn incoming(&self) -> Result<PathBuf, LdbError> {
        let incoming = self.unfinished();
        let make = || {
            self.clear_incoming()?;
            disk::create_new_directory(&incoming)
        };
        make().map_err(|error| LdbError::io(&incoming, "making room for a version", error))?;
        Ok(incoming.join(VERSIONED_LDB))
    }

    /// Makes the finished file at [`incoming`](Self::incoming) the newest version, and
    /// gives its directory.
    ///
    /// # Errors
    /// When the filesystem fails. What readers see is then as it was, or has the new
    /// version as a whole.
    pub fn install(&self) -> Result<PathBuf, LdbError> {
        let incoming = self.unfinished();
        let install = || {
            finish(&incoming.join(VERSIONED_LDB))?;
            disk::flush(&incoming)?;
            // Someone who wants to begin anew may have removed it.
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

    /// Removes all but the newest versions. Readers that have one open keep it.
    ///
    /// # Errors
    /// When the filesystem fails; the next call tries again.
    pub fn remove_old(&self) -> Result<(), LdbError> {
        let removing = beside(&self.directory, ".removing");
        let remove = || {
            remove_all(&removing)?;
            let there = self.directories()?;
            let kept = there.iter().filter(|version| has_ldb(version)).take(self.keep).last();
            // Those without an LDB are nobody's: below the newest they go too.
            for old in there.iter().filter(|version| kept.is_some_and(|kept| *version < kept)) {
                if stranger_in(old)?.is_some() {
                    // Somebody keeps more there than a version, and may go on to.
                    continue;
                }
                // Out of sight first, so that no one meets a version of which a part is gone.
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

    /// Above every number that is there, whatever has it and whatever the clock says.
    fn next_name(&self) -> io::Result<String> {
        let mut next = u64::try_from(unix_millis()).unwrap_or(LAST_NUMBER);
        for entry in entries(&self.directory)? {
            let name = entry?.file_name();
            let taken = name.to_str().filter(|_| is_version(&name)).and_then(|name| name.parse::<u64>().ok());
            next = next.max(taken.map_or(0, |taken| taken + 1));
        }
        match next > LAST_NUMBER {
            true => Err(io::Error::other("there is no higher number than that of the newest version")),
            false => Ok(format!("{next:0width$}", width = VERSION_DIGITS)),
        }
    }
}

/// Makes a fetched file one that every reader takes, and flushes it.
fn finish(file: &Path) -> io::Result<()> {
    let open = disk::open_own(OpenOptions::new().read(true).write(true), file)?;
    // The process's umask may not take the group's right to read.
    open.set_permissions(Permissions::from_mode(FILE_MODE))?;
    mark_for_wal(&open)?;
    open.sync_all()
}

fn has_ldb(version: &Path) -> bool {
    fs::metadata(version.join(VERSIONED_LDB)).is_ok_and(|metadata| metadata.is_file())
}

/// What is in `directory`; nothing where that is gone.
fn entries(directory: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

/// Removes the directory of a version, which need not be there. One that has anything else
/// in it is left as it is.
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
        let (entry, ours) = (entry?, ["", "-wal", "-shm", "-journal"]);
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
