//! Names and modes of files and directories, and flushing them to the disk. It opens a file
//! only to flush it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Mode of data files: the owner writes, the group reads.
pub const FILE_MODE: u32 = 0o640;
/// Mode of data directories.
pub const DIRECTORY_MODE: u32 = 0o750;

/// `path` with `suffix` appended to its file name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory of `path`, which is `.` for a bare name.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates `directory` and the directories above it that are missing.
pub fn create_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)
}

/// Flushes a file, or a directory's entries.
pub fn flush(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
