//! Snapshots that a destination refuses, because they would take hosts back, elsewhere or to no rows.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::store::Condition;
use ctlstore_ldb::snapshot::{Manifest, Publisher, SnapshotError, Target};

use support::s3::{self, Bucket, Front, Manner};
use support::snapshot::stored::{check_stored, file_target, manifest, s3_target, store};
use support::snapshot::{Applier, Outcome, end_of, publisher, round, take};

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

    // The manifest says that the published one had rows. One with only a table would empty every host.
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
    store.delete(&name, &abort).unwrap();
    take(&mut publisher);
    store.put(&name, b"{torn".into(), &Condition::None, &abort).unwrap();
    Applier::open(&ldb).apply_to(end_of(3));
    take(&mut publisher);
    assert_eq!(check_stored(&store), end_of(3));
}

/// An LDB of the ledger `one`.
fn ldb(directory: &Path, name: &str, seq: i64) -> PathBuf {
    let path = directory.join(name);
    let mut applier = Applier::open(&path);
    applier.adopt("one");
    applier.apply_to(seq);
    path
}

fn refused(ldb: &Path, target: &Target) -> SnapshotError {
    round(&mut Publisher::new(ldb, [target.clone()]), &Abort::default()).unwrap_err()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn nothing_older_takes_the_place_of_what_the_original_has_published() {
    let (directory, bucket, abort) = (support::scratch_dir(), Bucket::new(), Abort::default());
    let ahead = ldb(directory.path(), "ahead.db", end_of(9));
    let plain = directory.path().join("plain.db");
    take(&mut publisher(&ahead, &[&plain]));
    let bytes = fs::read(&plain).unwrap();
    let targets = [
        file_target(&directory.path().join("files/snapshot.db")),
        file_target(&directory.path().join("files/snapshot.db.gz")),
        s3_target(&bucket.url("snapshot.db"), &s3::endpoint()),
        s3_target(&bucket.url("snapshot.db.gz"), &s3::endpoint()),
    ];
    fs::create_dir(directory.path().join("files")).unwrap();
    let behind = ldb(directory.path(), "behind.db", end_of(8));
    let emptied = ldb(directory.path(), "emptied.db", end_of(9));
    Applier::open(&emptied).apply("DELETE FROM fam___tab".to_owned());
    for target in &targets {
        // The original leaves only the data.
        let store = store(target);
        let stored = if store.name().ends_with(".gz") { gzip(&bytes) } else { bytes.clone() };
        store.put(store.name(), stored.clone(), &Condition::None, &abort).unwrap();
        let older = refused(&behind, target);
        assert!(
            matches!(older, SnapshotError::Older { published, taken, .. } if published.0 == end_of(9) && taken.0 == end_of(8)),
            "{}: {older}",
            target.url
        );
        let empty = refused(&emptied, target);
        assert!(matches!(empty, SnapshotError::Emptied { .. }), "{}: {empty}", target.url);
        assert_eq!(support::snapshot::stored::bytes_of(&store, store.name()).unwrap(), stored);
        let names: Vec<String> = store.list(store.name(), &abort).unwrap().into_iter().map(|info| info.name).collect();
        let ours = names.iter().filter(|name| name.contains(&format!("{}.", store.name())) && !name.ends_with(".lock"));
        assert!(!ours.clone().any(|name| name.contains('-') || name.ends_with(".tmp")), "{names:?}");
    }
    Applier::open(&behind).apply_to(end_of(10));
    assert_eq!(take(&mut Publisher::new(&behind, targets.clone())), end_of(10));
    for target in &targets {
        assert_eq!(check_stored(&store(target)), end_of(10));
    }
}

#[test]
fn what_the_original_has_published_is_downloaded_once() {
    let (directory, bucket, abort) = (support::scratch_dir(), Bucket::new(), Abort::default());
    let plain = directory.path().join("plain.db");
    take(&mut publisher(&ldb(directory.path(), "ahead.db", end_of(900)), &[&plain]));
    let front = Front::new(Manner::Pass);
    let target = s3_target(&bucket.url("snapshot.db"), &front.endpoint);
    let store = store(&target);
    store.put(store.name(), fs::read(&plain).unwrap(), &Condition::None, &abort).unwrap();
    let mut behind = Publisher::new(ldb(directory.path(), "behind.db", end_of(8)), [target]);
    let mut sent = Vec::new();
    for _ in 0..3 {
        let before = front.sent();
        let older = round(&mut behind, &abort).unwrap_err();
        assert!(matches!(older, SnapshotError::Older { .. }), "{older}");
        sent.push(front.sent() - before);
    }
    let size = fs::metadata(&plain).unwrap().len();
    assert!(sent[0] >= size && sent[1] < size && sent[2] < size, "{sent:?} of {size}");
}

#[test]
fn nothing_older_takes_the_place_of_what_a_broken_manifest_named() {
    let (directory, bucket, abort) = (support::scratch_dir(), Bucket::new(), Abort::default());
    let behind = ldb(directory.path(), "behind.db", end_of(8));
    for (name, target) in [
        ("one.db", s3_target(&bucket.url("snapshot.db.zst"), &s3::endpoint())),
        ("two.db", file_target(&directory.path().join("files/snapshot.db.zst"))),
    ] {
        take(&mut Publisher::new(ldb(directory.path(), name, end_of(9)), [target.clone()]));
        let store = store(&target);
        store.put(&Manifest::name_of(store.name()), b"{torn".into(), &Condition::None, &abort).unwrap();
        let older = refused(&behind, &target);
        assert!(matches!(older, SnapshotError::Older { .. }), "{older}");
        // Its immutable name tells the seq too.
        store.delete(store.name(), &abort).unwrap();
        let older = refused(&behind, &target);
        assert!(matches!(older, SnapshotError::Older { published, .. } if published.0 == end_of(9)), "{older}");
        assert_eq!(take(&mut Publisher::new(ldb(directory.path(), name, end_of(10)), [target])), end_of(10));
        assert_eq!(check_stored(&store), end_of(10));
    }
}

#[test]
fn an_ldb_that_begins_anew_is_refused_while_there_is_nothing_in_it() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let target = s3_target(&bucket.url("snapshot.db"), &s3::endpoint());
    let path = directory.path().join("anew.db");
    let mut applier = Applier::open(&path);
    let mut anew = Publisher::new(&path, [target.clone()]);
    // It is no step back for a destination without anything.
    assert!(matches!(round(&mut anew, &Abort::default()), Ok(Outcome::NothingYet)));
    drop(anew);
    take(&mut Publisher::new(ldb(directory.path(), "ldb.db", end_of(3)), [target.clone()]));
    let mut anew = Publisher::new(&path, [target.clone()]);
    for _ in 0..2 {
        let emptied = round(&mut anew, &Abort::default()).unwrap_err();
        assert!(matches!(emptied, SnapshotError::Emptied { taken, .. } if taken.0 == 0), "{emptied}");
    }
    assert_eq!(check_stored(&store(&target)), end_of(3));
    applier.adopt("one");
    applier.apply_to(end_of(4));
    assert_eq!(take(&mut anew), end_of(4));
}

#[test]
fn a_store_that_sends_its_requests_elsewhere_is_not_followed() {
    let (scratch, bucket, other) = (support::scratch_dir(), Bucket::new(), support::Web::start());
    let ldb = scratch.path().join("ldb.db");
    Applier::open(&ldb).apply_to(end_of(2));
    let status: &'static str =
        Box::leak(format!("307 Temporary Redirect\r\nLocation: {}/x", other.url).into_boxed_str());
    other.put("x", b"taken".to_vec());
    let front = Front::new(Manner::Answer { status, body: "" });
    let target = s3_target(&bucket.url("s.db"), &front.endpoint);
    let refused = round(&mut Publisher::new(&ldb, [target]), &Abort::default()).unwrap_err().to_string();
    assert!(refused.contains(&format!("redirected to {}, which is not followed", other.url)), "{refused}");
    assert!(other.requests("x").is_empty());
}

#[test]
fn an_object_that_is_no_snapshot_is_never_written_over() {
    let (scratch, bucket) = (support::scratch_dir(), Bucket::new());
    let ldb = scratch.path().join("ldb.db");
    Applier::open(&ldb).apply_to(end_of(2));
    for (key, named) in [("notes.txt", "notes.txt"), ("config", "config.json"), ("photo.gz", "photo.gz")] {
        bucket.put_public(&format!("/{named}"), b"precious");
        let target = s3_target(&bucket.url(key), &s3::endpoint());
        let mut publisher = Publisher::new(&ldb, [target]);
        for _ in 0..2 {
            let refused = round(&mut publisher, &Abort::default()).unwrap_err();
            assert!(matches!(&refused, SnapshotError::Foreign { what, .. } if what.contains(named)), "{refused}");
        }
        assert_eq!(bucket.ask("GET", &format!("/{named}")).expect(200).text(), "precious");
    }
    assert_eq!(bucket.keys().len(), 3, "{:?}", bucket.keys());
}
