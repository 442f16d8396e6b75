//! Reads with limits on their age: they wait for a write, refuse data that is too old, and tell the
//! LDB's seq and lag.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::client::wait_for_value;
use support::http::{self, Answer};
use support::{Client, Node, NodeProcess, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

fn node() -> Node {
    Node::new().roles(&["executive", "reflector", "reader"])
}

fn with_table(node: &Node) -> (NodeProcess, Client) {
    let process = node.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    (process, client)
}

fn read(base: &str, id: i64, headers: &[(&str, &str)]) -> Answer {
    let body = json!({ "Key": [{ "Value": id }] }).to_string();
    http::request("POST", &format!("{base}/get-row-by-key/fam/tab"), headers, body)
}

fn number(answer: &Answer, header: &str) -> i64 {
    answer.header(header).unwrap_or_else(|| panic!("no {header} in {answer:?}")).parse().expect("a number")
}

#[test]
fn every_read_says_where_the_ldb_stands_and_how_old_it_is() {
    let (node, client) = with_table(&node());
    let base = node.reader_url();
    let seq = client.upsert("fam", "tab", &[(1, "one")]);
    wait_for_value(&base, "fam", "tab", 1, "one");
    for (method, path, body, status) in [
        ("POST", "/get-row-by-key/fam/tab", r#"{"Key":[{"Value":1}]}"#, 200),
        ("POST", "/get-row-by-key/fam/tab", r#"{"Key":[{"Value":2}]}"#, 404),
        ("POST", "/get-rows-by-key-prefix/fam/tab", "{}", 200),
        ("GET", "/get-ledger-latency", "", 200),
    ] {
        let answer = http::request(method, &format!("{base}{path}"), &[], body).expect(status);
        assert_eq!(number(&answer, "ctlstore-seq"), seq, "{path}");
        assert!((0..60_000).contains(&number(&answer, "ctlstore-lag-ms")), "{path}");
    }
}

#[test]
fn a_read_waits_for_its_seq_and_says_how_far_the_ldb_is_when_it_does_not_come() {
    let (node, client) = with_table(&node());
    let base = node.reader_url();
    let seq = client.upsert("fam", "tab", &[(1, "one")]);
    read(&base, 1, &[("ctlstore-min-seq", &seq.to_string()), ("ctlstore-wait", "10s")]).expect(200);
    let began = Instant::now();
    let next = (seq + 1).to_string();
    let late = read(&base, 1, &[("ctlstore-min-seq", &next), ("ctlstore-wait", "200ms")]).expect(412);
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(number(&late, "ctlstore-seq"), seq);
    assert_eq!(late.text(), format!("ldb is at seq {seq}, {next} did not come within 200 ms\n"));
    let waiting = {
        let base = base.clone();
        thread::spawn(move || read(&base, 2, &[("ctlstore-min-seq", &next), ("ctlstore-wait", "30s")]))
    };
    client.upsert("fam", "tab", &[(2, "two")]);
    assert_eq!(waiting.join().unwrap().expect(200).json()["value"], "two");
    for header in [("ctlstore-min-seq", "x"), ("ctlstore-wait", "1"), ("ctlstore-max-lag", "old")] {
        read(&base, 1, &[header]).expect(400);
    }
}

#[test]
fn a_stopping_reader_sends_away_who_waits() {
    let (mut node, _) = with_table(&node());
    let base = node.reader_url();
    let waiting = thread::spawn(move || {
        let headers = [("ctlstore-min-seq", "1000000"), ("ctlstore-wait", "30s")];
        http::exchange("POST", &format!("{base}/get-row-by-key/fam/tab"), &headers, r#"{"Key":[{"Value":1}]}"#)
    });
    let began = Instant::now();
    assert!(node.stop(DEADLINE).success());
    // Either of the two may come first. Neither waits to the end of its time.
    assert!(waiting.join().unwrap().map_or(true, |answer| answer.status == 503));
    assert!(began.elapsed() < Duration::from_secs(25));
}

#[test]
fn data_that_is_older_than_allowed_is_refused() {
    let writing = node().roles(&["executive", "reflector"]);
    let mut process = writing.start();
    let client = Client::registered(process.executive_url());
    client.create_simple_table("fam", "tab");
    let reading = Node::new().roles(&["reader"]).set("ldb.path", writing.ldb_path().display().to_string()).start();
    let base = reading.reader_url();
    // The applier is another process, so only its files can wake the reader.
    let seq = client.upsert("fam", "tab", &[(1, "one")]);
    let headers = [("ctlstore-min-seq", &*seq.to_string()), ("ctlstore-wait", "30s"), ("ctlstore-max-lag", "30s")];
    read(&base, 1, &headers).expect(200);
    assert!(process.stop(DEADLINE).success());
    wait_until("the data is old", DEADLINE, || read(&base, 1, &[("ctlstore-max-lag", "300ms")]).status == 503);
    let old = read(&base, 1, &[("ctlstore-max-lag", "300ms")]).expect(503);
    assert_eq!((number(&old, "ctlstore-seq"), old.header("retry-after")), (seq, Some("1")));
    assert!(old.text().ends_with("at most 300 ms are allowed\n"), "{}", old.text());
    read(&base, 1, &[("ctlstore-max-lag", "1h")]).expect(200);
}

#[test]
fn ten_thousand_writes_are_each_read_right_behind_their_answer() {
    const WRITES: i64 = 10_000;
    const WRITERS: usize = 8;
    let (node, client) = with_table(&node());
    let base = node.reader_url();
    let next = AtomicI64::new(1);
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut waits = Vec::new();
                    loop {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        if id > WRITES {
                            return waits;
                        }
                        let value = format!("value of {id}");
                        let seq = client.upsert("fam", "tab", &[(id, &value)]).to_string();
                        let began = Instant::now();
                        let answer = read(&base, id, &[("ctlstore-min-seq", &seq), ("ctlstore-wait", "30s")]);
                        waits.push(began.elapsed());
                        assert_eq!(answer.expect(200).json()["value"], value);
                    }
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    waits.sort();
    assert_eq!(waits.len(), WRITES as usize);
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize];
    println!("reads of what was just written took {:?} (median), {:?} (p99), {:?} (max)", at(0.5), at(0.99), at(1.0));
}
