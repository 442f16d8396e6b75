//! Checks and names a database file before SQLite opens it, and finds out why SQLite could not.
//! Entry points: [`check_database`] and [`file_uri`]. This file does not use SQLite itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::files::beside;
use super::regular::check_regular;

/// The files that SQLite may open beside a database.
const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// The parameter of a URI for a file that no process writes. SQLite then takes no lock and
/// makes no -wal and no -shm beside the file.
pub const IMMUTABLE: &str = "immutable=1";

/// Does as [`check_regular`] for a database and for the files that SQLite opens with it. If
/// `path` is a link to the database, the other files lie beside the database.
///
/// # Errors
/// [`NotRegular`](super::NotRegular), which names the first file that is not regular.
pub fn check_database(path: &Path) -> io::Result<()> {
    check_regular(path)?;
    let file = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    COMPANIONS.iter().try_for_each(|suffix| check_regular(&beside(&file, suffix)))
}

/// `path` as a `file:` URI for SQLite. Every byte that could have a meaning in a URI is escaped.
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

/// The system's error, if this process or the machine has as many files open as it may. SQLite
/// says only that it can't open a file; this tells the reason.
pub fn too_many_open_files() -> Option<io::Error> {
    File::open("/dev/null").err().filter(is_too_many_open_files)
}

/// Whether the system refused a file because too many are open.
pub fn is_too_many_open_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn every_byte_with_a_meaning_in_a_uri_is_escaped() {
        let uri = file_uri(Path::new("/a dir/l?d#b%.db"), IMMUTABLE);
        assert_eq!(uri, "file:/a%20dir/l%3fd%23b%25.db?immutable=1");
    }

    #[test]
    fn a_pipe_beside_a_linked_database_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ldb.db.gen-1");
        let link = directory.path().join("ldb.db");
        fs::write(&file, "").unwrap();
        symlink("ldb.db.gen-1", &link).unwrap();
        check_database(&link).unwrap();
        assert!(Command::new("mkfifo").arg(beside(&file, "-wal")).status().unwrap().success());
        let error = check_database(&link).unwrap_err().to_string();
        assert!(error.contains("ldb.db.gen-1-wal is a named pipe"), "{error}");
    }
}
