//! Batches: many rows of one point in time.

use serde_json::{Value, json};

use super::fixture::{BYTES, INTEGER, PAIR, TEXT, number, stage, stage_with};
use support::http;

fn key(table: &str, key: Value) -> Value {
    json!({"family": "fam", "table": table, "key": key})
}

#[test]
fn rows_of_many_tables_come_in_the_order_that_they_are_asked_for() {
    let stage = stage([
        TEXT,
        INTEGER,
        BYTES,
        PAIR,
        r#"REPLACE INTO fam___text ("k","v") VALUES('a','1')"#,
        r#"REPLACE INTO fam___int ("k","v") VALUES(5,'five')"#,
        r#"REPLACE INTO fam___bytes ("k","v") VALUES(x'00ff','b')"#,
        r#"REPLACE INTO fam___pair ("n","v","name") VALUES(7,'p','x')"#,
    ]);
    let wanted = json!({"rows": [
        key("pair", json!(["x", 7])), key("text", json!(["b"])), key("int", json!([5.0])), key("bytes", json!(["AP8="])),
        key("text", json!(["a"])), key("text", json!(["a"])), key("pair", json!(["x", 8])),
    ]});
    let answer = stage.batch(&wanted).expect(200);
    let a = json!({"k": "a", "v": "1"});
    let seq = 8;
    let rows = json!([
        {"n": 7, "v": "p", "name": "x"}, null, {"k": 5, "v": "five"}, {"k": "AP8=", "v": "b"}, a, a, null,
    ]);
    assert_eq!(answer.json(), json!({"seq": seq, "rows": rows}));
    assert_eq!((number(&answer, "ctlstore-seq"), answer.header("etag")), (seq, None));
    assert!(answer.text().ends_with("]}\n"));
    assert_eq!(stage.batch(&json!({"rows": []})).expect(200).json(), json!({"seq": seq, "rows": []}));
}

#[test]
fn a_thousand_rows_can_be_asked_for_and_no_more() {
    let stage = stage([INTEGER]);
    stage.count_up_to(1_000);
    let mut wanted: Vec<Value> = (1..=1_000).rev().map(|n| key("int", json!([n]))).collect();
    let rows = stage.batch(&json!({"rows": wanted})).expect(200).json()["rows"].clone();
    let want: Vec<Value> = (1..=1_000).rev().map(|n| json!({"k": n, "v": format!("v{n}")})).collect();
    assert_eq!(rows, Value::from(want));
    wanted.push(key("int", json!([1])));
    let answer = stage.batch(&json!({"rows": wanted})).expect(413);
    assert_eq!(answer.text(), "1001 rows are asked for, at most 1000 can be\n");
}

#[test]
fn a_batch_has_no_more_rows_than_the_settings_let_an_answer_have() {
    let stage = stage_with([INTEGER], |options| options.max_rows = 2);
    let batch = |count: usize| stage.batch(&json!({"rows": vec![key("int", json!([1])); count]}));
    assert_eq!(batch(2).expect(200).json()["rows"], json!([null, null]));
    assert_eq!(batch(3).expect(413).text(), "3 rows are asked for, at most 2 can be\n");
}

#[test]
fn an_error_names_the_entry_that_it_is_about() {
    let stage = stage([TEXT, INTEGER, BYTES, PAIR]);
    let good = key("text", json!(["a"]));
    for (bad, status, reason) in [
        (key("none", json!(["a"])), 404, "rows[1]: no table fam___none"),
        (key("text", json!([])), 400, "rows[1]: table fam___text has 1 key columns, not 0"),
        (key("pair", json!(["a"])), 400, "rows[1]: table fam___pair has 2 key columns, not 1"),
        (key("pair", json!(["a", 1, 2])), 400, "rows[1]: table fam___pair has 2 key columns, not 3"),
        (key("text", json!([1])), 400, "rows[1]: key column \"k\" of table fam___text wants a string"),
        (key("text", json!([null])), 400, "rows[1]: key column \"k\" of table fam___text wants a string"),
        (key("int", json!(["1"])), 400, "rows[1]: key column \"k\" of table fam___int wants a whole number of 64 bits"),
        (key("int", json!([1.5])), 400, "rows[1]: key column \"k\" of table fam___int wants a whole number"),
        (
            key("bytes", json!(["0xf"])),
            400,
            "rows[1]: key column \"k\" of table fam___bytes wants bytes as a string of padded base64",
        ),
        (key("text", json!([["a"]])), 400, "rows[1]: an array"),
        (key("text", json!("a")), 400, "rows[1]: the string \"a\" where an array is wanted"),
        (key("_ldb_seq", json!([1])), 400, "must start with a letter"),
        (json!({"family": "fam", "table": "text"}), 400, "rows[1]: key is missing"),
        (
            json!({"family": "fam", "table": "text", "key": ["a"], "kye": 1}),
            400,
            "rows[1]: kye is unknown, there is family, table, key",
        ),
        (json!(7), 400, "rows[1]: the number 7 where an object is wanted"),
    ] {
        let answer = stage.batch(&json!({"rows": [good, bad]})).expect(status);
        assert!(answer.text().contains(reason), "{bad}: {}", answer.text());
        assert_eq!(answer.header("x-ctlstore"), None, "{bad}");
    }
    // The same for a batch that is too large for the workers.
    let mut many = vec![good; 200];
    many.push(key("none", json!([1])));
    assert_eq!(stage.batch(&json!({"rows": many})).expect(404).text(), "rows[200]: no table fam___none\n");
}

#[test]
fn what_is_no_batch_is_refused() {
    let stage = stage([TEXT]);
    let url = format!("{}/v1/rows:batch", stage.server.url);
    for body in ["", "[]", "{}", r#"{"rows":{}}"#, r#"{"rows":[],"row":[]}"#, r#"{"rows":[}"#, "\u{0}"] {
        let answer = http::post(&url, body).expect(400);
        assert!(answer.text().starts_with("bad json: "), "{body}: {}", answer.text());
    }
    let too_large = format!(r#"{{"rows":[],"x":"{}"}}"#, "x".repeat(1 << 20));
    http::post(&url, too_large).expect(413);
    http::get(&url).expect(405);
    http::post(&format!("{}/v1/families", stage.server.url), "").expect(405);
}
