//! Scenarios that change the LDB's files while the applier has them open.

use std::fs;
use std::path::PathBuf;

use super::fixture::{Stage, lines, ready};
use super::watch::{Moved, until};
use support::SmallDisk;
use support::client::wait_for_value;
use support::in_process::hold::Hold;

fn beside(path: &std::path::Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

pub fn files_that_cant_be_written(moved: &Moved) {
    let stage = Stage::new();
    let host = stage.host();
    let (process, watch) = ready(&host, moved);
    stage.upsert(&[(1, "one")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");

    let changelog = host.data_dir().join("change.log");
    let failing =
        ["ctlstore_errors_total{component=\"changelog\",kind=\"storage\"}", "/applier/details/changelog_error"];
    watch.event("a changelog that can't be written", &failing, || {
        fs::remove_file(&changelog).expect("remove the changelog");
        fs::create_dir(&changelog).expect("put a directory in its place");
        stage.upsert(&[(2, "two")]);
    });
    wait_for_value(&process.reader_url(), "fam", "tab", 2, "two");
    watch.event("a changelog that can be written again", &["/applier/details/changelog_error"], || {
        fs::remove_dir(&changelog).expect("remove the directory");
        stage.upsert(&[(3, "three")])
    });
    assert_eq!(lines(&process, &["can't write the changelog"]).len(), 1, "{}", process.log());

    let seq_file = beside(&host.ldb_path(), ".seq");
    watch.event("a seq file that can't be touched", &["/applier/details/seq_file_error"], || {
        fs::remove_file(&seq_file).expect("remove the seq file");
        fs::create_dir(&seq_file).expect("put a directory in its place");
        stage.upsert(&[(4, "four")]);
    });
    wait_for_value(&process.reader_url(), "fam", "tab", 4, "four");
    let mark = beside(&host.ldb_path(), ".caughtup");
    watch.event("a mark of the ledger's end that can't be written", &["/applier/details/caught_up_error"], || {
        fs::remove_file(&mark).expect("remove the mark");
        fs::create_dir(&mark).expect("put a directory in its place");
    });
}

pub fn a_stranger_that_locks_the_ldb(moved: &Moved) {
    let stage = Stage::new();
    let host = stage.host();
    let (process, watch) = ready(&host, moved);
    let hold = Hold::on(&format!("sqlite:{}", host.ldb_path().display()));
    watch.event("a batch that waits for a stranger", &["ctlstore_queue_depth{queue=\"applier_batches\"}"], || {
        stage.upsert(&[(1, "one")])
    });
    let busy = ["ctlstore_errors_total{component=\"applier\",kind=\"contention\"}"];
    watch.begins("a stranger that does not let go", &busy);
    hold.release();
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
    watch.wait_ready();
}

pub fn a_wal_that_readers_keep_from_shrinking(moved: &Moved) {
    let stage = Stage::new();
    let host = stage.host().set("ldb.wal_checkpoint_bytes", 400_000);
    let (process, watch) = ready(&host, moved);
    stage.upsert(&[(1, "one")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
    // Commit by commit, so that the WAL reaches each threshold and skips none.
    let wide = "x".repeat(10_000);
    let mut id = 1;
    let mut grow_until_moved = |name: &str| {
        until(&format!("the WAL has grown until {name} is there"), || {
            id += 1;
            let seq = stage.upsert(&[(id, wide.as_str())]);
            until("it is applied", || (watch.now("/applier/last_seq") == seq).then_some(()));
            (watch.now(name) != "0").then_some(())
        })
    };
    let whole = "ctlstore_ldb_checkpoints_total{mode=\"passive\",complete=\"true\"}";
    watch.event("a WAL over its threshold", &[whole], || grow_until_moved(whole));

    let reading = rusqlite::Connection::open(host.ldb_path()).expect("open the ldb");
    reading.execute_batch("BEGIN; SELECT COUNT(*) FROM fam___tab;").expect("begin to read");
    let held_up = ["passive", "restart", "truncate"]
        .map(|mode| format!("ctlstore_ldb_checkpoints_total{{mode=\"{mode}\",complete=\"false\"}}"));
    for mode in &held_up {
        watch.event("a reader that does not end", &[mode.as_str()], || grow_until_moved(mode));
    }
    let cut = "ctlstore_ldb_checkpoints_total{mode=\"truncate\",complete=\"true\"}";
    let before = watch.now("ctlstore_ldb_wal_bytes");
    watch.event("the reader ends", &[cut], || {
        reading.execute_batch("COMMIT").expect("end reading");
    });
    let bytes = |value: &serde_json::Value| value.as_str().expect("a value").parse::<f64>().expect("a number");
    watch.shows("a WAL that was cut", "ctlstore_ldb_wal_bytes", |now| bytes(now) < bytes(&before));
}

pub fn a_file_that_is_deleted(moved: &Moved) {
    let stage = Stage::new();
    let host = stage.host();
    let (process, watch) = ready(&host, moved);
    stage.upsert(&[(1, "one")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
    let deleted = ["ctlstore_errors_total{component=\"applier\",kind=\"storage\"}", "/applier/last_error"];
    // The ledger has no new row: the applier notices without one.
    watch.event("an LDB that is deleted", &deleted, || {
        fs::remove_file(fs::canonicalize(host.ldb_path()).expect("follow the link")).expect("delete the ldb")
    });
    let error = watch.now("/applier/last_error")["message"].to_string();
    assert!(error.contains("was deleted or replaced") && error.contains("ldb.db"), "{error}");
    watch.wait_state("applier", "retrying");
    until("it is noticed again and again", || (watch.now("/applier/details/failures").as_u64()? >= 4).then_some(()));
    assert_eq!(lines(&process, &["ERROR", "was deleted or replaced"]).len(), 1, "{}", process.log());
}

pub fn disks_that_are_full(moved: &Moved) {
    let stage = Stage::new();
    let of_ldb = SmallDisk::mount("6m");
    let of_snapshots = SmallDisk::mount("1m");
    let host = stage
        .host()
        .roles(&["reflector", "reader", "snapshotter"])
        .set("ldb.path", of_ldb.path("ldb.db").display().to_string())
        .set("snapshotter.interval", "50ms")
        .set("snapshotter.urls", vec![format!("file://{}", of_snapshots.path("snapshot.db").display())]);
    let (process, watch) = ready(&host, moved);
    let no_snapshot = ["ctlstore_errors_total{component=\"snapshotter\",kind=\"disk_full\"}"];
    let in_the_way = watch.event("a full disk for snapshots", &no_snapshot, || {
        let ballast = of_snapshots.fill();
        stage.upsert(&[(1, "one")]);
        ballast
    });
    watch
        .event("room for snapshots again", &["/snapshotter/state"], || fs::remove_file(in_the_way).expect("make room"));

    let no_rows = ["ctlstore_errors_total{component=\"applier\",kind=\"disk_full\"}"];
    let wide = "x".repeat(20_000);
    let in_the_way = watch.event("a full disk for the LDB", &no_rows, || {
        let ballast = of_ldb.fill();
        let mut id = 10;
        until("the disk is full", || {
            stage.upsert(&[(id, wide.as_str())]);
            id += 1;
            (watch.now(no_rows[0]) != "0").then_some(())
        });
        ballast
    });
    let error = watch.now("/applier/last_error")["message"].to_string();
    assert!(error.contains("no space left") && error.contains("ldb.db"), "{error}");
    watch.event("room for the LDB again", &["/applier/state"], || fs::remove_file(in_the_way).expect("make room"));
    stage.upsert(&[(1_000_000, "there is room")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1_000_000, "there is room");
}
