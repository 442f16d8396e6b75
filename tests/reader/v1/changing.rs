//! Reads while the applier writes. Pages neither lose nor repeat a row that stays, and a batch is of one
//! point in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ctlstore_ldb::Ldb;
use serde_json::{Value, json};

use super::fixture::{column, number, pages};
use support::http;
use support::ldb::{Scratch, batch, batch_of, row, workload::Dice};
use support::reader_server::{ReaderServer, options};

const LEFT: &str = r#"CREATE TABLE fam___left ("id" INTEGER, "v" INTEGER, PRIMARY KEY("id"));"#;
const RIGHT: &str = r#"CREATE TABLE fam___right ("id" INTEGER, "v" INTEGER, PRIMARY KEY("id"));"#;

/// Applies ledger transactions until it is dropped.
struct Applier {
    ldb: Ldb,
    next: i64,
}

impl Applier {
    fn new(scratch: &Scratch, statements: &[&str]) -> Self {
        let mut ldb = scratch.open();
        ldb.apply(&batch(1, statements)).unwrap();
        Self { ldb, next: 1 + statements.len() as i64 }
    }

    fn apply(&mut self, statements: &[String]) {
        let inner = statements.iter().map(String::as_str);
        let lines: Vec<&str> = ["--- BEGIN"].into_iter().chain(inner).chain(["--- COMMIT"]).collect();
        let rows = lines.iter().zip(self.next..).map(|(line, seq)| row(seq, line));
        self.next += lines.len() as i64;
        self.ldb.apply(&batch_of(rows)).unwrap();
        self.ldb.maintain().unwrap();
    }
}

/// Ends the applier, also if the test has failed.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn rows_that_stay_are_on_one_page_each_while_others_come_and_go() {
    const ROWS: i64 = 400;
    let scratch = Scratch::new();
    let mut applier = Applier::new(&scratch, &[LEFT]);
    let all: Vec<String> =
        (0..ROWS).map(|id| format!("REPLACE INTO fam___left (\"id\",\"v\") VALUES({id},0)")).collect();
    applier.apply(&all);
    let server = ReaderServer::start(options(scratch.ldb()));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let ended = &done;
        scope.spawn(move || {
            let mut dice = Dice::new(11);
            while !ended.load(Ordering::SeqCst) {
                // Odd ids come before, after and between the others.
                let changes: Vec<String> = (0..20)
                    .map(|_| {
                        let id = dice.roll(2 * ROWS as u64) as i64 - ROWS / 2;
                        let id = 2 * (id / 2) + 1;
                        match dice.roll(2) {
                            0 => format!("REPLACE INTO fam___left (\"id\",\"v\") VALUES({id},1)"),
                            _ => format!("DELETE FROM fam___left WHERE \"id\" = {id}"),
                        }
                    })
                    .collect();
                applier.apply(&changes);
            }
        });
        let _end = SetAtEnd(&done);
        let mut moved = 0;
        let mut rounds = 0;
        while rounds < 15 || moved < 100 {
            let pages = pages(&server.url, "/rows/fam/left?limit=7");
            let ids: Vec<i64> = column(&pages, "id").iter().map(|id| id.as_i64().unwrap()).collect();
            assert!(ids.is_sorted_by(|one, next| one < next), "rows come twice or out of order: {ids:?}");
            let stayed: Vec<i64> = ids.into_iter().filter(|id| id % 2 == 0).collect();
            assert_eq!(stayed, (0..ROWS).step_by(2).collect::<Vec<_>>());
            let seqs: Vec<i64> = pages.iter().map(|page| page["seq"].as_i64().unwrap()).collect();
            assert!(seqs.is_sorted(), "{seqs:?}");
            moved += seqs.windows(2).filter(|two| two[0] < two[1]).count();
            rounds += 1;
        }
    });
}

#[test]
fn a_batch_never_shows_half_a_transaction() {
    const ROWS: i64 = 4;
    let scratch = Scratch::new();
    let mut applier = Applier::new(&scratch, &[LEFT, RIGHT]);
    let write = |value: i64| -> Vec<String> {
        let one = |table: &str, id| format!("REPLACE INTO fam___{table} (\"id\",\"v\") VALUES({id},{value})");
        (0..ROWS).flat_map(|id| [one("left", id), one("right", id)]).collect()
    };
    applier.apply(&write(0));
    let server = ReaderServer::start(options(scratch.ldb()));
    let done = AtomicBool::new(false);
    let first = applier.next - 1;
    let key = |table: &str, id: i64| json!({"family": "fam", "table": table, "key": [id]});
    let pairs: Vec<Value> = (0..ROWS).flat_map(|id| [key("left", id), key("right", id)]).collect();
    // Workers read some batches; others are too large for them.
    let bodies = [1, 40].map(|times| {
        let rows: Vec<&Value> = (0..times).flat_map(|_| &pairs).collect();
        json!({ "rows": rows }).to_string()
    });
    thread::scope(|scope| {
        let ended = &done;
        scope.spawn(move || {
            let mut value = 1;
            while !ended.load(Ordering::SeqCst) {
                applier.apply(&write(value));
                value += 1;
            }
        });
        let _end = SetAtEnd(&done);
        let readers = bodies.each_ref().map(|body| {
            let url = format!("{}/v1/rows:batch", server.url);
            scope.spawn(move || {
                let mut seen = Vec::new();
                while seen.len() < 100 {
                    let answer = http::post(&url, body).expect(200);
                    let json = answer.json();
                    let values: Vec<i64> =
                        json["rows"].as_array().unwrap().iter().map(|row| row["v"].as_i64().unwrap()).collect();
                    assert!(values.windows(2).all(|two| two[0] == two[1]), "a torn transaction: {values:?}");
                    // Each transaction has a ledger row for its begin, for its end and for each upsert.
                    let seq = json["seq"].as_i64().unwrap();
                    assert_eq!((seq - first) / (2 * ROWS + 2), values[0]);
                    assert_eq!((number(&answer, "ctlstore-seq"), (seq - first) % (2 * ROWS + 2)), (seq, 0));
                    if seen.last().is_none_or(|last| *last < seq) {
                        seen.push(seq);
                    }
                }
            })
        });
        for reader in readers {
            reader.join().unwrap();
        }
    });
}
