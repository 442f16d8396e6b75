//! The lines of a file whose path may be taken by another file at any time. The one
//! that was there before is read to its end first.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::disk::FileId;

/// How much is read at a time, in bytes.
const CHUNK: usize = 64 * 1024;
/// The longest line. A key is far shorter, so more than this is no changelog.
const MAX_LINE: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub struct File {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: fs::File,
    id: FileId,
    /// Where in the file the bytes of `buffer` from `start` on are.
    offset: u64,
    buffer: Vec<u8>,
    start: usize,
    /// Whether another file has the path, so that this one has got its last line.
    is_replaced: bool,
}

/// A complete line, without its line feed.
#[derive(Debug)]
pub struct Line<'f> {
    pub bytes: &'f [u8],
    pub file: FileId,
    /// Where in the file it begins.
    pub offset: u64,
}

impl File {
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file that has the path now, at `offset`. `None` where there is none.
    pub fn open_at(&mut self, offset: u64) -> io::Result<Option<FileId>> {
        self.open = match fs::File::open(&self.path) {
            Ok(file) => Some(Open::new(file, offset)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(self.open.as_ref().map(|open| open.id))
    }

    /// The next line, if it is there already.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            if self.open.is_none() && self.open_at(0)?.is_none() {
                return Ok(None);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            if let Some(length) = open.fill()? {
                let (offset, start) = (open.offset, open.start);
                open.start += length + 1;
                open.offset += length as u64 + 1;
                // Taken from `self` anew: what is borrowed in a loop is borrowed for all of it.
                let open = self.open.as_ref().ok_or(io::ErrorKind::NotFound)?;
                return Ok(Some(Line { bytes: &open.buffer[start..start + length], file: open.id, offset }));
            }
            if open.is_replaced {
                self.open = None;
                continue;
            }
            match FileId::of(&self.path)? {
                Some(id) if id == open.id => {
                    if open.file.metadata()?.len() >= open.offset {
                        return Ok(None);
                    }
                    // Cut short by someone: from its beginning it is another file.
                    self.open = None;
                }
                // Lines may have come to it since its end was met.
                Some(_) => open.is_replaced = true,
                None => return Ok(None),
            }
        }
    }
}

impl Open {
    fn new(file: fs::File, offset: u64) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let id = FileId { device: metadata.dev(), inode: metadata.ino() };
        Ok(Self { file, id, offset, buffer: Vec::new(), start: 0, is_replaced: false })
    }

    /// Reads until there is a complete line; gives its length without the line feed.
    fn fill(&mut self) -> io::Result<Option<usize>> {
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
}
