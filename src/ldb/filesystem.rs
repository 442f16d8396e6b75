//! What the LDB asks of the filesystem: which file a path leads to, whether a WAL
//! can live there, and that what was written is really on the disk.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::LdbError;

/// Mode of data files: the owner writes, the group reads.
pub const FILE_MODE: u32 = 0o640;
/// Mode of data directories.
pub const DIRECTORY_MODE: u32 = 0o750;

/// Filesystems whose clients share no memory, by the magic number of statfs(2).
const NETWORK_FILESYSTEMS: [(i64, &str); 12] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "kafs"),
    (0x7375_7245, "coda"),
    (0x564c, "ncp"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
];

/// Which file this is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl FileId {
    /// The file that `path` leads to, links followed; `None` when there is none.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self { device: metadata.dev(), inode: metadata.ino() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
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
pub fn create_directory(directory: &Path) -> Result<(), LdbError> {
    if directory.is_dir() {
        return Ok(());
    }
    let failed = |error| LdbError::io(directory, "creating the directory", error);
    fs::create_dir_all(directory).map_err(failed)?;
    fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE)).map_err(failed)
}

/// Fails where `directory` is on a network filesystem.
pub fn refuse_network(path: &Path, directory: &Path) -> Result<(), LdbError> {
    let magic = magic(directory).map_err(|error| LdbError::io(directory, "asking for its filesystem", error))?;
    match NETWORK_FILESYSTEMS.iter().find(|(known, _)| *known == magic) {
        Some((_, kind)) => Err(LdbError::NetworkFilesystem { path: path.to_owned(), kind }),
        None => Ok(()),
    }
}

fn magic(directory: &Path) -> io::Result<i64> {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: statfs is plain data for which all zeroes is a value, and the call
    // writes nothing else; `name` is NUL-terminated and outlives it.
    let (result, buffer) = unsafe {
        let mut buffer: libc::statfs = std::mem::zeroed();
        (libc::statfs(name.as_ptr(), &mut buffer), buffer)
    };
    // The field's type differs between platforms; magic numbers have 32 bits.
    if result == 0 { Ok(i64::from(buffer.f_type as u32)) } else { Err(io::Error::last_os_error()) }
}

/// Flushes a file, or a directory's entries.
pub fn flush(path: &Path) -> Result<(), LdbError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| LdbError::io(path, "flushing it", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_directory_is_taken_and_a_file_is_known_by_its_inode() {
        let directory = tempfile::tempdir().unwrap();
        refuse_network(Path::new("ldb"), directory.path()).unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        assert_eq!(FileId::of(&one).unwrap(), None);
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        assert_ne!(FileId::of(&one).unwrap(), FileId::of(&two).unwrap());
        fs::rename(&one, &two).unwrap();
        assert_eq!(FileId::of(&one).unwrap(), None);
    }
}
