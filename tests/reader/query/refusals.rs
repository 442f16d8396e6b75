//! Requests that are not queries, and actions that a query may not do.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use super::{Reader, TABLE};
use support::{Node, http};

#[test]
fn queries_are_off_unless_they_are_enabled() {
    let node = Node::new().roles(&["reader"]).start();
    let answer = http::post(&format!("{}/v1/query", node.reader_url()), r#"{"sql":"SELECT 1"}"#).expect(403);
    assert_eq!(answer.text(), "queries are off; reader.query.enabled turns them on\n");
}

#[test]
fn what_is_no_query_is_a_bad_request() {
    let reader = Reader::start(&[], &[TABLE]);
    for (body, reason) in [
        ("", "bad json"),
        ("[]", "bad json"),
        ("{}", "bad json: sql is missing"),
        (r#"{"sql":1}"#, "bad json: the number 1 where a string is wanted at line 1"),
        (r#"{"sql":"SELECT 1","limits":1}"#, "limits is unknown, there is sql, params, limit"),
        (r#"{"sql":"SELECT 1","limit":-1}"#, "the number -1 where a whole number of 0 or more is wanted"),
        (r#"{"sql":"SELECT ?","params":[{}]}"#, "params[0]: a key column has no member Value or Binary"),
        (r#"{"sql":"SELECT :x","params":{"x":{"Valeu":1}}}"#, "params.x: a key column has no member Value or Binary"),
        (r#"{"sql":"SELECT ?, ?","params":[1,[2]]}"#, "params[1]: an array"),
        (r#"{"sql":""}"#, ""),
        (r#"{"sql":"-- nothing"}"#, ""),
        (r#"{"sql":"SELEC 1"}"#, "syntax error"),
        (r#"{"sql":"SELECT"}"#, "incomplete input"),
        (r#"{"sql":"SELECT absent FROM fam___tab"}"#, "no such column: absent"),
        (r#"{"sql":"SELECT \"absent\" FROM fam___tab"}"#, "no such column: \"absent\""),
        (r#"{"sql":"SELECT 1 FROM fam___none"}"#, "no such table: fam___none"),
        (r#"{"sql":"SELECT absent(1)"}"#, "no such function: absent"),
        (r#"{"sql":"SELECT 1; SELECT 2"}"#, "one statement at a time"),
        (r#"{"sql":"SELECT 1; /* */ SELECT 2 --"}"#, "one statement at a time"),
        (r#"{"sql":"SELECT 1 \u0000; DROP TABLE fam___tab"}"#, "NUL"),
        (r#"{"sql":"SELECT 9e999"}"#, "an infinite number"),
        (r#"{"sql":"SELECT json('{')"}"#, "malformed JSON"),
        (r#"{"sql":"SELECT abs(-9223372036854775807 - 1)"}"#, "integer overflow"),
    ] {
        let answer = http::post(&reader.url, body).expect(400);
        assert!(answer.text().contains(reason), "{body}: {}", answer.text());
    }
    http::post(&reader.url, json!({"sql": format!("SELECT 1 {}", " ".repeat(64 << 10))}).to_string()).expect(413);
    assert_eq!(reader.rows("SELECT 1; -- one"), json!([[1]]));
    assert_eq!(reader.rows("EXPLAIN QUERY PLAN SELECT * FROM fam___tab").as_array().unwrap().len(), 1);
}

#[test]
fn a_query_reads_tables_of_families_and_nothing_else_happens() {
    let secrets = ["CREATE TABLE secrets (a)", "INSERT INTO secrets VALUES ('hush')"];
    let reader = Reader::start(&[], &[TABLE, secrets[0], secrets[1]]);
    let directory = reader.directory.clone();
    let files = || -> BTreeSet<_> { fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let before = files();
    let target = directory.join("written");
    let target = target.display();
    for sql in [
        "SELECT * FROM secrets".to_owned(),
        "SELECT (SELECT a FROM secrets)".to_owned(),
        "SELECT count(a) FROM secrets".to_owned(),
        "WITH x AS (SELECT * FROM secrets) SELECT * FROM x".to_owned(),
        "INSERT INTO fam___tab (k) VALUES (1)".to_owned(),
        "INSERT INTO fam___tab (k) VALUES (1) RETURNING k".to_owned(),
        "WITH x AS (SELECT 1) DELETE FROM fam___tab".to_owned(),
        "UPDATE fam___tab SET t = 'x' RETURNING *".to_owned(),
        "EXPLAIN DELETE FROM fam___tab".to_owned(),
        "CREATE TABLE t (a)".to_owned(),
        "CREATE TEMP TABLE t (a)".to_owned(),
        "CREATE TEMP TABLE t AS SELECT 1".to_owned(),
        "CREATE TEMP VIEW v AS SELECT 1".to_owned(),
        "CREATE VIRTUAL TABLE temp.f USING fts5(a)".to_owned(),
        "CREATE INDEX i ON fam___tab (t)".to_owned(),
        "DROP TABLE fam___tab".to_owned(),
        "ALTER TABLE fam___tab ADD COLUMN x".to_owned(),
        "VACUUM".to_owned(),
        format!("VACUUM INTO '{target}'"),
        "REINDEX".to_owned(),
        "ANALYZE".to_owned(),
        format!("ATTACH '{target}' AS other"),
        "DETACH main".to_owned(),
        "PRAGMA query_only = 0".to_owned(),
        "PRAGMA journal_mode = DELETE".to_owned(),
        "PRAGMA table_info(fam___tab)".to_owned(),
        "SELECT * FROM pragma_table_info('fam___tab')".to_owned(),
        "SELECT * FROM pragma_database_list".to_owned(),
        "BEGIN".to_owned(),
        "COMMIT".to_owned(),
        "END".to_owned(),
        "ROLLBACK".to_owned(),
        "SAVEPOINT s".to_owned(),
        "RELEASE s".to_owned(),
        "SELECT load_extension('libm.so.6')".to_owned(),
        "SELECT fts3_tokenizer('simple')".to_owned(),
        "SELECT sqlite_compileoption_get(1)".to_owned(),
        "SELECT json_patch('{}', '{}')".to_owned(),
    ] {
        let answer = reader.sql(&sql).expect(403);
        assert!(answer.text().starts_with("a query may not "), "{sql}: {}", answer.text());
    }
    for (sql, reason) in [
        ("SELECT * FROM dbstat", "no such table"),
        ("SELECT data FROM sqlite_dbpage", "no such table"),
        ("UPDATE sqlite_schema SET sql = ''", "may not be modified"),
        ("SELECT * FROM generate_series(1, 9)", "no such table"),
        ("SELECT readfile('/etc/passwd')", "no such function"),
        ("SELECT writefile('x', 'y')", "no such function"),
        ("SELECT edit('x')", "no such function"),
        ("SELECT 1 REGEXP 'a'", "no such function"),
    ] {
        let answer = reader.sql(sql).expect(400);
        assert!(answer.text().contains(reason), "{sql}: {}", answer.text());
    }
    assert_eq!(files(), before);
    assert_eq!(reader.rows("SELECT count(*) FROM fam___tab"), json!([[0]]));
    assert_eq!(reader.rows("SELECT seq FROM _ldb_seq"), json!([[3]]));
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'fam%'";
    assert_eq!(reader.rows(tables), json!([["fam___tab"]]));
}

#[test]
fn functions_that_stand_in_for_those_of_sqlite_give_what_those_give() {
    let reader = Reader::start(&[], &[]);
    let ours = rusqlite::Connection::open_in_memory().unwrap();
    let texts = ["NULL", "''", "'a'", "'aaa'", "'héllo wörld'", "'xaay'", "x'616162'", "x''", "121", "'ab'", "'é'"];
    let mut columns: Vec<String> = [
        "unhex('68-C3 a9', ' -')",
        "unhex('6-8', '-')",
        "unhex('é68éé', 'é')",
        "unhex('68.6', '.')",
        "unhex('68zz', 'zz68')",
        "unhex(x'36380068', '')",
        "unhex('6é', 'é')",
        "unhex('--', '-')",
    ]
    .map(str::to_owned)
    .into();
    for a in texts {
        for b in texts {
            columns.extend(["instr", "trim", "ltrim", "rtrim", "unhex"].map(|name| format!("{name}({a}, {b})")));
            columns.push(format!("replace({a}, {b}, 'é1')"));
        }
    }
    let patterns =
        ["''", "'%'", "'a%'", "'%A'", "'_a%'", "'%é_'", "'\\%'", "'%\\'", "'a\\_'", "x'2561'", "12", "1.5", "NULL"];
    let texts =
        ["'a'", "'AbA'", "'a%'", "'héllo'", "'É'", "x'61ff'", "121", "1.5", "NULL", "''", "'a' || char(0) || 'b'"];
    for a in texts {
        for b in patterns {
            columns.extend([format!("{a} LIKE {b}"), format!("{a} NOT LIKE {b} ESCAPE '\\'")]);
            columns.extend(["'%'", "'_'", "'a'", "NULL"].map(|escape| format!("like({b}, {a}, {escape})")));
        }
    }
    for some in columns.chunks(50) {
        let quoted: Vec<String> = some.iter().map(|column| format!("quote({column})")).collect();
        let sql = format!("SELECT json_array({})", quoted.join(","));
        let want: String = ours.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(reader.rows(&sql), json!([[want]]), "{sql}");
    }
}
