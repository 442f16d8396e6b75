//! An LDB that a snapshot replaces: the differences between the two are sent.

use std::fs;
use std::path::Path;

use ctlstore_ldb::changelog::history::{HistoryCursor, HistoryTail, What};

use super::client::Client;
use super::{open, with_rows, workload_of};
use support::ldb::workload::{self, Workload};
use support::ldb::{CREATE, Scratch, batch, upsert};

/// Applies `workload` up to `until` in `directory`, and closes the LDB.
fn applied(directory: &Path, workload: &Workload, until: i64) {
    let mut ldb = workload::open(directory, 1);
    ldb.adopt_ledger_id("a ledger").unwrap();
    let rows = workload.rows.iter().filter(|row| row.seq.0 <= until).cloned().collect();
    Workload { rows }.apply(&mut ldb, || 500);
    ldb.close().unwrap();
}

/// The first end of a ledger transaction that is not before `seq`.
fn boundary(workload: &Workload, seq: i64) -> i64 {
    let replay = workload::Replay::new(workload);
    (seq..).find(|seq| replay.is_boundary(*seq)).unwrap()
}

#[test]
fn a_snapshot_that_takes_the_place_of_an_ldb_is_no_gap() {
    let workload = workload_of(21);
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = here.path().join("ldb.db");
    applied(here.path(), &workload, boundary(&workload, 1_500));
    applied(there.path(), &workload, boundary(&workload, 3_000));
    let snapshot = here.path().join("snapshot.db");
    fs::copy(fs::canonicalize(there.path().join("ldb.db")).unwrap(), &snapshot).unwrap();
    let mut client = Client::new(&path);

    // A snapshot that did not replace the LDB after all leaves no trace, in this process...
    let mut ldb = workload::open(here.path(), 1);
    ldb.bridge(&snapshot).unwrap();
    let more = Workload { rows: workload.rows.iter().filter(|row| row.seq.0 <= 1_700).cloned().collect() };
    more.apply(&mut ldb, || 50);
    client.go_on();
    client.check(&path);
    // ...and in the next.
    ldb.bridge(&snapshot).unwrap();
    drop(ldb);
    let mut ldb = workload::open(here.path(), 1);
    assert_eq!(client.go_on().len(), 0);
    client.check(&path);

    // Killed right after the switch: the next start finds out what had happened.
    ldb.bridge(&snapshot).unwrap();
    drop(ldb);
    fs::rename(&snapshot, &path).unwrap();
    assert_eq!(client.go_on().len(), 0);
    let mut ldb = workload::open(here.path(), 1);
    let records = client.go_on();
    assert!(records.iter().all(|record| record.ledger_seq == ldb.position().unwrap().seq));
    client.check(&path);
    workload.apply(&mut ldb, || 100);
    client.go_on();
    client.check(&path);
    assert_eq!(client.resyncs, [""; 0]);
}

#[test]
fn of_tables_that_differ_as_a_whole_a_bridge_names_the_table() {
    let (old, new) = (Scratch::new(), Scratch::new());
    let (mut ldb, client) = with_rows(&old);
    let table = |name: &str| CREATE.replace("fam___tab", name);
    ldb.apply(&batch(4, &[&table("fam___gone"), &table("fam___wide"), &table("fam___same")])).unwrap();
    let next = HistoryCursor::seek(&client.directory, client.next).unwrap().unwrap().number();
    let mut other = open(&new);
    other.adopt_ledger_id("a ledger").unwrap();
    let wide = "ALTER TABLE fam___wide ADD COLUMN \"c\" REAL";
    let (fresh, row) = (table("fam___fresh"), r#"REPLACE INTO fam___fresh ("id","v") VALUES(7,'x')"#);
    let statements = [CREATE, &table("fam___wide"), &table("fam___same"), wide, &upsert(2, "c"), &fresh, row];
    other.apply(&batch(1, &statements)).unwrap();
    other.apply(&batch(8, &[&upsert(3, "d")])).unwrap();
    other.close().unwrap();
    let snapshot = fs::canonicalize(new.ldb()).unwrap();
    ldb.bridge(&snapshot).unwrap();
    drop(ldb);
    let file = fs::canonicalize(old.ldb()).unwrap();
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", file.display())).unwrap();
    }
    fs::copy(&snapshot, &file).unwrap();
    drop(open(&old));
    let mut tail = HistoryTail::new(&client.directory);
    tail.poll().unwrap();
    let mut cursor = HistoryCursor::seek(&client.directory, next).unwrap().unwrap();
    let records = cursor.read(tail.next(), 1 << 20).unwrap().unwrap();
    let shown: Vec<_> = records
        .iter()
        .map(|record| match &record.what {
            What::Row { op, table, key, .. } => {
                let key: serde_json::Value = serde_json::from_str(key.get()).unwrap();
                format!("{} {table} {}", op.map_or("?".to_owned(), |op| format!("{op:?}")), key[0]["value"])
            }
            What::Table { change, table, .. } => format!("{change:?} {table}"),
            What::Resync { reason } => reason.clone(),
        })
        .collect();
    let want = ["Upsert fresh 7", "Dropped gone", "Delete tab 1", "Upsert tab 2", "Upsert tab 3", "Altered wide"];
    assert_eq!(shown, want);
}
