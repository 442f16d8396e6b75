//! Names and modes of files and directories, and flushing them to the disk. It opens a file
//! only to flush it.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Mode of data files unless [`set_modes`] names another: the owner writes, the group reads.
pub const FILE_MODE: u32 = 0o640;
/// Mode of data directories unless [`set_modes`] names another.
pub const DIRECTORY_MODE: u32 = 0o750;

/// Like the umask, these belong to the process.
static FILES: AtomicU32 = AtomicU32::new(FILE_MODE);
static DIRECTORIES: AtomicU32 = AtomicU32::new(DIRECTORY_MODE);

/// Sets the modes of data files and directories that this process makes from now on.
pub fn set_modes(files: u32, directories: u32) {
    FILES.store(files, Ordering::Relaxed);
    DIRECTORIES.store(directories, Ordering::Relaxed);
}

/// The mode of data files that other programs read.
pub fn file_mode() -> u32 {
    FILES.load(Ordering::Relaxed)
}

/// The mode of directories with data that other programs read.
pub fn directory_mode() -> u32 {
    DIRECTORIES.load(Ordering::Relaxed)
}

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
    DirBuilder::new().recursive(true).mode(directory_mode()).create(directory)
}

/// Flushes a file, or a directory's entries.
pub fn flush(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
