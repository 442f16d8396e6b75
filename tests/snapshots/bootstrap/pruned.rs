//! Hosts whose LDB can't follow its ledger: the ledger was pruned beyond it, it is of another ledger, or it is damaged.
//! They bootstrap again without help if they can, and report it loudly if they can't.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::bootstrap::*;
use support::client::{read_value, role_status, wait_for_value};
use support::web::Manners;
use support::{Node, Web, http, sql, wait_until};

/// A host that has all of the ledger, and was stopped while the ledger was pruned beyond its LDB.
fn left_behind(origin: &Origin, urls: &[&str]) -> Node {
    let host = origin.host().set("bootstrap.urls", urls.to_vec());
    let mut process = host.start();
    wait_until_equal(&host, origin);
    assert!(process.stop(DEADLINE).success());
    let behind = origin.last_seq();
    origin.write(50, 150, "second");
    origin.snapshot();
    origin.prune(behind + 20);
    host
}

#[test]
fn a_host_that_pruning_left_behind_bootstraps_again_by_itself() {
    let origin = Origin::with_rows(300);
    let published = format!("file://{}", origin.published().display());
    let host = left_behind(&origin, &[&published]);
    let number = last_changelog_entry(&host);
    let process = host.start();
    wait_until_equal(&host, &origin);
    origin.write(0, 10, "third");
    wait_until_equal(&host, &origin);
    wait_until("every role is ready", DEADLINE, || http::is_ok(&format!("{}/readyz", process.ops_url())));
    // Followers of the changelog notice it: the numbers go on, and never by one.
    let lines = std::fs::read_to_string(host.data_dir().join("change.log")).expect("read the changelog");
    let numbers: Vec<i64> = lines.lines().map(entry_number).collect();
    let jump = numbers.windows(2).find(|pair| pair[0] == number).expect("an entry behind the last one");
    assert!(jump[1] > number + 1, "{jump:?}");
    assert_eq!(numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count(), 1, "{numbers:?}");
    // A program that waits at the seq file is woken.
    let seq = std::fs::read_to_string(host.data_dir().join("ldb.db.seq")).expect("read the seq file");
    assert_eq!(seq.trim().parse::<i64>().expect("a number"), origin.last_seq());
}

fn entry_number(line: &str) -> i64 {
    serde_json::from_str::<serde_json::Value>(line).expect("a line of json")["seq"].as_i64().expect("a number")
}

fn last_changelog_entry(host: &Node) -> i64 {
    let lines = std::fs::read_to_string(host.data_dir().join("change.log")).expect("read the changelog");
    entry_number(lines.lines().last().expect("an entry"))
}

#[test]
fn a_host_that_pruning_left_behind_stops_loudly_where_it_knows_no_snapshot() {
    let origin = Origin::with_rows(100);
    let host = left_behind(&origin, &[]);
    let process = host.start();
    wait_until("the poller says why", DEADLINE, || {
        role_status(&process.ops_url(), "poller")["last_error"]["message"].to_string().contains("were pruned")
    });
    http::get(&format!("{}/readyz", process.ops_url())).expect(503);
    // It serves the rows that it has, and none of those that it missed.
    wait_for_value(&process.reader_url(), "fam", "tab", 1, &origin_value(&origin, 1));
    assert!(read_value(&process.reader_url(), "fam", "tab", 120).is_none());
}

fn origin_value(origin: &Origin, id: i64) -> String {
    let rows = sql::query(&origin.ctldb(), &format!("SELECT value FROM fam___tab WHERE id = {id}")).expect("read");
    rows[0][0].clone().expect("a value")
}

#[test]
fn a_snapshot_that_is_behind_the_low_water_mark_too_is_refused() {
    let origin = Origin::with_rows(100);
    let old = origin.snapshot();
    let web = Web::start();
    let url = web.put("old.db", old.clone());
    let host = left_behind(&origin, &[&url]);
    let before = ldb(&host.ldb_path(), "SELECT seq FROM _ldb_seq").expect("read");
    let generation = std::fs::read_link(host.ldb_path()).expect("a link");
    let process = host.start();
    let status = wait_for_failure(&process, "is of no use here");
    assert_eq!(status["last_error"]["kind"], "ledger", "{status}");
    wait_until_retrying(&process);
    // It goes on asking, and does not download the same object again and again.
    let downloaded = "ctlstore_bootstrap_downloaded_bytes_total";
    let attempts = metric(&process, "ctlstore_bootstrap_attempts_total");
    wait_until("it asks again", DEADLINE, || metric(&process, "ctlstore_bootstrap_attempts_total") >= attempts + 2.0);
    assert_eq!(metric(&process, downloaded), old.len() as f64, "{:?}", web.requests("old.db"));
    assert_eq!(std::fs::read_link(host.ldb_path()).expect("a link"), generation);
    assert_eq!(ldb(&host.ldb_path(), "SELECT seq FROM _ldb_seq").expect("read"), before);
    // A good one is taken as soon as it is there.
    web.put("old.db", origin.snapshot());
    wait_until_equal(&host, &origin);
    wait_until("the applier works", DEADLINE, || role_status(&process.ops_url(), "applier")["state"] == "running");
}

#[test]
fn readers_see_the_old_rows_until_they_see_the_new_ones_and_never_an_error() {
    let origin = Origin::with_rows(400);
    let snapshot = origin.snapshot();
    let web = Web::start();
    let url = web.put("snapshot.db", snapshot);
    let host = left_behind(&origin, &[&url]);
    let newer = origin.snapshot();
    web.put("snapshot.db", newer.clone());
    // Slow enough for readers to read often.
    web.behave(Manners { slow: Some(newer.len()), ..Manners::default() });
    let process = host.start();
    let reader = process.reader_url();
    let generation = std::fs::read_link(host.ldb_path()).ok();
    let (old, new) = (read_of(&reader, 60).expect("the old row"), origin_value(&origin, 60));
    assert_ne!(old, new);
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (reader, done, old, new) = (reader.clone(), Arc::clone(&done), old.clone(), new.clone());
            std::thread::spawn(move || {
                let mut reads = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    let value = read_of(&reader, 60).expect("a row");
                    assert!(value == new || value == old, "{value}");
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let status = wait_for_applier(&process, "the applier bootstraps", |status| {
        status["state"] == "bootstrapping" && status["details"]["bootstrap"]["total_bytes"].is_i64()
    });
    let bootstrap = &status["details"]["bootstrap"];
    assert_eq!(
        (bootstrap["source"].as_str(), bootstrap["total_bytes"].as_i64()),
        (Some(&*url), Some(newer.len() as i64))
    );
    assert_eq!(status["not_ready"], "is bootstrapping");
    let last = origin.last_seq().to_string();
    wait_until("the ldb has the new rows", DEADLINE, || {
        ldb(&host.ldb_path(), "SELECT seq FROM _ldb_seq").is_ok_and(|seq| seq[0][0].as_ref() == Some(&last))
    });
    // The promise holds from the moment at which every program can read the new rows.
    let promise = Duration::from_secs(1);
    wait_until("readers have the new row", promise, || read_of(&reader, 60).as_deref() == Some(&new));
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().expect("no reader met an error") > 10);
    }
    wait_until_equal(&host, &origin);
    assert_eq!(std::fs::read_link(host.ldb_path()).ok(), generation, "another file took the path");
}

/// A row's value. `None` only if the reader answers that there is no such row.
fn read_of(reader: &str, id: i64) -> Option<String> {
    let body = format!(r#"{{"Key":[{{"Value":{id}}}]}}"#);
    let answer = http::post(&format!("{reader}/get-row-by-key/fam/tab"), body);
    match answer.status {
        404 => None,
        _ => Some(answer.expect(200).json()["value"].as_str().expect("a text").to_owned()),
    }
}

#[test]
fn an_ldb_that_is_no_database_is_kept_aside_and_replaced() {
    let origin = Origin::with_rows(100);
    let snapshot = Published::new("snapshot.db", &origin.snapshot());
    let host = origin.host().set("bootstrap.urls", vec![snapshot.url.clone()]);
    std::fs::create_dir_all(host.data_dir()).expect("make the data directory");
    let garbage = b"this is no database, and it is long enough to look like one".repeat(100);
    write_damaged(&host, &garbage);
    std::fs::write(host.data_dir().join("ldb.db-wal"), "its wal").expect("write");
    std::fs::write(host.data_dir().join("ldb.db.unreadable-1700000000000"), "an earlier one").expect("write");
    let mut process = host.start();
    wait_until_equal(&host, &origin);
    // Only the newest, with its -wal, and perhaps with a -shm that opening it made.
    let mut kept = names(&host, ".unreadable-");
    kept.retain(|name| !name.ends_with("-shm"));
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(std::fs::read(host.data_dir().join(&kept[0])).expect("read"), garbage);
    assert_eq!(std::fs::read(host.data_dir().join(&kept[1])).expect("read"), b"its wal");
    assert_eq!(kept[1], format!("{}-wal", kept[0]));
    assert!(process.stop(DEADLINE).success());
    let _process = host.start();
    wait_until_equal(&host, &origin);
    assert!(!host.data_dir().join("ldb.db-wal").exists());
}

#[test]
fn an_ldb_that_is_no_database_gives_way_to_an_empty_one_where_that_is_all_there_is() {
    let origin = Origin::with_rows(50);
    let nowhere = format!("file://{}/none.db", origin.node.data_dir().display());
    let host = origin.host().set("bootstrap.urls", vec![nowhere]);
    std::fs::create_dir_all(host.data_dir()).expect("make the data directory");
    write_damaged(&host, "no database at all, but long enough: ".repeat(100).as_bytes());
    let process = host.start();
    wait_until_equal(&host, &origin);
    assert!(!names(&host, ".unreadable-").is_empty());
    assert_eq!(role_status(&process.ops_url(), "applier")["details"]["bootstrap"]["fetched"], 0);
}

#[test]
fn without_a_place_to_ask_an_ldb_that_is_no_database_fails_the_start() {
    let origin = Origin::with_rows(1);
    let host = origin.host();
    std::fs::create_dir_all(host.data_dir()).expect("make the data directory");
    write_damaged(&host, "no database at all, but long enough: ".repeat(100).as_bytes());
    let mut process = host.spawn();
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1));
    assert!(process.log().contains("ldb.db is damaged"), "{}", process.log());
}

#[test]
fn an_ldb_that_is_damaged_while_it_is_in_use_is_replaced() {
    let origin = Origin::with_rows(2_000);
    let snapshot = Published::new("snapshot.db", &origin.snapshot());
    let host = origin.host().set("bootstrap.urls", vec![snapshot.url.clone()]);
    let mut process = host.start();
    wait_until_equal(&host, &origin);
    assert!(process.stop(DEADLINE).success());
    // The start reads its own tables. The applier finds what is wrong with the others.
    let file = std::fs::canonicalize(host.ldb_path()).expect("the generation");
    let root: usize = ldb(&file, "SELECT rootpage FROM sqlite_schema WHERE name = 'fam___tab'").expect("ask")[0][0]
        .as_deref()
        .expect("a page")
        .parse()
        .expect("a number");
    let mut bytes = std::fs::read(&file).expect("read");
    let page = bytes.len() / (bytes.len() / 16384);
    bytes[(root - 1) * page..root * page].fill(0xee);
    std::fs::write(&file, &bytes).expect("damage it");
    let process = host.start();
    assert_eq!(metric(&process, "ctlstore_bootstrap_attempts_total"), 0.0);
    origin.write(0, 50, "second");
    wait_until_equal(&host, &origin);
    assert!(!names(&host, ".unreadable-").is_empty());
    wait_until("the applier works", DEADLINE, || role_status(&process.ops_url(), "applier")["state"] == "running");
}

#[test]
fn an_ldb_of_another_ledger_gives_way_to_a_snapshot_of_the_right_one() {
    let (one, two) = (Origin::with_rows(50), Origin::with_rows(80));
    let wrong = Published::new("one.db", &one.snapshot());
    let right = Published::new("two.db", &two.snapshot());
    let host = one.host();
    let mut process = host.start();
    wait_until_equal(&host, &one);
    assert!(process.stop(DEADLINE).success());
    let host = host.ctldb(&two.ctldb());
    let process = host.clone().set("bootstrap.urls", vec![wrong.url.clone()]).start();
    wait_for_failure(&process, "is of no use here: it is of ledger");
    assert_eq!(ldb(&host.ldb_path(), "SELECT count(*) FROM fam___tab"), Ok(vec![vec![Some("50".to_owned())]]));
    drop(process);
    let _process = host.clone().set("bootstrap.urls", vec![wrong.url.clone(), right.url.clone()]).start();
    wait_until_equal(&host, &two);
}

#[test]
fn a_new_host_takes_no_snapshot_of_another_ledger() {
    let (one, two) = (Origin::with_rows(50), Origin::with_rows(80));
    let wrong = Published::new("one.db", &one.snapshot());
    let right = Published::new("two.db", &two.snapshot());
    let host = two.host();
    let process = host.clone().set("bootstrap.urls", vec![wrong.url.clone()]).start();
    wait_for_failure(&process, "is of no use here: it is of ledger");
    assert!(!host.ldb_path().exists(), "the foreign snapshot took the ldb's place");
    drop(process);
    let _process = host.clone().set("bootstrap.urls", vec![wrong.url.clone(), right.url.clone()]).start();
    wait_until_equal(&host, &two);
}
