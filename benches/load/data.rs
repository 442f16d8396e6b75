//! The rows that the loads write and read, the requests that do so, and a node that takes them all.

use actix_web::http::header::HeaderMap;
use support::Node;

use super::client::{self, request};

pub const ROWS: usize = 100_000;
pub const WRITERS: usize = 8;
/// Rows that the write loads write over and over; their tables stay small.
pub const WRITTEN_ROWS: usize = 8_000;
/// Rows of one group, which a prefix read gives.
pub const GROUP: usize = 100;
const POINT_READ: &str = "/get-row-by-key/bench/points";
/// The route that serves it.
pub const POINT_READ_PATTERN: &str = "/get-row-by-key/{family}/{table}";
pub const MUTATIONS_PATTERN: &str = "/families/{family}/mutations";
/// Different requests that are prepared of a kind.
const VARIETY: usize = 1_000;

const WRITER: &str = "bench-";
const SECRET: &str = "a bench's secret";
const POINTS: &str = r#"{"fields":[["id","string"],["n","integer"],["v","text"]],"keyFields":["id"]}"#;
const GROUPS: &str = r#"{"fields":[["grp","string"],["id","integer"],["v","text"]],"keyFields":["grp","id"]}"#;

/// A node without the limits that a load would reach.
pub fn roomy(node: Node) -> Node {
    node.set("executive.writer_limit.rows", 1_000_000_000).set("executive.table_limit.max_bytes", "10 GiB")
}

/// The written rows that are one writer's own.
pub fn share(writer: usize) -> std::ops::Range<usize> {
    writer * WRITTEN_ROWS / WRITERS..(writer + 1) * WRITTEN_ROWS / WRITERS
}

/// The key of row `i`. Neighbouring rows have keys that are far apart in an index.
pub fn id(i: usize) -> String {
    format!("key-{:020}", (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Fills a row up to about 150 bytes.
pub fn text(i: usize) -> String {
    format!("{i:0100}")
}

fn credentials(writer: usize) -> String {
    format!("ctlstore-writer: {WRITER}{writer}\r\nctlstore-secret: {SECRET}\r\n")
}

/// Which of the writers sends a request.
pub fn writer_of(headers: &HeaderMap) -> usize {
    let name = headers.get("ctlstore-writer").and_then(|name| name.to_str().ok()?.strip_prefix(WRITER));
    name.and_then(|number| number.parse().ok()).expect("one of the writers")
}

/// The family, its two tables and the writers.
pub fn schema() -> Vec<Vec<u8>> {
    let mut requests = vec![
        request("POST", "/families/bench", "", ""),
        request("POST", "/families/bench/tables/points", "", POINTS),
        request("POST", "/families/bench/tables/groups", "", GROUPS),
    ];
    requests.extend((0..WRITERS).map(|i| request("POST", &format!("/writers/{WRITER}{i}"), "", SECRET)));
    requests
}

fn mutations(writer: usize, table: &str, values: impl Iterator<Item = String>) -> Vec<u8> {
    let mutation = |values| format!(r#"{{"table":"{table}","values":{{{values}}}}}"#);
    let mutations: Vec<String> = values.map(mutation).collect();
    let body = format!(r#"{{"mutations":[{}]}}"#, mutations.join(","));
    request("POST", "/families/bench/mutations", &credentials(writer), &body)
}

pub fn write_points(writer: usize, rows: std::ops::Range<usize>) -> Vec<u8> {
    mutations(writer, "points", rows.map(|i| format!(r#""id":"{}","n":{i},"v":"{}""#, id(i), text(i))))
}

/// One row under a key that no other request writes.
pub fn write_mark(n: usize) -> Vec<u8> {
    mutations(0, "points", std::iter::once(format!(r#""id":"mark","n":{n},"v":"""#)))
}

pub fn read_mark() -> Vec<u8> {
    request("POST", POINT_READ, "", r#"{"Key":[{"Value":"mark"}]}"#)
}

fn write_group(group: usize) -> Vec<u8> {
    let row = |i| format!(r#""grp":"{}","id":{i},"v":"{}""#, id(group), text(i));
    mutations(group % WRITERS, "groups", (0..GROUP).map(row))
}

/// Fills both tables.
pub async fn fill(executive: &str) {
    let requests: Vec<Vec<u8>> = all_points(ROWS).chain((0..ROWS / GROUP).map(write_group)).collect();
    client::send_all(executive, &schema(), 1).await;
    client::send_all(executive, &requests, WRITERS).await;
}

/// Writes the first `rows` rows of `points`, a multiple of 100.
pub async fn fill_points(executive: &str, rows: usize) {
    let requests: Vec<Vec<u8>> = all_points(rows).collect();
    client::send_all(executive, &schema(), 1).await;
    client::send_all(executive, &requests, WRITERS).await;
}

fn all_points(rows: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..rows).step_by(100).map(|i| write_points(i / 100 % WRITERS, i..i + 100))
}

fn key(i: usize) -> String {
    format!(r#"{{"Key":[{{"Value":"{}"}}]}}"#, id(i))
}

pub fn point_reads() -> Vec<Vec<u8>> {
    point_reads_among(ROWS)
}

/// Reads among the first `rows` rows.
pub fn point_reads_among(rows: usize) -> Vec<Vec<u8>> {
    (0..VARIETY).map(|i| request("POST", POINT_READ, "", &key(i * 7_919 % rows))).collect()
}

/// What a point read gives.
pub fn row_json(i: usize) -> String {
    format!("{{\"id\":\"{}\",\"n\":{i},\"v\":\"{}\"}}\n", id(i), text(i))
}

pub fn group_reads() -> Vec<Vec<u8>> {
    let read = |i| request("POST", "/get-rows-by-key-prefix/bench/groups", "", &key(i));
    (0..ROWS / GROUP).map(read).collect()
}
