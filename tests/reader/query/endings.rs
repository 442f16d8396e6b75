//! Queries that a stopping node ends, and answers that no client reads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{MANY, MANY_TABLE, Reader};
use support::wait_until;

pub const DEADLINE: Duration = Duration::from_secs(20);
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

/// Sends the query, and returns the connection without reading the answer.
pub fn send(reader: &Reader, sql: &str) -> TcpStream {
    let address = reader.url.trim_start_matches("http://").trim_end_matches("/v1/query").to_owned();
    let mut stream = TcpStream::connect(&address).expect("connect to the reader");
    let body = json!({ "sql": sql }).to_string();
    write!(stream, "POST /v1/query HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .expect("send the query");
    stream
}

pub fn wait_for_running(reader: &Reader, count: f64) {
    let what = format!("{count} queries are running");
    wait_until(&what, DEADLINE, || reader.metric("ctlstore_reader_queries_running") == count);
}

#[test]
fn a_stopping_node_ends_its_queries_and_says_so() {
    let mut reader = Reader::start(&[("reader.query.max_time", json!("1m"))], &[]);
    let mut client = send(&reader, ENDLESS);
    wait_for_running(&reader, 1.0);
    let began = Instant::now();
    assert!(reader.node.stop(Duration::from_secs(30)).success());
    assert!(began.elapsed() < Duration::from_secs(20), "it waited for the query's time");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("the reader is stopping"), "{answer}");
}

#[test]
fn a_query_ends_when_its_client_leaves() {
    let reader = Reader::start(&[("reader.query.max_time", json!("1m"))], &[]);
    let client = send(&reader, ENDLESS);
    wait_for_running(&reader, 1.0);
    drop(client);
    wait_for_running(&reader, 0.0);
    assert_eq!(reader.metric("ctlstore_reader_query_duration_seconds_count{outcome=\"cancelled\"}"), 1.0);
}

#[test]
fn an_answer_on_its_way_holds_no_part_of_the_ldb() {
    let settings = [
        ("reader.query.max_time", json!("1m")),
        ("reader.query.max_rows", json!(100_000)),
        ("reader.query.max_response_bytes", json!("16 MiB")),
    ];
    let reader = Reader::start(&settings, &[MANY_TABLE, MANY]);
    // The answer is larger than the sockets' buffers.
    let _client = send(&reader, "SELECT * FROM fam___many");
    let answered = "ctlstore_reader_query_duration_seconds_count{outcome=\"answered\"}";
    wait_until("the answer is made", DEADLINE, || reader.metric(answered) == 1.0);
    reader.ldb().apply(["DELETE FROM fam___many WHERE k < 10"]);
    let checkpoint = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let is_busy = reader.ldb().0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], checkpoint).unwrap();
    assert_eq!(is_busy, 0);
}
