//! The answer of a query: values, columns, the number of rows, and its seq.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::hostile::Over;
use super::{MANY, MANY_TABLE, Reader, TABLE};
use support::reader_server::OriginalLdb;
use support::{Node, http, wait_until};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn columns_and_rows_are_those_of_one_moment_whose_seq_is_told() {
    let reader = Reader::start(
        &[],
        &[
            TABLE,
            "REPLACE INTO fam___tab VALUES (9007199254740993, x'610062', x'00ff', '\"é', 0.1)",
            "REPLACE INTO fam___tab VALUES (-1, NULL, 'text', '', 10)",
        ],
    );
    let answer = reader.sql("SELECT *, k + 1 AS more, typeof(b), x'00ff' FROM fam___tab ORDER BY k DESC").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("ctlstore-seq"), Some("3"));
    assert!(answer.header("ctlstore-lag-ms").is_some());
    let named = |name: &str, field_type: &str| json!({"name": name, "type": field_type});
    let want = json!({
        "columns": [
            named("k", "integer"), named("t", "text"), named("b", "binary"), named("s", "string"),
            named("d", "decimal"), {"name": "more"}, {"name": "typeof(b)"}, {"name": "x'00ff'"},
        ],
        "rows": [
            [9007199254740993i64, "a\0b", "AP8=", "\"é", 0.1, 9007199254740994i64, "blob", "AP8="],
            [-1, null, "dGV4dA==", "", 10, 0, "text", "AP8="],
        ],
        "seq": 3,
        "truncated": false,
    });
    assert_eq!(answer.json(), want);
    assert!(answer.text().ends_with("}\n"));
}

#[test]
fn values_are_bound_by_place_or_by_name() {
    let reader = Reader::start(&[], &[]);
    let params = json!([1, -0.5, "a'b\"", true, null, {"Binary": "AP8="}, {"Value": i64::MAX}]);
    let answer = reader.ask(&json!({"sql": "SELECT ?, ?, ?, ?, ?, hex(?), ?", "params": params})).expect(200);
    assert_eq!(answer.json()["rows"], json!([[1, -0.5, "a'b\"", 1, null, "00FF", i64::MAX]]));
    let named = json!({"sql": "SELECT :a, @b, $c, :a", "params": {"a": 1, "b": "two", "c": null}});
    assert_eq!(reader.ask(&named).expect(200).json()["rows"], json!([[1, "two", null, 1]]));
    for (params, reason) in [
        (json!([1]), "the sql has 2 of them, not 1"),
        (json!([1, 2, 3]), "the sql has 2 of them, not 3"),
        (json!({"a": 1}), "\"b\" is missing"),
        (json!({"a": 1, "b": 2, "c": 3}), "there are more than the sql names"),
        (json!([[1], 2]), "params[0]: "),
        (json!([{"Binary": "?"}, 2]), "not standard padded base64"),
        (json!([9223372036854775808u64, 2]), "beyond 64 bits"),
        (json!("a"), "params: "),
    ] {
        let answer = reader.ask(&json!({"sql": "SELECT :a, :b", "params": params})).expect(400);
        assert!(answer.text().contains(reason), "{params}: {}", answer.text());
    }
}

#[test]
fn more_rows_than_wanted_are_cut_off_and_more_than_allowed_are_refused() {
    let settings = [("reader.query.max_rows", json!(100)), ("reader.query.max_response_bytes", json!("64 KiB"))];
    let reader = Reader::start(&settings, &[MANY_TABLE, MANY]);
    let asked = |limit: u64, sql: &str| reader.ask(&json!({"sql": sql, "limit": limit}));
    let all = "SELECT k FROM fam___many ORDER BY k";
    let cut = asked(2, all).expect(200).json();
    assert_eq!((&cut["rows"], &cut["truncated"]), (&json!([[1], [2]]), &json!(true)));
    let whole = asked(2, "SELECT k FROM fam___many WHERE k <= 2").expect(200).json();
    assert_eq!((&whole["rows"], &whole["truncated"]), (&json!([[1], [2]]), &json!(false)));
    assert_eq!(asked(0, all).expect(200).json()["truncated"], true);
    assert_eq!(asked(100, all).expect(200).json()["rows"].as_array().unwrap().len(), 100);
    assert_eq!(asked(101, all).expect(400).text(), "limit must be at most 100\n");
    let text = reader.sql(all).expect(416).text();
    assert_eq!(text, "the query gives more than 100 rows; ask for some of them with limit\n");
    let text = asked(80, "SELECT v FROM fam___many WHERE k % 100 = 0").expect(416).text();
    assert_eq!(text, "the answer has more than 65536 bytes\n");
}

#[test]
fn a_query_waits_for_its_seq_and_refuses_data_that_is_too_old() {
    let reader = Reader::start(&[], &[TABLE]);
    let ask = |headers: &[(&str, &str)]| http::request("POST", &reader.url, headers, r#"{"sql":"SELECT 1"}"#);
    ask(&[("ctlstore-min-seq", "1")]).expect(200);
    ask(&[("ctlstore-min-seq", "2"), ("ctlstore-wait", "1ms")]).expect(412);
    ask(&[("ctlstore-max-lag", "1s")]).expect(503);
    thread::scope(|scope| {
        let waits = scope.spawn(|| ask(&[("ctlstore-min-seq", "2"), ("ctlstore-wait", "20s")]));
        reader.ldb().apply(["REPLACE INTO fam___tab VALUES (1, NULL, NULL, NULL, NULL)"]);
        assert_eq!(waits.join().unwrap().expect(200).json()["seq"], 2);
    });
}

#[test]
fn queries_follow_schema_changes_and_another_file_without_an_error() {
    let node = Node::new().roles(&["reader"]).set("reader.query.enabled", true);
    fs::create_dir_all(node.data_dir()).unwrap();
    let first = node.data_dir().join("1.db");
    let second = node.data_dir().join("2.db");
    let ldb = OriginalLdb::create(&first);
    ldb.apply([TABLE]);
    let next = OriginalLdb::create(&second);
    next.apply([TABLE, "REPLACE INTO fam___tab VALUES (7, 'next', NULL, NULL, NULL)"]);
    symlink(&first, node.ldb_path()).unwrap();
    let process = node.start();
    let url = format!("{}/v1/query", process.reader_url());
    let ask = |sql: &str| http::post(&url, json!({ "sql": sql }).to_string());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !is_over.load(Ordering::Relaxed) {
                ask("SELECT * FROM fam___tab ORDER BY k LIMIT 10").expect(200);
                asked += 1;
            }
            asked
        });
        let over = Over(&is_over);
        for i in 0..20 {
            ldb.apply([
                format!("ALTER TABLE fam___tab ADD COLUMN \"c{i}\" TEXT"),
                format!("REPLACE INTO fam___tab (k, c{i}) VALUES ({i}, 'new')"),
            ]);
            let row = ask(&format!("SELECT c{i} FROM fam___tab WHERE k = {i}")).expect(200).json();
            assert_eq!(row["rows"], json!([["new"]]));
        }
        let link = node.data_dir().join("link");
        symlink(&second, &link).unwrap();
        fs::rename(&link, node.ldb_path()).unwrap();
        wait_until("queries read the other file", DEADLINE, || {
            ask("SELECT t FROM fam___tab").expect(200).json()["rows"] == json!([["next"]])
        });
        drop(over);
        assert!(asking.join().unwrap() > 0);
    });
}
