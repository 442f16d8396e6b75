//! The recorded exchanges with the original's sidecar, replayed against ours on LDBs
//! that hold the recorded ledger.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctlstore_core::ledger::{Assembler, LedgerRow, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::{Ldb, LdbOptions};
use serde_json::Value;

use support::http::{self, Answer};
use support::reader_server::{OriginalLdb, ReaderServer, options};

const EXECUTIVE: &str = include_str!("executive.json");
const READER: &str = include_str!("reader.json");

#[test]
fn the_original_s_answers_are_ours_on_an_ldb_of_the_original() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    ldb.apply(ledger());
    replay(&path);
}

#[test]
fn the_original_s_answers_are_ours_on_an_ldb_of_our_applier() {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let options = LdbOptions { wal_checkpoint_bytes: 1 << 20, changelog: None, history: None };
    let mut ldb = Ldb::open(&path, &options).unwrap();
    let mut assembler = Assembler::after(Seq::ZERO);
    for (seq, statement) in (1..).zip(ledger()) {
        assembler.push(LedgerRow { seq: Seq(seq), leader_ts: Some(Timestamp::now()), statement }).unwrap();
    }
    ldb.apply(&assembler.take_complete().unwrap()).unwrap();
    replay(&path);
}

fn replay(ldb: &Path) {
    let server = ReaderServer::start(options(ldb));
    let exchanges: Vec<Value> = serde_json::from_str(READER).unwrap();
    assert!(exchanges.len() >= 25, "some recorded exchanges are missing");
    for exchange in &exchanges {
        let answer = send(&server, exchange);
        check(exchange, &answer);
    }
}

/// Every statement that the recorded requests appended, in order.
fn ledger() -> Vec<String> {
    let exchanges: Vec<Value> = serde_json::from_str(EXECUTIVE).unwrap();
    let statements: Vec<String> = exchanges
        .iter()
        .flat_map(|exchange| exchange["ledger"].as_array().into_iter().flatten())
        .map(|statement| statement.as_str().expect("a ledger statement is text").to_owned())
        .collect();
    assert!(!statements.is_empty());
    statements
}

fn send(server: &ReaderServer, exchange: &Value) -> Answer {
    let text = |name: &str| exchange[name].as_str().unwrap_or_else(|| panic!("{name} in {exchange}"));
    let body = match (exchange.get("body_json"), exchange.get("body_base64")) {
        (Some(json), _) => serde_json::to_vec(json).unwrap(),
        (None, Some(encoded)) => STANDARD.decode(encoded.as_str().unwrap()).unwrap(),
        (None, None) => Vec::new(),
    };
    http::request(text("method"), &format!("{}{}", server.url, text("path")), &[], body)
}

fn check(exchange: &Value, answer: &Answer) {
    let name = &exchange["name"];
    assert_eq!(Value::from(answer.status), exchange["status"], "{name}: {answer:?}");
    assert_eq!(answer.header("x-ctlstore"), exchange["x_ctlstore"].as_str(), "{name}");
    if exchange.get("x_ctlstore").is_some() {
        assert!(answer.body.is_empty(), "{name}: {answer:?}");
    }
    if let Some(want) = exchange.get("answer_json") {
        assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
        assert_eq!(answer.body.last(), Some(&b'\n'), "{name}");
        let (mut got, mut want) = (answer.json(), want.clone());
        normalise(&mut got);
        normalise(&mut want);
        assert_eq!(got, want, "{name}");
    }
    if let Some(want) = exchange.get("answer_base64") {
        assert_eq!(STANDARD.encode(&answer.body), want.as_str().unwrap(), "{name}");
    }
}

/// Rows of a prefix read come in any order, and one number may be spelt as an
/// integer here and as a float there.
fn normalise(value: &mut Value) {
    match value {
        Value::Array(rows) => {
            rows.iter_mut().for_each(normalise);
            rows.sort_by_key(ToString::to_string);
        }
        Value::Object(members) => members.values_mut().for_each(normalise),
        Value::Number(number) if number.as_i64().is_none() => {
            *value = Value::from(number.as_f64().expect("every number fits a float"));
        }
        _ => {}
    }
}
