//! Segment files: their place and number, their names and their first line. A
//! segment is named by the number of its first record, so the next one after a full segment is
//! found by name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use ctlstore_core::disk::{LineReader, beside, create_anew, file_mode, open_regular};
use ctlstore_core::ledger::Seq;

/// Where a history is kept, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryOptions {
    pub directory: PathBuf,
    /// The most bytes of all segments together, without the transaction that is being written.
    pub retain_bytes: u64,
}

impl HistoryOptions {
    /// The history of the LDB at `ldb`, at the place where every process that reads the LDB finds it.
    pub fn beside(ldb: &Path, retain_bytes: u64) -> Self {
        Self { directory: directory_of(ldb), retain_bytes }
    }
}

/// The directory of the history of the LDB at `ldb`.
pub fn directory_of(ldb: &Path) -> PathBuf {
    beside(ldb, ".changes")
}

/// Why the history can't be written or read. The rows are committed all the same.
#[derive(Debug, thiserror::Error)]
#[error("history of changes {path} failed while {action}: {source}")]
pub struct HistoryError {
    pub path: PathBuf,
    pub action: &'static str,
    pub source: std::io::Error,
}

impl HistoryError {
    pub(super) fn new(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self { path: path.to_owned(), action, source }
    }
}

/// The version of the lines after the header.
pub const VERSION: u32 = 1;

const EXTENSION: &str = ".log";

/// The first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHeader {
    /// Tells this history from any other. Positions of clients carry it.
    pub history: String,
    pub version: u32,
    /// The number of the first record.
    pub first: u64,
    /// The LDB's seq before the first record.
    pub from: Seq,
    /// The ledger that the LDB followed then.
    pub ledger: Option<String>,
    /// The highest ledger seq that the LDB had reached before it went back or began anew. Up to
    /// there a seq alone does not tell which row it is of.
    #[serde(default)]
    pub seen: Seq,
}

pub fn path_of(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}{EXTENSION}"))
}

/// The numbers with which the segments begin, in order.
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

/// Makes a segment that holds only its header. No reader finds it without the header.
pub fn create(directory: &Path, header: &SegmentHeader) -> io::Result<(File, u64)> {
    let path = path_of(directory, header.first);
    let new = path.with_extension("new");
    let mut line = serde_json::to_vec(header)?;
    line.push(b'\n');
    let mut file = create_anew(&new, file_mode())?;
    file.write_all(&line)?;
    fs::rename(&new, &path)?;
    Ok((file, line.len() as u64))
}

/// Opens a segment for reading.
pub fn open(path: &Path) -> io::Result<File> {
    open_regular(OpenOptions::new().read(true), path)
}

pub fn read_header(path: &Path) -> io::Result<SegmentHeader> {
    let mut lines = LineReader::new(open(path)?, 0);
    let header = lines.read_line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let header: SegmentHeader = serde_json::from_slice(header)?;
    if header.version > VERSION {
        return Err(io::Error::other(format!("version {} is newer than {VERSION}", header.version)));
    }
    Ok(header)
}
