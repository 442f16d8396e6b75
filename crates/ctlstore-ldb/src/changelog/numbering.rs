//! The numbering of changelog entries: what the LDB keeps of it, and whether the file goes on
//! without a gap. Entry point: [`resume`]. Pure.

use ctlstore_core::ledger::Seq;

use super::tail::FileTail;

/// The numbering as the LDB keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbering {
    /// The number of the next entry.
    pub next: u64,
    /// The LDB's seq when that number was stored.
    pub ledger_seq: Seq,
    /// The database file in which it was stored. A copy of the LDB is another file.
    pub ldb_file: String,
}

/// How the numbering goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// The number of the next entry.
    pub next: u64,
    /// Whether the file may lack entries, so that the numbering jumps.
    pub owes_jump: bool,
}

/// Compares the numbering that an LDB keeps with the end of the changelog. The LDB is at seq
/// `at` in the database file `ldb_file`; `tail` is `None` if the changelog can't be read.
pub fn resume(stored: Option<&Numbering>, tail: Option<FileTail>, at: Seq, ldb_file: &str) -> Resumed {
    let stored_next = stored.map_or(1, |stored| stored.next);
    let is_readable = tail.is_some();
    let tail = tail.unwrap_or_default();
    let last = tail.last.unwrap_or(0);
    let is_first = stored.is_none() && tail.last.is_none() && at == Seq::ZERO;
    let belongs = stored.is_some_and(|stored| stored.ledger_seq == at && stored.ldb_file == ldb_file);
    // The first entry of all has number 1, so an empty file belongs to that.
    let is_complete = belongs && !tail.torn && last + 1 == stored_next;
    let owes_jump = !is_readable || !(is_first || is_complete);
    let next = if owes_jump { stored_next.max(last + 1) + 1 } else { stored_next };
    Resumed { next, owes_jump }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbering_goes_on_only_where_file_and_ldb_agree() {
        let stored = Numbering { next: 8, ledger_seq: Seq(40), ldb_file: "1:2".to_owned() };
        let tail = |last, torn| Some(FileTail { last, torn, open_line: torn });
        let resumed = |tail, at, file| resume(Some(&stored), tail, Seq(at), file);
        assert_eq!(resumed(tail(Some(7), false), 40, "1:2"), Resumed { next: 8, owes_jump: false });
        for (tail, at, file, next) in [
            (tail(Some(7), false), 41, "1:2", 9),
            (tail(Some(7), false), 40, "1:3", 9),
            (tail(Some(7), true), 40, "1:2", 9),
            (tail(Some(6), false), 40, "1:2", 9),
            (tail(Some(9), false), 40, "1:2", 11),
            (tail(None, false), 40, "1:2", 9),
            (None, 40, "1:2", 9),
        ] {
            assert_eq!(resumed(tail, at, file), Resumed { next, owes_jump: true }, "{tail:?} at {at} in {file}");
        }
        let first = resume(None, tail(None, false), Seq::ZERO, "1:2");
        assert_eq!(first, Resumed { next: 1, owes_jump: false });
        assert!(resume(None, tail(None, false), Seq(1), "1:2").owes_jump);
    }
}
