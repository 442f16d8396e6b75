//! Values of every type pass through a whole node: they are written to the executive and read under /v1.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use support::{Client, Node, http};

const FIELDS: [(&str, &str); 8] = [
    ("name", "string"),
    ("number", "integer"),
    ("raw", "bytestring"),
    ("s", "string"),
    ("i", "integer"),
    ("d", "decimal"),
    ("t", "text"),
    ("b", "binary"),
];

fn rows() -> Vec<Value> {
    let bytes = |bytes: &[u8]| STANDARD.encode(bytes);
    vec![
        json!({
            "name": "", "number": i64::MIN, "raw": bytes(b"\0"), "s": "ü😀\"\\\n", "i": i64::MAX, "d": 0.1,
            "t": "a\0b", "b": bytes(&[0, 255, 128]),
        }),
        json!({
            "name": "a/b ?#%25", "number": -1, "raw": bytes(&[255; 255]), "s": "", "i": 0, "d": -2.5e-308,
            "t": "", "b": "",
        }),
        json!({
            "name": "ü", "number": i64::MAX, "raw": bytes(b"plain"), "s": null, "i": null, "d": null,
            "t": null, "b": null,
        }),
        json!({
            "name": "ü", "number": 0, "raw": bytes(b"\0"), "s": "x".repeat(191), "i": -7, "d": 1.797e308,
            "t": "x".repeat(100_000), "b": bytes(&[7; 100_000]),
        }),
    ]
}

/// The row's path segments, with every byte percent-encoded.
fn path(row: &Value) -> String {
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let raw = STANDARD.decode(row["raw"].as_str().unwrap()).unwrap();
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{}/0x{hex}", escaped(row["name"].as_str().unwrap()), row["number"])
}

#[test]
fn values_of_every_type_come_back_as_they_were_written() {
    let node = Node::new().roles(&["executive", "reflector", "reader"]).start();
    let client = Client::registered(node.executive_url());
    client.create_family("fam").expect(200);
    client.create_table("fam", "all", &FIELDS, 3).expect(200);
    let mutations: Vec<Value> = rows().into_iter().map(|row| json!({"table": "all", "values": row})).collect();
    let written = client.try_mutate("fam", &json!({ "mutations": mutations })).unwrap().expect(200);
    let seq = written.header("ctlstore-seq").unwrap();
    let wait = [("ctlstore-min-seq", seq), ("ctlstore-wait", "30s")];
    let base = format!("{}/v1", node.reader_url());
    let get = |path: &str| http::request("GET", &format!("{base}{path}"), &wait, "").expect(200).json();

    for row in rows() {
        assert_eq!(get(&format!("/rows/fam/all/{}", path(&row))), row);
    }
    let mut sorted = rows();
    sorted.sort_by_key(|row| (row["name"].as_str().unwrap().to_owned(), row["number"].as_i64()));
    let page = get("/rows/fam/all");
    assert_eq!((&page["rows"], &page["next"]), (&Value::from(sorted), &Value::Null));
    assert_eq!(page["seq"].to_string(), seq);
    assert_eq!(get("/rows/fam/all?prefix=%C3%BC&prefix=0")["rows"], json!([rows()[3]]));

    let key = |row: &Value| json!({"family": "fam", "table": "all", "key": [row["name"], row["number"], row["raw"]]});
    let body = json!({"rows": rows().iter().map(key).collect::<Vec<_>>()}).to_string();
    let batch = http::request("POST", &format!("{base}/rows:batch"), &wait, body).expect(200).json();
    assert_eq!(batch["rows"], Value::from(rows()));

    let table = get("/families/fam/tables/all");
    assert_eq!((&table["fields"], &table["rows"]), (&json!(FIELDS), &json!(4)));
    assert!(table["bytes"].as_u64().is_some_and(|bytes| bytes > 200_000), "{table}");
}

/// Every write is found by a read that waits for it, by each kind of read.
#[test]
fn a_read_that_waits_for_a_write_has_it() {
    let node = Node::new().roles(&["executive", "reflector", "reader"]).start();
    let client = Client::registered(node.executive_url());
    client.create_simple_table("fam", "tab");
    let base = format!("{}/v1", node.reader_url());
    for id in 0..50 {
        let seq = client.upsert("fam", "tab", &[(id, "new")]).to_string();
        let wait = [("ctlstore-min-seq", &*seq), ("ctlstore-wait", "30s")];
        let get = |path: String| http::request("GET", &format!("{base}{path}"), &wait, "").expect(200).json();
        assert_eq!(get(format!("/rows/fam/tab/{id}"))["value"], "new");
        assert_eq!(get(format!("/rows/fam/tab?prefix={id}"))["rows"][0]["value"], "new");
        assert_eq!(get("/families/fam/tables/tab".to_owned())["rows"], id + 1);
    }
}
