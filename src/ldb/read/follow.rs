//! Which file a reader is to have open: the one at a path, or the newest version in
//! a directory of versions.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::FileId;

use super::error::ReadError;
use super::file::{Access, LdbFile, id_of};

/// How long a reader goes on with its file before it looks whether another one has
/// taken the path.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The same for versions, as the original's readers do.
const LOOK_FOR_VERSIONS_EVERY: Duration = Duration::from_secs(1);

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
