//! The entries of a transaction that is not committed yet, as numbered lines. Bounded.

use ctlstore_core::ledger::Seq;

/// The most bytes of lines that one transaction keeps. Beyond that they give way to a jump; a
/// file of the usual size would not have held them either.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Memory that is kept for the lines of the next transaction, in bytes.
const KEPT_BYTES: usize = 2 * 1024 * 1024;

#[derive(Debug)]
pub struct PendingEntries {
    next: u64,
    lines: Vec<u8>,
    entries: u64,
    jumps: u64,
}

impl PendingEntries {
    /// `next` is the number of the first entry to come.
    pub fn new(next: u64) -> Self {
        Self { next, lines: Vec::new(), entries: 0, jumps: 0 }
    }

    /// Starts over with `next` as the number of the first entry to come.
    pub fn restart(&mut self, next: u64) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        lines.shrink_to(KEPT_BYTES);
        *self = Self { lines, ..Self::new(next) };
    }

    /// The number after the last entry.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Complete lines, in order.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// Leaves one number out. The next entry shows the jump.
    pub fn jump(&mut self) {
        self.next += 1;
        self.jumps += 1;
    }

    /// Adds one entry, given as its members without the two numbers.
    pub fn push(&mut self, entry: &[u8], ledger_seq: Seq) {
        if self.lines.len() + entry.len() > MAX_BYTES {
            self.lines.clear();
            self.entries = 0;
            self.jumps += 1;
        }
        let mut number = itoa::Buffer::new();
        self.lines.extend_from_slice(b"{\"seq\":");
        self.lines.extend_from_slice(number.format(self.next).as_bytes());
        self.lines.push(b',');
        self.lines.extend_from_slice(entry);
        self.lines.extend_from_slice(b",\"ledgerSeq\":");
        self.lines.extend_from_slice(number.format(ledger_seq.0).as_bytes());
        self.lines.extend_from_slice(b"}\n");
        self.next += 1;
        self.entries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_is_too_large_keeps_its_end_behind_a_jump() {
        let mut pending = PendingEntries::new(1);
        let entry = vec![b' '; MAX_BYTES / 3];
        for _ in 0..4 {
            pending.push(&entry, Seq(9));
        }
        assert_eq!((pending.next(), pending.jumps()), (5, 1));
        assert!(pending.lines().starts_with(b"{\"seq\":3,"));
        assert_eq!(pending.entries(), 2);
    }
}
