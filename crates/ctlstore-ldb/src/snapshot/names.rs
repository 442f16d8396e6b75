//! Makes and recognises the names at a destination. All are made from its key. Pure.
//!
//! For the key `snapshot.db.gz`: `snapshot.db.gz.4711-0a1b2c3d` only ever holds the snapshot
//! at seq 4711 whose file's SHA-256 begins with these digits; `snapshot-20261123T190737Z.db.gz`
//! is a kept snapshot. The hash is that of the uncompressed file, because the hash of a
//! stream is known only after the stream has gone to its name.

use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::Timestamp;

/// Hex digits of the hash in a name.
const HASH_DIGITS: usize = 8;
/// The length of `20261123T190737Z`.
const TIME_CHARS: usize = 16;

/// The immutable name of a snapshot.
pub fn immutable(key: &str, seq: Seq, sha256: &str) -> String {
    format!("{key}.{seq}-{}", sha256.get(..HASH_DIGITS).unwrap_or(sha256))
}

/// The seq in an immutable name of this key.
pub fn seq_of(key: &str, name: &str) -> Option<Seq> {
    let (seq, hash) = name.strip_prefix(key)?.strip_prefix('.')?.split_once('-')?;
    let is_hash = hash.len() == HASH_DIGITS && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    // The publisher writes only this form: 007 and +7 are another program's.
    let seq = seq.parse::<i64>().ok().filter(|number| *number >= 0 && number.to_string() == seq);
    seq.filter(|_| is_hash).map(Seq)
}

/// How names of unfinished objects end.
pub const UNFINISHED: &str = ".ctlstore.tmp";
/// How names of copies end, after numbers.
pub const STAGED: &str = ".staged.tmp";
/// How names of downloads end that are only checked, after numbers.
pub const SCRATCH: &str = ".look.tmp";

/// Whether `name` is that of an unfinished file of ours beside `key`, or of the journal that
/// SQLite left beside one. Files of any other name are not ours to remove.
pub fn is_unfinished(key: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(key) else { return false };
    let rest = rest.strip_suffix("-journal").unwrap_or(rest);
    if let Some(middle) = rest.strip_suffix(UNFINISHED) {
        return middle.is_empty() || middle.starts_with('.');
    }
    let is_numbers = |text: &str| text.strip_prefix('.').is_some_and(|text| text.split('.').all(is_number));
    let numbered = rest.strip_suffix(STAGED).or_else(|| rest.strip_suffix(SCRATCH));
    // Earlier versions ended the name in `.tmp` alone.
    let earlier = name.strip_suffix(".tmp").is_some_and(|name| seq_of(key, name).is_some());
    numbered.is_some_and(is_numbers) || earlier
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// How the names of kept snapshots begin and end.
pub fn around_time(key: &str) -> (String, &str) {
    // A leading dot belongs to the name, not to an ending.
    let dot = key.char_indices().skip(1).find(|(_, c)| *c == '.').map_or(key.len(), |(at, _)| at);
    (format!("{}-", &key[..dot]), &key[dot..])
}

/// The name under which the snapshot taken at `taken_at` is kept.
pub fn kept(key: &str, taken_at: Timestamp) -> String {
    let (before, after) = around_time(key);
    // `2026-11-23 19:07:37[.ffffff]+00:00`
    let text = taken_at.to_string();
    let digits: String = text.chars().take(19).filter(char::is_ascii_digit).collect();
    let (date, time) = digits.split_at(digits.len().min(8));
    format!("{before}{date}T{time}Z{after}")
}

/// Whether `name` is one that [`kept`] gives. The order of such names is the order of time.
pub fn is_kept(key: &str, name: &str) -> bool {
    let (before, after) = around_time(key);
    let time = name.strip_prefix(&before).and_then(|rest| rest.strip_suffix(after));
    time.is_some_and(|time| {
        time.len() == TIME_CHARS
            && time.bytes().enumerate().all(|(at, b)| match at {
                8 => b == b'T',
                15 => b == b'Z',
                _ => b.is_ascii_digit(),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn immutable_names_are_told_from_others() {
        let name = immutable("a.db.gz", Seq(4711), "0a1b2c3d4e5f");
        assert_eq!(name, "a.db.gz.4711-0a1b2c3d");
        assert_eq!(seq_of("a.db.gz", &name), Some(Seq(4711)));
        for other in [
            "a.db.gz",
            "a.db.gz.json",
            "a.db.gz.lock",
            "a.db.gz.1-0a1b2c3",
            "a.db.1-0a1b2c3d",
            "a.db.gz.+1-0a1b2c3d",
            "a.db.gz.007-0a1b2c3d",
            "a.db.gz.7-DEADBEEF",
            "a.db.gz.-7-0a1b2c3d",
            "a.db.gz.7-0a1b2c3d.bak",
        ] {
            assert_eq!(seq_of("a.db.gz", other), None, "{other}");
        }
    }

    #[test]
    fn only_our_unfinished_files_are_taken_for_ours() {
        for ours in [
            "a.db.ctlstore.tmp",
            "a.db.json.ctlstore.tmp",
            "a.db.7-0a1b2c3d.ctlstore.tmp",
            "a.db.7-0a1b2c3d.tmp",
            "a.db.link.ctlstore.tmp",
            "a.db.3.staged.tmp",
            "a.db.3.staged.tmp-journal",
            "a.db.3.0.look.tmp",
        ] {
            assert!(is_unfinished("a.db", ours), "{ours}");
        }
        for other in ["a.db.tmp", "a.db.backup.tmp", "a.db", "a.db-journal", "a.db.x.staged.tmp", "b.db.ctlstore.tmp"] {
            assert!(!is_unfinished("a.db", other), "{other}");
        }
    }

    #[test]
    fn the_time_stands_before_the_endings() {
        let at = Timestamp::parse("2026-11-23 19:07:37.123456+00:00").unwrap();
        for (key, name) in [
            ("snapshot.db.gz", "snapshot-20261123T190737Z.db.gz"),
            ("snapshot", "snapshot-20261123T190737Z"),
            (".hidden.db", ".hidden-20261123T190737Z.db"),
        ] {
            assert_eq!(kept(key, at), name);
            assert!(is_kept(key, name) && !is_kept(key, key) && !is_kept(key, &format!("{name}.json")));
        }
        assert!(!is_kept("a.db", "a-20261123T19073xZ.db"));
    }
}
