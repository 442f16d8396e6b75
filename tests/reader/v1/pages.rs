//! Pages of a table's rows.

use serde_json::{Value, json};

use super::fixture::{BYTES, INTEGER, PAIR, TEXT, column, pages, stage, stage_with};

fn lengths(pages: &[Value]) -> Vec<usize> {
    pages.iter().map(|page| page["rows"].as_array().unwrap().len()).collect()
}

#[test]
fn pages_go_through_a_table_in_the_order_of_its_key() {
    let stage = stage([INTEGER]);
    assert_eq!(stage.get("/rows/fam/int").expect(200).json(), json!({"seq": 1, "rows": [], "next": null}));
    stage.count_up_to(250);
    let all: Vec<Value> = (1..=250).map(Value::from).collect();
    for (query, want) in [
        ("", vec![100, 100, 50]),
        ("?limit=125", vec![125, 125]),
        ("?limit=249", vec![249, 1]),
        ("?limit=250", vec![250]),
        ("?limit=1000", vec![250]),
        ("?limit=1", vec![1; 250]),
    ] {
        let pages = pages(&stage.server.url, &format!("/rows/fam/int{query}"));
        assert_eq!(lengths(&pages), want, "{query}");
        assert_eq!(column(&pages, "k"), all, "{query}");
        assert!(pages.iter().all(|page| page["seq"] == 2), "{query}");
    }
}

#[test]
fn a_page_too_large_for_the_workers_is_the_same_page() {
    let stage = stage([INTEGER]);
    stage.count_up_to(1_500);
    let large = pages(&stage.server.url, "/rows/fam/int?limit=1000");
    assert_eq!(lengths(&large), [1_000, 500]);
    let small = pages(&stage.server.url, "/rows/fam/int?limit=7");
    assert_eq!(column(&large, "v"), column(&small, "v"));
}

#[test]
fn a_page_ends_after_a_mebibyte_and_has_one_row_at_least() {
    let stage = stage([TEXT]);
    for key in 0..30 {
        let value = "x".repeat(if key == 7 { 3 << 20 } else { 100 << 10 });
        stage.ldb.apply([format!("REPLACE INTO fam___text (\"k\",\"v\") VALUES('{key:02}','{value}')")]);
    }
    let pages = pages(&stage.server.url, "/rows/fam/text?limit=1000");
    assert_eq!(lengths(&pages), [8, 11, 11]);
    let keys: Vec<Value> = (0..30).map(|key| format!("{key:02}").into()).collect();
    assert_eq!(column(&pages, "k"), keys);
}

#[test]
fn an_answer_larger_than_the_servers_limit_is_416() {
    let stage = stage_with([TEXT], |options| options.max_response_bytes = 200_000);
    let value = "x".repeat(90_000);
    for key in ["a", "b", "c"] {
        stage.ldb.apply([format!("REPLACE INTO fam___text (\"k\",\"v\") VALUES('{key}','{value}')")]);
    }
    let row = |key: &str| json!({"family": "fam", "table": "text", "key": [key]});
    assert_eq!(stage.batch(&json!({"rows": [row("a"), row("b")]})).expect(200).json()["rows"][1]["v"], value.as_str());
    let answer = stage.batch(&json!({"rows": [row("a"), row("b"), row("c")]})).expect(416);
    assert_eq!(answer.text(), "the rows have more than 200000 bytes\n");
    stage.ldb.apply([format!("REPLACE INTO fam___text (\"k\",\"v\") VALUES('b','{}')", "x".repeat(250_000))]);
    stage.get("/rows/fam/text?limit=1&prefix=b").expect(416);
    stage.get("/rows/fam/text?limit=1").expect(200);
}

#[test]
fn pages_of_a_prefix_have_its_rows_only() {
    let stage = stage([PAIR]);
    for (name, n) in [("x", 1), ("x", 2), ("x", 10), ("", 5), ("xx", 1), ("y", 1)] {
        stage.ldb.apply([format!(r#"REPLACE INTO fam___pair ("n","v","name") VALUES({n},'v','{name}')"#)]);
    }
    for (query, want) in [
        ("prefix=x&limit=2", json!([1, 2, 10])),
        ("prefix=&limit=2", json!([5])),
        ("prefix=x&prefix=2", json!([2])),
        ("prefix=x&prefix=3", json!([])),
        ("prefix=z", json!([])),
        ("limit=4", json!([5, 1, 2, 10, 1, 1])),
    ] {
        let pages = pages(&stage.server.url, &format!("/rows/fam/pair?{query}"));
        assert_eq!(json!(column(&pages, "n")), want, "{query}");
    }
}

#[test]
fn keys_of_every_kind_are_places_to_go_on_from() {
    let stage = stage([TEXT, BYTES]);
    let texts = ["''", "'a'", "'a'' b'", "'ü😀'", "x'6100'", "x'00'"];
    let bytes = ["x''", "x'00'", "x'00ff'", "x'61'"];
    for (table, keys) in [("text", &texts[..]), ("bytes", &bytes)] {
        for key in keys {
            stage.ldb.apply([format!("REPLACE INTO fam___{table} (\"k\",\"v\") VALUES({key},'v')")]);
        }
        let one_by_one = pages(&stage.server.url, &format!("/rows/fam/{table}?limit=1"));
        let at_once = pages(&stage.server.url, &format!("/rows/fam/{table}"));
        assert_eq!((one_by_one.len(), at_once.len()), (keys.len(), 1));
        assert_eq!(column(&one_by_one, "k"), column(&at_once, "k"), "{table}");
    }
}

#[test]
fn nulls_that_other_programs_put_into_a_key_are_neither_lost_nor_an_end() {
    let stage = stage([PAIR]);
    for (name, n) in [("NULL", "1"), ("NULL", "NULL"), ("'x'", "NULL"), ("'x'", "1"), ("'y'", "NULL"), ("'y'", "2")] {
        stage.ldb.apply([format!(r#"INSERT INTO fam___pair ("n","v","name") VALUES({n},'v',{name})"#)]);
    }
    let pages = pages(&stage.server.url, "/rows/fam/pair?limit=1");
    assert_eq!(json!(column(&pages, "n")), json!([null, 1, null, 1, null, 2]));
    assert_eq!(json!(column(&pages, "name")), json!([null, null, "x", "x", "y", "y"]));
}

#[test]
fn the_most_rows_of_a_page_are_the_settings_or_a_thousand() {
    let thousand = stage([INTEGER]);
    let five = stage_with([INTEGER], |options| options.max_rows = 5);
    let many = stage_with([INTEGER], |options| options.max_rows = 3_000);
    for (stage, most) in [(&thousand, 1_000), (&five, 5), (&many, 3_000)] {
        stage.count_up_to(4_000);
        let page = stage.get(&format!("/rows/fam/int?limit={most}")).expect(200).json();
        assert_eq!(page["rows"].as_array().unwrap().len(), most);
        let answer = stage.get(&format!("/rows/fam/int?limit={}", most + 1)).expect(400);
        assert_eq!(answer.text(), format!("limit is not 1 to {most}\n"));
        let page = stage.get("/rows/fam/int").expect(200).json();
        assert_eq!(page["rows"].as_array().unwrap().len(), most.min(100));
    }
}

#[test]
fn what_is_no_page_is_refused_by_name() {
    let stage = stage([INTEGER, TEXT, PAIR]);
    stage.count_up_to(10);
    let next = stage.get("/rows/fam/int?limit=1").expect(200).json()["next"].as_str().unwrap().to_owned();
    stage.get(&format!("/rows/fam/int?limit=1&after={next}")).expect(200);
    let no_cursor = "after is no cursor of this table, its key and this prefix";
    for (query, reason) in [
        ("int?limit=0".to_owned(), "limit is not 1 to 1000"),
        ("int?limit=-1".to_owned(), "limit is not 1 to 1000"),
        ("int?limit=".to_owned(), "limit is not 1 to 1000"),
        ("int?limit=1&limit=2".to_owned(), "limit is given twice"),
        (format!("int?after={next}&after={next}"), "after is given twice"),
        ("int?page=2".to_owned(), "no other parameter"),
        ("int?prefix=x".to_owned(), "key column \"k\" of table fam___int wants a whole number"),
        ("int?prefix=1&prefix=2".to_owned(), "table fam___int has 1 key columns, not 2"),
        ("int?prefix=%ff".to_owned(), "not utf-8"),
        ("int?after=".to_owned(), no_cursor),
        ("int?after=AAAA".to_owned(), no_cursor),
        (format!("int?after={next}x"), no_cursor),
        (format!("int?prefix=1&after={next}"), no_cursor),
        (format!("text?after={next}"), no_cursor),
        (format!("pair?after={next}"), no_cursor),
    ] {
        let answer = stage.get(&format!("/rows/fam/{query}")).expect(400);
        assert!(answer.text().contains(reason), "{query}: {}", answer.text());
    }
    // The table was made again with another key, so the place does not exist any more.
    stage.ldb.apply([
        "DROP TABLE IF EXISTS fam___int",
        r#"CREATE TABLE fam___int ("j" INTEGER, "v" TEXT, PRIMARY KEY("j"));"#,
    ]);
    assert!(stage.get(&format!("/rows/fam/int?after={next}")).expect(400).text().contains(no_cursor));
}
