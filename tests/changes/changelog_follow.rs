//! The library's follower of the changelog: no entry is lost while files replace each other, a
//! kept position is found again, and missed entries are reported.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ctlstore_reader::changelog::{ChangelogPosition, Entry, FollowError, Follower};
use futures::StreamExt;
use support::ldb::{CREATE, Scratch, batch, upsert};

const SOON: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

/// A changelog that the test writes line by line.
struct Log {
    directory: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("change.log")
    }

    fn append(&self, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn entries(&self, seqs: impl IntoIterator<Item = u64>) {
        seqs.into_iter().for_each(|seq| self.append(&ours(seq)));
    }

    /// A new file takes the path, as ours does.
    fn rename(&self) {
        let new = self.directory.path().join("new");
        File::create(&new).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    /// As the original does it.
    fn remove(&self) {
        fs::remove_file(self.path()).unwrap();
    }
}

fn line(seq: u64, id: u64, ledger_seq: &str) -> String {
    let key = format!(r#"[{{"name":"id","type":"INTEGER","value":{id}}}]"#);
    format!(r#"{{"seq":{seq},"family":"fam","table":"tab","key":{key}{ledger_seq}}}"#) + "\n"
}

/// An entry of ours, whose ledger seq is its number and a hundred.
fn ours(seq: u64) -> String {
    line(seq, seq, &format!(",\"ledgerSeq\":{}", seq + 100))
}

/// The entries that the follower finds without waiting, as numbers. `Err` has the number that was
/// found after missed entries.
fn found(follower: &mut Follower) -> Vec<Result<u64, Option<u64>>> {
    let mut found = Vec::new();
    loop {
        match follower.try_next() {
            Ok(Some(entry)) => found.push(Ok(entry.seq)),
            Ok(None) => return found,
            Err(FollowError::OutOfSync { found: number, .. }) => found.push(Err(number)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn followers_lose_nothing_while_an_applier_rotates_the_file_under_them() {
    const MAX_BYTES: u64 = 20_000;
    // Fewer entries than a file holds, so that no file comes and goes between two reads.
    const AHEAD: u64 = 60;
    const LAST: i64 = 1_500;
    let scratch = Scratch::new();
    let path = scratch.changelog();
    let read: Vec<_> = (0..4).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let followers: Vec<_> = read
        .iter()
        .map(|read| {
            let (read, follower) = (Arc::clone(read), Follower::at_start(&path).timeout(LONG));
            thread::spawn(move || {
                for entry in follower {
                    let entry: Entry = entry.expect("an entry, and nothing missed");
                    assert_eq!(entry.seq, read.load(Ordering::Acquire) + 1);
                    read.store(entry.seq, Ordering::Release);
                    if entry.seq == LAST as u64 {
                        return;
                    }
                }
                panic!("no entry in time");
            })
        })
        .collect();
    let mut ldb = scratch.open_logged(MAX_BYTES);
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    for seq in 2..=LAST + 1 {
        while read.iter().any(|read| read.load(Ordering::Acquire) + AHEAD < seq as u64) {
            assert!(!followers.iter().any(thread::JoinHandle::is_finished), "a follower has failed");
            thread::yield_now();
        }
        ldb.apply(&batch(seq, &[&upsert(seq, "a")])).unwrap();
    }
    followers.into_iter().for_each(|follower| follower.join().unwrap());
    assert!(ldb.changelog_total().rotations > 5);
}

#[test]
fn both_ways_of_taking_the_path_are_followed_and_the_old_file_is_read_to_its_end() {
    type Rotate = fn(&Log);
    for rotate in [Log::rename as Rotate, Log::remove] {
        let log = Log::new();
        let mut follower = Follower::at_start(log.path());
        assert_eq!(found(&mut follower), []);
        log.entries(1..3);
        assert_eq!(found(&mut follower), [Ok(1), Ok(2)]);
        log.entries(3..5);
        rotate(&log);
        assert_eq!(found(&mut follower), [Ok(3), Ok(4)]);
        log.entries(5..7);
        assert_eq!(found(&mut follower), [Ok(5), Ok(6)]);
        // Twice between two reads: the file in the middle was never read.
        rotate(&log);
        log.entries(7..8);
        rotate(&log);
        log.entries(8..9);
        assert_eq!(found(&mut follower), [Err(Some(8)), Ok(8)]);
    }
}

#[test]
fn a_line_counts_once_it_is_whole() {
    let log = Log::new();
    let mut follower = Follower::at_start(log.path());
    let whole = ours(1);
    for piece in whole.as_bytes().chunks(7) {
        assert_eq!(found(&mut follower), []);
        log.append(std::str::from_utf8(piece).unwrap());
    }
    assert_eq!(found(&mut follower), [Ok(1)]);
    // A torn line that the next start ended is a missed entry.
    log.append("{\"seq\":2,\"fam\n");
    log.entries(4..5);
    assert_eq!(found(&mut follower), [Err(None), Ok(4)]);
    // A torn line at the end of a replaced file shows in the numbers.
    log.append("{\"seq\":5,\"fam");
    log.rename();
    log.entries(7..8);
    assert_eq!(found(&mut follower), [Err(Some(7)), Ok(7)]);
    // A file that another program has cut short is read from its beginning.
    OpenOptions::new().write(true).open(log.path()).unwrap().set_len(0).unwrap();
    assert_eq!(found(&mut follower), []);
    log.entries(8..9);
    assert_eq!(found(&mut follower), [Ok(8)]);
}

#[test]
fn only_what_was_asked_for_comes_and_a_gap_is_everyones() {
    let log = Log::new();
    log.entries(1..3);
    log.append(&ours(3).replace("\"tab\"", "\"other\""));
    log.append(&ours(4).replace("\"fam\"", "\"else\""));
    log.append(&ours(6).replace("\"fam\"", "\"else\""));
    let mut family = Follower::at_start(log.path()).family("fam");
    assert_eq!(found(&mut family), [Ok(1), Ok(2), Ok(3), Err(Some(6))]);
    assert_eq!(family.position().unwrap().seq, 6);
    let mut table = Follower::at_start(log.path()).table("fam", "other");
    assert_eq!(found(&mut table), [Ok(3), Err(Some(6))]);
}

#[test]
fn waiting_ends_with_an_entry_or_with_its_time() {
    let log = Log::new();
    log.entries(1..4);
    let mut follower = Follower::at_end(log.path()).timeout(SOON);
    assert!(follower.next().is_none());
    assert!(follower.next_within(SOON).unwrap().is_none());
    let waiting = thread::spawn(move || follower.timeout(LONG).next().expect("an entry").expect("nothing missed"));
    log.entries(4..5);
    let entry = waiting.join().unwrap();
    assert_eq!((entry.seq, entry.ledger_seq), (4, Some(104)));
    assert_eq!((entry.family.as_str(), entry.table.as_str()), ("fam", "tab"));
    assert_eq!((entry.key[0].name.as_str(), entry.key[0].declared.as_str()), ("id", "INTEGER"));
    assert_eq!(entry.key[0].value, 4);
}

/// The position after entry `seq`, through JSON as a program would keep it.
fn position(log: &Path, seq: u64) -> ChangelogPosition {
    let mut follower = Follower::at_start(log);
    while follower.try_next().unwrap().expect("the entry").seq != seq {}
    let json = serde_json::to_string(follower.position().unwrap()).unwrap();
    serde_json::from_str(&json).unwrap()
}

#[test]
fn a_kept_position_is_found_again_in_its_file_and_in_the_next_one() {
    let log = Log::new();
    log.entries(1..10);
    for seq in 1..10 {
        let mut follower = Follower::resume(log.path(), position(&log.path(), seq));
        assert_eq!(found(&mut follower), (seq + 1..10).map(Ok).collect::<Vec<_>>());
    }
    let (old, newest) = (position(&log.path(), 5), position(&log.path(), 9));
    // The same entries in another file, as after a copy of the directory.
    fs::copy(log.path(), log.directory.path().join("copy")).unwrap();
    fs::rename(log.directory.path().join("copy"), log.path()).unwrap();
    let mut follower = Follower::resume(log.path(), old.clone());
    assert_eq!(found(&mut follower), [Ok(6), Ok(7), Ok(8), Ok(9)]);
    // The file was full, and the next file goes on at its end.
    log.remove();
    let mut early = Follower::resume(log.path(), newest.clone());
    assert_eq!(found(&mut early), []);
    log.entries(10..12);
    assert_eq!(found(&mut early), [Ok(10), Ok(11)]);
    assert_eq!(found(&mut Follower::resume(log.path(), newest.clone())), [Ok(10), Ok(11)]);
    // A position that is older than the file is not found, and neither is one that is ahead.
    assert_eq!(found(&mut Follower::resume(log.path(), old)), [Err(None), Ok(10), Ok(11)]);
    log.remove();
    log.entries(2..4);
    assert_eq!(found(&mut Follower::resume(log.path(), newest)), [Err(None), Ok(2), Ok(3)]);
}

#[test]
fn a_changelog_of_the_original_is_followed_and_doubt_is_said() {
    let theirs = |seq, id| line(seq, id, "");
    let log = Log::new();
    let mut follower = Follower::at_start(log.path());
    // A replaced row comes twice, each time with a number of its own.
    [theirs(1, 7), theirs(2, 7), theirs(3, 8)].iter().for_each(|line| log.append(line));
    assert_eq!(found(&mut follower), [Ok(1), Ok(2), Ok(3)]);
    let kept = follower.position().unwrap().clone();
    // Its numbers begin anew with each start.
    [theirs(1, 7), theirs(2, 7), theirs(3, 8), theirs(4, 9)].iter().for_each(|line| log.append(line));
    assert_eq!(found(&mut follower), [Err(Some(1)), Ok(1), Ok(2), Ok(3), Ok(4)]);
    // The same line is there twice. The offset tells them apart.
    let resumed = found(&mut Follower::resume(log.path(), kept.clone()));
    assert_eq!(resumed, [Err(Some(1)), Ok(1), Ok(2), Ok(3), Ok(4)]);
    // In another file the same number may be another entry.
    log.rename();
    log.append(&theirs(4, 10));
    assert_eq!(found(&mut Follower::resume(log.path(), kept)), [Err(None), Ok(4)]);
}

#[tokio::test]
async fn a_follower_is_an_async_stream_too() {
    let log = Log::new();
    let mut stream = Follower::at_start(log.path()).into_stream().unwrap();
    let writer = thread::spawn(move || {
        log.entries(1..2000);
        log.entries(2001..2002);
        log
    });
    for seq in 1..2000 {
        assert_eq!(stream.next().await.unwrap().unwrap().seq, seq);
    }
    let position = stream.position().unwrap().clone();
    assert!(matches!(stream.next().await, Some(Err(FollowError::OutOfSync { found: Some(2001), .. }))));
    assert_eq!(stream.next().await.unwrap().unwrap().seq, 2001);
    let log = writer.join().unwrap();
    let mut resumed = Follower::resume(log.path(), position).into_stream().unwrap();
    assert!(matches!(resumed.next().await, Some(Err(FollowError::OutOfSync { .. }))));
    assert_eq!(resumed.next().await.unwrap().unwrap().seq, 2001);
}
