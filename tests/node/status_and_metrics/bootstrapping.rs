//! A host that starts from a snapshot, once there is a good one.

use super::fixture::{Stage, ready};
use super::watch::{DEADLINE, Moved, Watch};
use support::bootstrap::seq_of;
use support::wait::wait_for;
use support::web::Manners;
use support::{Web, sql};

pub fn a_snapshot_that_is_away_then_bad_then_good(moved: &Moved) {
    let stage = Stage::new();
    stage.upsert(&[(1, "one")]);
    let publisher = stage.host().roles(&["reflector", "snapshotter"]).set("snapshotter.interval", "100ms");
    let (_publisher, _) = ready(&publisher, moved);
    let path = publisher.data_dir().join("snapshots/snapshot.db");
    let snapshot = wait_for("a snapshot is published", DEADLINE, || std::fs::read(&path).ok());

    let web = Web::start();
    let url = web.put("snapshot.db", b"no database".repeat(100));
    web.behave(Manners { fail: u64::MAX, status: 503, ..Manners::default() });
    let mut process = stage.host().set("bootstrap.urls", vec![url]).start();
    let watch = Watch::new(process.ops_url(), moved);
    let asked = || wait_for("it asks", DEADLINE, || Some(web.manners().fail).filter(|left| *left < u64::MAX));
    watch.event(
        "a place that is away",
        &[
            "ctlstore_bootstrap_attempts_total",
            "ctlstore_bootstrap_failures_total{kind=\"unavailable\"}",
            "/applier/details/bootstrap",
        ],
        asked,
    );
    watch.event(
        "a snapshot that is bad",
        &[
            "ctlstore_bootstrap_failures_total{kind=\"snapshot\"}",
            "ctlstore_errors_total{component=\"applier\",kind=\"snapshot\"}",
            "ctlstore_bootstrap_downloaded_bytes_total",
        ],
        || web.behave(Manners::default()),
    );
    watch.event(
        "a snapshot that is good",
        &[
            "ctlstore_bootstrap_duration_seconds_count",
            "ctlstore_bootstrap_last_success_timestamp_seconds",
            "/applier/state",
            "/applier/last_seq",
        ],
        || web.put("snapshot.db", snapshot),
    );
    watch.wait_ready();
    let in_place = ["ctlstore_bootstrap_in_place_total", "/applier/details/bootstrap", "/applier/last_seq"];
    watch.event("a ledger that is pruned while the host hears nothing", &in_place, || {
        process.signal(libc::SIGSTOP);
        let last = stage.upsert(&[(2, "two"), (3, "three")]);
        let newer = || Some(seq_of(&path)).filter(|seq| *seq == last).and_then(|_| std::fs::read(&path).ok());
        web.put("snapshot.db", wait_for("the rows are published", DEADLINE, newer));
        stage.run("REPLACE INTO ctlstore_meta (name, value) VALUES ('low_water_seq', ?)", [last.to_string()]);
        let pruned = format!("DELETE FROM ctlstore_dml_ledger WHERE seq < {last}");
        sql::query(&stage.ctldb_url(), &pruned).expect("prune the ledger");
        process.signal(libc::SIGCONT);
    });
    watch.wait_ready();
}
