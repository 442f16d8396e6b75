//! A reader follows an LDB that changes: tables change, the file appears, is replaced or disappears, and
//! a writer works meanwhile.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::TableRef;
use ctlstore_reader::read::{AnswerLimits, LdbReader, ReadError};
use serde_json::{Value, json};

use support::http::{self, post};
use support::reader_server::{OriginalLdb, ReaderServer, options};
use support::wait_until;

const DEADLINE: Duration = Duration::from_secs(20);
const UNLIMITED: AnswerLimits = AnswerLimits { max_rows: None, max_bytes: usize::MAX };
const TABLE: &str = r#"CREATE TABLE fam___tab ("k" VARCHAR(191), "v" TEXT, PRIMARY KEY("k"));"#;

fn row(k: &str, v: &str) -> String {
    format!(r#"REPLACE INTO fam___tab ("k","v") VALUES('{k}','{v}')"#)
}

fn table() -> TableRef {
    TableRef::parse("fam", "tab").unwrap()
}

fn get(reader: &mut LdbReader, key: impl Into<String>) -> Result<Option<Value>, ReadError> {
    let mut out = Vec::new();
    let found = reader.get_json(&table(), &key.into(), &mut out)?;
    Ok(found.then(|| serde_json::from_slice(&out).expect("a row is json")))
}

#[test]
fn a_table_made_again_with_another_key_is_read_by_its_new_key() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    ldb.apply([TABLE, &row("a", "1")]);
    let mut options = options(&path);
    options.server.workers = 1;
    let server = ReaderServer::start(options);
    let by = |key: Value| post(&server.row("fam/tab"), json!({ "Key": key }).to_string());
    assert_eq!(by(json!([{"Value": "a"}])).expect(200).json(), json!({"k": "a", "v": "1"}));

    ldb.apply([
        "DROP TABLE IF EXISTS fam___tab",
        r#"CREATE TABLE fam___tab ("k" VARCHAR(191), "n" INTEGER, PRIMARY KEY("n","k"));"#,
        r#"REPLACE INTO fam___tab ("k","n") VALUES('a',7)"#,
    ]);
    assert_eq!(by(json!([{"Value": 7}, {"Value": "a"}])).expect(200).json(), json!({"k": "a", "n": 7}));
    assert_eq!(by(json!([{"Value": "a"}])).status, 400);

    ldb.apply(["DROP TABLE IF EXISTS fam___tab"]);
    let gone = by(json!([{"Value": "a"}]));
    assert_eq!((gone.status, gone.header("x-ctlstore")), (404, None));
    ldb.apply([TABLE, &row("a", "2")]);
    assert_eq!(by(json!([{"Value": "a"}])).expect(200).json(), json!({"k": "a", "v": "2"}));
}

#[test]
fn a_column_added_is_in_the_very_next_read() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    ldb.apply([TABLE, &row("a", "1")]);
    let mut reader = LdbReader::new(&path);
    for column in 0..20 {
        let before = get(&mut reader, "a").unwrap().unwrap();
        assert_eq!(before.as_object().unwrap().len(), 2 + column);
        ldb.apply([format!(r#"ALTER TABLE fam___tab ADD COLUMN "c{column}" REAL"#)]);
    }
    let mut rows = Vec::new();
    assert_eq!(reader.scan_json(&table(), &(), UNLIMITED, &mut rows).unwrap(), 1);
    let rows: Value = serde_json::from_slice(&rows).unwrap();
    assert_eq!(rows[0].as_object().unwrap().len(), 22);
}

#[test]
fn a_reader_without_an_ldb_answers_503_until_there_is_one() {
    let directory = support::scratch_dir();
    let path = directory.path().join("later/ldb.db");
    let server = ReaderServer::start(options(&path));
    let read = || post(&server.row("fam/tab"), r#"{"Key":[{"Value":"a"}]}"#);
    let away = read().expect(503);
    assert_eq!(away.header("retry-after"), Some("1"));
    assert!(away.text().contains("not there yet"), "{}", away.text());
    assert_eq!(post(&server.rows("fam/tab"), "{}").status, 503);
    for path in ["/ping", "/healthcheck", "/get-ledger-latency"] {
        assert_eq!(http::get(&format!("{}{path}", server.url)).status, 503, "{path}");
    }

    fs::create_dir(directory.path().join("later")).unwrap();
    fs::write(&path, b"").unwrap();
    assert_eq!(read().status, 503, "an empty file is no ldb");
    fs::remove_file(&path).unwrap();
    let ldb = OriginalLdb::create(&path);
    ldb.apply([TABLE, &row("a", "1")]);
    assert_eq!(read().expect(200).json(), json!({"k": "a", "v": "1"}));
}

#[test]
fn another_file_at_the_path_is_followed() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let generation = |name: &str, value: &str| {
        let path = directory.path().join(name);
        let ldb = OriginalLdb::create(&path);
        ldb.apply([TABLE, &row("a", value)]);
        ldb
    };
    let point_at = |name: &str| {
        let link = directory.path().join("link.tmp");
        symlink(name, &link).unwrap();
        fs::rename(&link, &path).unwrap();
    };
    let _first = generation("ldb.1", "1");
    point_at("ldb.1");
    let server = ReaderServer::start(options(&path));
    let value = || post(&server.row("fam/tab"), r#"{"Key":[{"Value":"a"}]}"#).expect(200).json()["v"].clone();
    assert_eq!(value(), "1");

    let _second = generation("ldb.2", "2");
    point_at("ldb.2");
    wait_until("the reader follows the link", DEADLINE, || value() == "2");

    // The Go program's bootstrap puts a plain file at the path.
    drop(generation("ldb.3", "3"));
    fs::rename(directory.path().join("ldb.3"), &path).unwrap();
    wait_until("the reader follows the plain file", DEADLINE, || value() == "3");
}

#[test]
fn a_path_that_disappears_or_turns_bad_leaves_the_old_rows_readable() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    ldb.apply([TABLE, &row("a", "1")]);
    let mut reader = LdbReader::new(&path);
    assert_eq!(get(&mut reader, "a").unwrap().unwrap()["v"], "1");

    fs::rename(&path, directory.path().join("aside.db")).unwrap();
    for name in ["ldb.db-wal", "ldb.db-shm"] {
        fs::remove_file(directory.path().join(name)).unwrap();
    }
    // The reader has looked several times in this time.
    let start = Instant::now();
    wait_until("the reader has looked at the path", DEADLINE, || {
        assert_eq!(get(&mut reader, "a").unwrap().unwrap()["v"], "1");
        start.elapsed() > Duration::from_millis(200)
    });
    assert!(reader.replacement_error().is_none());

    fs::write(&path, "no database at all, but longer than a header of one".repeat(50)).unwrap();
    wait_until("the reader says why it can't follow", DEADLINE, || {
        assert_eq!(get(&mut reader, "a").unwrap().unwrap()["v"], "1");
        reader.replacement_error().is_some()
    });
    fs::remove_file(&path).unwrap();
    OriginalLdb::create(&path).apply([TABLE, &row("a", "2")]);
    wait_until("the reader follows the good file", DEADLINE, || get(&mut reader, "a").unwrap().unwrap()["v"] == "2");
    assert!(reader.replacement_error().is_none());
}

#[test]
fn a_file_that_is_no_database_is_an_error_and_not_an_absent_ldb() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    fs::write(&path, "no database at all, but longer than a header of one".repeat(50)).unwrap();
    let mut reader = LdbReader::new(&path);
    assert!(matches!(get(&mut reader, "a"), Err(ReadError::Sqlite(_))));
    let server = ReaderServer::start(options(&path));
    assert_eq!(post(&server.row("fam/tab"), r#"{"Key":[{"Value":"a"}]}"#).status, 500);
}

#[test]
fn position_and_last_update_are_those_of_the_last_commit() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    let mut reader = LdbReader::new(&path);
    assert_eq!((reader.last_seq().unwrap(), reader.last_update().unwrap()), (Seq::ZERO, None));
    ldb.apply([TABLE, &row("a", "1")]);
    assert_eq!(reader.last_seq().unwrap(), Seq(2));
    assert_eq!(reader.last_update().unwrap().unwrap().to_string(), "2026-01-02 03:04:05.123000+00:00");
    let position = reader.position().unwrap();
    assert_eq!((position.seq, position.ledger_id), (Seq(2), None));
    ldb.0
        .execute_batch(
            "CREATE TABLE _ldb_meta (name TEXT PRIMARY KEY, value); INSERT INTO _ldb_meta VALUES ('ledger_id', 'x')",
        )
        .unwrap();
    assert_eq!(reader.position().unwrap().ledger_id.as_deref(), Some("x"));
}

#[test]
fn connections_kept_alive_read_whole_transactions_while_a_writer_works() {
    const CONNECTIONS: usize = 100;
    const ROWS: usize = 10;
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    ldb.apply([TABLE.to_owned()]);
    let write_all = |ldb: &OriginalLdb, value: u64| {
        ldb.apply([(0..ROWS).map(|k| row(&k.to_string(), &value.to_string())).collect::<Vec<_>>().join(";")]);
    };
    write_all(&ldb, 0);
    let server = ReaderServer::start(options(&path));
    let address = server.url.strip_prefix("http://").unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut open: Vec<_> = (0..CONNECTIONS / 4).map(|_| KeptAlive::open(address)).collect();
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) || last == 0 {
                        for connection in &mut open {
                            let rows = connection.rows();
                            let values: Vec<u64> =
                                rows.iter().map(|r| r["v"].as_str().unwrap().parse().unwrap()).collect();
                            assert_eq!(values.len(), ROWS);
                            assert!(values.iter().all(|value| *value == values[0]), "half a transaction: {values:?}");
                            assert!(values[0] >= last, "time went backwards from {last} to {}", values[0]);
                            last = values[0];
                        }
                    }
                })
            })
            .collect();
        for value in 1..=300 {
            write_all(&ldb, value);
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// One connection that carries one request after another.
struct KeptAlive(BufReader<TcpStream>);

impl KeptAlive {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn rows(&mut self) -> Vec<Value> {
        let request = "POST /get-rows-by-key-prefix/fam/tab HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name == "content-length" {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}
