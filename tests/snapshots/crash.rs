//! A snapshotter that is killed: the destination has the old snapshot or a whole new one, and
//! the next start clears what was left.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ctlstore_core::{Abort, failpoint};
use ctlstore_ldb::snapshot::Publisher;

use support::snapshot::{Applier, check, end_of, names_in, round};
use support::{process, wait};

/// Names the directory in which a child process takes snapshots until it is killed.
const CHILD: &str = "CTLSTORE_TEST_SNAPSHOT_CHILD";
const DEADLINE: Duration = Duration::from_secs(60);
const FIRST: i64 = 300;

#[test]
fn a_kill_at_any_moment_leaves_a_whole_snapshot() {
    if let Some(directory) = env::var_os(CHILD) {
        take_until_killed(Path::new(&directory));
    }
    let directory = support::scratch_dir();
    let snapshot = directory.path().join("snapshot.db");
    publish_first(directory.path());
    let mut last = check(&snapshot);
    for failpoint in ["snapshot-after-copy", "snapshot-after-flush", "snapshot-before-rename", "snapshot-after-rename"]
    {
        let mut command = child(directory.path());
        command.env(failpoint::VARIABLE, failpoint);
        let mut child = process::spawn(command);
        let status = wait::wait_for("the child reaches its failpoint", DEADLINE, || child.try_wait().unwrap());
        assert!(!status.success(), "{failpoint}: the child ended by itself");
        last = not_before(last, check(&snapshot), failpoint);
    }
    for round in 0..15 {
        let mut child = process::spawn(child(directory.path()));
        // Each kill comes a little later, counted from the time at which the work began.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("taking snapshots")), "the child did not get to work");
        let (at_work, moment) = (Instant::now(), Duration::from_millis(7 * round));
        wait::wait_until("its moment has come", DEADLINE, || at_work.elapsed() >= moment);
        process::signal(&child, libc::SIGKILL);
        child.wait().unwrap();
        last = not_before(last, check(&snapshot), "at random");
    }
    assert!(last > end_of(FIRST), "no child got as far as a snapshot");
    publish_first(directory.path());
    let left = names_in(directory.path());
    assert!(!left.iter().any(|name| name.contains(".tmp")), "{left:?}");
}

#[track_caller]
fn not_before(last: i64, seq: i64, when: &str) -> i64 {
    assert!(seq >= last, "killed {when}: the snapshot went back from {last} to {seq}");
    seq
}

/// The LDB with some data, and a first snapshot of it.
fn publish_first(directory: &Path) {
    let mut applier = Applier::open(&directory.join("ldb.db"));
    applier.apply_to(end_of(FIRST));
    round(&mut publisher(directory), &Abort::default()).unwrap();
}

fn publisher(directory: &Path) -> Publisher {
    support::snapshot::publisher(&directory.join("ldb.db"), &[&directory.join("snapshot.db")])
}

/// Runs this test once more, as the process to be killed.
fn child(directory: &Path) -> Command {
    let mut command = support::one_test(concat!(module_path!(), "::a_kill_at_any_moment_leaves_a_whole_snapshot"));
    command.arg("--nocapture");
    command.env(CHILD, directory).stdout(Stdio::piped());
    command
}

fn take_until_killed(directory: &Path) -> ! {
    let mut applier = Applier::open(&directory.join("ldb.db"));
    let mut publisher = publisher(directory);
    let position = ctlstore_reader::read::LdbReader::new(directory.join("ldb.db")).last_seq().unwrap();
    let mut transaction = (position.0 - 1) / (end_of(1) - end_of(0));
    println!("taking snapshots");
    loop {
        transaction += 20;
        applier.apply_to(end_of(transaction));
        round(&mut publisher, &Abort::default()).unwrap();
    }
}
