//! The changelog's file. Lines are appended whole. When the next one would make the file too
//! large, a new file takes the path. The file is never truncated in place, because followers
//! would not notice. Entry point: [`ChangelogFile`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ctlstore_core::disk::{create_anew, file_mode, open_own};

use super::tail::FileTail;

/// Where the changelog goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangelogOptions {
    pub path: PathBuf,
    /// The largest size of the file, in bytes. 0 switches the changelog off.
    pub max_bytes: u64,
}

/// Why entries could not be written. The rows that they name are committed all the same.
#[derive(Debug, thiserror::Error)]
#[error("changelog {path} failed while {action}: {source}")]
pub struct ChangelogError {
    pub path: PathBuf,
    pub action: &'static str,
    pub source: std::io::Error,
}

#[derive(Debug)]
pub struct ChangelogFile {
    path: PathBuf,
    max_bytes: u64,
    open: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    length: u64,
    /// Device and inode, to tell whether the path still leads here.
    id: (u64, u64),
}

impl OpenFile {
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

    /// Opens the file, or makes it, and tells how it ends. A torn last line gets its line feed,
    /// so that the next entry begins on a line of its own.
    pub fn open(&mut self) -> Result<FileTail, ChangelogError> {
        self.open = None;
        let open = || {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory)?;
            }
            let mut options = OpenOptions::new();
            let file = open_own(options.read(true).append(true).create(true).mode(file_mode()), &self.path)?;
            let mut open = OpenFile::new(file)?;
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

    /// Appends complete lines, and gives the number of new files that this took. Lines that fit
    /// into one file are one write. After an error the file may hold a part of the lines.
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
                // A line that is larger than the largest file gets a file of its own.
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

    /// Writes to the open file. After an error the file stays closed. Opening it again finds its
    /// last complete line.
    fn extend(&mut self, mut open: OpenFile, lines: &[u8]) -> io::Result<()> {
        open.write(lines)?;
        self.open = Some(open);
        Ok(())
    }

    /// Puts a new file at the path. It gets its first lines before that, so that no follower
    /// finds a changelog without a number.
    fn replace(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut new = self.path.as_os_str().to_owned();
        new.push(".new");
        let mut open = OpenFile::new(create_anew(Path::new(&new), file_mode())?)?;
        open.write(lines)?;
        fs::rename(&new, &self.path)?;
        self.open = Some(open);
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> ChangelogError {
        ChangelogError { path: self.path.clone(), action, source }
    }
}

/// How many bytes of `lines`, in whole lines, fit into `room`.
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
