//! A host with several LDBs: one poller's rows in all of them, readers that go from one to the next, and one that fails
//! without holding up the others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ctlstore_reader::RotatingReader;
use serde_json::Value;
use support::bootstrap::{DEADLINE, Origin, assert_whole, ldb, metric};
use support::wait::{wait_for, wait_until};
use support::web::Manners;
use support::{Node, NodeProcess, Web, http};

const PERIOD: Duration = Duration::from_millis(400);
const NAMES: [&str; 3] = ["one.db", "two.db", "three.db"];

fn host(origin: &Origin) -> Node {
    origin.host().set("ldb.paths", NAMES.to_vec()).set("ldb.rotation", "400ms")
}

fn paths(host: &Node) -> Vec<PathBuf> {
    NAMES.map(|name| host.data_dir().join(name)).to_vec()
}

fn seq_at(path: &Path) -> Option<i64> {
    ldb(path, "SELECT seq FROM _ldb_seq").ok()?.first()?.first()?.as_ref()?.parse().ok()
}

/// Waits until the LDB has all of the origin's ledger, and equals its ctldb.
#[track_caller]
fn wait_until_equal(path: &Path, origin: &Origin) {
    let last = origin.last_seq();
    wait_for(&format!("{} has all of the ledger", path.display()), DEADLINE, || (seq_at(path)? == last).then_some(()));
    assert_whole(path);
    let found = ldb(path, "SELECT id, value FROM fam___tab ORDER BY id").expect("read the ldb");
    assert!(found == origin.rows(), "{} is not the ctldb", path.display());
}

#[track_caller]
fn wait_until_all_equal(host: &Node, origin: &Origin) {
    paths(host).iter().for_each(|path| wait_until_equal(path, origin));
}

/// The status of each applier, by the name of its LDB.
fn appliers(process: &NodeProcess) -> Vec<(String, Value)> {
    let status = http::get(&format!("{}/status", process.ops_url())).expect(200).json();
    let roles = status["roles"].as_array().expect("roles").iter().filter(|role| role["role"] == "applier");
    let name = |role: &Value| {
        let path = role["details"]["ldb"].as_str().expect("a path");
        path.rsplit('/').next().expect("a name").to_owned()
    };
    roles.map(|role| (name(role), role.clone())).collect()
}

fn applier(process: &NodeProcess, name: &str) -> Value {
    appliers(process).into_iter().find(|(found, _)| found == name).expect("this ldb's applier").1
}

#[test]
fn all_ldbs_have_the_rows_of_one_poller_and_are_told_apart() {
    let origin = Origin::with_rows(50);
    let host = host(&origin);
    let mut process = host.start();
    origin.write(0, 200, "second");
    wait_until_all_equal(&host, &origin);
    wait_until("every role is ready", DEADLINE, || http::is_ok(&format!("{}/readyz", process.ops_url())));
    let found = appliers(&process);
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), NAMES);
    let last = origin.last_seq();
    for (name, status) in &found {
        assert_eq!(status["last_seq"], last, "{status}");
        let file = host.data_dir().join(name).display().to_string();
        assert_eq!(metric(&process, &format!("ctlstore_ldb_file_seq{{file=\"{file}\"}}")), last as f64);
        wait_until("the lag is known", DEADLINE, || {
            metric(&process, &format!("ctlstore_ldb_file_lag_seconds{{file=\"{file}\"}}")).is_finite()
        });
    }
    assert_eq!(metric(&process, "ctlstore_ldb_seq"), last as f64);
    // The ledger was read once for all of them, and named once.
    assert!(metric(&process, "ctlstore_poller_rows_total") <= 2.0 * last as f64);
    let beside = |suffix: &str| {
        paths(&host).iter().filter(|path| Path::new(&format!("{}{suffix}", path.display())).exists()).count()
    };
    assert_eq!((beside(".seq"), beside(".changes")), (3, 1));
    let lines = std::fs::read_to_string(host.data_dir().join("change.log")).expect("read the changelog");
    assert!(lines.lines().count() as i64 <= last);
    assert!(process.stop(DEADLINE).success());
    // The next start goes on with what is there, at whatever seq each of them is.
    origin.write(100, 300, "third");
    let _process = host.start();
    wait_until_all_equal(&host, &origin);
}

#[test]
fn readers_go_from_one_to_the_next_and_each_wal_is_emptied_in_between() {
    let origin = Origin::with_rows(50);
    let host = host(&origin);
    let process = host.start();
    wait_until_all_equal(&host, &origin);
    let rotating = RotatingReader::open(paths(&host), PERIOD).expect("open");
    let base = process.reader_url();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                origin.write(0, 50, &format!("round {round}"));
            }
        });
        // Over HTTP: no error, no step back, and no lag that only one of them has.
        let reads = scope.spawn(|| {
            let (mut last, mut reads) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let answer = http::get(&format!("{base}/v1/rows/fam/tab/7")).expect(200);
                let seq: i64 = answer.header("ctlstore-seq").expect("a seq").parse().expect("a number");
                assert!(seq >= last, "{seq} after {last}");
                (last, reads) = (seq, reads + 1);
                let row: Option<(i64, String)> = rotating.get("fam", "tab", 7).expect("a read");
                assert!(row.is_some());
            }
            reads
        });
        let mut emptied = BTreeSet::new();
        wait_until("each WAL was emptied once", DEADLINE, || {
            for path in paths(&host) {
                let file = std::fs::canonicalize(&path).expect("a file");
                if std::fs::metadata(format!("{}-wal", file.display())).is_ok_and(|wal| wal.len() == 0) {
                    emptied.insert(path);
                }
            }
            emptied.len() == NAMES.len()
        });
        done.store(true, Ordering::Relaxed);
        load.join().expect("the load");
        assert!(reads.join().expect("the reads") > 50);
    });
    wait_until_all_equal(&host, &origin);
    // Nothing is written any more, so what differs between two entity tags is the file.
    let mut tags = BTreeSet::new();
    wait_until("an answer came from each of them", DEADLINE, || {
        let answer = http::get(&format!("{base}/v1/rows/fam/tab/7")).expect(200);
        tags.insert(answer.header("etag").expect("a tag").to_owned());
        tags.len() == NAMES.len()
    });
}

#[test]
fn an_ldb_that_is_missing_or_damaged_is_copied_from_another() {
    let origin = Origin::with_rows(400);
    let host = host(&origin);
    let mut process = host.start();
    wait_until_all_equal(&host, &origin);
    // The ledger alone could not bring it back, nor can any snapshot.
    origin.prune(origin.last_seq() - 5);
    for (name, is_damaged) in [("two.db", false), ("one.db", false), ("three.db", true), ("one.db", true)] {
        assert!(process.stop(DEADLINE).success());
        let file = std::fs::canonicalize(host.data_dir().join(name)).expect("a file");
        if is_damaged {
            damage(&file);
        } else {
            std::fs::remove_file(&file).expect("remove");
        }
        process = host.start();
        origin.write(0, 400, name);
        wait_until_all_equal(&host, &origin);
        wait_until("every role is ready", DEADLINE, || http::is_ok(&format!("{}/readyz", process.ops_url())));
        let status = applier(&process, name);
        let source = status["details"]["bootstrap"]["last_source"].as_str().unwrap_or_default();
        assert!(source.starts_with('/') && source.ends_with(".db"), "{status}");
    }
}

/// Makes the pages of the table unreadable.
fn damage(file: &Path) {
    let root = ldb(file, "SELECT rootpage FROM sqlite_schema WHERE name = 'fam___tab'").expect("ask");
    let root: usize = root[0][0].as_deref().expect("a page").parse().expect("a number");
    let mut bytes = std::fs::read(file).expect("read");
    let page = bytes.len() / (bytes.len() / 16384);
    bytes[(root - 1) * page..root * page].fill(0xee);
    std::fs::write(file, &bytes).expect("damage it");
}

#[test]
fn one_that_can_t_be_written_is_left_out_and_named_and_joins_again() {
    let origin = Origin::with_rows(50);
    let host = host(&origin);
    let process = host.start();
    wait_until_all_equal(&host, &origin);
    // Another program holds its write lock.
    let two = host.data_dir().join("two.db");
    let holder = rusqlite::Connection::open(&two).expect("open");
    holder.execute_batch("BEGIN IMMEDIATE").expect("lock");
    origin.write(0, 200, "second");
    for name in ["one.db", "three.db"] {
        wait_until_equal(&host.data_dir().join(name), &origin);
    }
    let ready = wait_for("it is named", DEADLINE, || {
        let answer = http::get(&format!("{}/readyz", process.ops_url()));
        let text = answer.text();
        (answer.status == 503 && text.contains("two.db")).then_some(text)
    });
    assert!(!ready.contains("three.db"), "{ready}");
    assert_eq!(applier(&process, "three.db")["state"], "running");
    origin.write(0, 50, "third");
    wait_until_equal(&host.data_dir().join("three.db"), &origin);
    drop(holder);
    wait_until_all_equal(&host, &origin);
    wait_until("every role is ready", DEADLINE, || http::is_ok(&format!("{}/readyz", process.ops_url())));
}

#[test]
fn a_snapshot_is_fetched_once_and_all_are_brought_forward_in_their_own_files() {
    let origin = Origin::with_rows(400);
    let web = Web::start();
    let url = web.put("snapshot.db", origin.snapshot());
    let host = host(&origin).set("bootstrap.urls", vec![url]);
    let mut process = host.start();
    wait_until_all_equal(&host, &origin);
    let downloads = |web: &Web| web.requests("snapshot.db").iter().filter(|request| request.sent > 0).count();
    assert_eq!(downloads(&web), 1, "{:?}", web.requests("snapshot.db"));
    assert!(process.stop(DEADLINE).success());
    let links: Vec<_> = paths(&host).iter().map(|path| std::fs::read_link(path).expect("a link")).collect();
    let behind = origin.last_seq();
    origin.write(50, 250, "second");
    web.put("snapshot.db", origin.snapshot());
    web.behave(Manners::default());
    origin.prune(behind + 20);
    let process = host.start();
    wait_until_all_equal(&host, &origin);
    assert_eq!(downloads(&web), 2, "{:?}", web.requests("snapshot.db"));
    let now: Vec<_> = paths(&host).iter().map(|path| std::fs::read_link(path).expect("a link")).collect();
    assert_eq!(now, links, "another file took a path");
    for name in NAMES {
        assert_eq!(applier(&process, name)["details"]["bootstrap"]["in_place"], 1, "{name}");
    }
}
