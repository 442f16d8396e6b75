//! Readers of every kind while versions come and go.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ctlstore_reader::Reader;

use super::fixture::*;
use support::client::wait_for_value;
use support::{http, wait_until};

/// Rows of the table: more than an HTTP worker reads without another thread.
const ROWS: i64 = 400;
/// The versions that each kind of reader has to see.
const SWITCHES: usize = 4;
const KEY: &str = r#"{"Key":[{"Value":5}]}"#;

/// The first word of a value, which tells the round in which it was written.
fn round_of(value: &str) -> String {
    value.split(' ').next().unwrap_or_default().to_owned()
}

/// Reads again and again until it is told to stop. Gives the rounds that it saw.
fn read_on(stop: &AtomicBool, reads: &AtomicU64, read: impl Fn() -> String) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        seen.insert(read());
        reads.fetch_add(1, Ordering::Relaxed);
    }
    seen
}

fn over_http(url: &str) -> String {
    let answer = http::post(&format!("{url}/get-row-by-key/fam/tab"), KEY).expect(200).json();
    round_of(answer["value"].as_str().expect("a text"))
}

/// Reads all rows at once. Rows that are written together are of one round.
fn scanned_over_http(url: &str) -> String {
    let answer = http::post(&format!("{url}/get-rows-by-key-prefix/fam/tab"), "{}").expect(200).json();
    let rows = answer.as_array().expect("rows");
    assert_eq!(rows.len() as i64, ROWS);
    let rounds: BTreeSet<_> = rows[..100].iter().map(|row| round_of(row["value"].as_str().expect("a text"))).collect();
    assert_eq!(rounds.len(), 1, "{rounds:?}");
    rounds.into_iter().next().expect("a round")
}

fn by_library(reader: &Reader) -> String {
    let row: (i64, String) = reader.get("fam", "tab", 5).expect("no error").expect("the row");
    round_of(&row.1)
}

#[test]
fn readers_go_from_version_to_version_without_an_error_to_any_request() {
    let origin = Origin::with_rows(ROWS);
    origin.write(0, 100, "first");
    // No reader may find a version that has fewer rows.
    origin.snapshot();
    let host = host(&[&format!("file://{}", origin.published().display())]).set("ldb.versioned_keep", 2);
    let process = host.start();
    let url = process.reader_url();
    wait_for_value(&url, "fam", "tab", 5, &origin.rows()[5][1].clone().expect("a value"));
    let library = Reader::open_versioned(versions_of(&host)).expect("open the versions");
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        let points: Vec<_> = (0..3).map(|_| threads.spawn(|| read_on(&stop, &reads, || over_http(&url)))).collect();
        let scans = threads.spawn(|| read_on(&stop, &reads, || scanned_over_http(&url)));
        let local = threads.spawn(|| read_on(&stop, &reads, || by_library(&library)));
        for round in 0..SWITCHES {
            // Every reader sees each of these before the next one comes. In between many more appear.
            let word = format!("round{round}");
            for more in 0..3 {
                let seq = origin.write(0, 100, &format!("{word}more{more}"));
                wait_for_version(&host, seq);
            }
            let seq = origin.write(0, 100, &word);
            wait_for_version(&host, seq);
            wait_until("every reader has come to it within a second", Duration::from_secs(1), || {
                over_http(&url) == word && scanned_over_http(&url) == word && by_library(&library) == word
            });
        }
        stop.store(true, Ordering::Relaxed);
        for reader in points.into_iter().chain([scans, local]) {
            let seen = reader.join().expect("no read failed");
            assert!(seen.len() >= 2, "a reader that never switched proves nothing: {seen:?}");
        }
    });
    assert!(reads.load(Ordering::Relaxed) > 100);
}

#[test]
fn no_client_is_answered_from_an_older_version_than_another_one_was() {
    let origin = Origin::with_rows(ROWS);
    origin.snapshot();
    let host = host(&[&format!("file://{}", origin.published().display())]).set("reader.workers", 4);
    let process = host.start();
    let url = process.reader_url();
    wait_until("there is a version", DEADLINE, || newest(&host).is_some());
    wait_until("it is read", DEADLINE, || http::post(&format!("{url}/get-row-by-key/fam/tab"), KEY).status == 200);
    let (stop, newest) = (AtomicBool::new(false), AtomicI64::new(0));
    let ask_on = || {
        let mut seqs = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            let before = newest.load(Ordering::SeqCst);
            let answer = http::post(&format!("{url}/get-row-by-key/fam/tab"), KEY).expect(200);
            let seq: i64 = answer.header("ctlstore-seq").expect("a seq").parse().expect("a number");
            assert!(seq >= before, "an answer at seq {seq} after one at {before}");
            newest.fetch_max(seq, Ordering::SeqCst);
            seqs.insert(seq);
        }
        seqs
    };
    std::thread::scope(|threads| {
        let clients: Vec<_> = (0..6).map(|_| threads.spawn(ask_on)).collect();
        for round in 0..8 {
            let seq = origin.write(0, 100, &format!("round{round}"));
            wait_until("someone is answered from it", DEADLINE, || newest.load(Ordering::SeqCst) >= seq);
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().expect("no answer was older").len() > 3);
        }
    });
}

#[test]
fn a_reader_without_a_version_says_so_and_reads_the_first_one() {
    let origin = Origin::with_rows(20);
    let published = Published::new("snapshot.db", b"");
    std::fs::remove_file(&published.path).expect("nothing is published");
    let host = host(&[&published.url]);
    let process = host.start();
    let library = Reader::open_versioned(versions_of(&host)).expect("nothing there is no error");
    http::post(&format!("{}/get-row-by-key/fam/tab", process.reader_url()), KEY).expect(503);
    let status = wait_for_fetcher(&process, "it says what is missing", |status| status["state"] == "retrying");
    assert!(status["last_error"]["message"].to_string().contains("not found"), "{status}");
    http::get(&format!("{}/readyz", process.ops_url())).expect(503);
    replace(&published, &origin.snapshot());
    wait_until("both read it", DEADLINE, || {
        let by_http = http::post(&format!("{}/get-row-by-key/fam/tab", process.reader_url()), KEY).status == 200;
        by_http && library.get::<(i64, String)>("fam", "tab", 5).is_ok_and(|row| row.is_some())
    });
    wait_until("the node is ready", DEADLINE, || http::is_ok(&format!("{}/readyz", process.ops_url())));
}
