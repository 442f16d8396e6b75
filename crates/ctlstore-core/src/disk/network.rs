//! A write-ahead log needs memory that all its users share, so it can't live on a
//! filesystem of another host.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Filesystems whose clients share no memory, by the magic number of statfs(2).
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

/// The kind of network filesystem that `directory` is on, `None` for a local one.
pub fn network_filesystem(directory: &Path) -> io::Result<Option<&'static str>> {
    let magic = magic(directory)?;
    Ok(NETWORK_FILESYSTEMS.iter().find(|(known, _)| *known == magic).map(|(_, kind)| *kind))
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
    fn a_local_directory_is_no_network_filesystem() {
        assert_eq!(network_filesystem(tempfile::tempdir().unwrap().path()).unwrap(), None);
        assert!(network_filesystem(Path::new("/nowhere/at/all")).is_err());
    }
}
