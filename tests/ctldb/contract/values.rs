//! Values and keys of every kind, few and many, are stored unchanged.

use ctlstore_core::schema::{FieldType, FieldValue, TableRef};
use ctlstore_ctldb::{ColumnCollation, Ctldb, SchemaChange};

use support::ctldb::*;

/// Values that must be stored unchanged, and how plain SQL shows them.
fn extreme_rows() -> Vec<Vec<FieldValue>> {
    let floats = [
        0.1,
        -0.0,
        1e65,
        1e100,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        1.7976931348623155e308,
        123_456_789.123_456_79,
        9_007_199_254_740_993.0,
        1e-7,
    ];
    let texts = ["", "'", "''", "\\", "\\'", "%_", "a\0b", "\u{1f600}\u{10ffff}é", "\"x\"", "--- BEGIN", ";", "\u{1a}"];
    let integers = [0, 1, -1, i64::MIN, i64::MAX, i64::MIN + 1, 1 << 53, (1 << 53) + 1];
    (0..12)
        .map(|i| {
            vec![
                text(&format!("key{i:02}")),
                FieldValue::Integer(integers[i % integers.len()]),
                FieldValue::Real(floats[i]),
                text(texts[i]),
                FieldValue::Blob(texts[texts.len() - 1 - i].as_bytes().to_vec()),
                FieldValue::Blob((0..=(i as u8 * 20)).collect()),
            ]
        })
        .collect()
}

#[tokio::test]
async fn extreme_values_are_stored_exactly() {
    on_every_ctldb(async |ctldb, database| {
        let fields = [
            ("k", FieldType::String),
            ("i", FieldType::Integer),
            ("r", FieldType::Decimal),
            ("t", FieldType::Text),
            ("b", FieldType::Binary),
            ("s", FieldType::ByteString),
        ];
        let schema = table("fam___tab", &fields, &["k"]);
        let table = schema.table().clone();
        write(ctldb, vec![Step::Alter(SchemaChange::CreateTable(schema.clone()))]).await;
        let rows = extreme_rows();
        write(ctldb, vec![Step::Upsert(table.clone(), rows.clone())]).await;
        let stored = database.query("SELECT k, i, HEX(t), HEX(b), HEX(s) FROM fam___tab ORDER BY k");
        assert_eq!(stored.len(), rows.len());
        for (row, stored) in rows.iter().zip(&stored) {
            let hex = |value: &FieldValue| match value {
                FieldValue::Text(text) => hex::encode_upper(text),
                FieldValue::Blob(bytes) => hex::encode_upper(bytes),
                other => panic!("{other:?} has no bytes"),
            };
            let FieldValue::Integer(integer) = row[1] else { panic!("not an integer") };
            assert_eq!(stored[1], Some(integer.to_string()));
            assert_eq!(stored[2..], [&row[3], &row[4], &row[5]].map(|value| Some(hex(value))));
        }
        assert_eq!(stored_floats(&database.url).await, rows.iter().map(|row| bits(&row[2])).collect::<Vec<_>>());
    })
    .await;
}

/// A float's bits as an LDB has them: it stores 0 for -0.0.
fn bits(value: &FieldValue) -> u64 {
    let FieldValue::Real(float) = value else { panic!("{value:?} is not a float") };
    (float + 0.0).to_bits()
}

/// The floats as the server sends them in binary, not as it prints them.
async fn stored_floats(url: &str) -> Vec<u64> {
    use mysql_async::prelude::Queryable;
    const SELECT: &str = "SELECT r FROM fam___tab ORDER BY k";
    if let Some(path) = url.strip_prefix("sqlite:") {
        let db = rusqlite::Connection::open(path).unwrap();
        let mut statement = db.prepare(SELECT).unwrap();
        return statement.query_map([], |row| row.get::<_, f64>(0)).unwrap().map(|f| f.unwrap().to_bits()).collect();
    }
    let mut connection = mysql_async::Conn::from_url(url).await.unwrap();
    let floats: Vec<f64> = connection.exec(SELECT, ()).await.unwrap();
    connection.disconnect().await.unwrap();
    floats.into_iter().map(f64::to_bits).collect()
}

#[tokio::test]
async fn string_keys_differ_by_case_and_trailing_space() {
    on_every_ctldb(async |ctldb, database| {
        let schema = make_table(ctldb, "fam___tab").await;
        let table = schema.table().clone();
        let collation = read(ctldb, vec![Step::Table(table.clone())]).await[0].table().collation;
        let mut keys = vec!["a", "A", "ä", "a\u{308}", "b"];
        match collation {
            ColumnCollation::Exact => keys.push("a "),
            // MySQL 5.6 has no better collation. The executive refuses such keys there.
            collation => assert_eq!(collation, ColumnCollation::Padded),
        }
        let row = |(i, key): (usize, &&str)| vec![text(key), FieldValue::Integer(i as i64)];
        let rows: Vec<Vec<FieldValue>> = keys.iter().enumerate().map(row).collect();
        write(ctldb, vec![Step::Upsert(table.clone(), rows)]).await;
        let count = || database.value("SELECT COUNT(*) FROM fam___tab").unwrap();
        assert_eq!(count(), keys.len().to_string());
        let delete = Step::Delete(table.clone(), vec![vec![text("A")], vec![text("nobody")]]);
        let answers = write(ctldb, vec![delete, Step::StoredKey(table, vec![text("a")])]).await;
        assert_eq!(answers[1], Answer::Key(Some(vec![text("a")])));
        assert_eq!(count(), (keys.len() - 1).to_string());
    })
    .await;
}

#[tokio::test]
async fn keys_of_all_types_are_found_and_deleted() {
    on_every_ctldb(async |ctldb, database| {
        let fields =
            [("v", FieldType::Text), ("b", FieldType::ByteString), ("i", FieldType::Integer), ("s", FieldType::String)];
        let schema = table("fam___tab", &fields, &["s", "i", "b"]);
        let table = schema.table().clone();
        write(ctldb, vec![Step::Alter(SchemaChange::CreateTable(schema))]).await;
        let key = |b: &[u8], i, s| vec![FieldValue::Blob(b.to_vec()), FieldValue::Integer(i), text(s)];
        let row = |b, i, s| [vec![text("v")], key(b, i, s)].concat();
        let rows = vec![row(b"\0'", i64::MIN, "x'"), row(b"\0' ", i64::MIN, "x'"), row(b"\0'\0", i64::MIN, "x'")];
        let answers = write(
            ctldb,
            vec![
                Step::Upsert(table.clone(), rows),
                Step::StoredKey(table.clone(), key(b"\0'", i64::MIN, "x'")),
                Step::StoredKey(table.clone(), key(b"\0'", 0, "x'")),
                Step::Delete(table.clone(), vec![key(b"\0'", i64::MIN, "x'")]),
            ],
        )
        .await;
        assert_eq!(answers[1], Answer::Key(Some(key(b"\0'", i64::MIN, "x'"))));
        assert_eq!(answers[2], Answer::Key(None));
        assert_eq!(database.value("SELECT COUNT(*) FROM fam___tab").unwrap(), "2");
    })
    .await;
}

#[tokio::test]
async fn changes_are_applied_in_order_however_many_they_are() {
    on_every_ctldb(async |ctldb, database| {
        let schema = table("fam___tab", &[("k", FieldType::Integer), ("v", FieldType::Text)], &["k"]);
        let table = schema.table().clone();
        write(ctldb, vec![Step::Alter(SchemaChange::CreateTable(schema))]).await;
        // Far more than one packet of any server, in small and large rows.
        let large = "x'\\".repeat(170_000);
        let row = |k: i64, v: &str| vec![FieldValue::Integer(k), text(v)];
        let mut steps: Vec<Step> = (0..20).map(|i| Step::Upsert(table.clone(), vec![row(i, &large)])).collect();
        steps.push(Step::Upsert(table.clone(), (100..3_100).map(|k| row(k, "small")).collect()));
        steps.push(Step::Append((0..500).map(|i| format!("statement {i} {}", "y".repeat(10_000))).collect()));
        steps.push(Step::Delete(table.clone(), (100..1_100).map(|k| vec![FieldValue::Integer(k)]).collect()));
        steps.push(Step::Upsert(table.clone(), vec![row(1, "a"), row(1, "b"), row(2_000, "c")]));
        steps.push(Step::Delete(table.clone(), vec![vec![FieldValue::Integer(2_000)]]));
        write(ctldb, steps).await;
        assert_eq!(database.value("SELECT COUNT(*) FROM fam___tab").unwrap(), "2019");
        assert_eq!(database.value("SELECT v FROM fam___tab WHERE k = 1").unwrap(), "b");
        assert_eq!(database.value("SELECT v FROM fam___tab WHERE k = 19").unwrap(), large);
        let ledger = contiguous_ledger(database);
        assert_eq!(ledger.len(), 501);
        assert!(ledger[500].starts_with("statement 499 "));
        write(ctldb, vec![Step::Clear(table)]).await;
        assert_eq!(database.value("SELECT COUNT(*) FROM fam___tab").unwrap(), "0");
    })
    .await;
}

#[tokio::test]
async fn sizes_are_those_of_the_last_look() {
    on_every_ctldb(async |ctldb, database| {
        let schema = table("fam___tab", &[("k", FieldType::Integer), ("v", FieldType::Text)], &["k"]);
        let table: TableRef = schema.table().clone();
        write(ctldb, vec![Step::Alter(SchemaChange::CreateTable(schema))]).await;
        let size = async || match read(ctldb, vec![Step::TableSize(table.clone())]).await.remove(0) {
            Answer::Size(size) => size,
            other => panic!("{other:?} is not a size"),
        };
        assert_eq!(size().await, None);
        ctldb.refresh_table_sizes().await.unwrap();
        let empty = size().await.unwrap();
        let row = |k| vec![FieldValue::Integer(k), text(&"x".repeat(100_000))];
        write(ctldb, vec![Step::Upsert(table.clone(), (0..50).map(row).collect())]).await;
        assert_eq!(size().await, Some(empty));
        if database.is_mysql() {
            // Otherwise the server would update its figures at an unknown time.
            database.query("ANALYZE TABLE fam___tab");
        }
        ctldb.refresh_table_sizes().await.unwrap();
        let full = size().await.unwrap();
        assert!((5_000_000..20_000_000).contains(&full), "{full}");
    })
    .await;
}
