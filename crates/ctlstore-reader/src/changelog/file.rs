//! Reads the lines of a file that another file can replace at any time. Entry point:
//! [`ChangelogFile::next_line`]. The file from before is read to its end first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ctlstore_core::disk::{FileId, LineReader, open_regular};

/// A changelog at a path.
#[derive(Debug)]
pub(super) struct ChangelogFile {
    path: PathBuf,
    open: Option<OpenFile>,
}

/// One file that has had the path.
#[derive(Debug)]
struct OpenFile {
    lines: LineReader,
    id: FileId,
    /// Whether another file has the path now, so that this one gets no further line.
    is_replaced: bool,
}

/// A complete line, without its line feed.
#[derive(Debug)]
pub(super) struct ChangelogLine<'f> {
    pub(super) bytes: &'f [u8],
    pub(super) file: FileId,
    /// The place in the file at which the line begins.
    pub(super) offset: u64,
}

impl ChangelogFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file that has the path now, at `offset`. `None` if there is none.
    pub(super) fn open_at(&mut self, offset: u64) -> io::Result<Option<FileId>> {
        self.open = match open_regular(fs::OpenOptions::new().read(true), &self.path) {
            Ok(file) => Some(OpenFile::new(file, offset)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(self.open.as_ref().map(|open| open.id))
    }

    /// The next line; `None` if there is no complete one yet.
    pub(super) fn next_line(&mut self) -> io::Result<Option<ChangelogLine<'_>>> {
        loop {
            if self.open.is_none() && self.open_at(0)?.is_none() {
                return Ok(None);
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            if let Some(length) = open.lines.fill()? {
                // It is borrowed from `self` again, since the borrow above would last for the whole loop.
                let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
                let file = open.id;
                let offset = open.lines.offset();
                return Ok(Some(ChangelogLine { bytes: open.lines.take(length), file, offset }));
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
                    // Another program has cut the file, so it is read from its beginning.
                    self.open = None;
                }
                // It may have got lines since its end was read.
                Some(_) => open.is_replaced = true,
                None => return Ok(None),
            }
        }
    }
}

impl OpenFile {
    fn new(file: fs::File, offset: u64) -> io::Result<Self> {
        let id = FileId::of_file(&file)?;
        Ok(Self { lines: LineReader::new(file, offset), id, is_replaced: false })
    }
}
