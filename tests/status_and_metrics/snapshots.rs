//! Snapshots that are taken, and those that are not.

use std::fs;
use std::time::Duration;

use crate::stage::{Stage, lines, ready};
use crate::support::Node;
use crate::watch::{Moved, Watch, until};

fn publisher(stage: &Stage, url: &str) -> Node {
    stage
        .host()
        .roles(&["reflector", "snapshotter"])
        .set("snapshotter.interval", "100ms")
        .set("snapshotter.urls", vec![url])
}

pub fn snapshots_and_why_there_are_none(moved: &Moved) {
    let stage = Stage::new();
    let directory = crate::support::scratch_dir();
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

    // Somebody else's place.
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

    // Another ledger's snapshot is not to be replaced.
    assert!(first.stop(Duration::from_secs(60)).success());
    let other = Stage::new();
    let third = publisher(&other, &url).start();
    let ledger = ["ctlstore_errors_total{component=\"snapshotter\",kind=\"ledger\"}"];
    Watch::new(third.ops_url(), moved).begins("a destination of another ledger", &ledger);
}

pub fn a_destination_that_cant_be_written(moved: &Moved) {
    let stage = Stage::new();
    let directory = crate::support::scratch_dir();
    let in_the_way = directory.path().join("no-directory");
    fs::write(&in_the_way, "a file").expect("write a file");
    let process = publisher(&stage, &format!("file://{}", in_the_way.join("snapshot.db").display())).start();
    let watch = Watch::new(process.ops_url(), moved);
    let fails = [
        "ctlstore_errors_total{component=\"snapshotter\",kind=\"storage\"}",
        "/snapshotter/state",
        "/snapshotter/not_ready",
    ];
    watch.begins("a destination that can't be written", &fails);
    until("it is tried again", || (watch.now("/snapshotter/details/failures").as_u64()? >= 3).then_some(()));
    assert_eq!(lines(&process, &["no snapshot"]).len(), 1, "{}", process.log());
    watch.event("a destination that can be written", &["/snapshotter/state"], || {
        fs::remove_file(&in_the_way).expect("remove the file")
    });
    assert_eq!(lines(&process, &["publishing again"]).len(), 1, "{}", process.log());
}
