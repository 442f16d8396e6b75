//! Names, modes and identities of files, and that what was written is on the disk.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::regular::refuse_irregular;

/// Mode of data files: the owner writes, the group reads.
pub const FILE_MODE: u32 = 0o640;
/// Mode of data directories.
pub const DIRECTORY_MODE: u32 = 0o750;

/// Which file this is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl FileId {
    /// The file that `path` leads to, links followed; `None` when there is none.
    ///
    /// # Errors
    /// Anything but a regular file is an error that names it; it is never opened.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => {
                refuse_irregular(path, metadata.file_type())?;
                Ok(Some(Self { device: metadata.dev(), inode: metadata.ino() }))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file that is open, whether or not it still has a name.
    pub fn of_file(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// `path` with `suffix` behind its file name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory of `path`, which is `.` for a bare name.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates `directory` and what is missing above it.
pub fn create_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)
}

/// Flushes a file, or a directory's entries.
pub fn flush(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_inode() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        assert_eq!(FileId::of(&one).unwrap(), None);
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        assert_ne!(FileId::of(&one).unwrap(), FileId::of(&two).unwrap());
        fs::rename(&one, &two).unwrap();
        assert_eq!(FileId::of(&one).unwrap(), None);
        assert_eq!(FileId::of(&two.join("below a file")).unwrap(), None);
    }
}
