//! Opens regular files and refuses everything else, so that opening never waits for another
//! program. To open a named pipe waits for its other end, and a device can do anything at all.
//! Entry points: [`open_regular`] and [`read_regular_text`] for this program's files, and
//! [`read_given_text`] for a file that a user names.

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How long a pipe that a user names may take to deliver its text.
const PIPE_TIMEOUT: Duration = Duration::from_secs(5);

/// The file at `path` is no regular file. `kind` says in words what it is.
#[derive(Debug, thiserror::Error)]
#[error("{} is {kind}, not a regular file; move it away", path.display())]
pub struct NotRegular {
    path: PathBuf,
    kind: &'static str,
}

/// Opens `path` as `options` say. Symbolic links are followed.
///
/// # Errors
/// [`NotRegular`], which names the path; those of open(2).
pub fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    open_with(options, path, 0)
}

/// Does as [`open_regular`], with further flags of open(2).
pub(super) fn open_with(options: &mut OpenOptions, path: &Path, flags: i32) -> io::Result<File> {
    // Checked before it is opened, since opening alone can act on a device, and again after,
    // since another file can get the name in between.
    check_regular(path)?;
    let file = options.custom_flags(libc::O_NONBLOCK | flags).open(path)?;
    refuse_irregular(path, file.metadata()?.file_type())?;
    Ok(file)
}

/// The text of the regular file at `path`, which may have at most `most` bytes.
pub fn read_regular_text(path: &Path, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    open_regular(OpenOptions::new().read(true), path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    checked_text(bytes, most)
}

/// Does as [`read_regular_text`] for a file that a user names. That can be a pipe, such as a
/// shell's `<(…)`, which has to deliver its whole text within 5 seconds.
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

/// Checks that `path` is a regular file or missing.
///
/// # Errors
/// [`NotRegular`] for anything else.
pub fn check_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) => refuse_irregular(path, metadata.file_type()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Checks that the file type `found` at `path` is a regular file's.
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
        let path = directory.path().join("file");
        let link = directory.path().join("link");
        assert_eq!(read_regular_text(&path, 9).unwrap_err().kind(), ErrorKind::NotFound);
        check_regular(&path).unwrap();
        fs::write(&path, "text").unwrap();
        symlink("file", &link).unwrap();
        assert_eq!(read_regular_text(&link, 4).unwrap(), "text");
        assert_eq!(read_regular_text(&link, 3).unwrap_err().to_string(), "longer than 3 bytes");
    }
}
