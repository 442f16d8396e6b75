//! The applier is killed, at random and at each of its failpoints. After each kill the LDB must equal a
//! clean replay of the ledger up to the LDB's seq. A program that caches rows and follows the changelog
//! must have the right rows, or must have been told to start over.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use support::ldb::follower::Follower;
use support::ldb::workload::{self, Dice, Replay, Task, Workload};
use support::ldb::{assert_same, dump, reader, seq, strings};

/// The test that the killed processes run.
const APPLIER: &str = concat!(module_path!(), "::a_workload_is_applied_to_its_end");
const DEADLINE: Duration = Duration::from_secs(60);
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

fn workload_of(seed: u64) -> Workload {
    Workload::new(seed, 4_000, seed.is_multiple_of(2))
}

#[test]
fn a_workload_is_applied_to_its_end() {
    if let Some(task) = Task::from_environment() {
        return task.run(&workload_of(task.seed));
    }
    let directory = tempfile::tempdir().unwrap();
    let workload = workload_of(1);
    workload.apply(&mut workload::open(directory.path(), 1), || 100);
    let ldb = reader(&directory.path().join("ldb.db"));
    assert_eq!(seq(&ldb), workload.last_seq());
    assert_same(&dump(&ldb), &Replay::new(&workload).dump_at(workload.last_seq()), "at the end");
}

/// Checks the LDB and the changelog that a killed applier has left. Returns whether the follower was
/// told to start over.
fn check(directory: &Path, seed: u64, replay: &mut Replay<'_>, follower: &mut Follower) -> bool {
    let path = directory.join("ldb.db");
    drop(workload::open(directory, seed));
    let ldb = reader(&path);
    let seq = seq(&ldb);
    assert_eq!(strings(&ldb, "PRAGMA quick_check"), ["ok"]);
    assert!(replay.is_boundary(seq), "{seq} is within a ledger transaction");
    assert_same(&dump(&ldb), &replay.dump_at(seq), &format!("at seq {seq}"));
    let resyncs = follower.resyncs;
    follower.follow();
    assert_eq!(follower.stale(&ldb), [""; 0], "at seq {seq}");
    follower.load(&ldb);
    follower.resyncs > resyncs
}

fn current_seq(directory: &Path) -> i64 {
    let text = std::fs::read_to_string(directory.join("ldb.db.seq")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn killed_at_random(seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let workload = workload_of(seed);
    let mut replay = Replay::new(&workload);
    let mut dice = Dice::new(seed);
    let mut follower = Follower::new(directory.path().join("change.log"));
    let mut kills = 0;
    let mut told = 0;
    while current_seq(directory.path()) < workload.last_seq() {
        let target = current_seq(directory.path()) + dice.roll(250) as i64;
        let mut applier = workload::start(APPLIER, directory.path(), seed, None, None);
        // There is no pause, in which the applier could finish.
        let started = Instant::now();
        while current_seq(directory.path()) < target.min(workload.last_seq()) {
            assert!(started.elapsed() < DEADLINE, "the applier does not get on");
            std::thread::yield_now();
        }
        // The kill need not come right after a commit.
        for _ in 0..dice.roll(400_000) {
            std::hint::spin_loop();
        }
        applier.kill().unwrap();
        let status = applier.wait().unwrap();
        assert!(status.success() || status.signal() == Some(SIGKILL), "{status}");
        told += u64::from(check(directory.path(), seed, &mut replay, &mut follower));
        kills += 1;
    }
    assert!(kills > 5, "{kills} kills");
    // A follower also starts over if a file was rotated away before it was read.
    assert!(told < kills || seed.is_multiple_of(3), "{told} of {kills} kills made followers start over");
}

#[test]
fn killed_at_random_it_goes_on_as_if_nothing_had_happened() {
    killed_at_random(5);
}

#[test]
fn killed_at_random_while_tables_come_and_go_it_loses_nothing() {
    killed_at_random(4);
}

#[test]
fn killed_at_random_while_the_changelog_rotates_followers_are_told() {
    killed_at_random(3);
}

#[test]
fn killed_at_any_failpoint_rows_seq_and_changelog_agree() {
    let seed = 7;
    let directory = tempfile::tempdir().unwrap();
    let workload = workload_of(seed);
    let mut replay = Replay::new(&workload);
    let mut follower = Follower::new(directory.path().join("change.log"));
    check(directory.path(), seed, &mut replay, &mut follower);
    for (failpoint, is_committed, is_told) in [
        ("apply-after-begin", false, false),
        ("apply-after-statements", false, false),
        ("apply-after-seq", false, false),
        // The rows are in the LDB, but their entries are not in the changelog.
        ("apply-after-commit", true, true),
        ("apply-after-changelog", true, false),
    ] {
        for hit in [1, 2, 5] {
            let before = seq(&reader(&directory.path().join("ldb.db")));
            let armed = format!("{failpoint}:{hit}");
            let mut applier = workload::start(APPLIER, directory.path(), seed, Some(40), Some(&armed));
            assert_eq!(applier.wait().unwrap().signal(), Some(SIGABRT), "{armed}");
            let told = check(directory.path(), seed, &mut replay, &mut follower);
            assert_eq!(told, is_told, "{armed}");
            let after = seq(&reader(&directory.path().join("ldb.db")));
            assert_eq!(after > before, is_committed || hit > 1, "{armed}: from {before} to {after}");
        }
    }
    let mut applier = workload::start(APPLIER, directory.path(), seed, None, None);
    assert!(applier.wait().unwrap().success());
    check(directory.path(), seed, &mut replay, &mut follower);
    assert_eq!(seq(&reader(&directory.path().join("ldb.db"))), workload.last_seq());
}
