//! Which file a reader is to have open: the one at a path, or the newest version in
//! a directory of versions. The readers of one place in this process tell each other
//! of another file there, so that no read sees an older one than an earlier read did.

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

/// How long a reader goes on with its file before it looks whether another one has
/// taken the path.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The same for versions, so that a newer one is read within a second of its coming.
const LOOK_FOR_VERSIONS_EVERY: Duration = Duration::from_millis(250);

/// A version's directory is named by this many digits, its milliseconds.
pub const VERSION_DIGITS: usize = 13;
/// The LDB within a version's directory.
pub const VERSIONED_LDB: &str = "ldb.db";

/// Where an LDB is to be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    File { path: PathBuf, access: Access },
    Versions { directory: PathBuf },
}

/// A file that was found there.
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

    /// The size of the file now, 0 where it is gone.
    pub(super) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }
}

/// The places that this process reads from. Locked when a reader is made.
static SHARED: Mutex<BTreeMap<PathBuf, Weak<Switches>>> = Mutex::new(BTreeMap::new());

/// What the readers of one place share: how often the file that they open was another
/// one. Whoever has not seen the last count looks again before its next read, and who
/// opens a file counts before it reads from it; so a read that begins after another one
/// has ended does not see an older file.
#[derive(Debug, Default)]
pub(super) struct Switches {
    count: AtomicU64,
    opened: Mutex<Option<FileId>>,
}

impl Switches {
    pub(super) fn at(place: &Place) -> Arc<Self> {
        if matches!(place, Place::File { access: Access::Immutable, .. }) {
            // Nobody is to put another file there.
            return Arc::default();
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(switches) = shared.get(place.path()).and_then(Weak::upgrade) {
            return switches;
        }
        shared.retain(|_, switches| switches.strong_count() > 0);
        let switches = Arc::default();
        shared.insert(place.path().to_owned(), Arc::downgrade(&switches));
        switches
    }

    /// To be asked before the place is looked at.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// To be told before anything is read from the file.
    pub(super) fn opened(&self, file: &LdbFile) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.replace(file.id()) != Some(file.id()) {
            self.count.fetch_add(1, Ordering::Release);
        }
    }
}

impl Place {
    /// The path as it was given.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } => path,
            Self::Versions { directory } => directory,
        }
    }

    pub(super) fn look_every(&self) -> Duration {
        match self {
            Self::File { .. } => LOOK_EVERY,
            Self::Versions { .. } => LOOK_FOR_VERSIONS_EVERY,
        }
    }

    /// What is there, the one to open first.
    pub(super) fn find(&self) -> Result<Vec<Candidate>, ReadError> {
        match self {
            Self::File { path, access } => {
                let candidate = |id| Candidate { path: path.clone(), id, access: *access };
                Ok(id_of(path)?.map(candidate).into_iter().collect())
            }
            Self::Versions { directory } => versions(directory),
        }
    }
}

/// Whether a version's directory can be called so.
pub fn is_version(name: &OsStr) -> bool {
    name.len() == VERSION_DIGITS && name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

/// The versions that have an LDB, newest first. They are complete when they appear, and
/// nobody writes them.
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
    // Digits of one length sort as the numbers do.
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
