//! How much room is left.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that this user can still write to the filesystem of `directory`.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let name = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: all zeroes are a value of statvfs, which is plain numbers.
    let mut buffer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is NUL-terminated and outlives the call, which writes only `buffer`.
    let result = unsafe { libc::statvfs(name.as_ptr(), &raw mut buffer) };
    match result {
        0 => Ok(buffer.f_bavail.saturating_mul(buffer.f_frsize)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_room_and_what_is_not_there_has_none() {
        assert!(free_bytes(tempfile::tempdir().unwrap().path()).unwrap() > 0);
        assert!(free_bytes(Path::new("/nowhere/at/all")).is_err());
    }
}
