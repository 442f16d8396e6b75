//! A ctldb that was restored from a backup: it has the same ledger id and gives its seqs again, so that a snapshot
//! of the lost rows looks like one of its own.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use support::bootstrap::*;
use support::client::role_status;
use support::{Node, scratch_dir, sql, wait_until};

/// An origin that has lost its last rows, and written as many others since. Gives a snapshot of what is lost.
fn restored() -> (Origin, Published) {
    let origin = Origin::with_rows(300);
    let kept = origin.last_seq();
    origin.write(300, 400, "lost");
    let lost = Published::new("lost.db", &origin.snapshot());
    let lost_seq = seq_of(&lost.path);
    sql::query(&origin.ctldb(), &format!("DELETE FROM ctlstore_dml_ledger WHERE seq > {kept}")).expect("restore");
    sql::query(&origin.ctldb(), "DELETE FROM fam___tab WHERE id >= 300").expect("restore the rows");
    origin.write(300, 400, "written since");
    origin.write(400, 500, "written since");
    assert!(origin.last_seq() > lost_seq && lost_seq > kept);
    (origin, lost)
}

#[test]
fn a_snapshot_of_lost_rows_is_passed_over_by_name_and_the_next_source_serves() {
    let (origin, lost) = restored();
    // A host that begins with the ledger, and publishes what it has.
    let good = scratch_snapshot(&origin);
    let host = origin.host().set("bootstrap.urls", vec![lost.url.clone(), good.url.clone()]);
    let process = host.start();
    wait_until_equal(&host, &origin);
    let bootstrap = role_status(&process.ops_url(), "applier")["details"]["bootstrap"].clone();
    assert_eq!(bootstrap["last_source"], good.url.as_str(), "{bootstrap}");
    let log = process.log();
    assert!(log.contains(&lost.url) && log.contains("is not the ledger's"), "{log}");
}

#[test]
fn where_there_is_only_the_lost_one_the_status_says_what_to_do() {
    let (origin, lost) = restored();
    let host = origin.host().set("bootstrap.urls", vec![lost.url.clone()]).set("bootstrap.allow_empty", false);
    let process = host.start();
    let status = wait_for_failure(&process, "is not the ledger's");
    let message = status["last_error"]["message"].to_string();
    assert!(message.contains(&lost.url) && message.contains("remove that snapshot"), "{message}");
    assert!(!host.ldb_path().exists());
    // Who does what it says is served.
    std::fs::remove_file(&lost.path).expect("remove it");
    std::fs::copy(scratch_snapshot(&origin).path, &lost.path).expect("publish another");
    wait_until_equal(&host, &origin);
}

#[test]
fn a_ledger_that_has_all_its_rows_is_followed_from_its_start_instead() {
    let (origin, lost) = restored();
    let stored = std::fs::read(&lost.path).expect("read");
    let with_manifest = manifest(&stored, &stored, "lost.db");
    std::fs::write(lost.path.with_file_name("lost.db.json"), with_manifest.to_string()).expect("write a manifest");
    let host = origin.host().set("bootstrap.urls", vec![lost.url.clone()]);
    let process = host.start();
    wait_until_equal(&host, &origin);
    assert!(process.log().contains("is not the ledger's"), "{}", process.log());
}

#[test]
fn a_snapshot_beyond_the_end_of_a_restored_ledger_is_named_with_what_to_do() {
    let origin = Origin::with_rows(300);
    let kept = origin.last_seq();
    origin.write(300, 400, "lost");
    let lost = Published::new("lost.db", &origin.snapshot());
    sql::query(&origin.ctldb(), &format!("DELETE FROM ctlstore_dml_ledger WHERE seq > {kept}")).expect("restore");
    sql::query(&origin.ctldb(), "DELETE FROM fam___tab WHERE id >= 300").expect("restore the rows");
    let good = scratch_snapshot(&origin);
    let alone = origin.host().set("bootstrap.urls", vec![lost.url.clone()]);
    let process = alone.clone().set("bootstrap.allow_empty", false).start();
    let message = wait_for_failure(&process, "is not the ledger's")["last_error"]["message"].to_string();
    assert!(message.contains(&lost.url) && message.contains("remove that snapshot"), "{message}");
    drop(process);
    // The ledger has all of its rows, so a host that may begin with it does.
    let process = alone.start();
    wait_until_equal(&alone, &origin);
    drop(process);
    let host = origin.host().set("bootstrap.urls", vec![lost.url.clone(), good.url.clone()]);
    let _process = host.start();
    wait_until_equal(&host, &origin);
}

/// The LDB of a host that followed the ledger from its start.
fn scratch_snapshot(origin: &Origin) -> Published {
    let publisher = origin.host().roles(&["reflector", "snapshotter"]).set("snapshotter.interval", "50ms");
    let _process = publisher.start();
    let published = publisher.data_dir().join("snapshots/snapshot.db");
    wait_until("it is published", DEADLINE, || published.exists() && seq_of(&published) == origin.last_seq());
    Published::new("good.db", &std::fs::read(&published).expect("read"))
}

/// A snapshotter that publishes at `url` and keeps every snapshot.
fn keeping_publisher(origin: &Origin, url: &str) -> Node {
    let publisher = origin.host().roles(&["reflector", "snapshotter"]).set("snapshotter.interval", "50ms");
    publisher.set("snapshotter.urls", vec![url.to_owned()]).set("snapshotter.keep", 100)
}

/// The names and seqs of the snapshots that are kept in `directory`, the newest first.
fn kept_in(directory: &Path) -> Vec<(String, i64)> {
    let names = std::fs::read_dir(directory).expect("list").map(|entry| entry.unwrap().file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    let mut kept: Vec<_> = names
        .filter(|name| name.starts_with("eu-") && directory.join(format!("{name}.json")).exists())
        .map(|name| (name.clone(), seq_of(&directory.join(name))))
        .collect();
    kept.sort_by(|one, other| other.cmp(one));
    kept
}

/// Waits until the clock shows another second, since kept snapshots are named by the second.
pub fn next_second() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let before = now();
    wait_until("the next second", DEADLINE, || now() > before);
}

#[test]
fn the_newest_kept_snapshot_that_the_ledger_has_serves_if_the_published_one_is_lost() {
    let origin = Origin::with_rows(300);
    let directory = scratch_dir();
    let url = format!("file://{}/eu.db", directory.path().display());
    let publisher = keeping_publisher(&origin, &url).start();
    let mut safe = 0;
    for (first, value) in [(0, "kept"), (0, "kept, too"), (300, "lost"), (300, "lost, too")] {
        next_second();
        let last = origin.write(first, first + 50, value);
        wait_until("it is kept", DEADLINE, || kept_in(directory.path()).iter().any(|(_, seq)| *seq == last));
        safe = if first == 0 { last } else { safe };
    }
    drop(publisher);
    sql::query(&origin.ctldb(), &format!("DELETE FROM ctlstore_dml_ledger WHERE seq > {safe}")).expect("restore");
    sql::query(&origin.ctldb(), "DELETE FROM fam___tab WHERE id >= 300").expect("restore the rows");
    origin.write(300, 600, "written since");
    let (lost, good): (Vec<_>, Vec<_>) = kept_in(directory.path()).into_iter().partition(|(_, seq)| *seq > safe);
    assert!(lost.len() >= 2 && good.len() >= 2, "{lost:?} {good:?}");
    let host = origin.host().set("bootstrap.urls", vec![url.clone()]).set("bootstrap.allow_empty", false);
    let process = host.start();
    wait_until_equal(&host, &origin);
    let bootstrap = role_status(&process.ops_url(), "applier")["details"]["bootstrap"].clone();
    let expected = format!("file://{}/{}", directory.path().display(), good[0].0);
    assert_eq!(bootstrap["last_source"], expected.as_str(), "{bootstrap}");
    assert_eq!(bootstrap["last_seq"], good[0].1, "{bootstrap}");
    let log = process.log();
    let is_passed_over = |name: &str| {
        log.lines().any(|line| line.contains(&format!("/{name} ")) && line.contains("is not the ledger's"))
    };
    assert!(is_passed_over("eu.db") && lost.iter().all(|(name, _)| is_passed_over(name)), "{log}");
    assert!(!good[1..].iter().any(|(name, _)| log.contains(name)), "{log}");
}

#[test]
fn at_most_sixteen_kept_snapshots_are_tried_and_all_of_them_are_named() {
    let (origin, lost) = restored();
    let bytes = std::fs::read(&lost.path).expect("read");
    let name = |second: u32| format!("lost-20260101T0000{second:02}Z.db");
    for second in 0..20 {
        let path = lost.path.with_file_name(name(second));
        std::fs::write(&path, &bytes).expect("keep one");
        let manifest = manifest(&bytes, &bytes, &name(second));
        std::fs::write(path.with_file_name(name(second) + ".json"), manifest.to_string()).expect("with its manifest");
    }
    // A file of such a name without a manifest may be another program's.
    let theirs = "lost-20270101T000000Z.db";
    std::fs::write(lost.path.with_file_name(theirs), &bytes).expect("write");
    let host = origin.host().set("bootstrap.urls", vec![lost.url.clone()]);
    let process = host.clone().set("bootstrap.allow_empty", false).start();
    let message = wait_for_failure(&process, &name(19))["last_error"]["message"].to_string();
    assert!(message.contains(&lost.url), "{message}");
    for second in 0..20 {
        assert_eq!(message.contains(&name(second)), second >= 4, "{second}: {message}");
    }
    assert!(!message.contains(theirs), "{message}");
    assert_eq!(names(&host, "incoming"), [""; 0]);
    drop(process);
    // The ledger has all of its rows, so a host that may begin with it does.
    let _process = host.start();
    wait_until_equal(&host, &origin);
}
