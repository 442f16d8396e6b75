//! A ctldb that was restored from a backup gives the same seqs to other rows. So a seq from before the
//! restore is no position in the changes after it.

use std::fs;
use std::path::Path;

use super::{Client, DEADLINE, Origin};
use support::Node;
use support::client::wait_for_value;
use support::feed::{Event, open};

/// Removes the LDB at `ldb` and the files beside it, as an operator would. Files that `keep` names
/// stay.
fn remove_ldb(ldb: &Path, keep: &[&str]) {
    for entry in fs::read_dir(ldb.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with("ldb.db") || keep.iter().any(|suffix| name == format!("ldb.db{suffix}")) {
            continue;
        }
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("remove what is of the ldb");
    }
}

fn copy(from: &Path, to: &Path) {
    let connection = rusqlite::Connection::open(from).expect("open the ctldb");
    connection.execute("VACUUM INTO ?", [to.to_str()]).expect("copy the ctldb");
}

/// Puts the backup's ctldb back.
fn restore(backup: &Path, ctldb: &Path) {
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", ctldb.display()));
    }
    fs::copy(backup, ctldb).expect("put the backup in its place");
}

fn first_two(base: &str, query: &str, last: &str) -> (Event, Event) {
    let mut stream = open(base, query, last);
    (stream.expect(), stream.expect())
}

#[test]
fn a_seq_of_before_a_restore_is_a_resync_and_none_goes_on_in_silence() {
    for keep in [&[".changes", ".seq"][..], &[".changes"], &[".seq"]] {
        let mut origin = Origin::new();
        let host = origin.host();
        let mut process = origin.following(&host);
        let backup = origin.ctldb().with_extension("backup");
        copy(&origin.ctldb(), &backup);
        let seen = origin.client.upsert("fam", "tab", &[(2, "of before"), (3, "of before")]);
        wait_for_value(&process.reader_url(), "fam", "tab", 3, "of before");
        let id = open(&process.reader_url(), &format!("?since={seen}"), "").expect().id;
        assert!(process.stop(DEADLINE).success() && origin.process.stop(DEADLINE).success());

        restore(&backup, &origin.ctldb());
        remove_ldb(&host.ldb_path(), keep);
        origin.process = origin.node.start();
        origin.client = Client::registered(origin.process.executive_url());
        let mut at = 0;
        while at <= seen {
            at = origin.client.upsert("fam", "tab", &[(4, "of after"), (5, "of after")]);
        }
        let process = host.start();
        let base = process.reader_url();
        wait_for_value(&base, "fam", "tab", 5, "of after");
        for (query, last) in [
            (format!("?since={seen}"), ""),
            (format!("?since={}", seen - 1), ""),
            (format!("?since={id}"), ""),
            (String::new(), id.as_str()),
        ] {
            let (start, resync) = first_two(&base, &query, last);
            assert_eq!((&*start.event, &*resync.event), ("start", "resync"), "{keep:?} {query} {last}");
        }
        // Only this ledger can have given this position, so no change is missed.
        let mut stream = open(&base, &format!("?since={at}"), "");
        assert_eq!(stream.expect().event, "start");
        let next = origin.client.upsert("fam", "tab", &[(6, "later")]);
        let change = stream.expect();
        assert_eq!((&*change.event, &change.data["ledgerSeq"]), ("change", &next.into()));
    }
}

#[test]
fn a_seq_is_a_place_in_the_changes_of_a_host_that_never_went_back() {
    let origin = Origin::new();
    let host: Node = origin.host();
    let mut process = origin.following(&host);
    let seq = origin.client.upsert("fam", "tab", &[(2, "two")]);
    origin.client.upsert("fam", "tab", &[(3, "three")]);
    for _ in 0..2 {
        wait_for_value(&process.reader_url(), "fam", "tab", 3, "three");
        let (start, change) = first_two(&process.reader_url(), &format!("?since={seq}"), "");
        assert_eq!((&*start.event, &*change.event), ("start", "change"));
        assert!(process.stop(DEADLINE).success());
        process = host.start();
    }
}
