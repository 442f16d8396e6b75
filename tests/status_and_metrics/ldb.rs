//! What can happen to the LDB's files under the applier.

use std::fs;
use std::path::PathBuf;

use crate::hold::Hold;
use crate::stage::{SmallDisk, Stage, lines, ready};
use crate::support::client::wait_for_value;
use crate::watch::{Moved, until};

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
    let host = stage.host().set("ldb.wal_checkpoint_bytes", 100_000);
    let (process, watch) = ready(&host, moved);
    stage.upsert(&[(1, "one")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1, "one");
    let wide = "x".repeat(20_000);
    let grow = |ids: std::ops::Range<i64>| {
        for id in ids {
            stage.upsert(&[(id, wide.as_str())]);
        }
    };
    let whole = "ctlstore_ldb_checkpoints_total{mode=\"passive\",complete=\"true\"}";
    watch.event("a WAL over its threshold", &[whole], || grow(2..12));

    let reading = rusqlite::Connection::open(host.ldb_path()).expect("open the ldb");
    reading.execute_batch("BEGIN; SELECT COUNT(*) FROM fam___tab;").expect("begin to read");
    let held_up = ["passive", "restart", "truncate"]
        .map(|mode| format!("ctlstore_ldb_checkpoints_total{{mode=\"{mode}\",complete=\"false\"}}"));
    let mut id = 100;
    for mode in &held_up {
        watch.event("a reader that does not end", &[mode.as_str()], || {
            until("the WAL has grown enough", || {
                grow(id..id + 2);
                id += 2;
                (watch.now(mode) != "0").then_some(())
            })
        });
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
    // Without a word from the ledger: the applier looks by itself.
    watch.event("an LDB that is deleted", &deleted, || {
        fs::remove_file(fs::canonicalize(host.ldb_path()).expect("follow the link")).expect("delete the ldb")
    });
    let error = watch.now("/applier/last_error")["message"].to_string();
    assert!(error.contains("was deleted or replaced") && error.contains("ldb.db"), "{error}");
    watch.wait_state("applier", "retrying");
    until("it is noticed again and again", || (watch.now("/applier/details/failures").as_u64()? >= 4).then_some(()));
    assert_eq!(lines(&process, &["ERROR", "was deleted or replaced"]).len(), 1, "{}", process.log());
}

pub fn a_disk_that_is_full(moved: &Moved) {
    let stage = Stage::new();
    let disk = SmallDisk::mount("6m");
    let host = stage
        .host()
        .roles(&["reflector", "reader", "snapshotter"])
        .set("ldb.path", disk.path("ldb.db").display().to_string())
        .set("snapshotter.interval", "50ms")
        .set("snapshotter.urls", vec![format!("file://{}", disk.path("snapshot.db").display())]);
    let (process, watch) = ready(&host, moved);
    let full = [
        "ctlstore_errors_total{component=\"applier\",kind=\"disk_full\"}",
        "ctlstore_errors_total{component=\"snapshotter\",kind=\"disk_full\"}",
    ];
    let wide = "x".repeat(20_000);
    let ballast = watch.event("a disk that is full", &full, || {
        let ballast = disk.fill();
        let mut id = 0;
        until("the disk is full for both", || {
            stage.upsert(&[(id, wide.as_str())]);
            id += 1;
            full.iter().all(|name| watch.now(name) != "0").then_some(())
        });
        ballast
    });
    let error = watch.now("/applier/last_error")["message"].to_string();
    assert!(error.contains("no space left") && error.contains("ldb.db"), "{error}");
    watch.event("room on the disk again", &["/applier/state", "/snapshotter/state"], || {
        fs::remove_file(ballast).expect("make room")
    });
    stage.upsert(&[(1_000_000, "there is room")]);
    wait_for_value(&process.reader_url(), "fam", "tab", 1_000_000, "there is room");
    watch.wait_ready();
}
