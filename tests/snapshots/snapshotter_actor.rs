//! The actor that takes snapshots at its interval: its work, its status and its metrics.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use ctlstore::actors::snapshotter::{Snapshotter, SnapshotterOptions};
use ctlstore::messages::status::{ActorKind, GetStatus, RoleState, RoleStatus};
use ctlstore::messages::stop::Stop;
use ctlstore::metrics::Metrics;
use ctlstore_core::ledger::Seq;
use ctlstore_ldb::snapshot::store::StoreOptions;
use ctlstore_ldb::snapshot::{SnapshotUrl, Target};

use support::s3::{self, Front, Manner};
use support::snapshot::{Applier, check, end_of, names_in};
use support::wait::wait_for_async;

const DEADLINE: Duration = Duration::from_secs(30);

fn start(ldb: &Path, snapshot: &Path, metrics: &Arc<Metrics>) -> Addr<Snapshotter> {
    start_to(ldb, vec![Target::new(SnapshotUrl::File(snapshot.to_owned()))], metrics)
}

fn start_to(ldb: &Path, targets: Vec<Target>, metrics: &Arc<Metrics>) -> Addr<Snapshotter> {
    let options = SnapshotterOptions { ldb_path: ldb.to_owned(), interval: Duration::from_millis(50), targets };
    Snapshotter::new(options, None, Arc::clone(metrics)).start()
}

async fn status_until(snapshotter: &Addr<Snapshotter>, what: &str, is: impl Fn(&RoleStatus) -> bool) -> RoleStatus {
    let ask = async || Some(snapshotter.send(GetStatus).await.unwrap()).filter(|status| is(status));
    wait_for_async(what, DEADLINE, ask).await
}

/// The value of a metric without labels.
fn metric(metrics: &Metrics, name: &str) -> f64 {
    let text = metrics.encode().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
}

#[actix::test]
async fn snapshots_follow_the_ldb_and_are_counted() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let metrics = Metrics::new();
    let snapshotter = start(&ldb, &snapshot, &metrics);
    let waiting = status_until(&snapshotter, "it runs", |status| status.state == RoleState::Running).await;
    assert_eq!((waiting.role, waiting.last_seq, waiting.not_ready), (ActorKind::Snapshotter, None, None));
    assert_eq!(waiting.details["snapshots"], 0);

    let mut applier = Applier::open(&ldb);
    for (transaction, count) in [(1, 1), (2, 2)] {
        applier.apply_to(end_of(transaction));
        let seq = Some(Seq(end_of(transaction)));
        let status = status_until(&snapshotter, "the snapshot is there", |status| status.last_seq == seq).await;
        assert_eq!(check(&snapshot), end_of(transaction));
        assert_eq!(status.details["snapshots"], count);
        assert_eq!(status.details["last_bytes"], fs::metadata(&snapshot).unwrap().len());
        assert!(status.details["last_seconds"].as_f64().unwrap() > 0.0);
        assert!(status.details["last_at"].as_str().unwrap().ends_with("+00:00"));
        assert_eq!(metric(&metrics, "ctlstore_snapshotter_snapshots_total"), f64::from(count));
        assert_eq!(metric(&metrics, "ctlstore_snapshotter_seq"), end_of(transaction) as f64);
        assert_eq!(metric(&metrics, "ctlstore_snapshotter_duration_seconds_count"), f64::from(count));
        let bytes = fs::metadata(&snapshot).unwrap().len() as f64;
        assert_eq!(metric(&metrics, "ctlstore_snapshotter_size_bytes"), bytes);
        assert!(metric(&metrics, "ctlstore_snapshotter_last_success_timestamp_seconds") > 1e9);
    }
    snapshotter.send(Stop).await.unwrap();
}

#[actix::test]
async fn a_refusal_is_in_the_status_and_ends_when_its_cause_does() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let metrics = Metrics::new();
    let other = directory.path().join("other.db");
    Applier::open(&other).apply_to(end_of(7));
    let ahead = start(&other, &snapshot, &metrics);
    status_until(&ahead, "the first snapshot is there", |status| status.last_seq.is_some()).await;
    ahead.send(Stop).await.unwrap();

    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(3));
    let snapshotter = start(&ldb, &snapshot, &metrics);
    let refused = status_until(&snapshotter, "it refuses", |status| status.state == RoleState::Retrying).await;
    let error = refused.last_error.unwrap();
    assert!(error.message.contains("would undo"), "{}", error.message);
    assert!(refused.details["failures"].as_u64().unwrap() >= 1 && refused.not_ready.is_some());
    assert!(metric(&metrics, r#"ctlstore_errors_total{component="snapshotter",kind="ledger"}"#) >= 1.0);
    assert_eq!(check(&snapshot), end_of(7));

    applier.apply_to(end_of(8));
    let status = status_until(&snapshotter, "it goes on", |status| status.state == RoleState::Running).await;
    assert_eq!(status.last_seq, Some(Seq(end_of(8))));
    assert_eq!(check(&snapshot), end_of(8));
    snapshotter.send(Stop).await.unwrap();
}

#[actix::test]
async fn a_stop_ends_a_copy_in_the_making_and_frees_the_destination() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("snapshot.db"));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(5_000));
    let metrics = Metrics::new();
    let snapshotter = start(&ldb, &snapshot, &metrics);
    let begun = |name: &String| name.starts_with("snapshot.db") && !name.ends_with(".lock");
    wait_for_async("a copy is begun or done", DEADLINE, async || {
        names_in(directory.path()).iter().any(begun).then_some(())
    })
    .await;
    snapshotter.send(Stop).await.unwrap();
    let left = names_in(directory.path());
    assert!(!left.iter().any(|name| name.contains(".tmp")), "{left:?}");
    // The lock is free again, so the next one takes it.
    let next = start(&ldb, &snapshot, &metrics);
    status_until(&next, "the snapshot is there", |status| status.last_seq == Some(Seq(end_of(5_000)))).await;
    next.send(Stop).await.unwrap();
    assert_eq!(check(&snapshot), end_of(5_000));
}

#[actix::test]
async fn each_destination_has_its_own_place_in_status_and_metrics() {
    let directory = support::scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("files/snapshot.db"));
    std::fs::write(directory.path().join("a file"), "").unwrap();
    let front = Front::new(Manner::Silent);
    let variables = s3::variables(&front.endpoint);
    let options = StoreOptions { silence: Duration::from_secs(1), variables };
    let targets = vec![
        Target::new(SnapshotUrl::File(snapshot.clone())),
        Target { options, ..Target::new("s3://bucket/snapshot.db".parse().unwrap()) },
        Target::new(SnapshotUrl::File(directory.path().join("a file/snapshot.db"))),
    ];
    let metrics = Metrics::new();
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(1));
    let snapshotter = start_to(&ldb, targets, &metrics);
    let of = |status: &RoleStatus, index: usize| status.details["destinations"][index].clone();
    let states = |status: &RoleStatus| [0, 1, 2].map(|index| of(status, index)["state"].clone());
    let as_it_is = |status: &RoleStatus| states(status) == ["current", "busy", "retrying"];
    let status = status_until(&snapshotter, "one works, one is busy and one fails", as_it_is).await;
    assert_eq!(of(&status, 0)["url"], SnapshotUrl::File(snapshot.clone()).to_string());
    assert_eq!(of(&status, 0)["last_seq"], end_of(1));
    assert!(of(&status, 2)["last_error"].as_str().unwrap().contains("a file"));
    assert_eq!(status.state, RoleState::Retrying);

    applier.apply_to(end_of(2));
    let gave_up =
        |status: &RoleStatus| of(status, 1)["last_error"].is_string() && of(status, 0)["last_seq"] == end_of(2);
    let status = status_until(&snapshotter, "the silent one is given up", gave_up).await;
    assert!(of(&status, 1)["last_error"].as_str().unwrap().contains("no answer in time"));
    assert_eq!(check(&snapshot), end_of(2));
    assert_eq!(metric(&metrics, r#"ctlstore_snapshotter_destination_seq{destination="0"}"#), end_of(2) as f64);
    assert!(metric(&metrics, r#"ctlstore_snapshotter_destination_failures_total{destination="1"}"#) >= 1.0);
    assert!(metric(&metrics, r#"ctlstore_snapshotter_destination_failures_total{destination="2"}"#) >= 1.0);
    let reached = r#"ctlstore_snapshotter_destination_last_success_timestamp_seconds{destination="0"}"#;
    assert!(metric(&metrics, reached) > 1e9);
    assert!(metrics.encode().unwrap().contains(r#"ctlstore_snapshotter_destination_busy{destination="1"}"#));
    snapshotter.send(Stop).await.unwrap();
}
