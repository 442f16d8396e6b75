//! Reads complete lines of a file that another program is still writing. Entry point:
//! [`LineReader::read_line`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are read at a time. A longer line makes the buffer grow.
const CHUNK: usize = 64 * 1024;
/// The longest line, in bytes. Names and keys are far shorter, so a longer line is damage.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// Reads complete lines of a file, from an offset to its end.
#[derive(Debug)]
pub struct LineReader {
    file: File,
    /// The place in the file of the byte `buffer[start]`.
    offset: u64,
    buffer: Vec<u8>,
    start: usize,
}

impl LineReader {
    pub fn new(file: File, offset: u64) -> Self {
        Self { file, offset, buffer: Vec::new(), start: 0 }
    }

    /// The place in the file after the last line that was given.
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

    /// The next complete line without its line feed; `None` if the file has no further one now.
    /// The caller may ask again when the file has grown.
    pub fn read_line(&mut self) -> io::Result<Option<&[u8]>> {
        let length = self.fill()?;
        Ok(length.map(|length| self.take(length)))
    }

    /// Reads until there is a complete line, and returns its length without the line feed.
    pub fn fill(&mut self) -> io::Result<Option<usize>> {
        let mut searched = self.start;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|&byte| byte == b'\n') {
                return Ok(Some(searched + end - self.start));
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

    /// The line of this length that [`LineReader::fill`] has found. The next call gives the one after it.
    pub fn take(&mut self, length: usize) -> &[u8] {
        let line = self.start..self.start + length;
        self.start = line.end + 1;
        self.offset += length as u64 + 1;
        &self.buffer[line]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_come_whole_and_an_open_one_when_it_is_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        let long = "x".repeat(CHUNK * 2);
        fs::write(&path, format!("one\n{long}\nthr")).unwrap();
        let mut lines = LineReader::new(File::open(&path).unwrap(), 0);
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
