//! The changelog's file through rotations, restarts, crashes and full disks: followers
//! read every entry, or learn from a jump that they did not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use ctlstore_ldb::Ldb;
use rusqlite::Connection;
use support::ldb::follower::Follower;
use support::ldb::{CREATE, Scratch, batch, upsert};

const LARGE: u64 = 1 << 20;

/// An LDB at seq 2 whose changelog has one entry, and a follower that has read it.
fn with_entry(scratch: &Scratch) -> (Ldb, Follower) {
    let mut ldb = scratch.open_logged(LARGE);
    ldb.apply(&batch(1, &[CREATE, &upsert(1, "a")])).unwrap();
    let mut follower = Follower::new(scratch.changelog());
    assert_eq!(follower.follow().len(), 1);
    (ldb, follower)
}

#[test]
fn a_restart_goes_on_where_the_file_ends() {
    let scratch = Scratch::new();
    let (ldb, mut follower) = with_entry(&scratch);
    drop(ldb);
    let mut ldb = scratch.open_logged(LARGE);
    ldb.apply(&batch(3, &[&upsert(2, "b")])).unwrap();
    assert_eq!(follower.follow().last().unwrap().seq, 2);
    assert_eq!(follower.resyncs, 0);
}

#[test]
fn a_full_file_is_replaced_and_followers_read_on() {
    const MAX: u64 = 1_000;
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(MAX);
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    let mut follower = Follower::new(scratch.changelog());
    let (mut read, mut inodes) = (0, std::collections::BTreeSet::new());
    for seq in 2..200 {
        ldb.apply(&batch(seq, &[&upsert(seq, "a")])).unwrap();
        let file = fs::metadata(scratch.changelog()).unwrap();
        assert!(file.len() <= MAX, "{} bytes", file.len());
        assert_eq!(file.permissions().mode() & 0o777, 0o640);
        inodes.insert(file.ino());
        // It reads rarely, and still before more than one new file has come.
        if seq % 8 == 0 {
            read += follower.follow().len();
        }
    }
    read += follower.follow().len();
    assert_eq!((read, follower.resyncs), (198, 0));
    assert!(inodes.len() > 1);
}

#[test]
fn a_batch_larger_than_a_file_leaves_its_end_in_whole_lines() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(1_000);
    let rows: Vec<_> = (1..500).map(|id| upsert(id, "a")).collect();
    let statements: Vec<_> = std::iter::once(CREATE).chain(rows.iter().map(String::as_str)).collect();
    ldb.apply(&batch(1, &statements)).unwrap();
    assert!(fs::metadata(scratch.changelog()).unwrap().len() <= 1_000);
    assert_eq!(Follower::new(scratch.changelog()).follow().last().unwrap().seq, 499);
}

#[test]
fn a_line_larger_than_the_file_may_be_has_one_of_its_own() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(10);
    let mut follower = Follower::new(scratch.changelog());
    for (seq, statement) in [(1, CREATE), (2, &upsert(1, "a")), (3, &upsert(2, "b"))] {
        ldb.apply(&batch(seq, &[statement])).unwrap();
        follower.follow();
        assert!(fs::read_to_string(scratch.changelog()).unwrap().lines().count() <= 1);
    }
    assert_eq!(follower.resyncs, 0);
}

#[test]
fn a_file_that_someone_deleted_comes_back() {
    let scratch = Scratch::new();
    let (mut ldb, mut follower) = with_entry(&scratch);
    fs::remove_file(scratch.changelog()).unwrap();
    ldb.apply(&batch(3, &[&upsert(2, "b")])).unwrap();
    assert_eq!(follower.follow().last().unwrap().seq, 2);
    drop(ldb);
    // Nothing tells whether a file that was deleted while the applier was away was whole.
    fs::remove_file(scratch.changelog()).unwrap();
    scratch.open_logged(LARGE);
    follower.follow();
    assert_eq!(follower.resyncs, 1);
}

/// Events that can happen to an LDB and its changelog between two starts.
fn resyncs_after(what: impl FnOnce(&Scratch)) -> u64 {
    let scratch = Scratch::new();
    let (ldb, mut follower) = with_entry(&scratch);
    ldb.close().unwrap();
    what(&scratch);
    // Followers learn it at the start, not at the next change.
    let mut ldb = scratch.open_logged(LARGE);
    let told = follower.follow();
    assert_eq!(told.len() as u64, follower.resyncs);
    ldb.apply(&batch(9, &[&upsert(9, "z")])).unwrap();
    follower.follow();
    // Once is enough, also for later starts.
    drop(ldb);
    scratch.open_logged(LARGE);
    follower.follow();
    follower.resyncs
}

fn append(scratch: &Scratch, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(scratch.changelog()).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn execute(scratch: &Scratch, sql: &str) {
    Connection::open(scratch.ldb()).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn followers_are_told_when_the_file_may_lack_entries() {
    assert_eq!(resyncs_after(|_| {}), 0, "nothing happened");
    assert_eq!(resyncs_after(|scratch| append(scratch, "{\"seq\":2,\"fam")), 1, "a torn line");
    assert_eq!(resyncs_after(|scratch| append(scratch, "{\"seq\":2,\"fam\n")), 1, "a torn line that was ended");
    let lost = "UPDATE _ldb_meta SET value = 7 WHERE name = 'changelog_next_seq'";
    assert_eq!(resyncs_after(|scratch| execute(scratch, lost)), 1, "entries that were never written");
    let others = "UPDATE _ldb_seq SET seq = 5";
    assert_eq!(resyncs_after(|scratch| execute(scratch, others)), 1, "rows applied by another program");
    let forgotten = "DELETE FROM _ldb_meta WHERE name LIKE 'changelog%'";
    assert_eq!(resyncs_after(|scratch| execute(scratch, forgotten)), 1, "an LDB without a numbering");
    let unlogged = |scratch: &Scratch| {
        scratch.open().apply(&batch(3, &[&upsert(2, "b")])).unwrap();
    };
    assert_eq!(resyncs_after(unlogged), 1, "a start without a changelog");
    let copied = |scratch: &Scratch| {
        let copy = scratch.directory.path().join("copy.db");
        fs::copy(scratch.ldb(), &copy).unwrap();
        fs::rename(copy, scratch.ldb()).unwrap();
    };
    assert_eq!(resyncs_after(copied), 1, "another file with the same rows, as a bootstrap brings");
}

#[test]
fn a_changelog_that_cannot_be_written_stops_nothing_and_jumps_when_it_can() {
    let scratch = Scratch::new();
    let (mut ldb, mut follower) = with_entry(&scratch);
    // No user can write a directory in the file's place, not even root.
    fs::rename(scratch.changelog(), scratch.directory.path().join("kept.log")).unwrap();
    fs::create_dir(scratch.changelog()).unwrap();
    let applied = ldb.apply(&batch(3, &[&upsert(2, "b")])).unwrap();
    assert_eq!((applied.changelog.entries, applied.changelog.lost), (0, 1));
    assert!(ldb.changelog_error().unwrap().to_string().contains("change.log failed while opening it"));
    ldb.maintain().unwrap();
    fs::remove_dir(scratch.changelog()).unwrap();
    fs::rename(scratch.directory.path().join("kept.log"), scratch.changelog()).unwrap();
    // Without anything new to apply followers learn it too.
    ldb.maintain().unwrap();
    assert!(ldb.changelog_error().is_none());
    let total = ldb.changelog_total();
    assert_eq!((total.entries, total.jumps), (2, 1));
    assert_eq!((follower.follow().len(), follower.resyncs), (1, 1));
    ldb.maintain().unwrap();
    ldb.apply(&batch(4, &[&upsert(3, "c")])).unwrap();
    assert_eq!((follower.follow().len(), follower.resyncs), (1, 1));
}

#[test]
fn a_changelog_of_the_original_is_appended_to_behind_a_jump() {
    let scratch = Scratch::new();
    let theirs = "{\"seq\":41,\"family\":\"fam\",\"table\":\"tab\",\"key\":[{\"name\":\"id\",\"type\":\"INTEGER\",\"value\":1}]}\n";
    fs::write(scratch.changelog(), theirs).unwrap();
    let mut ldb = scratch.open_logged(LARGE);
    ldb.apply(&batch(1, &[CREATE, &upsert(1, "a")])).unwrap();
    let text = fs::read_to_string(scratch.changelog()).unwrap();
    assert!(text.starts_with(theirs));
    assert_eq!(Follower::new(scratch.changelog()).follow()[0].seq, 43);
}
