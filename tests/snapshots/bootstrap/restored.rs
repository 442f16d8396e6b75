//! A ctldb that was restored from a backup: it has the same ledger id and gives its seqs again, so that a snapshot
//! of the lost rows looks like one of its own.

use support::bootstrap::*;
use support::client::role_status;
use support::{sql, wait_until};

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
