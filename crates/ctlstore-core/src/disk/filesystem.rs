//! Asks about the filesystem that a directory is on: how much room is left, and whether several
//! hosts share it. Entry points: [`usable_bytes`], [`free_bytes`] and [`network_filesystem`].

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The most bytes that are left free for other programs.
const MAX_RESERVE: u64 = 256 << 20;
/// At most one part in so many of a filesystem is left free.
const RESERVE_PART: u64 = 20;

/// Filesystems whose clients share no memory, by the magic number of statfs(2). SQLite's
/// write-ahead log needs memory that all its users share, so it can't be on one of these.
const NETWORK_FILESYSTEMS: [(u32, &str); 12] = [
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

/// Bytes that this user can still write to the filesystem of `directory`.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    statistics(directory).map(|buffer| buffer.f_bavail.saturating_mul(buffer.f_frsize))
}

/// As [`free_bytes`], less a reserve for what other programs of the host write: a twentieth of
/// the filesystem, at most 256 MiB.
pub fn usable_bytes(directory: &Path) -> io::Result<u64> {
    let buffer = statistics(directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(buffer.f_frsize);
    let reserve = (bytes(buffer.f_blocks) / RESERVE_PART).min(MAX_RESERVE);
    Ok(bytes(buffer.f_bavail).saturating_sub(reserve))
}

/// The kind of network filesystem that `directory` is on; `None` for a local one.
pub fn network_filesystem(directory: &Path) -> io::Result<Option<&'static str>> {
    let magic = magic(directory)?;
    Ok(NETWORK_FILESYSTEMS.iter().find(|(known, _)| *known == magic).map(|(_, kind)| *kind))
}

fn statistics(directory: &Path) -> io::Result<libc::statvfs> {
    let name = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: all zeroes are a value of statvfs, which is plain numbers.
    let mut buffer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is NUL-terminated and outlives the call, which writes only `buffer`.
    let result = unsafe { libc::statvfs(name.as_ptr(), &raw mut buffer) };
    if result == 0 { Ok(buffer) } else { Err(io::Error::last_os_error()) }
}

fn magic(directory: &Path) -> io::Result<u32> {
    let name = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: all zeroes are a value of statfs, which is plain numbers.
    let mut buffer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is NUL-terminated and outlives the call, which writes only `buffer`.
    let result = unsafe { libc::statfs(name.as_ptr(), &raw mut buffer) };
    // The field's type differs between platforms; magic numbers have 32 bits.
    if result == 0 { Ok(buffer.f_type as u32) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_room_and_what_is_not_there_has_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(free_bytes(directory.path()).unwrap() > usable_bytes(directory.path()).unwrap());
        assert!(free_bytes(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn a_local_directory_is_no_network_filesystem() {
        assert_eq!(network_filesystem(tempfile::tempdir().unwrap().path()).unwrap(), None);
        assert!(network_filesystem(Path::new("/nowhere/at/all")).is_err());
    }
}
