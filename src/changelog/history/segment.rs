//! Segment files: their names, their first line, and reading them line by line. A
//! segment is named by the number of its first record, so the one behind a full one
//! is found by name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::FILE_MODE;
use crate::ledger::Seq;

/// The version of the lines below the header.
pub const VERSION: u32 = 1;

const EXTENSION: &str = ".log";
/// How much of a file is read at a time, in bytes. Longer lines grow the buffer.
const CHUNK: usize = 64 * 1024;
/// The longest line: names and keys are far shorter, so more than this is damage.
const MAX_LINE: usize = 8 * 1024 * 1024;

/// The first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Tells this history from any other one; positions carry it.
    pub history: String,
    pub version: u32,
    /// The number of the first record.
    pub first: u64,
    /// The LDB's seq before the first record.
    pub from: Seq,
    /// The ledger that the LDB followed then.
    pub ledger: Option<String>,
}

pub fn path_of(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}{EXTENSION}"))
}

/// The numbers that the segments begin with, in order.
pub fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut firsts = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(EXTENSION));
        firsts.extend(digits.filter(|digits| digits.len() == 20).and_then(|digits| digits.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Makes a segment that holds its header only. It is never seen without.
pub fn create(directory: &Path, header: &Header) -> io::Result<(File, u64)> {
    let path = path_of(directory, header.first);
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut line = serde_json::to_vec(header)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().read(true).append(true).create_new(true).mode(FILE_MODE).open(&new)?;
    file.write_all(&line)?;
    fs::rename(&new, &path)?;
    Ok((file, line.len() as u64))
}

pub fn read_header(path: &Path) -> io::Result<Header> {
    let mut lines = Lines::new(File::open(path)?, 0);
    let header = lines.read_line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let header: Header = serde_json::from_slice(header)?;
    if header.version > VERSION {
        return Err(io::Error::other(format!("version {} is newer than {VERSION}", header.version)));
    }
    Ok(header)
}

/// Reads complete lines from an offset on.
#[derive(Debug)]
pub struct Lines {
    file: File,
    /// Where the bytes of `buffer` from `start` on are in the file.
    offset: u64,
    buffer: Vec<u8>,
    start: usize,
}

impl Lines {
    pub fn new(file: File, offset: u64) -> Self {
        Self { file, offset, buffer: Vec::new(), start: 0 }
    }

    /// Behind the last line that was given.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Goes back to `offset`, and forgets what was read.
    pub fn rewind(&mut self, offset: u64) {
        self.offset = offset;
        self.buffer.clear();
        self.start = 0;
    }

    /// The next complete line without its line feed; `None` where the file, as it is
    /// now, has none. Ask again when it has grown.
    pub fn read_line(&mut self) -> io::Result<Option<&[u8]>> {
        let mut searched = self.start;
        loop {
            if let Some(length) = self.buffer[searched..].iter().position(|&byte| byte == b'\n') {
                let line = self.start..searched + length;
                self.start = line.end + 1;
                self.offset += (line.len() + 1) as u64;
                return Ok(Some(&self.buffer[line]));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            searched = self.buffer.len();
            if searched > MAX_LINE {
                return Err(io::Error::other("a line without an end"));
            }
            self.buffer.resize(searched + CHUNK, 0);
            let read = self.file.read_at(&mut self.buffer[searched..], self.offset + searched as u64);
            self.buffer.truncate(searched + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_an_open_one_when_it_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        let long = "x".repeat(CHUNK * 2);
        fs::write(&path, format!("one\n{long}\nthr")).unwrap();
        let mut lines = Lines::new(File::open(&path).unwrap(), 0);
        assert_eq!(lines.read_line().unwrap().unwrap(), b"one");
        assert_eq!(lines.read_line().unwrap().unwrap().len(), long.len());
        assert!(lines.read_line().unwrap().is_none());
        let offset = lines.offset();
        fs::write(&path, format!("one\n{long}\nthree\n")).unwrap();
        assert_eq!(lines.read_line().unwrap().unwrap(), b"three");
        assert!(lines.read_line().unwrap().is_none());
        lines.rewind(offset);
        assert_eq!(lines.read_line().unwrap().unwrap(), b"three");
    }
}
