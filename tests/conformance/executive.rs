//! The recorded exchanges of the original, replayed in their order on every ctldb: statuses, success bodies
//! and the statements that each request appends to the ledger.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use support::in_process::replay::ledger;
use support::in_process::{Executive, destructive};
use support::{TestDatabase, http};

/// Read from the tree at compile time: a clone needs nothing beside itself.
const RECORDED: &str = include_str!("executive.json");

#[derive(Deserialize)]
struct Exchange {
    name: String,
    method: String,
    path: String,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    body_json: Option<Value>,
    body_base64: Option<String>,
    status: u16,
    answer_json: Option<Value>,
    answer_base64: Option<String>,
    ledger: Vec<String>,
}

impl Exchange {
    fn body(&self) -> Vec<u8> {
        match (&self.body_json, &self.body_base64) {
            (Some(json), _) => json.to_string().into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).expect("the recording is base64"),
            (None, None) => Vec::new(),
        }
    }

    fn send(&self, executive: &Executive) -> http::Answer {
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        http::request(&self.method, &executive.at(&self.path), &headers, self.body())
    }

    fn check_answer(&self, answer: &http::Answer) {
        let name = &self.name;
        assert_eq!(answer.status, self.status, "{name}: {}", answer.text());
        if let Some(want) = &self.answer_json {
            // An absent list of the original is an empty one of ours.
            let want: Value = serde_json::from_str(&want.to_string().replace("null", "[]")).unwrap();
            assert_eq!(answer.json(), want, "{name}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
            assert!(answer.text().ends_with('\n'), "{name}: no newline at the end");
        }
        if let Some(want) = &self.answer_base64 {
            assert_eq!(answer.body, STANDARD.decode(want).unwrap(), "{name}");
        }
        if self.status >= 400 && self.status != 405 {
            let text = answer.text();
            assert!(text.len() > 1 && text.len() < 500 && !text.contains('{'), "{name}: not a short text: {text}");
        }
    }

    fn check_ledger(&self, mut appended: Vec<String>) {
        let mut want = self.ledger.clone();
        if self.name == "clear family" {
            // In any order.
            appended.sort();
            want.sort();
        }
        assert_eq!(appended, want, "{}", self.name);
    }
}

#[test]
fn the_recorded_exchanges_have_their_statuses_bodies_and_ledger_statements_on_every_ctldb() {
    let recorded: Vec<Exchange> = serde_json::from_str(RECORDED).unwrap();
    assert!(recorded.len() > 100, "only {} exchanges", recorded.len());
    for (kind, database) in support::every_ctldb() {
        eprintln!("on {kind}");
        replay(&recorded, &database);
    }
}

#[test]
fn the_recorded_exchanges_are_the_same_on_a_ctldb_that_the_original_made() {
    let recorded: Vec<Exchange> = serde_json::from_str(RECORDED).unwrap();
    for (kind, database) in support::every_ctldb().into_iter().filter(|(_, database)| database.is_mysql()) {
        eprintln!("on {kind}");
        for statement in support::original::SCHEMA {
            database.query(statement);
        }
        replay(&recorded, &database);
    }
}

/// Sends every exchange in its order and compares what comes of it.
fn replay(recorded: &[Exchange], database: &TestDatabase) {
    let executive = Executive::serving(database, destructive());
    let mut last = 0;
    for exchange in recorded {
        let answer = exchange.send(&executive);
        exchange.check_answer(&answer);
        let appended = ledger(database, last);
        let seqs: Vec<i64> = appended.iter().map(|(seq, _)| *seq).collect();
        let expected: Vec<i64> = (last + 1..=last + seqs.len() as i64).collect();
        assert_eq!(seqs, expected, "{}: a gap in the ledger", exchange.name);
        exchange.check_ledger(appended.into_iter().map(|(_, statement)| statement).collect());
        if let Some(seq) = seqs.last() {
            last = *seq;
            if answer.status == 200 {
                assert_eq!(answer.header("ctlstore-seq"), Some(seq.to_string().as_str()), "{}", exchange.name);
            }
        }
    }
}
