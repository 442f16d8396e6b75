//! Opens files that must be regular ones, without ever waiting for another program.
//! Opening a named pipe waits for its other end, and a device can do anything at all.
//! Entry points: [`open_regular`] and [`read_regular_text`] for files that this program
//! reads and writes itself, [`check_database`] for those that SQLite opens, and
//! [`read_given_text`] for those that a user names.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::files::beside;

/// `O_NONBLOCK` of open(2). The library alone does without the crate that knows it; a test compares the two.
const O_NONBLOCK: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 0o4000 } else { 0x4 };

/// How long a pipe that a user names has to bring its text.
const PIPE_TIMEOUT: Duration = Duration::from_secs(5);

/// The files that SQLite may open beside a database.
const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Something at `path` is no regular file. Its kind stands in words.
#[derive(Debug, thiserror::Error)]
#[error("{} is {kind}, not a regular file; move it away", path.display())]
pub struct NotRegular {
    path: PathBuf,
    kind: &'static str,
}

/// Opens `path` as `options` say. Symbolic links are followed.
///
/// # Errors
/// [`NotRegular`], with the path, for anything but a regular file; those of open(2).
pub fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    open_with(options, path, 0)
}

/// The same with further flags of open(2).
pub(super) fn open_with(options: &mut OpenOptions, path: &Path, flags: i32) -> io::Result<File> {
    // Before it is opened, since opening alone can act on a device, and after, since
    // another file can take its place in between.
    check_regular(path)?;
    let file = options.custom_flags(O_NONBLOCK | flags).open(path)?;
    refuse_irregular(path, file.metadata()?.file_type())?;
    Ok(file)
}

/// The text of the regular file at `path`, which may have `most` bytes at most.
pub fn read_regular_text(path: &Path, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    open_regular(OpenOptions::new().read(true), path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    checked_text(bytes, most)
}

/// As [`read_regular_text`], for a file that the user names. That can be a pipe, such as
/// a shell's `<(…)`, from which all has to come within 5 seconds.
pub fn read_given_text(path: &Path, most: u64) -> io::Result<String> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_fifo() && !kind.is_char_device() {
        return read_regular_text(path, most);
    }
    let (sender, read) = mpsc::sync_channel(1);
    let pipe = path.to_owned();
    // If no program writes to the pipe, this thread waits until the process ends.
    std::thread::Builder::new().name("read-pipe".to_owned()).spawn(move || {
        let read = || {
            let mut bytes = Vec::new();
            File::open(&pipe)?.take(most.saturating_add(1)).read_to_end(&mut bytes).map(|_| bytes)
        };
        let _ = sender.send(read());
    })?;
    let seconds = PIPE_TIMEOUT.as_secs();
    let late = || io::Error::new(ErrorKind::TimedOut, format!("a pipe that did not end within {seconds} s"));
    checked_text(read.recv_timeout(PIPE_TIMEOUT).map_err(|_| late())??, most)
}

fn checked_text(bytes: Vec<u8>, most: u64) -> io::Result<String> {
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("longer than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is not utf-8"))
}

/// Fails where something other than a regular file is at `path`. No file is no error.
pub fn check_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) => refuse_irregular(path, metadata.file_type()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(error),
    }
}

/// As [`check_regular`], for a database and for what SQLite opens with it. A link at
/// `path` leads to the database, and the other files lie beside that.
pub fn check_database(path: &Path) -> io::Result<()> {
    check_regular(path)?;
    let file = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    COMPANIONS.iter().try_for_each(|suffix| check_regular(&beside(&file, suffix)))
}

/// Fails where what was `found` at `path` is no regular file.
pub(super) fn refuse_irregular(path: &Path, found: FileType) -> io::Result<()> {
    let kind = match found {
        found if found.is_file() => return Ok(()),
        found if found.is_dir() => "a directory",
        found if found.is_fifo() => "a named pipe",
        found if found.is_socket() => "a socket",
        found if found.is_char_device() || found.is_block_device() => "a device",
        _ => "something else",
    };
    Err(io::Error::new(ErrorKind::InvalidInput, NotRegular { path: path.to_owned(), kind }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_flag_is_that_of_the_system() {
        assert_eq!(O_NONBLOCK, libc::O_NONBLOCK);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once_and_named() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _listener = UnixListener::bind(at("socket")).unwrap();
        symlink(at("pipe"), at("link")).unwrap();
        let cases = [("pipe", "a named pipe"), ("socket", "a socket"), ("link", "a named pipe"), ("", "a directory")];
        for (name, kind) in cases {
            let expected = format!("{} is {kind}, not a regular file; move it away", at(name).display());
            for options in [OpenOptions::new().read(true), OpenOptions::new().append(true).create(true)] {
                assert_eq!(open_regular(options, &at(name)).unwrap_err().to_string(), expected);
            }
            assert_eq!(check_regular(&at(name)).unwrap_err().to_string(), expected);
        }
        let error = open_regular(OpenOptions::new().read(true), Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "/dev/zero is a device, not a regular file; move it away");
    }

    #[test]
    fn regular_files_are_opened_and_links_to_them_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        assert_eq!(read_regular_text(&path, 9).unwrap_err().kind(), ErrorKind::NotFound);
        check_regular(&path).unwrap();
        fs::write(&path, "text").unwrap();
        symlink("file", &link).unwrap();
        assert_eq!(read_regular_text(&link, 4).unwrap(), "text");
        assert_eq!(read_regular_text(&link, 3).unwrap_err().to_string(), "longer than 3 bytes");
    }

    #[test]
    fn a_pipe_beside_a_linked_database_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("ldb.db.gen-1"), directory.path().join("ldb.db"));
        fs::write(&file, "").unwrap();
        symlink("ldb.db.gen-1", &link).unwrap();
        check_database(&link).unwrap();
        assert!(Command::new("mkfifo").arg(beside(&file, "-wal")).status().unwrap().success());
        let error = check_database(&link).unwrap_err().to_string();
        assert!(error.contains("ldb.db.gen-1-wal is a named pipe"), "{error}");
    }
}
