//! How much room is left.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The most bytes that are left free for others.
const MAX_RESERVE: u64 = 256 << 20;
/// The part of a filesystem that is left free at most.
const RESERVE_PART: u64 = 20;

/// Bytes that this user can still write to the filesystem of `directory`.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    statistics(directory).map(|buffer| buffer.f_bavail.saturating_mul(buffer.f_frsize))
}

/// As [`free_bytes`], less a reserve for what else the host writes: a twentieth of the
/// filesystem, 256 MiB at most.
pub fn usable_bytes(directory: &Path) -> io::Result<u64> {
    let buffer = statistics(directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(buffer.f_frsize);
    let reserve = (bytes(buffer.f_blocks) / RESERVE_PART).min(MAX_RESERVE);
    Ok(bytes(buffer.f_bavail).saturating_sub(reserve))
}

fn statistics(directory: &Path) -> io::Result<libc::statvfs> {
    let name = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: all zeroes are a value of statvfs, which is plain numbers.
    let mut buffer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is NUL-terminated and outlives the call, which writes only `buffer`.
    let result = unsafe { libc::statvfs(name.as_ptr(), &raw mut buffer) };
    match result {
        0 => Ok(buffer),
        _ => Err(io::Error::last_os_error()),
    }
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
}
