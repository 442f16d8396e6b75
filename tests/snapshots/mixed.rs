//! One destination that is written by ours and by the original's supervisor, which knows no manifest. To a file it
//! writes in place; to S3 it puts its snapshot at the key, with a checksum. The newer sound snapshot counts.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::fetch::{ExpansionLimits, FetchError, Fetched, SnapshotSources, Wanted, fetch};
use ctlstore_ldb::snapshot::{Phase, Publisher, SnapshotProgress, SnapshotUrl, Target, Verifier};
use sha1::{Digest, Sha1};

use support::s3::{self, Bucket};
use support::snapshot::stored::{bytes_of, check_stored, file_target, manifest, s3_target, store};
use support::snapshot::{Applier, check, end_of, publisher, round, take};

/// An LDB at `seq`, of no ledger's id, as the original's are.
fn ldb(directory: &Path, name: &str, seq: i64) -> PathBuf {
    let path = directory.join(name);
    Applier::open(&path).apply_to(seq);
    path
}

/// The file that the original would publish of an LDB.
fn originals(directory: &Path, seq: i64) -> Vec<u8> {
    let source = ldb(directory, &format!("go-{seq}.db"), seq);
    let file = directory.join(format!("go-{seq}-snapshot/snapshot.db"));
    take(&mut publisher(&source, &[&file]));
    fs::read(file).expect("read it")
}

/// Overwrites a file in place, as the original's supervisor does.
fn write_in_place(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).expect("open it");
    file.write_all(bytes).expect("write it");
}

fn fetched(url: &SnapshotUrl, directory: &Path) -> Result<(Fetched, i64), FetchError> {
    let to = directory.join("fetched.db");
    let _ = fs::remove_file(&to);
    let fetched = fetch(url, &to, &Wanted::default(), &Abort::default(), &())?;
    let seq = check(&to);
    Ok((fetched, seq))
}

#[test]
fn a_file_that_the_original_overwrites_in_place_damages_nothing_of_ours_and_counts_if_it_is_newer() {
    let directory = support::scratch_dir();
    let at = directory.path();
    let (ours, snapshot) = (ldb(at, "ours.db", end_of(5)), at.join("files/snapshot.db"));
    let url = SnapshotUrl::File(snapshot.clone());
    let mut publisher = publisher(&ours, &[&snapshot]);
    assert_eq!(take(&mut publisher), end_of(5));
    let named = at.join("files").join(manifest(&store(&file_target(&snapshot))).unwrap().key);
    assert_ne!(fs::metadata(&named).unwrap().ino(), fs::metadata(&snapshot).unwrap().ino(), "they are one file");
    let before = fs::read(&named).unwrap();

    // Newer: it counts, and ours is as it was.
    write_in_place(&snapshot, &originals(at, end_of(7)));
    assert_eq!(fs::read(&named).unwrap(), before);
    let (newer, seq) = fetched(&url, at).unwrap();
    assert_eq!((seq, newer.manifest), (end_of(7), None));
    let verified = Verifier::new(std::slice::from_ref(&url), at.join("verifying")).lowest(&Abort::default(), &());
    assert_eq!(verified.unwrap().seq.0, end_of(7));
    // Ours does not put its older one in its place.
    assert!(round(&mut publisher, &Abort::default()).is_err());
    assert_eq!(check(&snapshot), end_of(7));

    // Torn, as it is while the original writes: what the manifest names counts.
    let bytes = originals(at, end_of(8));
    write_in_place(&snapshot, &bytes[..bytes.len() / 2]);
    assert_eq!(fetched(&url, at).unwrap().1, end_of(5));

    // Older: as well, and the next round puts the file right again.
    write_in_place(&snapshot, &originals(at, end_of(3)));
    assert_eq!(fetched(&url, at).unwrap().1, end_of(5));
    round(&mut publisher, &Abort::default()).unwrap();
    assert_eq!(check(&snapshot), end_of(5));

    // Ours goes on from what the original left.
    write_in_place(&snapshot, &originals(at, end_of(9)));
    Applier::open(&ours).apply_to(end_of(10));
    assert_eq!(take(&mut publisher), end_of(10));
    assert_eq!(fetched(&url, at).unwrap().1, end_of(10));
    assert_eq!(check_stored(&store(&file_target(&snapshot))), end_of(10));
    assert_eq!(check(&snapshot), end_of(10));
}

#[test]
fn a_destination_whose_names_are_one_file_as_earlier_versions_made_them_is_put_right() {
    let directory = support::scratch_dir();
    let at = directory.path();
    let (ours, snapshot) = (ldb(at, "ours.db", end_of(5)), at.join("files/snapshot.db"));
    let mut publisher = publisher(&ours, &[&snapshot]);
    take(&mut publisher);
    let named = at.join("files").join(manifest(&store(&file_target(&snapshot))).unwrap().key);
    fs::remove_file(&snapshot).unwrap();
    fs::hard_link(&named, &snapshot).unwrap();
    round(&mut publisher, &Abort::default()).unwrap();
    assert_ne!(fs::metadata(&named).unwrap().ino(), fs::metadata(&snapshot).unwrap().ino());
    assert_eq!(check(&snapshot), end_of(5));
    // Overwritten before that: the file that the manifest names is the original's too, and it is sound.
    fs::remove_file(&snapshot).unwrap();
    fs::hard_link(&named, &snapshot).unwrap();
    write_in_place(&snapshot, &originals(at, end_of(7)));
    assert_eq!(fetched(&SnapshotUrl::File(snapshot), at).unwrap().1, end_of(7));
}

#[test]
fn what_was_found_to_be_older_than_the_manifest_is_not_downloaded_again() {
    let directory = support::scratch_dir();
    let at = directory.path();
    let (ours, snapshot) = (ldb(at, "ours.db", end_of(5)), at.join("files/snapshot.db.gz"));
    take(&mut publisher(&ours, &[&snapshot]));
    // Not compressed, whatever the name says, as the original writes files.
    write_in_place(&snapshot, &originals(at, end_of(3)));
    let mut sources = SnapshotSources::new(vec![SnapshotUrl::File(snapshot.clone())], ExpansionLimits::default());
    let checked = Checked::default();
    for checks in [2, 3] {
        let to = at.join("fetched.db");
        let _ = fs::remove_file(&to);
        let fetched = sources.fetch(0, &to, &Wanted::default(), &Abort::default(), &checked).expect("fetch it");
        assert_eq!((fetched.position.seq.0, fetched.manifest.is_some()), (end_of(5), true));
        assert_eq!(checked.0.load(Ordering::SeqCst), checks, "downloads that were checked");
    }
}

/// Counts what is checked after a download.
#[derive(Default)]
struct Checked(AtomicUsize);

impl SnapshotProgress for Checked {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        if phase == Phase::Check && (done, total) == (0, None) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What `ctlstore snapshot fetch` gets of an S3 key.
fn fetched_by_command(url: &str, directory: &Path) -> i64 {
    let to = directory.join("by-command.db");
    let mut command = Command::new(support::binary());
    command.args(["snapshot", "fetch", url, "--force", "--to"]).arg(&to).envs(s3::variables(&s3::endpoint()));
    let output = command.output().expect("run it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    check(&to)
}

fn put_as_the_original(target: &Target, bytes: &[u8]) {
    let (store, abort) = (store(target), Abort::default());
    let checksum = STANDARD.encode(Sha1::digest(bytes));
    let mut upload = store.upload(store.name(), Some(&checksum), bytes.len() as u64, &abort).expect("begin");
    upload.write_all(bytes).expect("write");
    upload.finish().expect("finish");
}

#[test]
fn an_object_that_the_original_puts_at_the_key_counts_if_it_is_newer() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let at = directory.path();
    let (ours, target) = (ldb(at, "ours.db", end_of(5)), s3_target(&bucket.url("snapshot.db"), &s3::endpoint()));
    let url = bucket.url("snapshot.db");
    let mut publisher = Publisher::new(&ours, [target.clone()]);
    take(&mut publisher);
    assert_eq!(fetched_by_command(&url, at), end_of(5));
    put_as_the_original(&target, &originals(at, end_of(7)));
    assert_eq!(fetched_by_command(&url, at), end_of(7));
    assert!(round(&mut publisher, &Abort::default()).is_err(), "an older one took its place");
    put_as_the_original(&target, &originals(at, end_of(3)));
    assert_eq!(fetched_by_command(&url, at), end_of(5));
    round(&mut publisher, &Abort::default()).unwrap();
    put_as_the_original(&target, b"no snapshot at all");
    assert_eq!(fetched_by_command(&url, at), end_of(5));
    put_as_the_original(&target, &originals(at, end_of(9)));
    Applier::open(&ours).apply_to(end_of(10));
    assert_eq!(take(&mut publisher), end_of(10));
    assert_eq!(fetched_by_command(&url, at), end_of(10));
    let store = store(&target);
    assert_eq!(check_stored(&store), end_of(10));
    let plain = bytes_of(&store, store.name()).unwrap();
    assert_eq!(plain, bytes_of(&store, &manifest(&store).unwrap().key).unwrap());
}
