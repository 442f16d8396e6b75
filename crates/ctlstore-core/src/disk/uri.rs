//! How SQLite is told by a URI which file to open, and in which way.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// For a file that nobody writes: no lock is taken, and no -wal or -shm made beside it.
pub const IMMUTABLE: &str = "immutable=1";

/// `path` as a `file:` URI, with every byte escaped that could mean something in one;
/// `parameters` are SQLite's own, such as [`IMMUTABLE`].
pub fn file_uri(path: &Path, parameters: &str) -> String {
    let mut uri = "file:".to_owned();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri.push('?');
    uri.push_str(parameters);
    uri
}
