//! The original's DROP TABLE commits, and with that lets the ledger lock go, before it writes its ledger row. What ours
//! writes meanwhile is written again where it collides, and is answered as what it came to.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use support::http::{self, post, request};
use support::in_process::hold::Hold;
use support::{TestDatabase, wait_until};

use super::go_executive::GoExecutive;
use super::{DEADLINE, assert_ledger_is_the_ctldb, fleet, originals, string_row};

/// Whether a statement that begins so waits in the database.
fn waits(database: &TestDatabase, statement: &str) -> bool {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE '%{statement}%' \
         AND info NOT LIKE '%processlist%'"
    );
    database.value(&sql).as_deref() != Some("0")
}

fn make(go: &mut GoExecutive, table: &str) {
    go.change(
        &format!(r#"CREATE TABLE {table} ("id" INTEGER, PRIMARY KEY("id"));"#),
        &format!(r#"CREATE TABLE {table} ("id" BIGINT, PRIMARY KEY("id"))"#),
    );
}

#[test]
fn requests_of_one_group_are_written_again_where_a_ledger_row_takes_their_seq() {
    for database in originals() {
        let (ours, mut go) = fleet(&database);
        make(&mut go, "fam___gone");
        go.begin_drop("fam___gone");
        // Its ledger row, not yet committed, on a connection that has no lock.
        go.run("START TRANSACTION").unwrap();
        go.log("DROP TABLE IF EXISTS fam___gone");
        let hold = Hold::on(&database.url);
        std::thread::scope(|scope| {
            let sent: Vec<_> = ["one", "two", "three"]
                .map(|id| scope.spawn(|| ours.mutate(&string_row(id)).expect(200)))
                .into_iter()
                .collect();
            wait_until("all wait for the lock", DEADLINE, || {
                let details = ours.status().details;
                details["committing"].as_u64().unwrap_or(0) + details["waiting"].as_u64().unwrap_or(0) >= 3
            });
            hold.release();
            wait_until("ours waits for the row", DEADLINE, || waits(&database, "INSERT INTO \"ctlstore_dml_ledger\""));
            go.commit();
            for answer in sent {
                answer.join().unwrap();
            }
        });
        assert_ledger_is_the_ctldb(&database);
    }
}

#[test]
fn a_schema_change_whose_seq_is_taken_is_written_behind_and_answered_200() {
    for database in originals() {
        let (ours, mut go) = fleet(&database);
        let table = json!({"fields": [["id", "integer"], ["v", "text"]], "keyFields": ["id"]}).to_string();
        post(&ours.at("/families/fam/tables/ours"), table.clone()).expect(200);
        let field = json!({"fields": [["more", "text"]]}).to_string();
        for (method, name, body) in [("POST", "new", table), ("PUT", "ours", field), ("DELETE", "ours", String::new())]
        {
            make(&mut go, "fam___gone");
            go.begin_drop("fam___gone");
            go.run("START TRANSACTION").unwrap();
            go.log("DROP TABLE IF EXISTS fam___gone");
            let url = ours.at(&format!("/families/fam/tables/{name}"));
            let answer = std::thread::scope(|scope| {
                let sent = scope.spawn(|| request(method, &url, &[], body));
                wait_until("ours waits for the row", DEADLINE, || {
                    waits(&database, "INSERT INTO \"ctlstore_dml_ledger\"")
                });
                go.commit();
                sent.join().unwrap()
            });
            let seq = answer.expect(200).header("ctlstore-seq").unwrap().to_owned();
            let last = database.value("SELECT MAX(seq) FROM ctlstore_dml_ledger");
            assert_eq!(last, Some(seq), "{method}");
        }
        assert_ledger_is_the_ctldb(&database);
    }
}

#[test]
fn a_table_that_the_original_is_dropping_is_gone_once_its_ledger_row_is_there() {
    for database in originals() {
        let (ours, mut go) = fleet(&database);
        ours.mutate(&string_row("before")).expect(200);
        go.begin_drop("fam___strings");
        let url = ours.at("/families/fam/tables/strings");
        let table = json!({"fields": [["id", "string"], ["v", "text"]], "keyFields": ["id"]}).to_string();
        let retries = ours.status().details["retries"].clone();
        std::thread::scope(|scope| {
            let written = scope.spawn(|| ours.mutate(&string_row("meanwhile")));
            let read = scope.spawn(|| http::get(&ours.at("/schema/table/fam/strings")));
            wait_until("ours tries again", DEADLINE, || ours.status().details["retries"].as_u64() > retries.as_u64());
            go.end_drop("fam___strings");
            assert_eq!(written.join().unwrap().status, 404);
            assert_eq!(read.join().unwrap().status, 404);
        });
        post(&url, table).expect(200);
        ours.mutate(&string_row("after")).expect(200);
        assert_ledger_is_the_ctldb(&database);
    }
}

#[test]
fn under_load_beside_tables_that_come_and_go_every_request_is_answered_as_what_it_came_to() {
    const ROUNDS: usize = 30;
    for database in originals() {
        let (ours, mut go) = fleet(&database);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..4 {
                let (ours, over) = (&ours, &over);
                scope.spawn(move || {
                    for round in 0.. {
                        if over.load(Ordering::SeqCst) {
                            break;
                        }
                        ours.mutate(&string_row(&format!("{client}-{round}"))).expect(200);
                    }
                });
            }
            let (ours, over) = (&ours, &over);
            scope.spawn(move || {
                for round in 0.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let name = ours.at(&format!("/families/fam/tables/made_{round}"));
                    let table = json!({"fields": [["id", "integer"]], "keyFields": ["id"]});
                    post(&name, table.to_string()).expect(200);
                    request("PUT", &name, &[], json!({"fields": [["more", "text"]]}).to_string()).expect(200);
                    if round % 2 == 0 {
                        request("DELETE", &name, &[], "").expect(200);
                    }
                }
            });
            // The scope waits for the others, so they must hear of a panic here.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 0..ROUNDS {
                    let table = format!("fam___go_{round}");
                    make(&mut go, &table);
                    go.begin_drop(&table);
                    go.end_drop(&table);
                }
            }));
            over.store(true, Ordering::SeqCst);
            ended.unwrap();
        });
        assert_ledger_is_the_ctldb(&database);
    }
}
