//! The rows that one statement changed, as entries without their numbers. Bounded: a
//! statement that changes more rows than may be named becomes a jump.

use std::collections::HashSet;

/// The most rows of one statement that are named.
const MAX_ROWS_PER_STATEMENT: usize = 10_000;

/// The changes of one statement.
#[derive(Debug, Default)]
pub struct ChangedRows {
    /// Whether rows changed that have no entry here.
    pub jump: bool,
    overflowed: bool,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl ChangedRows {
    /// One entry for each row, without its numbers.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether there were too many rows to name. The hook can then ignore the rest.
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    fn last(&self) -> Option<&[u8]> {
        let end = *self.ends.last()?;
        let start = self.ends.len().checked_sub(2).map_or(0, |i| self.ends[i]);
        Some(&self.bytes[start..end])
    }

    /// Adds the entry that `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        // SQLite reports a replaced row twice: deleted, then inserted.
        if self.last() == Some(&self.bytes[start..]) {
            self.bytes.truncate(start);
        } else if self.ends.len() == MAX_ROWS_PER_STATEMENT {
            // One entry is enough to show followers the jump.
            self.bytes.truncate(self.ends[0]);
            self.ends.truncate(1);
            self.overflowed = true;
            self.jump = true;
        } else {
            self.ends.push(self.bytes.len());
        }
    }

    /// Leaves one entry for each row, if a statement changed a row more than once.
    pub fn drop_repeats(&mut self) {
        if self.ends.len() < 3 {
            return;
        }
        let mut unique = ChangedRows { jump: self.jump, ..ChangedRows::default() };
        let mut seen = HashSet::with_capacity(self.ends.len());
        for entry in self.entries().filter(|entry| seen.insert(*entry)) {
            unique.bytes.extend_from_slice(entry);
            unique.ends.push(unique.bytes.len());
        }
        *self = unique;
    }

    /// Empties it and keeps its memory, because the next statement is usually like the last.
    pub fn clear(&mut self) {
        self.jump = false;
        self.overflowed = false;
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(entries: impl IntoIterator<Item = String>) -> ChangedRows {
        let mut changes = ChangedRows::default();
        for entry in entries {
            changes.push(|out| out.extend_from_slice(entry.as_bytes()));
        }
        changes.drop_repeats();
        changes
    }

    #[test]
    fn a_row_that_changed_more_than_once_is_named_once() {
        let changes = of(["a", "a", "b", "c", "b", "a"].map(str::to_owned));
        assert_eq!(changes.entries().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert!(!changes.jump);
    }

    #[test]
    fn too_many_rows_become_a_jump_with_one_of_them() {
        let most = of((0..MAX_ROWS_PER_STATEMENT).map(|i| i.to_string()));
        assert_eq!((most.entries().count(), most.jump), (MAX_ROWS_PER_STATEMENT, false));
        let more = of((0..MAX_ROWS_PER_STATEMENT + 1).map(|i| i.to_string()));
        assert_eq!((more.entries().collect::<Vec<_>>(), more.jump), (vec![b"0".as_slice()], true));
        assert!(more.has_overflowed());
    }
}
