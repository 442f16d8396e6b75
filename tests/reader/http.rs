//! The reader's HTTP API over real sockets: keys of every kind, limits, health, and refused requests.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use support::http::{self, Answer, post, request};
use support::reader_server::{OriginalLdb, ReaderServer, options};
use support::wait_until;
use tempfile::TempDir;

struct Fixture {
    ldb: OriginalLdb,
    server: ReaderServer,
    _directory: TempDir,
}

/// A reader with `max_rows` and `max_response_bytes` on an LDB with these statements applied.
fn reader_with(max_rows: u64, max_response_bytes: usize, statements: &[&str]) -> Fixture {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    ldb.apply(statements);
    let mut options = options(&path);
    (options.max_rows, options.max_response_bytes) = (max_rows, max_response_bytes);
    Fixture { ldb, server: ReaderServer::start(options), _directory: directory }
}

fn reader(statements: &[&str]) -> Fixture {
    reader_with(0, 64 << 20, statements)
}

impl Fixture {
    fn row(&self, table: &str, key: Value) -> Answer {
        post(&self.server.row(table), json!({ "Key": key }).to_string())
    }

    fn rows(&self, table: &str, key: Value) -> Answer {
        post(&self.server.rows(table), json!({ "Key": key }).to_string())
    }
}

#[track_caller]
fn is_no_such_row(answer: &Answer) {
    assert_eq!((answer.status, answer.header("x-ctlstore")), (404, Some("Not Found")));
    assert_eq!(answer.body, b"");
}

const BYTES_TABLE: &str =
    r#"CREATE TABLE fam___bytes ("k" BLOB(255), "n" INTEGER, "v" VARBINARY(9), PRIMARY KEY("k","n"));"#;
const TEXT_TABLE: &str = r#"CREATE TABLE fam___text ("k" VARCHAR(191), "v" TEXT, PRIMARY KEY("k"));"#;
const INTEGER_TABLE: &str = r#"CREATE TABLE fam___int ("k" INTEGER, "v" TEXT, PRIMARY KEY("k"));"#;

#[test]
fn a_bytes_key_is_found_by_base64_and_by_text() {
    let fixture = reader(&[
        BYTES_TABLE,
        r#"REPLACE INTO fam___bytes ("k","n","v") VALUES(x'00ff',1,x'6869')"#,
        r#"REPLACE INTO fam___bytes ("k","n","v") VALUES(x'706c61696e',2,x'')"#,
    ]);
    let row = json!({"k": STANDARD.encode([0, 255]), "n": 1, "v": "aGk="});
    assert_eq!(fixture.row("fam/bytes", json!([{"Binary": "AP8="}, {"Value": 1}])).expect(200).json(), row);
    assert_eq!(fixture.row("fam/bytes", json!([{"binary": "AP8=", "VALUE": "x"}, {"value": "1"}])).json(), row);
    let row = json!({"k": "cGxhaW4=", "n": 2, "v": ""});
    assert_eq!(fixture.row("fam/bytes", json!([{"Value": "plain"}, {"Value": 2}])).json(), row);
    assert_eq!(fixture.rows("fam/bytes", json!([{"Value": "plain"}])).json(), json!([row]));
    is_no_such_row(&fixture.row("fam/bytes", json!([{"Value": "Plain"}, {"Value": 2}])));
}

#[test]
fn an_integer_key_is_found_by_number_float_and_digits_and_by_nothing_else() {
    let fixture = reader(&[
        INTEGER_TABLE,
        r#"REPLACE INTO fam___int ("k","v") VALUES(5,'five')"#,
        r#"REPLACE INTO fam___int ("k","v") VALUES(9223372036854775807,'most')"#,
    ]);
    for key in ["5", "5.0", "0.5e1", "\"5\""] {
        let answer = post(&fixture.server.row("fam/int"), format!(r#"{{"Key":[{{"Value":{key}}}]}}"#));
        assert_eq!(answer.expect(200).json(), json!({"k": 5, "v": "five"}), "{key}");
    }
    let answer = fixture.row("fam/int", json!([{"Value": i64::MAX}]));
    assert_eq!(answer.text(), "{\"k\":9223372036854775807,\"v\":\"most\"}\n");
    for key in ["9223372036854775808", "5.5", "\"five\"", "null", "true"] {
        is_no_such_row(&post(&fixture.server.row("fam/int"), format!(r#"{{"Key":[{{"Value":{key}}}]}}"#)));
    }
}

#[test]
fn a_text_key_is_compared_bytewise() {
    let fixture = reader(&[TEXT_TABLE, r#"REPLACE INTO fam___text ("k","v") VALUES('a','1')"#]);
    assert_eq!(fixture.row("fam/text", json!([{"Value": "a"}])).expect(200).json(), json!({"k": "a", "v": "1"}));
    for other in ["A", "a ", "", "á"] {
        is_no_such_row(&fixture.row("fam/text", json!([{"Value": other}])));
    }
    is_no_such_row(&fixture.row("fam/text", json!([{"Value": null}])));
}

#[test]
fn what_a_column_holds_is_told_by_its_type() {
    let fixture = reader(&[
        r#"CREATE TABLE fam___kinds ("k" VARCHAR(191), "t" TEXT, "b" BLOB, "d" REAL, PRIMARY KEY("k"));"#,
        r#"REPLACE INTO fam___kinds ("k","t","b","d") VALUES('a',x'610062','text',10)"#,
        r#"REPLACE INTO fam___kinds ("k","t","b","d") VALUES('b','"\',NULL,0.1)"#,
    ]);
    let answer = fixture.rows("fam/kinds", json!([]));
    let rows = json!([
        {"k": "a", "t": "a\0b", "b": STANDARD.encode("text"), "d": 10},
        {"k": "b", "t": "\"\\", "b": null, "d": 0.1},
    ]);
    assert_eq!(answer.json(), rows);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.text().contains("\"d\":10}"), "a whole float has a fraction: {}", answer.text());
}

#[test]
fn rows_come_in_key_order() {
    let fixture = reader(&[r#"CREATE TABLE fam___pair ("a" VARCHAR(191), "b" INTEGER, PRIMARY KEY("b","a"));"#]);
    for (a, b) in [("z", 2), ("a", 10), ("y", 2), ("b", 1)] {
        fixture.ldb.apply([format!(r#"REPLACE INTO fam___pair ("a","b") VALUES('{a}',{b})"#)]);
    }
    let row = |a, b| json!({"a": a, "b": b});
    let all = json!([row("b", 1), row("y", 2), row("z", 2), row("a", 10)]);
    assert_eq!(fixture.rows("fam/pair", json!([])).json(), all);
    assert_eq!(fixture.rows("fam/pair", json!([{"Value": 2}])).json(), json!([row("y", 2), row("z", 2)]));
    assert_eq!(fixture.row("fam/pair", json!([{"Value": 10}, {"Value": "a"}])).json(), row("a", 10));
}

#[test]
fn bad_requests_say_what_is_wrong_with_them() {
    let fixture = reader(&[BYTES_TABLE, TEXT_TABLE]);
    for (table, body, status, reason) in [
        ("fam/text", r#"{"Key":[]}"#, 400, "1 key columns, not 0"),
        ("fam/text", "{}", 400, "1 key columns, not 0"),
        ("fam/bytes", r#"{"Key":[{"Value":"a"}]}"#, 400, "2 key columns, not 1"),
        ("fam/bytes", r#"{"Key":[{"Value":1},{"Value":1},{"Value":1}]}"#, 400, "2 key columns, not 3"),
        ("fam/text", r#"{"Key":[{"Value":[1]}]}"#, 400, "key[0]: an array can't be a key"),
        ("fam/text", r#"{"Key":[{"Value":{"a":1}}]}"#, 400, "key[0]: an object can't be a key"),
        ("fam/text", r#"{"Key":[{}]}"#, 400, "key[0]: a key column has no member Value or Binary"),
        ("fam/text", r#"{"Key":[{"Binary":null}]}"#, 400, "key[0]: a key column has no member Value or Binary"),
        (
            "fam/bytes",
            r#"{"Key":[{"Value":1},{"Valeu":1}]}"#,
            400,
            "key[1]: a key column has no member Value or Binary",
        ),
        ("fam/text", r#"{"Key":["a"]}"#, 400, "key[0]: the string \"a\" where a key column as an object"),
        ("fam/text", r#"{"Key":[{"Binary":"???"}]}"#, 400, "not standard padded base64"),
        ("fam/text", r#"{"Key":"a"}"#, 400, "key: the string \"a\" where an array is wanted"),
        ("fam/text", "", 400, "bad json"),
        ("fam/text", "[", 400, "bad json: an array where an object is wanted"),
        ("fam/none", r#"{"Key":[{"Value":1}]}"#, 404, "no table fam___none"),
        ("fam/_ldb_seq", r#"{"Key":[{"Value":1}]}"#, 400, "must start with a letter"),
        ("fa/text", r#"{"Key":[{"Value":1}]}"#, 400, "family \"fa\""),
        ("fam%2Fx/text", r#"{"Key":[{"Value":1}]}"#, 400, "letters, digits"),
    ] {
        let answer = post(&fixture.server.row(table), body);
        assert_eq!((answer.status, answer.header("x-ctlstore")), (status, None), "{table} {body}: {answer:?}");
        assert!(answer.text().contains(reason), "{table} {body}: {}", answer.text());
    }
    // A client that writes both members means NULL by two nulls; no row has that key.
    let null = post(&fixture.server.row("fam/text"), r#"{"Key":[{"Value":null,"Binary":null}]}"#);
    assert_eq!((null.status, null.header("x-ctlstore")), (404, Some("Not Found")));
    let without = post(&fixture.server.rows("fam/text"), r#"{"Key":[{}]}"#).expect(400);
    assert!(without.text().starts_with("key[0]: a key column has no member"), "{}", without.text());
    let too_large = format!(r#"{{"Key":[{{"Value":"{}"}}]}}"#, "x".repeat(1 << 20));
    assert_eq!(post(&fixture.server.row("fam/text"), too_large).status, 413);
    assert_eq!(http::get(&fixture.server.row("fam/text")).status, 405);
    assert_eq!(post(&format!("{}/ping", fixture.server.url), "").status, 405);
    assert_eq!(http::get(&format!("{}/nothing", fixture.server.url)).status, 404);
}

#[test]
fn a_page_of_another_site_reads_nothing() {
    let fixture = reader(&[TEXT_TABLE]);
    let url = fixture.server.rows("fam/text");
    let own = fixture.server.url.as_str();
    assert_eq!(request("POST", &url, &[("Origin", "http://evil.example")], "{}").status, 403);
    assert_eq!(request("POST", &url, &[("Origin", own)], "{}").status, 200);
}

#[test]
fn a_scan_beyond_a_limit_is_416_and_one_at_it_is_whole() {
    // A worker reads the small answer itself, and hands the large one over.
    for max_rows in [10, 1_000] {
        let fixture = reader_with(max_rows, 1 << 20, &[INTEGER_TABLE]);
        let insert = |count: u64| {
            let values = format!(
                "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
                 REPLACE INTO fam___int SELECT i, 'v' FROM n"
            );
            fixture.ldb.apply([values]);
        };
        insert(max_rows);
        assert_eq!(fixture.rows("fam/int", json!([])).expect(200).json().as_array().unwrap().len() as u64, max_rows);
        insert(max_rows + 1);
        let answer = fixture.rows("fam/int", json!([])).expect(416);
        assert!(answer.text().contains(&format!("more than {max_rows} rows")), "{}", answer.text());
        assert_eq!(fixture.rows("fam/int", json!([{"Value": 1}])).status, 200);
    }
}

#[test]
fn an_answer_beyond_its_bytes_is_416_and_one_below_is_sent_whole() {
    let fixture = reader_with(0, 3 << 20, &[TEXT_TABLE]);
    let large = "ü".repeat(200_000);
    let insert = |key: &str| {
        fixture.ldb.apply([format!("REPLACE INTO fam___text (\"k\",\"v\") VALUES('{key}','{large}')")]);
    };
    for key in ["a", "b", "c", "d", "e", "f", "g"] {
        insert(key);
    }
    let answer = fixture.rows("fam/text", json!([])).expect(200);
    let rows = answer.json();
    assert_eq!(rows.as_array().unwrap().len(), 7);
    assert!(rows.as_array().unwrap().iter().all(|row| row["v"] == large.as_str()));
    insert("h");
    assert_eq!(fixture.rows("fam/text", json!([])).status, 416);
    assert_eq!(fixture.row("fam/text", json!([{"Value": "h"}])).expect(200).json()["v"], large.as_str());
}

#[test]
fn large_answers_that_nobody_fetches_do_not_pile_up() {
    // Two of the largest answers may wait. Each is far larger than the kernel's buffers.
    let fixture = reader_with(0, 24 << 20, &[TEXT_TABLE]);
    let megabyte = "x".repeat(1 << 20);
    for key in 0..20 {
        fixture.ldb.apply([format!("REPLACE INTO fam___text (\"k\",\"v\") VALUES('{key}','{megabyte}')")]);
    }
    let mut waiting: Vec<TcpStream> = (0..2).map(|_| ask_for_all(&fixture.server)).collect();
    for stream in &mut waiting {
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    let refused = fixture.rows("fam/text", json!([])).expect(503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(fixture.row("fam/text", json!([{"Value": "7"}])).status, 200);
    // One client gives up, so there is room again.
    waiting.pop();
    wait_until("there is room again", Duration::from_secs(20), || fixture.rows("fam/text", json!([])).status == 200);
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_frees_what_it_held() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    ldb.apply([TEXT_TABLE]);
    let megabyte = "x".repeat(1 << 20);
    for key in 0..20 {
        ldb.apply([format!("REPLACE INTO fam___text (\"k\",\"v\") VALUES('{key}','{megabyte}')")]);
    }
    let mut options = options(&path);
    options.max_response_bytes = 24 << 20;
    options.server.stall_timeout = Duration::from_secs(1);
    let server = ReaderServer::start(options);
    let mut stalled: Vec<TcpStream> = (0..2).map(|_| ask_for_all(&server)).collect();
    for stream in &mut stalled {
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    let all = || post(&server.rows("fam/text"), "{}").status;
    wait_until("there is room for another answer", Duration::from_secs(60), || all() == 200);
    // The other one's time may not be over yet.
    let cut = stalled.iter_mut().filter_map(|stream| {
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        (end.is_err() || rest.len() < 20 << 20).then_some(())
    });
    assert!(cut.count() > 0, "both stalled clients got the whole answer");
}

fn ask_for_all(server: &ReaderServer) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = "POST /get-rows-by-key-prefix/fam/text HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn latency_and_health_are_500_before_the_first_statement_and_200_after() {
    let fixture = reader(&[]);
    let url = |path: &str| format!("{}{path}", fixture.server.url);
    for path in ["/get-ledger-latency", "/healthcheck", "/ping"] {
        assert_eq!(http::get(&url(path)).status, 500, "{path}");
    }
    let now = ctlstore_core::schema::Timestamp::now();
    fixture.ldb.apply([TEXT_TABLE]);
    let set = |at: ctlstore_core::schema::Timestamp| {
        fixture.ldb.0.execute("UPDATE _ldb_last_update SET timestamp = ?1", [at.to_string()]).unwrap();
    };
    set(ctlstore_core::schema::Timestamp::from_unix_micros(now.unix_micros() - 90_000_000));
    for path in ["/healthcheck", "/ping"] {
        assert_eq!(http::get(&url(path)).expect(200).body, b"", "{path}");
    }
    let latency = http::get(&url("/get-ledger-latency")).expect(200);
    assert_eq!(latency.header("content-type"), Some("application/json"));
    assert_eq!(latency.json()["unit"], "seconds");
    let seconds = latency.json()["value"].as_f64().unwrap();
    assert!((90.0..90.0 + 60.0).contains(&seconds), "{seconds}");
    set(ctlstore_core::schema::Timestamp::from_unix_micros(now.unix_micros() + 3_600_000_000));
    // Rows whose writer's clock was fast are as old as their file, and no newer.
    let seconds = http::get(&url("/get-ledger-latency")).json()["value"].as_f64().unwrap();
    assert!((0.0..60.0).contains(&seconds), "{seconds}");
}

#[test]
fn the_index_names_every_route() {
    let fixture = reader(&[]);
    let index = http::get(&fixture.server.url).expect(200);
    for route in ["/get-row-by-key/", "/get-rows-by-key-prefix/", "/get-ledger-latency", "/healthcheck", "/ping"] {
        assert!(index.text().contains(route), "{route}");
    }
    assert!(index.header("content-type").unwrap().starts_with("text/plain"));
}

#[test]
fn an_escaped_path_is_answered_as_the_plain_one_is() {
    let fixture = reader(&[INTEGER_TABLE, r#"REPLACE INTO fam___int ("k","v") VALUES(1,'one')"#]);
    let key = |value: i64| json!({ "Key": [{ "Value": value }] }).to_string();
    for (route, body) in
        [("row", key(1)), ("row", key(2)), ("row", "{".to_owned()), ("rows", key(1)), ("rows", "{}".to_owned())]
    {
        let url = |table| if route == "row" { fixture.server.row(table) } else { fixture.server.rows(table) };
        let plain = post(&url("fam/int"), &body);
        let escaped = post(&url("f%61m/%69nt"), &body);
        assert_eq!((plain.status, plain.text()), (escaped.status, escaped.text()), "{route} {body}");
        for header in ["content-type", "x-ctlstore", "ctlstore-seq"] {
            assert_eq!(plain.header(header), escaped.header(header), "{route} {body}");
        }
    }
}

#[test]
fn a_client_that_has_closed_its_sending_side_gets_what_is_read_at_once() {
    let fixture = reader(&[INTEGER_TABLE, r#"REPLACE INTO fam___int ("k","v") VALUES(1,'one')"#]);
    let url = fixture.server.row("fam/int");
    let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let body = json!({ "Key": [{ "Value": 1 }] }).to_string();
    let head = format!("POST /{path} HTTP/1.1\r\nhost: here\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server closes the connection");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"k\":1,\"v\":\"one\"}\n"), "{answer:?}");
}
