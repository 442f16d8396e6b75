//! Destinations in trouble: silent, failing for a while, refusing, missing; and publishers
//! that are killed at any moment.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ctlstore_core::{Abort, failpoint};
use ctlstore_ldb::snapshot::store::Condition;
use ctlstore_ldb::snapshot::{Manifest, Publisher, SnapshotError, Store, StoreError, Target};

use support::s3::{self, Bucket, Front, Manner};
use support::snapshot::stored::{
    bytes_of, check_file, check_stored, decompress, file_target, is_of, manifest, s3_target, store,
};
use support::snapshot::{Applier, Outcome, end_of, names_in, round, take};
use support::{process, wait};

/// Names the directory from which a child process publishes until it is killed.
const CHILD: &str = "CTLSTORE_TEST_PUBLISH_CHILD";
/// The child's bucket, as URL, and its server.
const CHILD_S3: [&str; 2] = ["CTLSTORE_TEST_PUBLISH_URL", "CTLSTORE_TEST_PUBLISH_ENDPOINT"];
const DEADLINE: Duration = Duration::from_secs(60);
const ANSWER_500: Manner = Manner::Answer { status: "500 Internal Server Error", body: "out of order" };

fn ldb(directory: &Path, transactions: i64) -> std::path::PathBuf {
    let path = directory.join("ldb.db");
    Applier::open(&path).apply_to(end_of(transactions));
    path
}

#[test]
fn a_silent_destination_holds_back_nobody_and_is_given_up() {
    let directory = support::scratch_dir();
    let ldb = ldb(directory.path(), 1);
    let front = Front::new(Manner::Silent);
    let good = file_target(&directory.path().join("files/snapshot.db"));
    let mut publisher = Publisher::new(&ldb, [s3_target("s3://bucket/snapshot.db", &front.endpoint), good.clone()]);
    let mut applier = Applier::open(&ldb);
    let (mut transaction, mut missed, mut given_up) = (1, 0, Vec::new());
    while given_up.is_empty() {
        transaction += 1;
        applier.apply_to(end_of(transaction));
        let mut delivered = 0;
        while delivered < end_of(transaction) {
            let round = publisher.round(Duration::from_millis(100), &Abort::default()).unwrap();
            missed += round.busy.iter().filter(|index| **index == 0).count();
            for ended in round.ended {
                match (ended.destination, ended.outcome) {
                    (1, Ok(Some(got))) => delivered = got.position.seq.0,
                    (1, Ok(None)) => {}
                    (0, Err(error)) => {
                        // It has its own time, however short the round that reports it.
                        assert!(ended.took >= Duration::from_secs(1), "given up after {:?}", ended.took);
                        given_up.push(error);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(check_stored(&store(&good)), end_of(transaction));
    }
    assert!(missed > 3, "the silent destination was hardly busy: {missed}");
    let silent = &given_up[0];
    assert!(matches!(silent, SnapshotError::Store(StoreError::Temporary { .. })), "{silent:?}");
    assert_eq!(silent.to_string(), "s3://bucket/snapshot.db.json: no answer in time");
    // The copy that the busy one would have needed goes with it.
    drop(publisher);
    let left = names_in(directory.path());
    assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
}

#[test]
fn an_abort_ends_the_wait_for_a_silent_destination() {
    let directory = support::scratch_dir();
    let ldb = ldb(directory.path(), 1);
    let front = Front::new(Manner::Silent);
    let mut target = s3_target("s3://bucket/snapshot.db", &front.endpoint);
    // Far longer than the test's own deadline.
    target.options.silence = Duration::from_secs(3600);
    let mut publisher = Publisher::new(&ldb, [target]);
    let abort = Abort::default();
    let round = publisher.round(Duration::from_millis(10), &abort).unwrap();
    assert_eq!((round.ended.len(), round.busy), (0, vec![0]));
    wait::wait_until("it is connected", DEADLINE, || front.connections() > 0);
    abort.abort();
    let ended = wait::wait_for("the destination is back", DEADLINE, || {
        publisher.round(Duration::ZERO, &abort).unwrap().ended.pop()
    });
    assert!(matches!(ended.outcome, Err(SnapshotError::Aborted)), "{ended:?}");
}

#[test]
fn failing_again_and_again_fills_nothing_up() {
    let directory = support::scratch_dir();
    let ldb = ldb(directory.path(), 1);
    let files = directory.path().join("files");
    let mut publisher = Publisher::new(&ldb, [file_target(&files.join("snapshot.db"))]);
    take(&mut publisher);
    // From now on the data can be put, and then nothing can be put at the plain key.
    std::fs::remove_file(files.join("snapshot.db")).unwrap();
    std::fs::create_dir_all(files.join("snapshot.db/in the way")).unwrap();
    let before = names_in(&files);
    let mut applier = Applier::open(&ldb);
    for transaction in 2..5 {
        applier.apply_to(end_of(transaction));
        round(&mut publisher, &Abort::default()).unwrap_err();
    }
    assert_eq!(names_in(&files), before);
    std::fs::remove_dir_all(files.join("snapshot.db")).unwrap();
    take(&mut publisher);
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let directory = support::scratch_dir();
    let ldb = ldb(directory.path(), 1);
    let files = directory.path().join("files");
    let mut publisher = Publisher::new(&ldb, [file_target(&files.join("snapshot.db"))]);
    take(&mut publisher);
    std::fs::remove_dir_all(&files).unwrap();
    take(&mut publisher);
    assert!(files.join("snapshot.db.json").is_file());
}

#[test]
fn a_destination_that_answers_500_for_a_while_gets_the_next_snapshot() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let ldb = ldb(directory.path(), 5);
    let front = Front::new(ANSWER_500);
    let target = s3_target(&bucket.url("snapshot.db.zst"), &front.endpoint);
    let mut publisher = Publisher::new(&ldb, [target.clone()]);
    let failed = round(&mut publisher, &Abort::default()).unwrap_err();
    assert!(matches!(&failed, SnapshotError::Store(error) if error.is_temporary()), "{failed:?}");
    assert!(failed.to_string().ends_with("answered 500"), "{failed}");
    assert!(front.connections() > 1, "it was not tried again");
    front.behave(Manner::Pass);
    take(&mut publisher);
    assert_eq!(check_stored(&store(&target)), end_of(5));

    // It ends in the middle of its work, too.
    Applier::open(&ldb).apply_to(end_of(6));
    front.behave(ANSWER_500);
    round(&mut publisher, &Abort::default()).unwrap_err();
    assert_eq!(check_stored(&store(&s3_target(&bucket.url("snapshot.db.zst"), &s3::endpoint()))), end_of(5));
    front.behave(Manner::Pass);
    take(&mut publisher);
    assert_eq!(check_stored(&store(&target)), end_of(6));
}

#[test]
fn a_store_that_knows_neither_copies_nor_conditions_gets_all_the_same() {
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let front = Front::new(Manner::Plain);
    let mut target = s3_target(&bucket.url("snapshot.db.gz"), &front.endpoint);
    target.options.silence = Duration::from_secs(30);
    target.keep = 1;
    let mut applier = Applier::open(&directory.path().join("ldb.db"));
    let mut publisher = Publisher::new(directory.path().join("ldb.db"), [target.clone()]);
    for transaction in [5, 6] {
        applier.apply_to(end_of(transaction));
        take(&mut publisher);
        let store = store(&target);
        assert_eq!(whatever_a_host_takes(&store), end_of(transaction));
        let (manifest, plain) = (manifest(&store).unwrap(), bytes_of(&store, store.name()).unwrap());
        assert!(is_of(&manifest, &plain), "the second upload is another one");
        let kept = store.list("snapshot-", &Abort::default()).unwrap();
        let kept: Vec<&str> = kept.iter().map(|info| info.name.as_str()).filter(|name| name.ends_with(".gz")).collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert!(is_of(&manifest, &bytes_of(&store, kept[0]).unwrap()));
        let head = bucket.ask("HEAD", "/snapshot.db.gz");
        assert_eq!(head.header("x-amz-meta-checksum"), Some(manifest.sha1.as_str()));
        // An overwritten object is repaired.
        store.put(store.name(), b"something else".into(), &Condition::None, &Abort::default()).unwrap();
        assert!(matches!(round(&mut publisher, &Abort::default()), Ok(Outcome::Unchanged)));
        assert!(is_of(&manifest, &bytes_of(&store, store.name()).unwrap()));
    }
}

#[test]
fn what_is_wrong_with_a_destination_is_said_in_a_line() {
    const DENIED: Manner = Manner::Answer {
        status: "403 Forbidden",
        body: "<?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code><Message>long story</Message></Error>",
    };
    let directory = support::scratch_dir();
    let ldb = ldb(directory.path(), 1);
    let said = |target: Target| round(&mut Publisher::new(&ldb, [target]), &Abort::default()).unwrap_err().to_string();
    let missing = said(s3_target("s3://no-such-bucket/dir/snapshot.db", &s3::endpoint()));
    assert_eq!(missing, "s3://no-such-bucket/dir/snapshot.db.json: no such bucket");
    let front = Front::new(DENIED);
    let denied = said(s3_target("s3://bucket/snapshot.db", &front.endpoint));
    assert_eq!(denied, "s3://bucket/snapshot.db.json: access denied: answered 403 InvalidAccessKeyId");
    let nobody = support::port::Port::claim();
    let refused = said(s3_target("s3://bucket/snapshot.db", &format!("http://127.0.0.1:{}", nobody.number)));
    assert!(
        refused.starts_with("s3://bucket/snapshot.db.json: ") && refused.contains("onnection refused"),
        "{refused}"
    );
    let mut no_role = s3_target("s3://bucket/snapshot.db", &s3::endpoint());
    no_role.options.variables.retain(|(name, _)| !name.contains("KEY"));
    // It stands for the machine's own metadata service.
    let variable = ("AWS_METADATA_ENDPOINT".to_owned(), format!("http://127.0.0.1:{}", nobody.number));
    no_role.options.variables.push(variable);
    let no_credentials = said(no_role);
    assert!(no_credentials.starts_with("s3://bucket/snapshot.db.json: "), "{no_credentials}");
}

#[test]
fn a_kill_at_any_moment_leaves_no_bad_snapshot_anywhere() {
    if let Some(directory) = env::var_os(CHILD) {
        let [url, endpoint] = CHILD_S3.map(|name| env::var(name).unwrap());
        publish_until_killed(Path::new(&directory), &url, &endpoint);
    }
    let (directory, bucket) = (support::scratch_dir(), Bucket::new());
    let url = bucket.url("snapshot.db.gz");
    let stores: Vec<Store> = child_targets(directory.path(), &url, &s3::endpoint()).iter().map(store).collect();
    ldb(directory.path(), 300);
    take(&mut publisher(directory.path(), &url));
    let mut last: Vec<i64> = stores.iter().map(whatever_a_host_takes).collect();
    let mut check = |when: &str| {
        for (store, last) in stores.iter().zip(&mut last) {
            let seq = whatever_a_host_takes(store);
            assert!(seq >= *last, "killed {when}: {} went back from {last} to {seq}", store.url());
            *last = seq;
        }
        last.iter().sum::<i64>()
    };
    for failpoint in [
        "snapshot-after-copy",
        "snapshot-after-flush",
        "snapshot-before-rename",
        "snapshot-after-rename",
        "snapshot-after-manifest:2",
    ] {
        let mut command = child(directory.path(), &url);
        command.env(failpoint::VARIABLE, failpoint);
        let mut child = process::spawn(command);
        let status = wait::wait_for("the child reaches its failpoint", DEADLINE, || child.try_wait().unwrap());
        assert!(!status.success(), "{failpoint}: the child ended by itself");
        check(failpoint);
    }
    let before = check("never");
    let mut kill = |has_come: &dyn Fn(Instant) -> bool| {
        let mut child = process::spawn(child(directory.path(), &url));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("publishing")), "the child did not get to work");
        let at_work = Instant::now();
        wait::wait_until("its moment has come", DEADLINE, || has_come(at_work));
        process::signal(&child, libc::SIGKILL);
        child.wait().unwrap();
        check("at random")
    };
    for moment in (0..15).map(|round| Duration::from_millis(23 * round)) {
        kill(&|at_work| at_work.elapsed() >= moment);
    }
    // On a busy machine none of them has got as far as a snapshot.
    let first = manifest(&stores[0]).unwrap().seq;
    let after = kill(&|_| manifest(&stores[0]).unwrap().seq > first);
    assert!(after > before, "it went back from {before} to {after}");

    // The next publisher repairs everything.
    Applier::open(&directory.path().join("ldb.db")).apply_to(end_of(9_000));
    take(&mut publisher(directory.path(), &url));
    for store in &stores {
        assert_eq!(check_stored(store), end_of(9_000));
        let listed = store.list("snapshot.db", &Abort::default()).unwrap();
        let names: Vec<&str> =
            listed.iter().map(|info| info.name.as_str()).filter(|name| !name.ends_with(".lock")).collect();
        assert!(!names.iter().any(|name| name.contains(".tmp")), "{names:?}");
        // The snapshot, its manifest, its data, the data of the one before it, and of up to three that were put later
        // and that no manifest names.
        assert!((4..=7).contains(&names.len()), "{names:?}");
    }
    let left = names_in(directory.path());
    assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
}

/// Takes the snapshot that a new host takes, by the manifest, and the one that the original's
/// programs take, at the plain key, and checks both. Gives the manifest's seq.
#[track_caller]
fn whatever_a_host_takes(store: &Store) -> i64 {
    let manifest: Manifest = manifest(store).expect("there is a manifest");
    check_stored(store);
    let plain = bytes_of(store, store.name()).expect("there is a plain snapshot");
    let seq = check_file(&decompress(&plain, manifest.compression));
    assert!(seq >= manifest.seq);
    manifest.seq
}

fn child_targets(directory: &Path, url: &str, endpoint: &str) -> [Target; 3] {
    let files = directory.join("files");
    // The kill has to find publishers at work, so they must not give up on a busy machine.
    let mut object = s3_target(url, endpoint);
    object.options.silence = Duration::from_secs(30);
    [file_target(&files.join("snapshot.db")), file_target(&files.join("other/snapshot.db.zst")), object]
}

fn publisher(directory: &Path, url: &str) -> Publisher {
    Publisher::new(directory.join("ldb.db"), child_targets(directory, url, &s3::endpoint()))
}

/// Runs this test once more, as the process to be killed.
fn child(directory: &Path, url: &str) -> Command {
    let mut command =
        support::one_test(concat!(module_path!(), "::a_kill_at_any_moment_leaves_no_bad_snapshot_anywhere"));
    command.arg("--nocapture");
    command.env(CHILD, directory).env(CHILD_S3[0], url).env(CHILD_S3[1], s3::endpoint()).stdout(Stdio::piped());
    command
}

fn publish_until_killed(directory: &Path, url: &str, endpoint: &str) -> ! {
    let ldb = directory.join("ldb.db");
    let mut publisher = Publisher::new(&ldb, child_targets(directory, url, endpoint));
    let mut transaction =
        (ctlstore_reader::read::LdbReader::new(&ldb).last_seq().unwrap().0 - 1) / (end_of(1) - end_of(0));
    let mut applier = Applier::open(&ldb);
    println!("publishing");
    loop {
        transaction += 20;
        applier.apply_to(end_of(transaction));
        round(&mut publisher, &Abort::default()).unwrap();
    }
}
