//! One executive is killed at each step of a schema change, and the other one goes on at once.

use serde_json::{Value, json};
use support::http::{self, exchange, get, post, request};
use support::in_process::Executive;
use support::in_process::replay::{ledger, replay};
use support::{Node, TestDatabase, wait_until};

use super::go_executive::GoExecutive;
use super::{DEADLINE, assert_ledger_is_the_ctldb, fleet, originals, settings, string_row};

const FAILPOINTS: [&str; 4] = ["ddl-after-intent", "ddl-after-ddl", "ddl-after-ledger", "ddl-after-commit"];
const INTENTS: &str = "SELECT COUNT(*) FROM ctlstore_ddl_intent";

fn table() -> String {
    json!({"fields": [["id", "integer"], ["v", "text"]], "keyFields": ["id"]}).to_string()
}

/// Has an executive process of ours begin a schema change that ends it at `failpoint`.
fn die_at(database: &TestDatabase, failpoint: &str, method: &str, path: &str, body: &str) {
    let node = Node::new().roles(&["executive"]).ctldb(&database.url).env("CTLSTORE_FAILPOINT", failpoint);
    let mut dying = node.set("executive.destructive_schema_changes", true).start();
    let status = format!("{}/status", dying.executive_url());
    wait_until("the executive serves", DEADLINE, || http::is_ok(&status));
    let url = format!("{}{path}", dying.executive_url());
    let answer = exchange(method, &url, &[], body);
    assert!(answer.is_err(), "{method} {path} at {failpoint}: answered {answer:?}");
    dying.wait_exit(DEADLINE);
    assert!(dying.log().contains(failpoint), "{method} {path}: died of something else than {failpoint}");
}

/// Makes the family and the tables of these tests, with none of ours running afterwards.
fn furnished(database: &TestDatabase) -> GoExecutive {
    let (ours, go) = fleet(database);
    for name in ["wide", "gone"] {
        post(&ours.at(&format!("/families/fam/tables/{name}")), table()).expect(200);
    }
    ours.stop();
    go
}

#[test]
fn after_ours_was_killed_the_original_writes_nothing_that_stops_a_reflector() {
    for failpoint in FAILPOINTS {
        for database in originals() {
            let mut go = furnished(&database);
            die_at(&database, failpoint, "PUT", "/families/fam/tables/wide", r#"{"fields":[["more","text"]]}"#);
            // By the columns that it finds, and before any executive of ours has come back.
            go.write("fam___wide", 1).unwrap();
            replay(&ledger(&database, 0));
            die_at(&database, failpoint, "POST", "/families/fam/tables/made", &table());
            if !go.columns("fam___made").is_empty() {
                go.write("fam___made", 1).unwrap();
            }
            replay(&ledger(&database, 0));
            die_at(&database, failpoint, "DELETE", "/families/fam/tables/gone", "");
            // Without the table the server refuses it, and the original rolls back.
            let is_gone = go.columns("fam___gone").is_empty();
            let written = if is_gone { Ok(()) } else { go.write("fam___gone", 1) };
            written.unwrap();
            replay(&ledger(&database, 0));
            let ours = Executive::serving(&database, settings());
            wait_until("what was begun is finished", DEADLINE, || database.value(INTENTS).as_deref() == Some("0"));
            go.write("fam___wide", 2).unwrap();
            ours.mutate(&string_row("after")).expect(200);
            assert_ledger_is_the_ctldb(&database);
        }
    }
}

#[test]
fn an_idle_executive_of_ours_finishes_what_another_has_left() {
    for database in originals() {
        let mut go = furnished(&database);
        let idle = Executive::serving(&database, settings());
        die_at(&database, "ddl-after-ddl", "DELETE", "/families/fam/tables/gone", "");
        let killed = std::time::Instant::now();
        wait_until("it is finished", DEADLINE, || database.value(INTENTS).as_deref() == Some("0"));
        println!("an abandoned DROP TABLE was finished after {:?}", killed.elapsed());
        go.change(
            r#"CREATE TABLE fam___gone ("id" INTEGER, PRIMARY KEY("id"));"#,
            r#"CREATE TABLE fam___gone ("id" BIGINT, PRIMARY KEY("id"))"#,
        );
        go.write("fam___gone", 1).unwrap();
        idle.mutate(&string_row("after")).expect(200);
        assert_ledger_is_the_ctldb(&database);
    }
}

/// Leaves what a server leaves that was killed between the ledger row and its DDL.
fn leave_without_ddl(database: &TestDatabase, kind: &str, table: &str, column: &str, statement: &str, ddl: &str) {
    let quote = |text: &str| text.replace('\'', "''");
    database.query(&format!("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('{}')", quote(statement)));
    database.query(&format!(
        "INSERT INTO ctlstore_ddl_intent (token, kind, table_name, column_name, ledger_seq, statement, ddl) \
         SELECT UUID(), '{kind}', '{table}', '{column}', MAX(seq), '{}', '{}' FROM ctlstore_dml_ledger",
        quote(statement),
        quote(ddl)
    ));
}

#[test]
fn what_the_ledger_has_and_the_server_lacks_after_its_crash_is_made_at_the_start() {
    for database in originals() {
        let mut go = furnished(&database);
        let add = r#"ALTER TABLE fam___wide ADD COLUMN "more" TEXT"#;
        let ddl = r#"ALTER TABLE fam___wide ADD COLUMN "more" MEDIUMTEXT"#;
        leave_without_ddl(&database, "add", "fam___wide", "more", add, ddl);
        let create = r#"CREATE TABLE fam___made ("id" INTEGER, PRIMARY KEY("id"));"#;
        let ddl = r#"CREATE TABLE fam___made ("id" BIGINT NOT NULL, PRIMARY KEY("id")) ENGINE = InnoDB"#;
        leave_without_ddl(&database, "create", "fam___made", "", create, ddl);
        // A column of a table that has been dropped since is owed to nobody.
        leave_without_ddl(&database, "add", "fam___gone", "more", &add.replace("wide", "gone"), "no ddl at all");
        go.begin_drop("fam___gone");
        go.end_drop("fam___gone");
        go.write("fam___wide", 1).unwrap();
        let ours = Executive::serving(&database, settings());
        wait_until("it is finished", DEADLINE, || database.value(INTENTS).as_deref() == Some("0"));
        go.write("fam___wide", 2).unwrap();
        go.write("fam___made", 1).unwrap();
        ours.mutate(&string_row("after")).expect(200);
        assert_ledger_is_the_ctldb(&database);
    }
}

/// Steps after which the original's executive is killed while it makes a table, adds a column, and drops a table.
const CHANGE_STEPS: usize = 3;

#[test]
fn after_the_original_was_killed_ours_writes_on_and_says_what_is_left() {
    for database in originals() {
        for step in 0..=CHANGE_STEPS {
            let (ours, mut go) = match step {
                0 => fleet(&database),
                _ => (Executive::serving(&database, settings()), GoExecutive::on(&database)),
            };
            let name = format!("made_{step}");
            let ddl = format!(r#"CREATE TABLE fam___{name} ("id" BIGINT, PRIMARY KEY("id"))"#);
            go.lock();
            if step > 0 {
                go.log(&format!(r#"CREATE TABLE fam___{name} ("id" INTEGER, PRIMARY KEY("id"));"#));
            }
            if step > 1 {
                go.ddl(&ddl).unwrap();
            }
            if step > 2 {
                go.commit();
            }
            go.kill();
            ours.mutate(&string_row(&format!("{step}"))).expect(200);
            replay(&ledger(&database, 0));
            let url = ours.at(&format!("/families/fam/tables/{name}"));
            let answer = post(&url, json!({"fields": [["id", "integer"]], "keyFields": ["id"]}).to_string());
            match step {
                // Its transaction was rolled back, and nothing of it is left.
                0 | 1 => assert_eq!(answer.status, 200),
                // The server has a table that the ledger does not know.
                2 => {
                    assert_eq!(answer.status, 409);
                    assert!(answer.text().contains("the ledger has no such table"), "{}", answer.text());
                    database.query(&format!("DROP TABLE fam___{name}"));
                    post(&url, json!({"fields": [["id", "integer"]], "keyFields": ["id"]}).to_string()).expect(200);
                }
                _ => assert_eq!(answer.status, 409, "it exists"),
            }
            assert_ledger_is_the_ctldb(&database);
            ours.stop();
        }
    }
}

#[test]
fn a_column_or_a_drop_that_the_original_left_half_done_is_named_and_can_be_mended() {
    for database in originals() {
        let (ours, mut go) = fleet(&database);
        go.lock();
        go.log(r#"ALTER TABLE fam___strings ADD COLUMN "more" TEXT"#);
        go.ddl(r#"ALTER TABLE fam___strings ADD COLUMN "more" MEDIUMTEXT"#).unwrap();
        go.kill();
        // Ours writes by what the ledger says.
        ours.mutate(&string_row("one")).expect(200);
        let put = || {
            let body: Value = json!({"fields": [["more", "text"]]});
            request("PUT", &ours.at("/families/fam/tables/strings"), &[], body.to_string())
        };
        let refused = put();
        assert_eq!(refused.status, 409);
        assert!(refused.text().contains("the ctldb has a column more"), "{}", refused.text());
        database.query("ALTER TABLE fam___strings DROP COLUMN more");
        put().expect(200);
        assert_ledger_is_the_ctldb(&database);

        let mut go = GoExecutive::on(&database);
        go.begin_drop("fam___strings");
        go.kill();
        let row = json!({"mutations": [{"table": "strings", "values": {"id": "two", "v": "x", "more": "y"}}]});
        let refused = ours.mutate(&row);
        assert_eq!(refused.status, 409);
        assert!(refused.text().contains("the ledger has it, the ctldb does not"), "{}", refused.text());
        // The other tables are written to meanwhile.
        ours.mutate(&json!({"mutations": [support::in_process::row(1, "v")]})).expect(200);
        // The row that the original did not write.
        database.query("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('DROP TABLE IF EXISTS fam___strings')");
        assert_eq!(ours.mutate(&row).status, 404);
        get(&ours.at("/schema/table/fam/tab")).expect(200);
        assert_ledger_is_the_ctldb(&database);
    }
}
