//! The mark in a database file's header that says it is in WAL mode.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where SQLite's header says which versions may read and write the file, and what it
/// says of one in WAL mode. The original's readers refuse any other.
const VERSIONS_OFFSET: u64 = 18;
const WAL_VERSIONS: [u8; 2] = [2, 2];

/// Marks a finished file, opened for reading and writing, that SQLite has closed. Tells
/// whether that changed it; it is for the caller to flush.
pub fn mark_for_wal(file: &File) -> io::Result<bool> {
    let mut versions = [0; WAL_VERSIONS.len()];
    file.read_exact_at(&mut versions, VERSIONS_OFFSET)?;
    let is_new = versions != WAL_VERSIONS;
    if is_new {
        file.write_all_at(&WAL_VERSIONS, VERSIONS_OFFSET)?;
    }
    Ok(is_new)
}
