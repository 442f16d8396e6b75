//! Fetching a snapshot as the commands and the pruning do: the result, and the files that stay.

use std::path::Path;
use std::sync::Arc;

use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::fetch::{FetchError, Wanted, fetch, published_manifest, verify};
use ctlstore_ldb::snapshot::{SnapshotProgress, SnapshotUrl, Verifier, take};
use support::scratch_dir;
use support::snapshot::{Applier, check, end_of, names_in, publisher};

/// A snapshot at seq `end_of(3)`, as its own file.
fn snapshot(directory: &Path) -> (SnapshotUrl, Vec<u8>) {
    let ldb = directory.join("ldb.db");
    Applier::open(&ldb).apply_to(end_of(3));
    let path = directory.join("snapshot.db");
    let nobody: Arc<dyn SnapshotProgress> = Arc::new(());
    take(&ldb, &path, &Abort::default(), &nobody).expect("take a snapshot");
    (SnapshotUrl::File(path.clone()), std::fs::read(path).expect("read the snapshot"))
}

fn count(directory: &Path) -> usize {
    std::fs::read_dir(directory).expect("list").count()
}

#[test]
fn a_fetched_snapshot_is_ready_for_every_reader() {
    let directory = scratch_dir();
    let (url, mut bytes) = snapshot(directory.path());
    // The form in which VACUUM INTO would leave it.
    bytes[18..20].fill(1);
    let SnapshotUrl::File(path) = &url else { panic!("a file") };
    std::fs::write(path, &bytes).expect("write");
    let to = directory.path().join("fetched.db");
    let fetched = fetch(&url, &to, &Wanted::default(), &Abort::default(), &()).expect("fetch it");
    assert_eq!((fetched.position.seq.0, fetched.bytes), (end_of(3), bytes.len() as u64));
    assert!(fetched.manifest.is_none());
    assert_eq!(check(&to), end_of(3));
    assert!(published_manifest(&url, &Abort::default()).expect("read the manifest").is_none());
}

#[test]
fn what_is_at_the_path_already_stays() {
    let directory = scratch_dir();
    let (url, _) = snapshot(directory.path());
    let to = directory.path().join("mine.db");
    std::fs::write(&to, "mine").expect("write");
    let error = fetch(&url, &to, &Wanted::default(), &Abort::default(), &()).expect_err("something is there");
    assert!(matches!(error, FetchError::Io { .. }), "{error}");
    let missing = SnapshotUrl::File(directory.path().join("missing.db"));
    let error = fetch(&missing, &to, &Wanted::default(), &Abort::default(), &()).expect_err("nothing is there");
    assert!(error.is_not_found(), "{error}");
    assert_eq!(std::fs::read(&to).expect("read"), b"mine");
}

#[test]
fn a_snapshot_that_is_verified_leaves_nothing_but_what_is_known_of_it() {
    let (directory, scratch) = (scratch_dir(), scratch_dir());
    let (url, bytes) = snapshot(directory.path());
    let verify = |abort: &Abort| verify(&url, scratch.path(), &Wanted::default(), abort, &());
    let verified = verify(&Abort::default()).expect("verify it");
    assert_eq!(verified.position.seq.0, end_of(3));
    let tables: Vec<_> = verified.tables.iter().map(|table| (table.name.as_str(), table.digest.len())).collect();
    assert_eq!(tables, [("fam___tab", 64)]);
    let SnapshotUrl::File(path) = &url else { panic!("a file") };
    std::fs::write(path, &bytes[..bytes.len() - 1]).expect("cut it");
    assert!(matches!(verify(&Abort::default()), Err(FetchError::Bad { .. })));
    let aborted = Abort::default();
    aborted.abort();
    assert!(matches!(verify(&aborted), Err(FetchError::Aborted)));
    assert_eq!(count(scratch.path()), 0);
}

#[test]
fn what_was_verified_is_trusted_only_while_it_is_there() {
    let directory = scratch_dir();
    let (ldb, snapshot) = (directory.path().join("ldb.db"), directory.path().join("files/snapshot.db"));
    let mut applier = Applier::open(&ldb);
    applier.adopt("one");
    applier.apply_to(end_of(3));
    let mut publisher = publisher(&ldb, &[&snapshot]);
    support::snapshot::take(&mut publisher);
    let mut verifier = Verifier::new(&[SnapshotUrl::File(snapshot.clone())], directory.path().join("verifying"));
    let abort = Abort::default();
    assert!(!verifier.stands(&abort));
    assert_eq!(verifier.lowest(&abort, &()).expect("verify it").seq.0, end_of(3));
    assert!(verifier.stands(&abort));
    // A later one of the same ledger is published. The one before stays beside it at first.
    let files = directory.path().join("files");
    let own = |seq: i64| names_in(&files).into_iter().find(|name| name.starts_with(&format!("snapshot.db.{seq}-")));
    applier.apply_to(end_of(4));
    support::snapshot::take(&mut publisher);
    assert!(verifier.stands(&abort));
    // An unverified snapshot does not stand for a verified one that is gone.
    std::fs::remove_file(files.join(own(end_of(3)).expect("the one before"))).expect("remove it");
    assert!(!verifier.stands(&abort));
    assert_eq!(verifier.lowest(&abort, &()).expect("verify the later one").seq.0, end_of(4));
    assert!(verifier.stands(&abort));
    // A host can't start from the manifest alone.
    for name in names_in(&files).iter().filter(|name| !name.ends_with(".json") && !name.ends_with(".lock")) {
        std::fs::remove_file(files.join(name)).expect("remove it");
    }
    assert!(!verifier.stands(&abort));
    verifier.lowest(&abort, &()).expect_err("nothing is there");
}

#[test]
fn a_snapshot_without_a_manifest_is_trusted_only_while_it_is_the_same() {
    let directory = scratch_dir();
    let (url, bytes) = snapshot(directory.path());
    let mut verifier = Verifier::new(std::slice::from_ref(&url), directory.path().join("verifying"));
    let abort = Abort::default();
    assert_eq!(verifier.lowest(&abort, &()).expect("verify it").seq.0, end_of(3));
    assert!(verifier.stands(&abort));
    let SnapshotUrl::File(path) = &url else { panic!("a file") };
    std::fs::write(path, &bytes[..bytes.len() / 2]).expect("cut it");
    assert!(!verifier.stands(&abort));
    std::fs::remove_file(path).expect("remove it");
    assert!(!verifier.stands(&abort));
}
