//! Reads the end of a changelog that is there already: which entry is its last, and
//! whether its last line was torn by a crash.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Deserialize;

/// How far back the last entry is looked for, in bytes. An entry names one key, and
/// keys are far smaller.
const MAX_BYTES: u64 = 1024 * 1024;

/// How a changelog ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// The last complete entry's number, `None` where there is none.
    pub last: Option<u64>,
    /// Whether anything that is no entry stands behind it.
    pub torn: bool,
    /// Whether the file ends in the middle of a line.
    pub open_line: bool,
}

#[derive(Deserialize)]
struct Entry {
    seq: u64,
}

impl Tail {
    /// Reads the end of `file`, which has `length` bytes.
    pub fn read(file: &File, length: u64) -> io::Result<Self> {
        let start = length.saturating_sub(MAX_BYTES);
        let mut bytes = vec![0; usize::try_from(length - start).unwrap_or_default()];
        file.read_exact_at(&mut bytes, start)?;
        Ok(Self::of(&bytes))
    }

    fn of(bytes: &[u8]) -> Self {
        let open_line = bytes.last().is_some_and(|&byte| byte != b'\n');
        let mut tail = Self { last: None, torn: open_line, open_line };
        // Without the line feed at the end, each piece is a line; an open one does not count.
        let complete = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => &bytes[..end],
            None => return tail,
        };
        for line in complete.rsplit(|&byte| byte == b'\n') {
            if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
                tail.last = Some(entry.seq);
                break;
            }
            tail.torn = true;
        }
        tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(last: Option<u64>, torn: bool, open_line: bool) -> Tail {
        Tail { last, torn, open_line }
    }

    #[test]
    fn the_last_complete_entry_counts() {
        assert_eq!(Tail::of(b""), tail(None, false, false));
        assert_eq!(Tail::of(b"{\"seq\":7}\n{\"seq\":8,\"key\":[]}\n"), tail(Some(8), false, false));
        assert_eq!(Tail::of(b"{\"seq\":7}\n{\"seq\":8"), tail(Some(7), true, true));
        assert_eq!(Tail::of(b"{\"seq\":7}\n{\"seq\":8}"), tail(Some(7), true, true));
        assert_eq!(Tail::of(b"{\"seq\":7}\n{\"se\n"), tail(Some(7), true, false));
        assert_eq!(Tail::of(b"{\"seq\""), tail(None, true, true));
        assert_eq!(Tail::of(b"other\n"), tail(None, true, false));
    }
}
