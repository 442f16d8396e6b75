//! Finds the file that a reader is to open: the one at a path, the newest version in a directory of
//! versions, or the one of several LDBs whose turn it is. Entry points: [`LdbLocation::find`] and [`Switches`].
//!
//! The readers of one location in this process tell each other when another file is there. So no
//! read sees an older file than a read before it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ctlstore_core::disk::FileId;

use super::error::ReadError;
use super::file::{Access, LdbFile, id_of};
use super::rotation::Rotation;

/// How long a reader uses its file before it looks whether another one has replaced it.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The same for versions, so that a newer one is read within a second after it appears.
const LOOK_FOR_VERSIONS_EVERY: Duration = Duration::from_millis(250);

/// The name of a version's directory has so many digits: a time in milliseconds.
pub const VERSION_DIGITS: usize = 13;
/// The name of the LDB in a version's directory.
pub const VERSIONED_LDB: &str = "ldb.db";

/// The location of an LDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LdbLocation {
    File { path: PathBuf, access: Access },
    Versions { directory: PathBuf },
    Rotation(Rotation),
}

/// A file that was found at a location.
pub(super) struct Candidate {
    path: PathBuf,
    id: FileId,
    access: Access,
}

impl Candidate {
    pub(super) fn open(&self) -> Result<LdbFile, ReadError> {
        LdbFile::open(&self.path, self.id, self.access)
    }

    pub(super) fn is(&self, file: &LdbFile) -> bool {
        self.id == file.id()
    }

    /// The present size of the file; 0 if it is gone.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }
}

/// The locations that this process reads. It is locked when a reader is made, and never by a read.
static SHARED: Mutex<BTreeMap<PathBuf, Weak<Switches>>> = Mutex::new(BTreeMap::new());

/// Counts, for all readers of one location, how often they opened another file than before. A
/// reader that opens a file counts before it reads from the file. A reader that has not seen the
/// last count looks at the location before its next read. So a read that begins after another one
/// has ended does not see an older file.
#[derive(Debug, Default)]
pub(super) struct Switches {
    count: AtomicU64,
    opened: Mutex<Option<FileId>>,
}

impl Switches {
    /// The count for a location.
    pub(super) fn at(location: &LdbLocation) -> Arc<Self> {
        if matches!(location, LdbLocation::File { access: Access::Immutable, .. }) {
            // No process replaces such a file.
            return Arc::default();
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let key = location.key();
        if let Some(switches) = shared.get(&key).and_then(Weak::upgrade) {
            return switches;
        }
        shared.retain(|_, switches| switches.strong_count() > 0);
        let switches = Arc::default();
        shared.insert(key, Arc::downgrade(&switches));
        switches
    }

    /// The present count. Ask for it before looking at the location.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Counts the file, if it is another one. Call this before reading from the file.
    pub(super) fn opened(&self, file: &LdbFile) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.replace(file.id()) != Some(file.id()) {
            self.count.fetch_add(1, Ordering::Release);
        }
    }
}

impl LdbLocation {
    /// The path that the reader was made with.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } => path,
            Self::Versions { directory } => directory,
            Self::Rotation(rotation) => rotation.paths().first().map_or(Path::new(""), PathBuf::as_path),
        }
    }

    /// The name of the location among the locations of this process. Several paths are another location than the first
    /// of them.
    fn key(&self) -> PathBuf {
        match self {
            Self::Rotation(rotation) => {
                let paths: Vec<_> = rotation.paths().iter().map(|path| path.as_os_str()).collect();
                paths.join(OsStr::new("\n")).into()
            }
            _ => self.path().to_owned(),
        }
    }

    /// How long a reader uses its file before it looks here again.
    pub(super) fn look_every(&self) -> Duration {
        match self {
            Self::File { .. } | Self::Rotation(_) => LOOK_EVERY,
            Self::Versions { .. } => LOOK_FOR_VERSIONS_EVERY,
        }
    }

    /// The files there, the one to open first.
    pub(super) fn find(&self) -> Result<Vec<Candidate>, ReadError> {
        match self {
            Self::File { path, access } => {
                let candidate = |id| Candidate { path: path.clone(), id, access: *access };
                Ok(id_of(path)?.map(candidate).into_iter().collect())
            }
            Self::Versions { directory } => versions(directory),
            Self::Rotation(rotation) => {
                let mut found = Vec::with_capacity(rotation.paths().len());
                for path in rotation.in_order() {
                    let candidate = |id| Candidate { path: path.clone(), id, access: Access::Shared };
                    found.extend(id_of(path)?.map(candidate));
                }
                Ok(found)
            }
        }
    }
}

/// Whether a version's directory can have this name.
pub fn is_version(name: &OsStr) -> bool {
    name.len() == VERSION_DIGITS && name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

/// The versions that have an LDB, newest first. Each is complete when it appears, and no process
/// writes it.
fn versions(directory: &Path) -> Result<Vec<Candidate>, ReadError> {
    let failed = |source| ReadError::Path { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if is_version(&name) {
            names.push(name);
        }
    }
    // Names of equally many digits sort as their numbers do.
    names.sort_unstable_by(|a, b| b.cmp(a));
    let mut found = Vec::new();
    for name in names {
        let path = directory.join(name).join(VERSIONED_LDB);
        if let Some(id) = id_of(&path)? {
            found.push(Candidate { path, id, access: Access::Immutable });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_directories_of_thirteen_digits_with_an_ldb_newest_first() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            fs::create_dir(directory.path().join(name)).unwrap();
            fs::write(directory.path().join(name).join(VERSIONED_LDB), "").unwrap();
        };
        for name in ["0000000000009", "1700000000000", "0000000000010", "17000000000000", "170000000000", "current"] {
            make(name);
        }
        fs::create_dir(directory.path().join("1800000000000")).unwrap();
        let found = versions(directory.path()).unwrap();
        let names: Vec<_> = found.iter().map(|found| found.path.parent().unwrap().file_name().unwrap()).collect();
        assert_eq!(names, ["1700000000000", "0000000000010", "0000000000009"]);
        assert!(versions(&directory.path().join("not there")).unwrap().is_empty());
    }
}
