//! Rows written over HTTP are the same rows wherever they come to lie: in the ctldb, in the ledger replayed into
//! SQLite, and in the LDB as a reader tells them. Generated rows of all types, and the extremes by hand.

mod generate;
mod legs;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use generate::{Row, Rows};
use support::in_process::replay::ledger;
use support::{Node, NodeProcess, TestDatabase, http, wait_until};

/// Generated requests per ctldb.
const CASES: u32 = 48;
const DEADLINE: Duration = Duration::from_secs(60);

struct World {
    database: TestDatabase,
    node: NodeProcess,
    /// The last seq that a request of ours wrote.
    seq: Cell<i64>,
}

impl World {
    fn new(database: TestDatabase) -> Self {
        let node = Node::new()
            .roles(&["executive", "reflector", "reader"])
            .ctldb(&database.url)
            .set("executive.writer_limit.rows", i64::MAX)
            .start();
        let world = Self { database, node, seq: Cell::new(0) };
        wait_until("the executive serves", DEADLINE, || http::is_ok(&world.at("/status")));
        http::post(&world.at("/families/fam"), "").expect(200);
        let table = json!({"fields": generate::FIELDS, "keyFields": generate::KEY});
        http::post(&world.at("/families/fam/tables/tab"), table.to_string()).expect(200);
        http::post(&world.at("/writers/writer"), "secret").expect(200);
        world
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.node.executive_url())
    }

    fn mutate(&self, mutations: &[Value]) {
        let credentials = [("ctlstore-writer", "writer"), ("ctlstore-secret", "secret")];
        let body = json!({"mutations": mutations}).to_string();
        let answer = http::request("POST", &self.at("/families/fam/mutations"), &credentials, body).expect(200);
        self.seq.set(answer.header("ctlstore-seq").expect("a seq").parse().unwrap());
    }

    /// Writes the rows in one request; the table holds `stored` after it.
    fn write(&self, rows: &[Row], stored: &mut Rows) {
        let mutation = |row: &Row| json!({"table": "tab", "delete": false, "values": row.json()});
        self.mutate(&rows.iter().map(mutation).collect::<Vec<Value>>());
        stored.extend(rows.iter().map(|row| (row.key(), row.cells.to_vec())));
    }

    /// Looks at the rows at every place where they must be now.
    fn check(&self, stored: &Rows) {
        legs::assert_same("the ctldb", &legs::ctldb(&self.database), stored);
        legs::assert_same("the ledger's replay", &legs::replay(&ledger(&self.database, 0)), stored);
        legs::assert_same("the reader's answer", &legs::reader(&self.node, self.seq.get()), stored);
    }
}

#[test]
fn generated_rows_are_equal_in_the_ctldb_the_ledgers_replay_and_the_readers_answer() {
    for (kind, database) in support::every_ctldb() {
        eprintln!("on {kind}");
        // MySQL 5.6 has no collation that tells 'a' from 'a '; such keys are refused there.
        let keys_end_in_spaces = kind != "mysql 5.6";
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let world = World::new(database);
        let stored = RefCell::new(Rows::new());
        let outcome = runner.run(&generate::rows(keys_end_in_spaces), |rows| {
            let mut stored = stored.borrow_mut();
            world.write(&rows, &mut stored);
            world.check(&stored);
            Ok::<(), TestCaseError>(())
        });
        outcome.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

#[test]
fn extremes_of_every_type_are_equal_in_the_ctldb_the_ledgers_replay_and_the_readers_answer() {
    for (kind, database) in support::every_ctldb() {
        eprintln!("on {kind}");
        let world = World::new(database);
        let mut stored = Rows::new();
        // One request each: the largest fill one.
        for row in generate::extremes() {
            world.write(std::slice::from_ref(&row), &mut stored);
        }
        world.check(&stored);
    }
}

#[test]
fn deleted_rows_are_gone_from_the_ctldb_the_ledgers_replay_and_the_readers_answer() {
    for (kind, database) in support::every_ctldb() {
        eprintln!("on {kind}");
        let world = World::new(database);
        let mut stored = Rows::new();
        let rows = generate::extremes();
        for row in &rows {
            world.write(std::slice::from_ref(row), &mut stored);
        }
        let kept = rows.last().unwrap().clone();
        for row in rows.iter().filter(|row| row.key() != kept.key()) {
            let mutation = json!({"table": "tab", "delete": true, "values": row.key_json()});
            world.mutate(&[mutation]);
            stored.remove(&row.key());
        }
        world.check(&stored);
        assert_eq!(stored.len(), 1);
    }
}
