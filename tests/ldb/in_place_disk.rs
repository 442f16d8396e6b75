//! A disk without room for the WAL of an LDB that is brought forward: the old rows stay, the snapshot is not fetched
//! again and again, and it is used as soon as there is room. On a small tmpfs, so it needs root.

use std::fs;
use std::path::Path;

use support::bootstrap::{DEADLINE, Origin, assert_whole, ldb, wait_for_failure};
use support::client::role_status;
use support::{SmallDisk, Web, http, wait_until};

const ROWS: i64 = 20_000;

fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("list").map(|entry| entry.expect("an entry").metadata().expect("ask"));
    entries.map(|metadata| metadata.len()).sum()
}

fn rows(path: &Path) -> Vec<support::sql::Row> {
    ldb(path, "SELECT id, value FROM fam___tab ORDER BY id").expect("read the ldb")
}

#[test]
fn a_snapshot_without_room_for_its_rows_is_kept_and_used_once_there_is_some() {
    let origin = Origin::with_rows(ROWS);
    let web = Web::start();
    let url = web.put("snapshot.db", origin.snapshot());
    let disk = SmallDisk::mount("64m");
    let path = disk.path("ldb.db");
    let host = origin.host().set("bootstrap.urls", vec![url]).set("ldb.path", path.display().to_string());
    let host = host.set("changes.retain_bytes", 0);
    let mut process = host.start();
    wait_until("the host has all rows", DEADLINE, || rows_are(&path, &origin));
    assert!(process.stop(DEADLINE).success());
    let (behind, old) = (origin.last_seq(), rows(&path));
    origin.write(0, ROWS, "second");
    let snapshot = origin.snapshot();
    web.put("snapshot.db", snapshot.clone());
    origin.prune(behind + 20);
    let downloads = || web.requests("snapshot.db").iter().filter(|request| request.sent > 0).count();
    let before = downloads();

    // Room for the snapshot, and for half of the pages that change.
    let size = (bytes_in(disk.directory()) + snapshot.len() as u64 * 3 / 2) * 107 / 100;
    disk.resize(&format!("{}k", size / 1024));
    let process = host.start();
    wait_for_failure(&process, "no space left for ldb");
    let failures = || role_status(&process.ops_url(), "applier")["details"]["failures"].as_i64().expect("a number");
    let seen = failures();
    wait_until("it tries again", DEADLINE, || failures() >= seen + 3);
    assert_eq!(downloads(), before + 1, "{:?}", web.requests("snapshot.db"));
    assert_whole(&path);
    assert!(rows(&path) == old, "other rows than before");
    http::get(&format!("{}/readyz", process.ops_url())).expect(503);

    disk.resize("64m");
    wait_until("the host has all rows", DEADLINE, || rows_are(&path, &origin));
    assert_eq!(downloads(), before + 1, "{:?}", web.requests("snapshot.db"));
    wait_until("every role is ready", DEADLINE, || http::is_ok(&format!("{}/readyz", process.ops_url())));
    assert!(!disk.path("ldb.db.incoming").exists());
}

fn rows_are(path: &Path, origin: &Origin) -> bool {
    let seq = ldb(path, "SELECT seq FROM _ldb_seq");
    let last = Some(origin.last_seq().to_string());
    seq.is_ok_and(|seq| seq.first().is_some_and(|row| row[0] == last)) && rows(path) == origin.rows()
}
