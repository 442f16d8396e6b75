//! Families, their tables, and the size of a table.

use rusqlite::Connection;
use serde_json::{Value, json};

use super::fixture::{BYTES, INTEGER, PAIR, Stage, TEXT, stage};

/// The size as SQLite itself counts it, through a connection of the test.
fn counted(stage: &Stage, table: &str) -> (i64, i64) {
    let one = |sql: &str| -> i64 { stage.ldb.0.query_row(sql, [], |row| row.get(0)).unwrap() };
    let parts = format!("SELECT name FROM sqlite_schema WHERE tbl_name = '{table}'");
    (
        one(&format!("SELECT count(*) FROM {table}")),
        one(&format!("SELECT sum(pgsize) FROM dbstat WHERE aggregate = 1 AND name IN ({parts})")),
    )
}

fn size(described: &Value) -> (i64, i64) {
    (described["rows"].as_i64().expect("rows"), described["bytes"].as_i64().expect("bytes"))
}

#[test]
fn families_are_those_of_the_tables_that_are_there() {
    let stage = stage::<&str>([]);
    assert_eq!(stage.get("/families").expect(200).json(), json!({"seq": 0, "families": []}));
    stage.ldb.apply([
        TEXT,
        INTEGER,
        r#"CREATE TABLE fam_two___tab ("k" INTEGER, PRIMARY KEY("k"));"#,
        r#"CREATE TABLE abc___tab ("k" INTEGER, PRIMARY KEY("k"));"#,
        r#"CREATE TABLE fam0___tab ("k" INTEGER, PRIMARY KEY("k"));"#,
        r#"CREATE TABLE "another program's" ("k" INTEGER);"#,
    ]);
    let answer = stage.get("/families").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let families = json!([
        {"name": "abc", "tables": ["tab"]},
        {"name": "fam0", "tables": ["tab"]},
        {"name": "fam", "tables": ["int", "text"]},
        {"name": "fam_two", "tables": ["tab"]},
    ]);
    assert_eq!(answer.json(), json!({"seq": 6, "families": families}));
    stage.ldb.apply(["DROP TABLE IF EXISTS abc___tab"]);
    assert_eq!(stage.get("/families").expect(200).json()["families"][0]["name"], "fam0");
}

#[test]
fn a_table_is_told_with_its_fields_in_order_and_its_key_in_key_order() {
    let stage = stage([PAIR, BYTES]);
    let table = stage.get("/families/fam/tables/pair").expect(200).json();
    let fields = json!([["n", "integer"], ["v", "text"], ["name", "string"]]);
    let bytes = table["bytes"].as_i64().unwrap();
    let want = json!({
        "seq": 2, "family": "fam", "name": "pair", "fields": fields, "keyFields": ["name", "n"], "rows": 0, "bytes": bytes,
    });
    assert_eq!(table, want);
    stage.ldb.apply([r#"ALTER TABLE fam___pair ADD COLUMN "d" REAL"#, r#"ALTER TABLE fam___pair ADD COLUMN "b" BLOB"#]);
    let fields = json!([["n", "integer"], ["v", "text"], ["name", "string"], ["d", "decimal"], ["b", "binary"]]);
    assert_eq!(stage.get("/families/FAM/tables/Pair").expect(200).json()["fields"], fields);
    assert_eq!(stage.get("/families/fam/tables/bytes").expect(200).json()["fields"][0], json!(["k", "bytestring"]));
    assert_eq!(stage.get("/families/fam/tables/none").expect(404).text(), "no table fam___none\n");
    stage.get("/families/f/tables/none").expect(400);
    stage.get("/families/fam/tables").expect(404);
}

#[test]
fn rows_and_bytes_are_what_sqlite_counts() {
    let stage = stage([INTEGER, TEXT]);
    let without_rowid = r#"CREATE TABLE fam___own ("k" VARCHAR(191), "v" TEXT, PRIMARY KEY("k")) WITHOUT ROWID;"#;
    stage.ldb.apply([without_rowid]);
    let sizes = |stage: &Stage| {
        ["int", "text", "own"].map(|table| {
            let found = size(&stage.get(&format!("/families/fam/tables/{table}")).expect(200).json());
            assert_eq!(found, counted(stage, &format!("fam___{table}")), "{table}");
            found
        })
    };
    assert!(sizes(&stage).iter().all(|(rows, bytes)| (*rows, bytes % 4096) == (0, 0)));
    stage.count_up_to(20_000);
    let numbers = |table: &str| format!("REPLACE INTO fam___{table} SELECT 'key ' || k, v FROM fam___int");
    stage.ldb.apply([numbers("text"), numbers("own")]);
    // The values of these rows need pages of their own.
    let large = "x".repeat(100_000);
    stage.ldb.apply([
        format!("REPLACE INTO fam___text VALUES('large','{large}')"),
        format!("REPLACE INTO fam___own VALUES('large','{large}')"),
    ]);
    let full = sizes(&stage);
    assert_eq!(full.map(|(rows, _)| rows), [20_000, 20_001, 20_001]);
    stage.ldb.apply(["DELETE FROM fam___int WHERE k % 3 = 0", "DELETE FROM fam___text"]);
    let rest = sizes(&stage);
    assert_eq!(rest.map(|(rows, _)| rows), [13_334, 0, 20_001]);
    assert!(rest[1].1 < full[1].1);
}

#[test]
fn a_table_that_only_another_program_could_make_says_why_it_is_none() {
    let stage = stage([r#"CREATE TABLE fam___odd ("k" ODDITY, PRIMARY KEY("k"));"#]);
    let answer = stage.get("/families/fam/tables/odd").expect(500);
    assert!(answer.text().contains("\"ODDITY\""), "{}", answer.text());
}

#[test]
fn the_ldb_is_not_there_yet_until_it_is() {
    let mut stage = stage::<&str>([]);
    stage.server.stop();
    let elsewhere = stage.path.with_file_name("elsewhere.db");
    let server = support::reader_server::ReaderServer::start(support::reader_server::options(&elsewhere));
    for path in ["/families", "/families/fam/tables/tab", "/rows/fam/tab/1", "/rows/fam/tab"] {
        let answer = support::http::get(&format!("{}/v1{path}", server.url)).expect(503);
        assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
    }
    drop(Connection::open(&elsewhere).unwrap());
    support::reader_server::OriginalLdb::create(&elsewhere);
    support::http::get(&format!("{}/v1/families", server.url)).expect(200);
}
