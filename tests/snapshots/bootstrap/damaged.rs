//! LDBs whose files are damaged while they are in use: how the damage is found, how the LDB is replaced, and what the
//! status says if it can't be replaced.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use support::bootstrap::*;
use support::client::{role_status, wait_for_value};
use support::{Node, NodeProcess, http, wait_until};

const PAGE: u64 = 16 * 1024;

/// A host that has all of the ledger, and nothing in its WAL.
fn caught_up(host: &Node, origin: &Origin) -> NodeProcess {
    let process = host.start();
    wait_until_equal(host, origin);
    wait_until("the node is ready", DEADLINE, || is_ready(&process));
    let connection = Connection::open(host.ldb_path()).expect("open the ldb");
    wait_until("the wal is empty", DEADLINE, || {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)) == Ok(0)
    });
    process
}

fn is_ready(process: &NodeProcess) -> bool {
    http::is_ok(&format!("{}/readyz", process.ops_url()))
}

fn generation(host: &Node) -> PathBuf {
    fs::canonicalize(host.ldb_path()).expect("the generation")
}

/// Writes over the first page of the table's rows.
fn damage_rows(host: &Node) {
    let root = ldb(&host.ldb_path(), "SELECT rootpage FROM sqlite_schema WHERE name = 'fam___tab'").expect("ask");
    let root: u64 = root[0][0].as_deref().expect("a page").parse().expect("a number");
    overwrite(&generation(host), (root - 1) * PAGE, PAGE as usize);
}

fn overwrite(file: &Path, at: u64, bytes: usize) {
    let file = File::options().write(true).open(file).expect("open the generation");
    file.write_all_at(&vec![0xee; bytes], at).expect("damage it");
}

fn read_status(process: &NodeProcess) -> u16 {
    http::post(&format!("{}/get-row-by-key/fam/tab", process.reader_url()), r#"{"Key":[{"Value":5}]}"#).status
}

/// Waits until another LDB has replaced the damaged one, which is kept.
#[track_caller]
fn wait_until_healed(host: &Node, damaged: &Path, process: &NodeProcess, origin: &Origin) {
    wait_until("another ldb has the place", DEADLINE, || generation(host) != damaged);
    // The first one was fetched when the host began.
    assert_eq!(role_status(&process.ops_url(), "applier")["details"]["bootstrap"]["fetched"], 2);
    wait_until_equal(host, origin);
    wait_until("the node is ready again", DEADLINE, || is_ready(process));
    assert!(!names(host, ".unreadable-").is_empty());
    // It goes on from there.
    origin.write(5, 6, "afterwards");
    wait_until_equal(host, origin);
}

#[test]
fn rows_that_are_damaged_are_found_by_whoever_reads_them_and_the_ldb_is_replaced() {
    let origin = Origin::with_rows(2_000);
    let snapshot = Published::new("snapshot.db", &origin.snapshot());
    let host = origin.host().set("bootstrap.urls", vec![snapshot.url.clone()]);
    let process = caught_up(&host, &origin);
    let damaged = generation(&host);
    damage_rows(&host);
    // The ledger brings no row, so only a read can find the damage.
    wait_until("a read meets it", DEADLINE, || read_status(&process) != 200);
    wait_until_healed(&host, &damaged, &process, &origin);
    assert_eq!(read_status(&process), 200);
}

#[test]
fn a_header_that_is_written_over_is_found_without_a_read_or_a_write() {
    let origin = Origin::with_rows(200);
    let snapshot = Published::new("snapshot.db", &origin.snapshot());
    // No reader reads this one.
    let host = origin.host().roles(&["reflector"]).set("bootstrap.urls", vec![snapshot.url.clone()]);
    let process = caught_up(&host, &origin);
    let damaged = generation(&host);
    overwrite(&damaged, 0, 100);
    wait_until_healed(&host, &damaged, &process, &origin);
}

#[test]
fn a_file_that_is_cut_short_ends_no_process_and_is_replaced() {
    let origin = Origin::with_rows(2_000);
    let snapshot = Published::new("snapshot.db", &origin.snapshot());
    let host = origin.host().set("bootstrap.urls", vec![snapshot.url.clone()]);
    let process = caught_up(&host, &origin);
    let damaged = generation(&host);
    let file = File::options().write(true).open(&damaged).expect("open the generation");
    let pages = file.metadata().expect("its size").len() / PAGE;
    assert!(pages > 8, "{pages}");
    file.set_len(pages / 2 * PAGE).expect("cut it");
    wait_until_healed(&host, &damaged, &process, &origin);
    assert_eq!(read_status(&process), 200);
}

#[test]
fn what_the_ledger_brings_meanwhile_never_lands_in_an_empty_ldb() {
    let origin = Origin::with_rows(300);
    let nowhere = origin.node.data_dir().join("nowhere.db");
    let host = origin.host().set("bootstrap.urls", vec![format!("file:{}", nowhere.display())]);
    let process = caught_up(&host, &origin);
    overwrite(&generation(&host), 0, 100);
    assert_eq!(read_status(&process), 500);
    // A statement that an empty LDB could take.
    origin.client.create_table("fam", "late", &[("id", "integer")], 1).expect(200);
    wait_until_equal(&host, &origin);
}

#[test]
fn without_a_place_to_ask_damage_is_told_loudly_and_a_restart_says_what_to_do() {
    let origin = Origin::with_rows(2_000);
    let host = origin.host();
    let mut process = caught_up(&host, &origin);
    damage_rows(&host);
    wait_until("a read meets it", DEADLINE, || read_status(&process) != 200);
    let status = wait_for_failure(&process, "is damaged: ");
    assert!(status["not_ready"].to_string().contains("set bootstrap.urls to have another one fetched"), "{status}");
    assert_eq!(status["last_error"]["kind"], "storage", "{status}");
    wait_until("the node is not ready", DEADLINE, || !is_ready(&process));
    // The log has it once, however often it is found.
    let failures = || role_status(&process.ops_url(), "applier")["details"]["failures"].as_u64().expect("a number");
    let before = failures();
    wait_until("it is found again", DEADLINE, || failures() >= before + 2);
    let log = process.log();
    assert_eq!(log.lines().filter(|line| line.contains("ERROR") && line.contains("is damaged: ")).count(), 1, "{log}");
    process.stop(DEADLINE);
    overwrite(&generation(&host), 0, 100);
    let mut process = host.spawn();
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
    assert!(process.log().contains("set bootstrap.urls to have another one fetched"), "{}", process.log());
    // Its advice helps.
    fs::remove_file(host.ldb_path()).expect("move the link away");
    let _process = host.start();
    wait_until_equal(&host, &origin);
}

#[test]
fn a_wal_that_is_deleted_or_replaced_costs_nothing_and_needs_no_snapshot() {
    let origin = Origin::with_rows(200);
    let host = origin.host();
    let process = caught_up(&host, &origin);
    for garbage in [None, Some("no write-ahead log".repeat(1000))] {
        origin.write(0, 50, "in the wal");
        wait_until_equal(&host, &origin);
        let before = generation(&host);
        let wal = PathBuf::from(format!("{}-wal", before.display()));
        assert!(wal.metadata().expect("a wal").len() > 0);
        fs::remove_file(&wal).expect("delete the wal");
        if let Some(garbage) = garbage {
            fs::write(&wal, garbage).expect("write another one");
        }
        wait_until("the ldb is written anew", DEADLINE, || generation(&host) != before);
        let seq = ldb(&host.ldb_path(), "SELECT seq FROM _ldb_seq").expect("read the ldb");
        assert_eq!(seq, [[Some(origin.last_seq().to_string())]]);
        wait_until_equal(&host, &origin);
        origin.write(0, 10, "afterwards");
        wait_until_equal(&host, &origin);
        let row = origin.rows()[5][1].clone().expect("a value");
        wait_for_value(&process.reader_url(), "fam", "tab", 5, &row);
        wait_until("the node is ready", DEADLINE, || is_ready(&process));
    }
}
