//! Snapshots that a destination does not take, since they would take hosts back, elsewhere or to nothing.

mod snapshot_support;
#[path = "snapshot_support/stored.rs"]
mod stored;
mod support;

use ctlstore::snapshot::store::Condition;
use ctlstore::snapshot::{Abort, Manifest, Publisher, SnapshotError};

use snapshot_support::{Applier, end_of, round, take};
use stored::{check_stored, manifest, s3_target, store};
use support::s3::{self, Bucket};

#[test]
fn an_older_a_foreign_and_an_emptied_snapshot_are_refused() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let target = s3_target(&bucket.url("snapshot.db.gz"), &s3::endpoint());
    let ldb = |name: &str, ledger: &str, seq: i64| {
        let path = directory.path().join(name);
        let mut applier = Applier::open(&path);
        applier.adopt(ledger);
        applier.apply_to(seq);
        path
    };
    take(&mut Publisher::new(ldb("ahead.db", "one", end_of(9)), [target.clone()]));
    let before = bucket.keys();
    let refused = |ldb| round(&mut Publisher::new(ldb, [target.clone()]), &Abort::default()).unwrap_err();
    let older = refused(ldb("behind.db", "one", end_of(8)));
    assert!(matches!(older, SnapshotError::Older { published, taken, .. } if published > taken), "{older}");
    let foreign = refused(ldb("other.db", "two", end_of(10)));
    assert!(matches!(foreign, SnapshotError::OtherLedger { .. }), "{foreign}");
    assert_eq!(bucket.keys(), before);

    // The published one had rows, says its manifest; one with a table alone would empty every host.
    let (store, abort) = (store(&target), Abort::default());
    let mut full = manifest(&store).unwrap();
    full.seq = 1;
    full.tables = serde_json::from_str(r#"[{"name":"fam___tab","rows":3,"digest":"00"}]"#).expect("the table's digest");
    store.put(&Manifest::name_of(store.name()), full.to_json().unwrap(), &Condition::None, &abort).unwrap();
    let path = ldb("emptied.db", "one", 1);
    Applier::open(&path).apply(r"DELETE FROM fam___tab".to_owned());
    let emptied = refused(path);
    assert!(matches!(emptied, SnapshotError::Emptied { .. }), "{emptied}");
    assert_eq!(bucket.keys(), before);
}

#[test]
fn a_manifest_of_a_newer_version_is_left_alone_and_a_broken_one_is_replaced() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let target = s3_target(&bucket.url("snapshot.db"), &s3::endpoint());
    let ldb = directory.path().join("ldb.db");
    Applier::open(&ldb).apply_to(end_of(2));
    let (store, abort) = (store(&target), Abort::default());
    let name = Manifest::name_of(store.name());
    store.put(&name, br#"{"format_version":2,"more":"than we know"}"#.into(), &Condition::None, &abort).unwrap();
    let mut publisher = Publisher::new(&ldb, [target]);
    let refused = round(&mut publisher, &abort).unwrap_err().to_string();
    assert!(refused.contains("format version 2"), "{refused}");
    assert_eq!(bucket.keys(), std::slice::from_ref(&name));
    store.put(&name, b"{torn".into(), &Condition::None, &abort).unwrap();
    take(&mut publisher);
    assert_eq!(check_stored(&store), end_of(2));
}
