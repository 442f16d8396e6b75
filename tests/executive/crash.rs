//! An executive dies during a schema change, at each place that could do harm. Another process goes on with the state
//! that it finds, while writers run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use ctlstore_core::schema::FieldType;
use support::http::{self, get, post, request};
use support::in_process::replay::{assert_contiguous, ledger, replay, rows};
use support::{Node, NodeProcess, TestDatabase, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

fn every_server() -> Vec<(&'static str, TestDatabase)> {
    support::every_ctldb().into_iter().filter(|(_, database)| database.is_mysql()).collect()
}

fn executive(database: &TestDatabase) -> Node {
    Node::new()
        .roles(&["executive"])
        .ctldb(&database.url)
        .set("executive.destructive_schema_changes", true)
        .set("executive.writer_limit.rows", i64::MAX)
}

/// Starts the node and waits until it has the ctldb.
fn serving(node: &Node) -> NodeProcess {
    let process = node.start();
    let status = format!("{}/status", process.executive_url());
    wait_until("the executive serves", DEADLINE, || http::is_ok(&status));
    process
}

fn furnish(url: &str) {
    post(&format!("{url}/families/fam"), "").expect(200);
    for name in ["tab", "wide", "gone"] {
        let table = json!({"fields": [["id", "integer"], ["v", "text"]], "keyFields": ["id"]}).to_string();
        post(&format!("{url}/families/fam/tables/{name}"), table).expect(200);
    }
    post(&format!("{url}/writers/writer"), "secret").expect(200);
}

fn mutate(url: &str, body: &Value) -> http::Answer {
    let credentials = [("ctlstore-writer", "writer"), ("ctlstore-secret", "secret")];
    request("POST", &format!("{url}/families/fam/mutations"), &credentials, body.to_string())
}

/// Compares the rows of the written table in the ctldb with those in the replay.
fn assert_same_rows(kind: &str, database: &TestDatabase, replayed: &Connection) {
    const ROWS: &str = "SELECT id, v FROM fam___tab ORDER BY id";
    let text = |value: rusqlite::types::Value| match value {
        rusqlite::types::Value::Text(text) => Some(text),
        rusqlite::types::Value::Integer(integer) => Some(integer.to_string()),
        rusqlite::types::Value::Null => None,
        other => panic!("{other:?}"),
    };
    let replayed: Vec<Vec<_>> =
        rows(replayed, ROWS).into_iter().map(|row| row.into_iter().map(text).collect()).collect();
    assert_eq!(database.query(ROWS), replayed, "{kind}");
}

/// A schema change, and the failpoint that ends it.
struct Crash {
    failpoint: &'static str,
    method: &'static str,
    path: &'static str,
    body: Value,
}

fn crashes() -> Vec<Crash> {
    let mut crashes = Vec::new();
    for failpoint in ["ddl-after-intent", "ddl-after-ddl", "ddl-after-ledger", "ddl-after-commit"] {
        let table = json!({"fields": [["id", "integer"], ["x", "binary"]], "keyFields": ["id"]});
        let field = |name: &str| json!({"fields": [[format!("{name}_{}", failpoint.replace('-', "_")), "decimal"]]});
        let change = |method, path, body| Crash { failpoint, method, path, body };
        crashes.push(change("POST", "/families/fam/tables/made", table));
        crashes.push(change("PUT", "/families/fam/tables/wide", field("w")));
        // On the table that is being written to.
        crashes.push(change("PUT", "/families/fam/tables/tab", field("t")));
        crashes.push(change("DELETE", "/families/fam/tables/gone", Value::Null));
    }
    crashes
}

#[test]
fn a_schema_change_whose_executive_dies_is_finished_by_another_while_writers_run() {
    for (kind, database) in every_server() {
        let survivor = serving(&executive(&database));
        let url = survivor.executive_url();
        furnish(&url);
        for crash in crashes() {
            let name = format!("{kind}: {} {} at {}", crash.method, crash.path, crash.failpoint);
            let before = schema(&url);
            let mut dying = serving(&executive(&database).env("CTLSTORE_FAILPOINT", crash.failpoint));
            let doomed = format!("{}{}", dying.executive_url(), crash.path);
            while_writing(&url, |written| {
                let body = if crash.body.is_null() { String::new() } else { crash.body.to_string() };
                let answer = http::exchange(crash.method, &doomed, &[], body);
                assert!(answer.is_err(), "{name}: answered {answer:?}");
                dying.wait_exit(DEADLINE);
                assert!(dying.log().contains(crash.failpoint), "{name}: died of something else");
                // The next writer has taken the lock after the crash, and has finished the schema change.
                let then = written.load(Ordering::SeqCst);
                wait_until("the writers go on", DEADLINE, || written.load(Ordering::SeqCst) > then + 8);
            });
            let ledger = ledger(&database, 0);
            assert_contiguous(&ledger);
            let replayed = replay(&ledger);
            let after = schema(&url);
            assert_eq!(after, replayed_schema(&replayed), "{name}");
            assert_same_rows(&name, &database, &replayed);
            if crash.failpoint != "ddl-after-intent" {
                assert_ne!(after, before, "{name}: what was done is lost");
            }
            assert_eq!(database.value("SELECT COUNT(*) FROM ctlstore_ddl_intent").as_deref(), Some("0"), "{name}");
            put_back(&url);
        }
    }
}

/// Restores the tables for the next crash.
fn put_back(url: &str) {
    request("DELETE", &format!("{url}/families/fam/tables/made"), &[], "");
    let table = json!({"fields": [["id", "integer"], ["v", "text"]], "keyFields": ["id"]}).to_string();
    post(&format!("{url}/families/fam/tables/gone"), table);
}

/// Runs `work` while four clients write to `tab` with the fields that it has. `work` gets the number of written rows.
fn while_writing(url: &str, work: impl FnOnce(&AtomicI64)) {
    let (written, over) = (AtomicI64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (written, over) = (&written, &over);
            scope.spawn(move || {
                let mut id = client * 1_000_000;
                while !over.load(Ordering::SeqCst) {
                    id += 1;
                    let fields = schema(url).remove("tab").expect("the table is there");
                    let values: serde_json::Map<_, _> =
                        fields.into_iter().map(|(field, _)| (field, Value::Null)).collect();
                    let mut mutation = json!({"table": "tab", "values": values});
                    mutation["values"]["id"] = id.into();
                    mutation["values"]["v"] = "v".into();
                    // 400 if the field was added in between; 503 if the server was busy for too long.
                    let status = mutate(url, &json!({"mutations": [mutation]})).status;
                    assert!([200, 400, 503].contains(&status), "{status}");
                    written.fetch_add(i64::from(status == 200), Ordering::SeqCst);
                }
            });
        }
        // The writers must end in any case, or the scope would never end.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("the writers write", DEADLINE, || written.load(Ordering::SeqCst) > 4);
            work(&written);
        }));
        over.store(true, Ordering::SeqCst);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Each table's fields with their types, by the table's name.
type Schema = BTreeMap<String, Vec<(String, String)>>;

/// The tables that the ctldb has.
fn schema(url: &str) -> Schema {
    let tables = get(&format!("{url}/schema/family/fam")).expect(200).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let field = |field: &Value| (text(&field[0]), text(&field[1]));
    let fields = |table: &Value| table["fields"].as_array().unwrap().iter().map(field).collect();
    tables.as_array().unwrap().iter().map(|table| (text(&table["name"]), fields(table))).collect()
}

/// The tables that the ledger makes.
fn replayed_schema(replayed: &Connection) -> Schema {
    let text = |value: &rusqlite::types::Value| match value {
        rusqlite::types::Value::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let tables = rows(replayed, "SELECT name FROM sqlite_schema WHERE type = 'table'");
    let mut schema = Schema::new();
    for table in tables {
        let name = text(&table[0]);
        let columns = rows(replayed, &format!("SELECT name, type FROM pragma_table_info('{name}') ORDER BY cid"));
        let field_type = |declared: &str| FieldType::from_column_type(declared).unwrap().api_name().to_owned();
        let fields = columns.iter().map(|column| (text(&column[0]), field_type(&text(&column[1])))).collect();
        schema.insert(name.trim_start_matches("fam___").to_owned(), fields);
    }
    schema
}
