//! Segment files: their names, their first line, and reading them line by line. A
//! segment is named by the number of its first record, so the one behind a full one
//! is found by name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use ctlstore_core::disk::{FILE_MODE, LineReader, create_anew, open_regular};
use ctlstore_core::ledger::Seq;

/// The version of the lines below the header.
pub const VERSION: u32 = 1;

const EXTENSION: &str = ".log";

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
    /// The highest ledger seq that the LDB had come to before it went back or began anew.
    /// Up to there a seq alone does not say which row it is of.
    #[serde(default)]
    pub seen: Seq,
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
    let mut line = serde_json::to_vec(header)?;
    line.push(b'\n');
    let mut file = create_anew(&new, FILE_MODE)?;
    file.write_all(&line)?;
    fs::rename(&new, &path)?;
    Ok((file, line.len() as u64))
}

/// Opens a segment for reading.
pub fn open(path: &Path) -> io::Result<File> {
    open_regular(OpenOptions::new().read(true), path)
}

pub fn read_header(path: &Path) -> io::Result<Header> {
    let mut lines = LineReader::new(open(path)?, 0);
    let header = lines.read_line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let header: Header = serde_json::from_slice(header)?;
    if header.version > VERSION {
        return Err(io::Error::other(format!("version {} is newer than {VERSION}", header.version)));
    }
    Ok(header)
}
