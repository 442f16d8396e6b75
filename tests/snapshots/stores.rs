//! Snapshots in files and in a real S3-compatible server: the objects that are there, and the
//! states that a reader can find while they change.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ctlstore_core::Abort;
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::snapshot::store::{Condition, Part};
use ctlstore_ldb::snapshot::{Compression, Manifest, Publisher, SnapshotError, Store, StoreError, Target};

use support::s3::{self, Bucket};
use support::snapshot::stored::{
    bytes_of, check_bytes, check_file, check_stored, decompress, file_target, is_of, manifest, s3_target, store,
};
use support::snapshot::{Applier, Outcome, end_of, names_in, round, take};
use support::{SmallDisk, wait_until};

const KEYS: [&str; 3] = ["snapshot.db", "snapshot.db.gz", "snapshot.db.zst"];

/// Every key, in a directory and in a bucket.
fn targets(directory: &std::path::Path, bucket: &Bucket) -> Vec<Target> {
    let files = KEYS.iter().map(|key| file_target(&directory.join("files").join(key)));
    let objects = KEYS.iter().map(|key| s3_target(&bucket.url(&format!("some dir/{key}")), &s3::endpoint()));
    files.chain(objects).collect()
}

#[test]
fn every_kind_of_destination_gets_the_snapshot_with_a_manifest_that_matches() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let ldb = directory.path().join("ldb.db");
    let mut applier = Applier::open(&ldb);
    applier.adopt("the ledger");
    let targets = targets(directory.path(), &bucket);
    let mut publisher = Publisher::new(&ldb, targets.clone());
    for transaction in [20, 40, 60] {
        applier.apply_to(end_of(transaction));
        assert_eq!(take(&mut publisher), end_of(transaction));
        for target in &targets {
            let store = store(target);
            assert_eq!(check_stored(&store), end_of(transaction), "{}", target.url);
            let manifest = manifest(&store).unwrap();
            assert_eq!(manifest.compression, Compression::of(store.name()));
            assert_eq!(manifest.ledger_id.as_deref(), Some("the ledger"));
            assert!(manifest.leader_ts.is_some() && manifest.taken_at().unwrap() <= Timestamp::now());
            // The objects that the original's programs read, and the checks that they make.
            let plain = bytes_of(&store, store.name()).unwrap();
            assert!(is_of(&manifest, &plain), "{}", target.url);
            if store.path(store.name()).is_none() {
                for name in [store.name(), &manifest.key] {
                    let head = bucket.ask("HEAD", &format!("/some%20dir/{name}"));
                    assert_eq!(head.header("x-amz-meta-checksum"), Some(manifest.sha1.as_str()), "{name}");
                }
            }
        }
    }
    // For each key: itself, its manifest, its data and the data replaced lately. A file has a lock too.
    assert!((3 * 4..=3 * 5).contains(&bucket.keys().len()), "{:?}", bucket.keys());
    let files = names_in(&directory.path().join("files"));
    assert!((3 * 5..=3 * 6).contains(&files.len()), "{files:?}");
    assert!(matches!(round(&mut publisher, &Abort::default()), Ok(Outcome::Unchanged)));
    let beside_ldb = names_in(directory.path());
    assert!(!beside_ldb.iter().any(|name| name.ends_with(".tmp")), "{beside_ldb:?}");
}

#[test]
fn a_large_snapshot_goes_up_in_parts_and_reads_on_where_a_reader_left_off() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let ldb = directory.path().join("ldb.db");
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(1));
    for row in 0..40 {
        let text: String =
            (0..32_768).map(|at| format!("{:016x}", u64::wrapping_mul(at * 40 + row, 0x9e37_79b9_7f4a_7c15))).collect();
        applier.apply(format!(r#"REPLACE INTO fam___tab ("k","v","t") VALUES('large{row}',0,'{text}')"#));
    }
    let target = s3_target(&bucket.url("snapshot.db"), &s3::endpoint());
    take(&mut Publisher::new(&ldb, [target.clone()]));
    let (store, abort) = (store(&target), Abort::default());
    let manifest = manifest(&store).unwrap();
    assert!(manifest.bytes > 16 << 20, "{} bytes", manifest.bytes);
    let head = bucket.ask("HEAD", &format!("/{}", manifest.key));
    let etag = head.header("etag").unwrap();
    assert!(etag.trim_matches('"').ends_with("-3"), "{etag} is of no upload in three parts");
    let stored = bytes_of(&store, &manifest.key).unwrap();
    assert!(is_of(&manifest, &stored));
    assert_eq!(bucket.unfinished_uploads(), 0);

    let info = store.head(&manifest.key, &abort).unwrap();
    assert_eq!((info.size, info.checksum.as_ref()), (Some(manifest.bytes), Some(&manifest.sha1)));
    let part = Part { offset: 1000, if_match: info.etag };
    let mut rest = Vec::new();
    let mut object = store.get(&manifest.key, &part, &abort).unwrap();
    assert_eq!(object.info.size, Some(manifest.bytes));
    std::io::Read::read_to_end(&mut object, &mut rest).unwrap();
    assert!(rest == stored[1000..]);
    let other = Part { offset: 1000, if_match: Some("\"another\"".to_owned()) };
    assert!(matches!(store.get(&manifest.key, &other, &abort), Err(StoreError::Changed { .. })));
}

#[test]
fn an_upload_that_is_not_finished_leaves_nothing() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let file = file_target(&directory.path().join("snapshot.db"));
    for target in [file, s3_target(&bucket.url("snapshot.db"), &s3::endpoint())] {
        let store = store(&target);
        let mut upload = store.upload("snapshot.db", None, 40 << 20, &Abort::default()).unwrap();
        std::io::Write::write_all(&mut upload, &vec![7; 20 << 20]).unwrap();
        drop(upload);
        assert!(bytes_of(&store, "snapshot.db").is_none());
    }
    assert_eq!((bucket.unfinished_uploads(), bucket.keys().len()), (0, 0));
    assert!(names_in(directory.path()).is_empty());
}

#[test]
fn conditions_hold_for_small_objects_in_every_store() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let file = file_target(&directory.path().join("a.json"));
    for target in [file, s3_target(&bucket.url("a.json"), &s3::endpoint())] {
        let (store, abort) = (store(&target), Abort::default());
        let put = |text: &str, condition: &Condition| store.put("a.json", text.into(), condition, &abort);
        let changed = |outcome| matches!(outcome, Err(StoreError::Changed { .. }));
        put("one", &Condition::Missing).unwrap();
        assert!(changed(put("two", &Condition::Missing)), "{}", target.url);
        let etag = store.head("a.json", &abort).unwrap().etag.unwrap();
        put("three", &Condition::Is(etag.clone())).unwrap();
        assert!(changed(put("four", &Condition::Is(etag))), "{}", target.url);
        assert_eq!(bytes_of(&store, "a.json").unwrap(), b"three");
        store.delete("a.json", &abort).unwrap();
        store.delete("a.json", &abort).unwrap();
        assert!(changed(put("five", &Condition::Is("\"gone\"".to_owned()))));
        assert!(store.head("a.json", &abort).unwrap_err().is_not_found());
    }
}

#[test]
fn whoever_reads_meanwhile_finds_manifest_and_data_that_match() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let ldb = directory.path().join("ldb.db");
    let mut applier = Applier::open(&ldb);
    let targets = [
        file_target(&directory.path().join("snapshot.db.zst")),
        s3_target(&bucket.url("snapshot.db.gz"), &s3::endpoint()),
    ];
    let mut publisher = Publisher::new(&ldb, targets.clone());
    let done = AtomicBool::new(false);
    let reader = |target: &Target| {
        let store = store(target);
        let (mut last, mut looks) = (0, 0);
        while !done.load(Ordering::Relaxed) {
            let Some(manifest) = manifest(&store) else { continue };
            let stored = bytes_of(&store, &manifest.key);
            let stored = stored.unwrap_or_else(|| panic!("{} is named and not there", manifest.key));
            assert!(is_of(&manifest, &stored), "{} is not what {manifest:?} says", target.url);
            assert!(manifest.seq >= last, "the manifest went back from {last} to {}", manifest.seq);
            let plain = bytes_of(&store, store.name()).expect("there is a plain key");
            check_file(&decompress(&plain, manifest.compression));
            (last, looks) = (manifest.seq, looks + 1);
        }
        (last, looks)
    };
    thread::scope(|scope| {
        let readers: Vec<_> = targets.iter().map(|target| scope.spawn(move || reader(target))).collect();
        for transaction in 1..=15 {
            applier.apply_to(end_of(transaction * 10));
            take(&mut publisher);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            let (last, looks) = reader.join().unwrap();
            assert!(looks > 1 && last > 0, "the reader saw seq {last} in {looks} looks");
        }
    });
}

#[test]
fn two_publishers_of_one_key_never_take_it_back() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let target = s3_target(&bucket.url("snapshot.db"), &s3::endpoint());
    let publish = |name: &str, offset: i64| {
        let ldb = directory.path().join(name);
        let mut applier = Applier::open(&ldb);
        applier.adopt("the ledger");
        let mut publisher = Publisher::new(&ldb, [target.clone()]);
        let mut refused = 0;
        for transaction in 1..=12 {
            applier.apply_to(end_of(transaction * 2 + offset));
            match round(&mut publisher, &Abort::default()) {
                Ok(_) => {}
                Err(SnapshotError::Older { published, taken, .. }) => {
                    assert!(published >= taken);
                    refused += 1;
                }
                // The other publisher removes the object that was to be copied when its own is newer.
                Err(SnapshotError::Store(StoreError::NotFound { .. } | StoreError::Changed { .. })) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        refused
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let store = store(&target);
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let seq = manifest(&store).map_or(0, |manifest| manifest.seq);
                assert!(seq >= last, "the manifest went back from {last} to {seq}");
                last = seq;
            }
        });
        let one = scope.spawn(|| publish("one.db", 0));
        let two = scope.spawn(|| publish("two.db", 1));
        one.join().unwrap();
        two.join().unwrap();
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
    });
    // After any refusal, the next round of the publisher that is ahead repairs everything.
    let _ = round(&mut Publisher::new(directory.path().join("two.db"), [target.clone()]), &Abort::default());
    let store = store(&target);
    assert_eq!(check_stored(&store), end_of(25));
    let manifest = manifest(&store).unwrap();
    assert_eq!(check_bytes(&bytes_of(&store, store.name()).unwrap(), &manifest), end_of(25));
}

#[test]
fn two_publishers_at_the_same_seq_agree() {
    const ROUNDS: i64 = 8;
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let target = s3_target(&bucket.url("snapshot.db.zst"), &s3::endpoint());
    let together = Barrier::new(2);
    let publish = |name: &str| {
        let ldb = directory.path().join(name);
        let mut applier = Applier::open(&ldb);
        applier.adopt("the ledger");
        let mut publisher = Publisher::new(&ldb, [target.clone()]);
        for transaction in 1..=ROUNDS {
            applier.apply_to(end_of(transaction));
            together.wait();
            let outcome = round(&mut publisher, &Abort::default());
            together.wait();
            // A panic before the barrier would leave the other thread waiting.
            assert!(matches!(outcome, Ok(Outcome::Taken { .. } | Outcome::Unchanged)), "{outcome:?}");
        }
    };
    thread::scope(|scope| {
        let (one, two) = (scope.spawn(|| publish("one.db")), scope.spawn(|| publish("two.db")));
        one.join().unwrap();
        two.join().unwrap();
    });
    let store = store(&target);
    assert_eq!(check_stored(&store), end_of(ROUNDS));
    let manifest = manifest(&store).unwrap();
    assert!(is_of(&manifest, &bytes_of(&store, store.name()).unwrap()));
}

#[test]
fn what_was_removed_or_overwritten_by_hand_is_put_right() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let target = s3_target(&bucket.url("snapshot.db"), &s3::endpoint());
    let ldb = directory.path().join("ldb.db");
    Applier::open(&ldb).apply_to(end_of(3));
    let mut publisher = Publisher::new(&ldb, [target.clone()]);
    take(&mut publisher);
    let (store, abort) = (store(&target), Abort::default());
    let manifest = manifest(&store).unwrap();
    store.put(store.name(), b"something else".into(), &Condition::None, &abort).unwrap();
    assert!(matches!(round(&mut publisher, &abort), Ok(Outcome::Unchanged)));
    assert!(is_of(&manifest, &bytes_of(&store, store.name()).unwrap()));
    store.delete(&manifest.key, &abort).unwrap();
    take(&mut publisher);
    assert_eq!(check_stored(&store), end_of(3));
}

#[test]
fn the_newest_are_kept_under_their_times() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let ldb = directory.path().join("ldb.db");
    let mut applier = Applier::open(&ldb);
    let files = directory.path().join("files");
    let keep = |target| Target { keep: 2, ..target };
    let targets = [
        keep(file_target(&files.join("snapshot.db"))),
        keep(s3_target(&bucket.url("snapshot.db.gz"), &s3::endpoint())),
    ];
    let mut publisher = Publisher::new(&ldb, targets.clone());
    for transaction in 1..=4 {
        // Names have whole seconds.
        let second = Timestamp::now().unix_micros() / 1_000_000;
        wait_until("the next second", Duration::from_secs(5), || Timestamp::now().unix_micros() / 1_000_000 > second);
        applier.apply_to(end_of(transaction));
        take(&mut publisher);
    }
    for (target, names) in targets.iter().zip([names_in(&files), bucket.keys()]) {
        let kept: Vec<&String> =
            names.iter().filter(|name| name.starts_with("snapshot-") && !name.ends_with(".json")).collect();
        assert_eq!(kept.len(), 2, "{names:?}");
        let store = store(target);
        for (name, transaction) in kept.into_iter().zip([3, 4]) {
            let (bytes, _) = store.read(&Manifest::name_of(name), Manifest::MAX_BYTES, &Abort::default()).unwrap();
            let manifest = Manifest::parse(&bytes).unwrap();
            assert_eq!((&manifest.key, manifest.seq), (name, end_of(transaction)));
            assert_eq!(check_bytes(&bytes_of(&store, name).unwrap(), &manifest), end_of(transaction));
        }
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_of_a_compressed_snapshot() {
    let directory = support::scratch_dir();
    let small = SmallDisk::mount("1m");
    let (ldb, target) = (directory.path().join("ldb.db"), file_target(&small.path("snapshot.db.gz")));
    let mut applier = Applier::open(&ldb);
    applier.apply_to(end_of(100));
    let mut publisher = Publisher::new(&ldb, [target.clone()]);
    take(&mut publisher);
    let before = names_in(small.directory());
    let ballast = small.fill();
    applier.apply_to(end_of(3_000));
    let full = round(&mut publisher, &Abort::default()).unwrap_err();
    assert!(matches!(full, SnapshotError::DiskFull(_)), "{full}");
    fs::remove_file(ballast).unwrap();
    assert_eq!(names_in(small.directory()), before);
    assert_eq!(check_stored(&store(&target)), end_of(100));
    take(&mut publisher);
    assert_eq!(check_stored(&store(&target)), end_of(3_000));
}

#[test]
fn web_servers_and_data_urls_are_read_and_nothing_else() {
    let bucket = Bucket::new();
    let abort = Abort::default();
    let object = format!("{}/{}/dir/a%20b.db", s3::endpoint(), bucket.name);
    bucket.put_public("/dir/a%20b.db", b"the bytes of a snapshot");
    let open = |url: &str| Store::open(&url.parse().unwrap()).unwrap();
    // A query, such as a signature, goes with every request.
    let web = open(&format!("{object}?x-id=GetObject"));
    assert_eq!(web.name(), "a b.db");
    assert_eq!(bytes_of(&web, web.name()).unwrap(), b"the bytes of a snapshot");
    let etag = web.head(web.name(), &abort).unwrap().etag;
    let mut rest = String::new();
    let part = Part { offset: 4, if_match: etag };
    std::io::Read::read_to_string(&mut web.get(web.name(), &part, &abort).unwrap(), &mut rest).unwrap();
    assert_eq!(rest, "bytes of a snapshot");
    let missing = web.head("another.db", &abort).unwrap_err();
    assert!(!missing.to_string().contains("GetObject"), "{missing}");

    let data = open("data:dGhlIGJ5dGVz");
    assert_eq!(bytes_of(&data, data.name()).unwrap(), b"the bytes");
    assert!(data.head("data.json", &abort).unwrap_err().is_not_found());
    let refused = data.put("data", Vec::new(), &Condition::None, &abort).unwrap_err();
    assert!(matches!(refused, StoreError::Unsupported { .. }), "{refused}");
}

/// A part of a key in characters of every kind, as a URL has it. The required characters are encoded, and
/// as many of the others as `encoded` says.
fn written(name: &str, encoded: &[bool]) -> String {
    let mut text = String::new();
    for (at, c) in name.chars().enumerate() {
        let must = "#?%".contains(c) || (c == ' ' && (at == 0 || at + 1 == name.chars().count()));
        if must || encoded[at % encoded.len()] {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| text.push_str(&format!("%{b:02X}")));
        } else {
            text.push(c);
        }
    }
    text
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 12, ..Default::default() })]

    #[test]
    fn what_is_published_at_a_url_is_fetched_from_the_same_url(
        directory in r#"[a-zA-Z0-9 _.~!$&'()*+,;=:@^{}|"<>`äß€-]{1,10}d"#,
        name in r#"[a-zA-Z0-9 #?%_.~!$&'()*+,;=:@^{}|"<>`\[\]äß€-]{1,16}b"#,
        encoded in proptest::collection::vec(proptest::bool::ANY, 1..5),
    ) {
        let (scratch, bucket) = (support::scratch_dir(), Bucket::new());
        let ldb = scratch.path().join("ldb.db");
        Applier::open(&ldb).apply_to(end_of(2));
        let path = format!("{}/{}", written(&directory, &encoded), written(&name, &encoded));
        let root = scratch.path().display();
        for target in [
            Target::new(format!("file://{root}/{path}").parse().unwrap()),
            s3_target(&bucket.url(&path), &s3::endpoint()),
        ] {
            let seq = take(&mut Publisher::new(&ldb, [target.clone()]));
            // Once as the URL is displayed and read again, and once with everything encoded.
            let shown: ctlstore_ldb::snapshot::SnapshotUrl = target.url.to_string().parse().unwrap();
            assert_eq!(shown, target.url);
            assert_eq!(check_stored(&store(&target)), seq, "{}", target.url);
            let all = target.url.to_string().replace(&path, &format!("{}/{}", written(&directory, &[true]), written(&name, &[true])));
            assert_eq!(check_stored(&store(&Target { url: all.parse().unwrap(), ..target.clone() })), seq);
        }
        assert!(scratch.path().join(&directory).join(&name).is_file());
        // The key is the decoded URL, and its relative form means the same name.
        let plain = bucket.ask("GET", &format!("/{}/{}", written(&directory, &[true]), written(&name, &[true])));
        assert_eq!(plain.status, 200, "{directory}/{name}");
        let relative: ctlstore_ldb::snapshot::SnapshotUrl = format!("file:{path}").parse().unwrap();
        assert_eq!(relative, ctlstore_ldb::snapshot::SnapshotUrl::File(std::path::Path::new(&directory).join(&name)));
    }
}
