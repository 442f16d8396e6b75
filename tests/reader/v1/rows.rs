//! One row by the key in its path.

use serde_json::json;

use super::fixture::{BYTES, INTEGER, PAIR, TEXT, stage};

#[test]
fn a_row_is_found_by_the_key_in_its_path() {
    let stage = stage([
        TEXT,
        INTEGER,
        BYTES,
        PAIR,
        r#"REPLACE INTO fam___text ("k","v") VALUES('a','1')"#,
        r#"REPLACE INTO fam___int ("k","v") VALUES(-9223372036854775808,'least')"#,
        r#"REPLACE INTO fam___bytes ("k","v") VALUES(x'00ff','b')"#,
        r#"REPLACE INTO fam___bytes ("k","v") VALUES(x'','none')"#,
        r#"REPLACE INTO fam___pair ("n","v","name") VALUES(7,'p','x')"#,
    ]);
    for (path, row) in [
        ("text/a", "{\"k\":\"a\",\"v\":\"1\"}\n"),
        ("int/-9223372036854775808", "{\"k\":-9223372036854775808,\"v\":\"least\"}\n"),
        ("bytes/0x00ff", "{\"k\":\"AP8=\",\"v\":\"b\"}\n"),
        ("bytes/0x00FF", "{\"k\":\"AP8=\",\"v\":\"b\"}\n"),
        ("bytes/0x", "{\"k\":\"\",\"v\":\"none\"}\n"),
        ("pair/x/7", "{\"n\":7,\"v\":\"p\",\"name\":\"x\"}\n"),
    ] {
        let answer = stage.get(&format!("/rows/fam/{path}")).expect(200);
        assert_eq!((answer.text().as_str(), answer.header("content-type")), (row, Some("application/json")), "{path}");
    }
}

#[test]
fn odd_keys_are_found_once_they_are_percent_encoded() {
    let keys = [
        ("", ""),
        ("a/b", "a%2Fb"),
        ("a b", "a%20b"),
        ("a+b", "a+b"),
        ("%41", "%2541"),
        ("ü😀", "%C3%BC%F0%9F%98%80"),
        ("?#&=", "%3F%23%26%3D"),
        ("..", "%2E%2E"),
        ("0xff", "0xff"),
        ("a\0b", "a%00b"),
        ("\0", "%00"),
        ("it's", "it's"),
    ];
    let stage = stage([TEXT, PAIR]);
    for (key, _) in keys {
        // The ledger has a text with a NUL as the hex of its bytes.
        let literal = if key.contains('\0') {
            format!("x'{}'", key.bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
        } else {
            format!("'{}'", key.replace('\'', "''"))
        };
        stage.ldb.apply([format!(r#"REPLACE INTO fam___text ("k","v") VALUES({literal},'v')"#)]);
        stage.ldb.apply([format!(r#"REPLACE INTO fam___pair ("n","v","name") VALUES(1,'v',{literal})"#)]);
    }
    for (key, path) in keys {
        let row = stage.get(&format!("/rows/fam/text/{path}")).expect(200).json();
        assert_eq!(row, json!({"k": key, "v": "v"}), "{path}");
        let row = stage.get(&format!("/rows/fam/pair/{path}/1")).expect(200).json();
        assert_eq!(row["name"], key, "{path}");
        let page = stage.get(&format!("/rows/fam/text?prefix={}", path.replace('+', "%2B"))).expect(200).json();
        assert_eq!(page["rows"], json!([{"k": key, "v": "v"}]), "{path}");
        let batch = json!({"rows": [{"family": "fam", "table": "text", "key": [key]}]});
        assert_eq!(stage.batch(&batch).expect(200).json()["rows"], json!([{"k": key, "v": "v"}]), "{path}");
    }
}

#[test]
fn no_such_row_and_no_such_table_are_told_apart() {
    let stage = stage([TEXT]);
    let no_row = stage.get("/rows/fam/text/a").expect(404);
    assert_eq!((no_row.header("x-ctlstore"), no_row.text().as_str()), (Some("Not Found"), "no such row\n"));
    let no_table = stage.get("/rows/fam/none/a").expect(404);
    assert_eq!((no_table.header("x-ctlstore"), no_table.text().as_str()), (None, "no table fam___none\n"));
    assert_eq!(no_row.header("etag"), None);
    for path in ["", "?limit=1"] {
        stage.get(&format!("/rows/fam/none{path}")).expect(404);
    }
    stage.get("/rows/fam").expect(404);
    stage.get("/rows//text/a").expect(404);
}

#[test]
fn bad_keys_say_what_is_wrong_with_them() {
    let stage = stage([TEXT, INTEGER, BYTES, PAIR]);
    for (path, reason) in [
        ("text/a/b", "table fam___text has 1 key columns, not 2"),
        ("text/a/", "table fam___text has 1 key columns, not 2"),
        ("pair/x", "table fam___pair has 2 key columns, not 1"),
        ("pair/x/y", "key column \"n\" of table fam___pair wants a whole number of 64 bits"),
        ("int/", "key column \"k\" of table fam___int wants a whole number"),
        ("int/1.0", "wants a whole number"),
        ("int/9223372036854775808", "wants a whole number"),
        ("bytes/ff", "wants bytes as 0x and two hexadecimal digits each"),
        ("bytes/0xf", "wants bytes as 0x"),
        ("text/%ff", "the url is not utf-8"),
        ("_ldb_seq/1", "must start with a letter"),
        ("te%2Fxt/1", "letters, digits"),
    ] {
        let answer = stage.get(&format!("/rows/fam/{path}")).expect(400);
        assert!(answer.text().contains(reason), "{path}: {}", answer.text());
    }
}

#[test]
fn a_key_is_read_by_the_table_as_it_is_now() {
    let stage = stage([TEXT, r#"REPLACE INTO fam___text ("k","v") VALUES('7','text')"#]);
    assert_eq!(stage.get("/rows/fam/text/7").expect(200).json(), json!({"k": "7", "v": "text"}));
    stage.ldb.apply([
        "DROP TABLE IF EXISTS fam___text",
        r#"CREATE TABLE fam___text ("k" INTEGER, "w" REAL, PRIMARY KEY("k"));"#,
        r#"REPLACE INTO fam___text ("k","w") VALUES(7,0.5)"#,
    ]);
    assert_eq!(stage.get("/rows/fam/text/7").expect(200).json(), json!({"k": 7, "w": 0.5}));
    stage.get("/rows/fam/text/x").expect(400);
}
