//! Follows the end of a history: what was committed since the last look. Works in the
//! applier's process and in any other one; how often to look is its caller's to say.

use std::io;
use std::path::{Path, PathBuf};

use ctlstore_core::disk::{FileId, LineReader};
use ctlstore_core::ledger::Seq;

use super::HistoryError;
use super::line::{Line, Record};
use super::segment::{self, Header};

/// The end of a history.
#[derive(Debug)]
pub struct HistoryTail {
    directory: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    header: Header,
    id: Option<FileId>,
    lines: LineReader,
    /// Behind the last commit mark, in bytes.
    committed: u64,
    /// The number behind the last committed record.
    next: u64,
    at: Seq,
}

/// What a look has brought.
#[derive(Debug)]
pub enum Grown {
    /// There is no history.
    Missing,
    /// Followed from its end on, as of now: there was none, another one, or what comes
    /// next in it was dropped before it was read.
    Begun,
    /// These records were committed; none, if nothing happened.
    By(Vec<Record>),
}

impl HistoryTail {
    /// Opens nothing yet: the history need not exist.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), open: None }
    }

    /// Which history this is; `None` while there is none.
    pub fn history(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.header.history.as_str())
    }

    /// The number behind the last committed record.
    pub fn next(&self) -> u64 {
        self.open.as_ref().map_or(1, |open| open.next)
    }

    /// The LDB's seq behind the last commit.
    pub fn at(&self) -> Seq {
        self.open.as_ref().map_or(Seq::ZERO, |open| open.at)
    }

    /// Looks what is new.
    pub fn look(&mut self) -> Result<Grown, HistoryError> {
        let looked = self.try_look();
        if looked.is_err() {
            self.open = None;
        }
        looked.map_err(|error| HistoryError::new(&self.directory, "following it", error))
    }

    fn try_look(&mut self) -> io::Result<Grown> {
        if let Some(open) = &mut self.open {
            let mut records = open.read()?;
            while open.advance(&self.directory)? {
                records.extend(open.read()?);
            }
            if !records.is_empty() || open.is_there(&self.directory)? {
                return Ok(Grown::By(records));
            }
        }
        self.open = None;
        let Some(last) = segment::list(&self.directory)?.pop() else { return Ok(Grown::Missing) };
        let mut open = Open::new(&self.directory, last)?;
        // Whoever wants what is there already reads it by a cursor.
        open.read()?;
        self.open = Some(open);
        Ok(Grown::Begun)
    }
}

impl Open {
    fn new(directory: &Path, first: u64) -> io::Result<Self> {
        let path = segment::path_of(directory, first);
        let header = segment::read_header(&path)?;
        let id = FileId::of(&path)?;
        let mut lines = LineReader::new(segment::open(&path)?, 0);
        lines.read_line()?;
        Ok(Self { id, committed: lines.offset(), next: header.first, at: header.from, lines, header })
    }

    /// The records up to the last commit mark.
    fn read(&mut self) -> io::Result<Vec<Record>> {
        let (mut records, mut taken) = (Vec::new(), 0);
        while let Some(line) = self.lines.read_line()? {
            match Line::parse(line) {
                Some(Line::Record(record)) => records.push(record),
                Some(Line::Commit { at, .. }) => {
                    self.committed = self.lines.offset();
                    self.next += (records.len() - taken) as u64;
                    self.at = at;
                    taken = records.len();
                }
                Some(Line::Until(_)) => {}
                None => break,
            }
        }
        // What has no mark yet is read again: it may be cut off and written anew.
        records.truncate(taken);
        self.lines.rewind(self.committed);
        Ok(records)
    }

    /// Goes on to the segment behind this one, if there is one.
    fn advance(&mut self, directory: &Path) -> io::Result<bool> {
        if self.next == self.header.first {
            return Ok(false);
        }
        match Self::new(directory, self.next) {
            Ok(open) if open.header.history == self.header.history => {
                *self = open;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the file that is open is still the one at its path, and no shorter than
    /// what was read of it.
    fn is_there(&self, directory: &Path) -> io::Result<bool> {
        let path = segment::path_of(directory, self.header.first);
        Ok(FileId::of(&path)? == self.id && self.lines.file().metadata()?.len() >= self.committed)
    }
}
