//! A place in a changelog that can be kept and found again: in the same file, or in
//! the one that took its path, as long as nothing can have been missed in between.

use std::io;

use serde::{Deserialize, Serialize};

use ctlstore_core::disk::FileId;

use super::entry::Entry;
use super::file::{File, Line};

/// The place behind an entry. Serializable, to be kept by the program together with
/// what it has made of the entries so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangelogPosition {
    /// The entry's number.
    pub seq: u64,
    /// The entry's ledger row, where it is named.
    pub ledger_seq: Option<i64>,
    /// The file it was in.
    device: u64,
    inode: u64,
    /// Where in the file its line begins.
    offset: u64,
    /// Tells the line from another one with the same number.
    digest: u64,
}

/// Where a follower stands after looking for its place.
#[derive(Debug)]
pub enum LocatedPosition {
    At(ChangelogPosition),
    /// Nowhere: the file is read from its beginning.
    Nothing,
}

impl ChangelogPosition {
    pub(super) fn of(entry: &Entry, line: &Line<'_>) -> Self {
        Self {
            seq: entry.seq,
            ledger_seq: entry.ledger_seq,
            device: line.file.device,
            inode: line.file.inode,
            offset: line.offset,
            digest: digest(line.bytes),
        }
    }

    /// Whether `other` is behind the same entry, in whatever file.
    fn is_same_entry(&self, other: &Self) -> bool {
        (self.seq, self.ledger_seq, self.digest) == (other.seq, other.ledger_seq, other.digest)
    }
}

/// Passes all that there is. `None` where there is no file, or no entry in it.
pub fn last(file: &mut File) -> io::Result<Option<ChangelogPosition>> {
    let mut last = None;
    while let Some(line) = file.next_line()? {
        last = Entry::parse(&line).map(|(_, position)| position).or(last);
    }
    Ok(last)
}

/// Leaves `file` behind the entry of `position`. `None` while there is no file.
pub fn find(file: &mut File, position: &ChangelogPosition) -> io::Result<Option<LocatedPosition>> {
    let Some(id) = file.open_at(position.offset)? else { return Ok(None) };
    let there = FileId { device: position.device, inode: position.inode };
    if id == there
        && let Some(line) = file.next_line()?
        && let Some((_, found)) = Entry::parse(&line)
        && found == *position
    {
        return Ok(Some(LocatedPosition::At(found)));
    }
    // Numbers of the original begin anew with each start of its reflector: in another
    // place its entry may be another one with the same number.
    if position.ledger_seq.is_some() && find_entry(file, position)? {
        return Ok(Some(LocatedPosition::At(position.clone())));
    }
    Ok(file.open_at(0)?.map(|_| LocatedPosition::Nothing))
}

/// Looks for the entry in the whole file, or for the one behind it at its beginning.
fn find_entry(file: &mut File, position: &ChangelogPosition) -> io::Result<bool> {
    file.open_at(0)?;
    let mut is_first = true;
    while let Some(line) = file.next_line()? {
        let Some((_, found)) = Entry::parse(&line) else { return Ok(false) };
        if found.is_same_entry(position) {
            return Ok(true);
        }
        let follows = found.seq == position.seq.wrapping_add(1) && found.ledger_seq >= position.ledger_seq;
        if is_first && follows {
            // The file was begun when the one with the position was full.
            file.open_at(0)?;
            return Ok(true);
        }
        is_first = false;
    }
    Ok(false)
}

/// FNV-1a, 64 bits: enough to tell a handful of lines with one number apart.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
