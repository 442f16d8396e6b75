//! Scenarios with snapshots that are published or refused.

use std::fs;
use std::time::Duration;

use super::fixture::{Stage, lines, ready};
use super::watch::{Moved, Watch, until};
use support::s3::{self, Front, Manner};
use support::{Node, sql};

fn publisher(stage: &Stage, url: &str) -> Node {
    stage
        .host()
        .roles(&["reflector", "snapshotter"])
        .set("snapshotter.interval", "100ms")
        .set("snapshotter.urls", vec![url])
}

pub fn snapshots_and_why_there_are_none(moved: &Moved) {
    let stage = Stage::new();
    let directory = support::scratch_dir();
    let url = format!("file://{}", directory.path().join("snapshot.db").display());
    let (mut first, watch) = ready(&publisher(&stage, &url), moved);
    let taken = [
        "/snapshotter/last_seq",
        "/snapshotter/details/snapshots",
        "/snapshotter/details/last_at",
        "/snapshotter/details/last_bytes",
        "/snapshotter/details/last_seconds",
        "ctlstore_snapshotter_snapshots_total",
        "ctlstore_snapshotter_duration_seconds_count",
        "ctlstore_snapshotter_size_bytes",
        "ctlstore_snapshotter_seq",
        "ctlstore_snapshotter_last_success_timestamp_seconds",
        "/snapshotter/details/destinations",
        "ctlstore_snapshotter_destination_seq{destination=\"0\"}",
        "ctlstore_snapshotter_destination_last_success_timestamp_seconds{destination=\"0\"}",
    ];
    let many: Vec<(i64, &str)> =
        (0..100).map(|id| (id, "enough of them for a larger file, one page at least")).collect();
    watch.event("a snapshot", &taken, || {
        for _ in 0..3 {
            stage.upsert(&many);
        }
        stage.upsert(&[(1000, &"x".repeat(100_000))])
    });
    watch.shows("a snapshot of the last seq", "/snapshotter/last_seq", |seq| *seq == watch.now("/applier/last_seq"));
    let stalls = [
        "/snapshotter/details/apply_stall_ms",
        "/snapshotter/details/max_apply_stall_ms",
        "ctlstore_snapshotter_apply_stall_seconds",
    ];
    for stall in stalls {
        watch.shows("a commit while a snapshot is made", stall, |stall| {
            stage.upsert(&[(1001, "another row")]);
            stall.as_f64().or_else(|| stall.as_str()?.parse().ok()).is_some_and(|stall| stall > 0.0)
        });
    }

    // Another node publishes at this destination.
    let second = publisher(&stage, &url).start();
    let refused = Watch::new(second.ops_url(), moved);
    let held = [
        "ctlstore_errors_total{component=\"snapshotter\",kind=\"contention\"}",
        "/snapshotter/last_error",
        "/snapshotter/details/failures",
    ];
    refused.begins("a destination that another node holds", &held);
    assert!(refused.now("/snapshotter/last_error")["message"].to_string().contains("snapshot.db"));
    drop(second);

    // A snapshot of another ledger is never replaced.
    assert!(first.stop(Duration::from_secs(60)).success());
    let other = Stage::new();
    let third = publisher(&other, &url).start();
    let ledger = ["ctlstore_errors_total{component=\"snapshotter\",kind=\"ledger\"}"];
    Watch::new(third.ops_url(), moved).begins("a destination of another ledger", &ledger);
}

pub fn a_destination_that_cant_be_written(moved: &Moved) {
    let stage = Stage::new();
    let directory = support::scratch_dir();
    let in_the_way = directory.path().join("no-directory");
    fs::write(&in_the_way, "a file").expect("write a file");
    let process = publisher(&stage, &format!("file://{}", in_the_way.join("snapshot.db").display())).start();
    let watch = Watch::new(process.ops_url(), moved);
    let fails = [
        "ctlstore_errors_total{component=\"snapshotter\",kind=\"storage\"}",
        "/snapshotter/state",
        "/snapshotter/not_ready",
        "ctlstore_snapshotter_destination_failures_total{destination=\"0\"}",
    ];
    watch.begins("a destination that can't be written", &fails);
    until("it is tried again", || (watch.now("/snapshotter/details/failures").as_u64()? >= 3).then_some(()));
    assert_eq!(lines(&process, &["no snapshot"]).len(), 1, "{}", process.log());
    watch.event("a destination that can be written", &["/snapshotter/state"], || {
        fs::remove_file(&in_the_way).expect("remove the file")
    });
    assert_eq!(lines(&process, &["publishing again"]).len(), 1, "{}", process.log());
}

pub fn a_destination_that_says_nothing(moved: &Moved) {
    let stage = Stage::new();
    let front = Front::new(Manner::Silent);
    let mut node = publisher(&stage, "s3://bucket/snapshot.db").set("snapshotter.store_timeout", "1s");
    for (name, value) in s3::variables(&front.endpoint) {
        node = node.env(&name, &value);
    }
    let process = node.start();
    let watch = Watch::new(process.ops_url(), moved);
    stage.upsert(&[(1, "one")]);
    watch.begins("a silent destination", &["ctlstore_snapshotter_destination_busy{destination=\"0\"}"]);
    let unavailable = ["ctlstore_errors_total{component=\"snapshotter\",kind=\"unavailable\"}"];
    watch.begins("a silent destination that is given up", &unavailable);
    assert!(watch.now("/snapshotter/details/destinations")[0]["last_error"].to_string().contains("no answer in time"));
}

pub fn a_copy_that_fails_its_check(moved: &Moved) {
    let stage = Stage::new();
    let host = stage.host();
    let (mut process, watch) = ready(&host, moved);
    let text = "x".repeat(1000);
    let rows: Vec<(i64, &str)> = (0..100).map(|id| (id, text.as_str())).collect();
    for first in (0..1000).step_by(100) {
        stage.upsert(&rows.iter().map(|(id, text)| (id + first, *text)).collect::<Vec<_>>());
    }
    let last = stage.upsert(&[(0, "the last")]);
    watch.shows("all of it in the LDB", "/applier/last_seq", |seq| *seq == last);
    assert!(process.stop(Duration::from_secs(60)).success());
    let ldb = fs::canonicalize(host.ldb_path()).expect("follow the link");
    sql::query(&format!("sqlite:{}", ldb.display()), "PRAGMA wal_checkpoint(TRUNCATE)").expect("empty the WAL");
    let mut bytes = fs::read(&ldb).expect("read the ldb");
    let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let middle = bytes.len() / 2 / page * page;
    bytes[middle..middle + page].fill(0xff);
    fs::write(&ldb, bytes).expect("damage the ldb");

    let snapshots = support::scratch_dir();
    let url = format!("file://{}", snapshots.path().join("snapshot.db").display());
    let node = Node::new()
        .roles(&["snapshotter"])
        .set("ldb.path", ldb.display().to_string())
        .set("snapshotter.interval", "100ms")
        .set("snapshotter.urls", vec![url]);
    let process = node.start();
    let watch = Watch::new(process.ops_url(), moved);
    let fails = ["ctlstore_snapshotter_failed_checks_total", "/snapshotter/details/failed_checks"];
    watch.begins("a copy that fails its check", &fails);
    assert!(!snapshots.path().join("snapshot.db").exists());
}
