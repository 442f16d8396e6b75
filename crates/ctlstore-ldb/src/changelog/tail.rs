//! Reads the end of an existing changelog: the number of its last entry, and whether a crash
//! tore its last line. Entry point: [`FileTail::read`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// How far back the last entry is searched, in bytes. An entry names one key, and keys are far
/// smaller.
const MAX_BYTES: u64 = 1024 * 1024;

/// How a changelog ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileTail {
    /// The number of the last complete entry; `None` if there is none.
    pub last: Option<u64>,
    /// Whether anything that is no entry comes after it.
    pub torn: bool,
    /// Whether the file ends in the middle of a line.
    pub open_line: bool,
}

/// The members that tell an entry from a line of another program.
#[derive(Deserialize)]
struct EntryMembers {
    seq: u64,
    #[serde(rename = "family")]
    _family: String,
    #[serde(rename = "table")]
    _table: String,
}

/// How each entry begins, also one that a crash tore.
const ENTRY_START: &[u8] = b"{\"seq\":";

impl FileTail {
    /// Reads the end of `file`, which has `length` bytes.
    ///
    /// # Errors
    /// If it is another program's file; and those of the filesystem.
    pub fn read(file: &File, length: u64) -> io::Result<Self> {
        let start = length.saturating_sub(MAX_BYTES);
        let end = read_at(file, start, length - start)?;
        let tail = Self::of(&end);
        if length > 0 && tail.last.is_none() && !begins_as_changelog(&read_at(file, 0, length.min(MAX_BYTES))?) {
            let message = "it is not a changelog; name another file in changelog.path, or move this one away";
            return Err(io::Error::other(message));
        }
        Ok(tail)
    }

    fn of(bytes: &[u8]) -> Self {
        let open_line = bytes.last().is_some_and(|&byte| byte != b'\n');
        let mut tail = Self { last: None, torn: open_line, open_line };
        // The last line is complete only if a line feed ends it.
        let complete = match bytes.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => &bytes[..end],
            None => return tail,
        };
        for line in complete.rsplit(|&byte| byte == b'\n') {
            if let Ok(entry) = serde_json::from_slice::<EntryMembers>(line) {
                tail.last = Some(entry.seq);
                break;
            }
            tail.torn = true;
        }
        tail
    }
}

fn read_at(file: &File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

/// Whether the first line is an entry, or what a crash left of one.
fn begins_as_changelog(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    match serde_json::from_slice::<IgnoredAny>(line) {
        Ok(_) => serde_json::from_slice::<EntryMembers>(line).is_ok(),
        Err(_) => line.starts_with(ENTRY_START) || (!line.is_empty() && ENTRY_START.starts_with(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(last: Option<u64>, torn: bool, open_line: bool) -> FileTail {
        FileTail { last, torn, open_line }
    }

    #[test]
    fn the_last_complete_entry_counts() {
        let entry = |seq| format!("{{\"seq\":{seq},\"family\":\"fam\",\"table\":\"tab\",\"key\":[]}}");
        let seven = entry(7);
        let eight = entry(8);
        let of = |text: String| FileTail::of(text.as_bytes());
        assert_eq!(FileTail::of(b""), tail(None, false, false));
        assert_eq!(of(format!("{seven}\n{eight}\n")), tail(Some(8), false, false));
        assert_eq!(of(format!("{seven}\n{{\"seq\":8")), tail(Some(7), true, true));
        assert_eq!(of(format!("{seven}\n{eight}")), tail(Some(7), true, true));
        assert_eq!(of(format!("{seven}\n{{\"se\n")), tail(Some(7), true, false));
        assert_eq!(FileTail::of(b"{\"seq\""), tail(None, true, true));
        assert_eq!(FileTail::of(b"other\n"), tail(None, true, false));
    }

    #[test]
    fn another_program_s_file_is_told_from_a_changelog_that_was_torn() {
        for torn in
            ["{\"seq\":1,\"fam", "{\"se", "{", "{\"seq\":1,\"fam\n", "{\"seq\":1,\"family\":\"f\",\"table\":\"t\"}"]
        {
            assert!(begins_as_changelog(torn.as_bytes()), "{torn}");
        }
        for other in
            ["\n", "127.0.0.1 localhost\n", "{\"seq\":1,\"msg\":\"x\"}\n", "{}\n", "\u{0}\u{0}", "{\"level\":1}"]
        {
            assert!(!begins_as_changelog(other.as_bytes()), "{other}");
        }
    }
}
