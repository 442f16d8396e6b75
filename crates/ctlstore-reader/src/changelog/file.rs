//! The lines of a file whose path may be taken by another file at any time. The one
//! that was there before is read to its end first.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ctlstore_core::disk::{FileId, LineReader, open_regular};

#[derive(Debug)]
pub struct File {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    lines: LineReader,
    id: FileId,
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
        self.open = match open_regular(fs::OpenOptions::new().read(true), &self.path) {
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
            if let Some(length) = open.lines.fill()? {
                // Taken from `self` anew: what is borrowed in a loop is borrowed for all of it.
                let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
                let (file, offset) = (open.id, open.lines.offset());
                return Ok(Some(Line { bytes: open.lines.take(length), file, offset }));
            }
            if open.is_replaced {
                self.open = None;
                continue;
            }
            match FileId::of(&self.path)? {
                Some(id) if id == open.id => {
                    if open.lines.file().metadata()?.len() >= open.lines.offset() {
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
        Ok(Self { lines: LineReader::new(file, offset), id, is_replaced: false })
    }
}
