//! Tells files apart by device and inode, whatever their names are. Entry point: [`FileId::of`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::regular::refuse_irregular;

/// The identity of a file. It stays the same when the file is renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl FileId {
    /// The identity of the file at `path`; `None` if there is none. Links are followed.
    ///
    /// # Errors
    /// [`NotRegular`](super::NotRegular) for anything but a regular file, which is never opened.
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

    /// The identity of an open file, which need not have a name any more.
    pub fn of_file(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_inode() {
        let directory = tempfile::tempdir().unwrap();
        let one = directory.path().join("one");
        let two = directory.path().join("two");
        assert_eq!(FileId::of(&one).unwrap(), None);
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        assert_ne!(FileId::of(&one).unwrap(), FileId::of(&two).unwrap());
        fs::rename(&one, &two).unwrap();
        assert_eq!(FileId::of(&one).unwrap(), None);
        assert_eq!(FileId::of(&two.join("below a file")).unwrap(), None);
    }
}
