//! The changelog's file: lines are appended whole, and when the next one would take
//! it past its size, a new file takes the path. Never truncated in place, since
//! followers would not notice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ctlstore_core::disk::{create_anew, open_own};

use super::ChangelogError;
use super::tail::FileTail;

/// Its group may read it.
const MODE: u32 = 0o640;

#[derive(Debug)]
pub struct ChangelogFile {
    path: PathBuf,
    max_bytes: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    /// Device and inode, to see whether the path still leads here.
    id: (u64, u64),
}

impl Open {
    fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { file, length: metadata.len(), id: (metadata.dev(), metadata.ino()) })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.length += lines.len() as u64;
        Ok(())
    }

    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.id)
    }
}

impl ChangelogFile {
    pub fn new(path: PathBuf, max_bytes: u64) -> Self {
        Self { path, max_bytes, open: None }
    }

    /// Opens the file, or makes it, and tells how it ends. A torn last line gets its
    /// line feed, so that the next one starts on its own.
    pub fn open(&mut self) -> Result<FileTail, ChangelogError> {
        self.open = None;
        let open = || {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory)?;
            }
            let mut options = OpenOptions::new();
            let file = open_own(options.read(true).append(true).create(true).mode(MODE), &self.path)?;
            let mut open = Open::new(file)?;
            let tail = FileTail::read(&open.file, open.length)?;
            if tail.open_line {
                open.write(b"\n")?;
            }
            Ok((open, tail))
        };
        let (open, tail) = open().map_err(|error| self.failed("opening it", error))?;
        self.open = Some(open);
        Ok(tail)
    }

    /// Appends complete lines, in one write as far as they fit in one file, and gives
    /// how many new files that took. After an error the file may hold a part of them.
    pub fn append(&mut self, mut lines: &[u8]) -> Result<u64, ChangelogError> {
        let mut begun = 0;
        let is_open = self.open.as_ref().is_some_and(|open| open.is_at(&self.path));
        if !is_open {
            self.open()?;
        }
        while !lines.is_empty() {
            let current = self.open.take().filter(|open| open.length > 0);
            let length = current.as_ref().map_or(0, |open| open.length);
            let fit = match current {
                Some(open) if whole_lines(lines, self.max_bytes.saturating_sub(length)) > 0 => {
                    let fit = whole_lines(lines, self.max_bytes - length);
                    self.extend(open, &lines[..fit]).map_err(|error| self.failed("appending to it", error))?;
                    fit
                }
                // A line that is larger than any file has one for itself.
                _ => {
                    let fit = whole_lines(lines, self.max_bytes).max(first_line(lines));
                    self.replace(&lines[..fit]).map_err(|error| self.failed("starting a new file", error))?;
                    begun += 1;
                    fit
                }
            };
            lines = &lines[fit..];
        }
        Ok(begun)
    }

    /// Writes to the file that is there. After an error it stays closed: opened again
    /// it is seen where its last complete line ends.
    fn extend(&mut self, mut open: Open, lines: &[u8]) -> io::Result<()> {
        open.write(lines)?;
        self.open = Some(open);
        Ok(())
    }

    /// Puts a new file at the path. It has its first lines before it gets there, so
    /// that nobody finds a changelog without a number to go on from.
    fn replace(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut new = self.path.as_os_str().to_owned();
        new.push(".new");
        let mut open = Open::new(create_anew(Path::new(&new), MODE)?)?;
        open.write(lines)?;
        fs::rename(&new, &self.path)?;
        self.open = Some(open);
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> ChangelogError {
        ChangelogError { path: self.path.clone(), action, source }
    }
}

/// How many bytes of `lines`, in whole lines, fit in `room`.
fn whole_lines(lines: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if lines.len() <= room {
        return lines.len();
    }
    lines[..room].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}

fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |end| end + 1)
}
