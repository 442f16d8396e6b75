//! An entry of the changelog, and the place after it that a program can keep and find again. Entry
//! points: [`Entry`], [`ChangelogPosition`] and [`find`]. A place is found in the same file, or in
//! the file that has replaced it if no entry can have been missed in between.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use ctlstore_core::disk::FileId;

use super::file::{ChangelogFile, ChangelogLine};

/// A row that was inserted, changed or deleted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The entry's number. Each entry's is one higher than that of the entry before.
    pub seq: u64,
    pub family: String,
    pub table: String,
    /// The columns of the primary key, in the table's column order.
    pub key: Vec<KeyColumn>,
    /// The seq of the ledger row that changed it; `None` in a changelog of the Go program.
    pub ledger_seq: Option<i64>,
}

/// One column of a key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct KeyColumn {
    pub name: String,
    /// The declared type, such as `VARCHAR(191)`.
    #[serde(rename = "type")]
    pub declared: String,
    /// A string, a number or null. Bytes are padded base64.
    pub value: Value,
}

/// The place after an entry. A program can serialize it, and keep it together with the results of
/// the entries so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangelogPosition {
    /// The entry's number.
    pub seq: u64,
    /// The entry's ledger seq, if it has one.
    pub ledger_seq: Option<i64>,
    /// The identity of its file.
    device: u64,
    inode: u64,
    /// The place in the file at which its line begins.
    offset: u64,
    /// A hash that tells the line from another one with the same number.
    digest: u64,
}

/// The result of a search for a position.
#[derive(Debug)]
pub(super) enum LocatedPosition {
    At(ChangelogPosition),
    /// The position was not found. The file is read from its beginning.
    NotFound,
}

impl ChangelogPosition {
    fn of(entry: &Entry, line: &ChangelogLine<'_>) -> Self {
        Self {
            seq: entry.seq,
            ledger_seq: entry.ledger_seq,
            device: line.file.device,
            inode: line.file.inode,
            offset: line.offset,
            digest: digest(line.bytes),
        }
    }

    /// Whether `other` is the place after the same entry, in any file.
    fn is_same_entry(&self, other: &Self) -> bool {
        (self.seq, self.ledger_seq, self.digest) == (other.seq, other.ledger_seq, other.digest)
    }
}

/// Parses a line; `None` if it is not an entry.
pub(super) fn parse(line: &ChangelogLine<'_>) -> Option<(Entry, ChangelogPosition)> {
    let entry: Entry = serde_json::from_slice(line.bytes).ok()?;
    let position = ChangelogPosition::of(&entry, line);
    Some((entry, position))
}

/// Reads to the end of the file, and returns the last position; `None` if there is no file or no
/// entry in it.
pub(super) fn last(file: &mut ChangelogFile) -> io::Result<Option<ChangelogPosition>> {
    let mut last = None;
    while let Some(line) = file.next_line()? {
        last = parse(&line).map(|(_, position)| position).or(last);
    }
    Ok(last)
}

/// Moves `file` to the place after the entry of `position`. `None` if there is no file.
pub(super) fn find(file: &mut ChangelogFile, position: &ChangelogPosition) -> io::Result<Option<LocatedPosition>> {
    let Some(id) = file.open_at(position.offset)? else { return Ok(None) };
    let there = FileId { device: position.device, inode: position.inode };
    if id == there
        && let Some(line) = file.next_line()?
        && let Some((_, found)) = parse(&line)
        && found == *position
    {
        return Ok(Some(LocatedPosition::At(found)));
    }
    // The Go program's numbers begin at 1 again with each start of its reflector. So an entry
    // with this number at another place can be a different one.
    if position.ledger_seq.is_some() && find_entry(file, position)? {
        return Ok(Some(LocatedPosition::At(position.clone())));
    }
    Ok(file.open_at(0)?.map(|_| LocatedPosition::NotFound))
}

/// Searches the whole file for the entry, or its beginning for the entry after it.
fn find_entry(file: &mut ChangelogFile, position: &ChangelogPosition) -> io::Result<bool> {
    file.open_at(0)?;
    let mut is_first = true;
    while let Some(line) = file.next_line()? {
        let Some((_, found)) = parse(&line) else { return Ok(false) };
        if found.is_same_entry(position) {
            return Ok(true);
        }
        let follows = found.seq == position.seq.wrapping_add(1) && found.ledger_seq >= position.ledger_seq;
        if is_first && follows {
            // The file was begun when the file with the position was full.
            file.open_at(0)?;
            return Ok(true);
        }
        is_first = false;
    }
    Ok(false)
}

/// FNV-1a with 64 bits. It has to tell apart only the few lines that have one number.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
