//! What every ctldb must do, whatever the backend: one suite, run on SQLite, MariaDB
//! and, where the environment names one, MySQL 5.6.

mod ctldb_support;
mod support;

use ctldb_support::*;
use ctlstore::ctldb::{ColumnCollation, Ctldb, CtldbError, SchemaChange, TableLimit, WriterRow};
use ctlstore::schema::{FieldType, TableRef, Value};

#[tokio::test]
async fn what_is_written_is_read_back() {
    on_every_ctldb(async |ctldb, _| {
        let table = table_ref("fam___tab");
        let row = WriterRow { secret_hash: "00ff".repeat(16), cookie: vec![0, 39, 92, 255], rows_per_minute: None };
        let limit = TableLimit { warn_bytes: 10, max_bytes: i64::MAX };
        let answers = write(
            ctldb,
            vec![
                Step::FamilyExists("fam"),
                Step::InsertFamily("fam"),
                Step::InsertFamily("fam"),
                Step::FamilyExists("fam"),
                Step::Writer("wr'iter"),
                Step::InsertWriter("wr'iter", row.clone()),
                Step::Writer("wr'iter"),
                Step::SetCookie("wr'iter", vec![]),
                Step::SetWriterLimit("wr'iter", 7),
                Step::Writer("wr'iter"),
                Step::TableLimit(table.clone()),
                Step::SetTableLimit(table.clone(), limit),
                Step::TableLimit(table.clone()),
            ],
        )
        .await;
        let flags = [0, 1, 2, 3].map(|i| answers[i].clone());
        assert_eq!(flags, [false, true, false, true].map(Answer::Flag));
        assert_eq!(answers[4], Answer::Writer(None));
        assert_eq!(answers[6], Answer::Writer(Some(row.clone())));
        let changed = WriterRow { cookie: vec![], rows_per_minute: Some(7), ..row };
        assert_eq!(answers[9], Answer::Writer(Some(changed)));
        assert_eq!(answers[10], Answer::TableLimit(None));
        assert_eq!(answers[12], Answer::TableLimit(Some(limit)));

        let answers = read(ctldb, vec![Step::TableLimits, Step::WriterLimits]).await;
        assert_eq!(answers[0], Answer::TableLimits(vec![("fam".into(), "tab".into(), limit)]));
        assert_eq!(answers[1], Answer::WriterLimits(vec![("wr'iter".into(), 7)]));

        let answers = write(
            ctldb,
            vec![
                Step::DeleteTableLimit(table.clone()),
                Step::DeleteTableLimit(table),
                Step::DeleteWriterLimit("wr'iter"),
                Step::DeleteWriterLimit("wr'iter"),
            ],
        )
        .await;
        assert_eq!(answers, [true, false, true, false].map(Answer::Flag));
    })
    .await;
}

#[tokio::test]
async fn usage_adds_up_per_bucket_and_is_pruned() {
    on_every_ctldb(async |ctldb, _| {
        let usage = |bucket| Step::Usage("one", bucket);
        let answers = write(
            ctldb,
            vec![
                Step::AddUsage("one", 60, 3),
                Step::AddUsage("one", 60, 4),
                Step::AddUsage("two", 60, 9),
                Step::AddUsage("one", 120, 1),
                usage(60),
                usage(120),
                usage(180),
                Step::PruneUsage(120),
                usage(60),
                usage(120),
            ],
        )
        .await;
        let numbers = [4, 5, 6, 8, 9].map(|i| answers[i].number());
        assert_eq!(numbers, [7, 1, 0, 0, 1]);
    })
    .await;
}

#[tokio::test]
async fn the_clock_is_the_time_of_day() {
    on_every_ctldb(async |ctldb, _| {
        let unix = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        let before = unix();
        let now = read(ctldb, vec![Step::Now]).await[0].number();
        assert!((before..=unix()).contains(&now), "{now} is not now");
    })
    .await;
}

#[tokio::test]
async fn schema_changes_come_with_their_ledger_rows() {
    on_every_ctldb(async |ctldb, database| {
        let every_type = [
            ("a", FieldType::String),
            ("b", FieldType::Integer),
            ("c", FieldType::Decimal),
            ("d", FieldType::Text),
            ("e", FieldType::Binary),
            ("f", FieldType::ByteString),
        ];
        let schema = table("fam___tab", &every_type, &["f", "a"]);
        let added = field("g", FieldType::Text);
        let create = SchemaChange::CreateTable(schema.clone());
        let add = SchemaChange::AddColumn(schema.table().clone(), added.clone());
        let drop = SchemaChange::DropTable(schema.table().clone());
        let look = || Step::Table(schema.table().clone());

        let answers = write(ctldb, vec![look(), Step::Alter(create.clone()), look()]).await;
        assert_eq!(answers[0], Answer::Table(None));
        assert_eq!(answers[1].number(), 1);
        assert_eq!(answers[2].table().schema, schema);

        write(ctldb, vec![look(), Step::Alter(add.clone())]).await;
        let wider = schema.with_field(added).unwrap();
        assert_eq!(write(ctldb, vec![look()]).await[0].table().schema, wider);
        assert_eq!(read(ctldb, vec![look()]).await[0].table().schema, wider);

        write(ctldb, vec![look(), Step::Alter(drop.clone())]).await;
        assert_eq!(write(ctldb, vec![look()]).await[0], Answer::Table(None));
        assert_eq!(contiguous_ledger(database), [create, add, drop].map(|change| ledger_statement(&change)));
    })
    .await;
}

#[tokio::test]
async fn tables_of_a_family_are_exactly_its_own_in_order_of_name() {
    on_every_ctldb(async |ctldb, _| {
        for name in ["foo___tab", "foobar___tab", "foo___abc", "foo_bar___tab", "foo___tab2", "foo___tab_1"] {
            make_table(ctldb, name).await;
        }
        let answers = read(ctldb, vec![Step::TablesOf("foo"), Step::TablesOf("nobody")]).await;
        let Answer::Tables(tables) = &answers[0] else { panic!("{answers:?}") };
        let names: Vec<String> = tables.iter().map(|t| t.schema.table().sql_name()).collect();
        assert_eq!(names, ["foo___abc", "foo___tab", "foo___tab2", "foo___tab_1"]);
        assert_eq!(answers[1], Answer::Tables(vec![]));
    })
    .await;
}

/// Every value that must come through unchanged, and how it is seen with plain SQL.
fn extreme_rows() -> Vec<Vec<Value>> {
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
                Value::Integer(integers[i % integers.len()]),
                Value::Real(floats[i]),
                text(texts[i]),
                Value::Blob(texts[texts.len() - 1 - i].as_bytes().to_vec()),
                Value::Blob((0..=(i as u8 * 20)).collect()),
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
            let hex = |value: &Value| match value {
                Value::Text(text) => hex::encode_upper(text),
                Value::Blob(bytes) => hex::encode_upper(bytes),
                other => panic!("{other:?} has no bytes"),
            };
            let Value::Integer(integer) = row[1] else { panic!("not an integer") };
            assert_eq!(stored[1], Some(integer.to_string()));
            assert_eq!(stored[2..], [&row[3], &row[4], &row[5]].map(|value| Some(hex(value))));
        }
        assert_eq!(stored_floats(&database.url).await, rows.iter().map(|row| bits(&row[2])).collect::<Vec<_>>());
    })
    .await;
}

/// A float's bits as the LDB would have them, where -0.0 is 0.
fn bits(value: &Value) -> u64 {
    let Value::Real(float) = value else { panic!("{value:?} is not a float") };
    (float + 0.0).to_bits()
}

/// The floats as the server itself hands them out in binary, not as it prints them.
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
            // MySQL 5.6 has no better collation; the rules refuse such keys there.
            collation => assert_eq!(collation, ColumnCollation::Padded),
        }
        let row = |(i, key): (usize, &&str)| vec![text(key), Value::Integer(i as i64)];
        let rows: Vec<Vec<Value>> = keys.iter().enumerate().map(row).collect();
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
        let key = |b: &[u8], i, s| vec![Value::Blob(b.to_vec()), Value::Integer(i), text(s)];
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
        // Far more than fits one packet of any server, in rows small and large.
        let large = "x'\\".repeat(170_000);
        let row = |k: i64, v: &str| vec![Value::Integer(k), text(v)];
        let mut steps: Vec<Step> = (0..20).map(|i| Step::Upsert(table.clone(), vec![row(i, &large)])).collect();
        steps.push(Step::Upsert(table.clone(), (100..3_100).map(|k| row(k, "small")).collect()));
        steps.push(Step::Append((0..500).map(|i| format!("statement {i} {}", "y".repeat(10_000))).collect()));
        steps.push(Step::Delete(table.clone(), (100..1_100).map(|k| vec![Value::Integer(k)]).collect()));
        steps.push(Step::Upsert(table.clone(), vec![row(1, "a"), row(1, "b"), row(2_000, "c")]));
        steps.push(Step::Delete(table.clone(), vec![vec![Value::Integer(2_000)]]));
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
async fn an_error_undoes_everything_and_burns_no_seq() {
    on_every_ctldb(async |ctldb, database| {
        let schema = make_table(ctldb, "fam___tab").await;
        let steps = vec![
            Step::InsertFamily("fam"),
            Step::Upsert(schema.table().clone(), vec![vec![text("a"), Value::Integer(1)]]),
            Step::Append(vec!["one".into(), "two".into()]),
            Step::LastSeq,
            Step::Fail,
        ];
        let error = try_write(ctldb, steps).await.unwrap_err();
        assert!(matches!(error, CtldbError::Failed(_)), "{error}");
        assert_eq!(database.value("SELECT COUNT(*) FROM fam___tab").unwrap(), "0");
        assert_eq!(database.value("SELECT COUNT(*) FROM families").unwrap(), "0");
        let answers = write(ctldb, vec![Step::LastSeq, Step::Append(vec!["three".into()]), Step::LastSeq]).await;
        assert_eq!([0, 1, 2].map(|i| answers[i].number()), [1, 2, 2]);
        assert_eq!(contiguous_ledger(database)[1], "three");
        assert_eq!(read(ctldb, vec![Step::LastSeq]).await[0].number(), 2);
    })
    .await;
}

#[tokio::test]
async fn one_request_of_a_group_is_taken_back_alone() {
    on_every_ctldb(async |ctldb, database| {
        let schema = make_table(ctldb, "fam___tab").await;
        let upsert = |key: &str| Step::Upsert(schema.table().clone(), vec![vec![text(key), Value::Integer(1)]]);
        let append = |statement: &str| Step::Append(vec![statement.to_owned()]);
        let steps = vec![
            Step::Savepoint,
            upsert("a"),
            Step::AddUsage("one", 60, 1),
            append("first"),
            Step::Savepoint,
            Step::AddUsage("one", 60, 100),
            upsert("b"),
            Step::RollbackToSavepoint,
            Step::Savepoint,
            upsert("c"),
            append("third"),
        ];
        assert_eq!(write(ctldb, steps).await[10].number(), 3);
        assert_eq!(read(ctldb, vec![Step::Usage("one", 60)]).await[0].number(), 1);
        let keys = database.query("SELECT k FROM fam___tab ORDER BY k");
        assert_eq!(keys, [[Some("a".to_owned())], [Some("c".to_owned())]]);
        assert_eq!(contiguous_ledger(database)[1..], ["first", "third"]);
    })
    .await;
}

#[tokio::test]
async fn a_missing_lock_row_is_an_error() {
    on_every_ctldb(async |ctldb, database| {
        database.query("DELETE FROM locks");
        let error = try_write(ctldb, vec![Step::Append(vec!["x".into()])]).await.unwrap_err();
        assert!(matches!(error, CtldbError::Schema(_)), "{error}");
        assert!(error.to_string().contains("locks"), "{error}");
        assert!(ledger(database).is_empty());
        // The next start makes it again.
        ctldb.prepare().await.unwrap();
        write(ctldb, vec![Step::Append(vec!["x".into()])]).await;
    })
    .await;
}

#[tokio::test]
async fn preparing_again_changes_nothing() {
    on_every_ctldb(async |ctldb, database| {
        let id = || database.value("SELECT value FROM ctlstore_meta WHERE name = 'ledger_id'").unwrap();
        let first = id();
        assert_eq!(first.len(), 36);
        write(ctldb, vec![Step::Append(vec!["x".into()]), Step::InsertFamily("fam")]).await;
        ctldb.prepare().await.unwrap();
        assert_eq!(id(), first);
        assert_eq!(ledger(database).len(), 1);
        assert_eq!(database.value("SELECT clock FROM locks WHERE id = 'ledger'").unwrap(), "1");
    })
    .await;
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    on_every_ctldb(async |ctldb, database| {
        database.query("UPDATE ctlstore_meta SET value = '2' WHERE name = 'format_version'");
        let error = ctldb.prepare().await.unwrap_err();
        assert!(matches!(error, CtldbError::Schema(_)), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_schema_that_lacks_a_column_is_refused() {
    for (name, database) in support::every_ctldb() {
        database.query("CREATE TABLE writer_usage (writer_name VARCHAR(50), bucket BIGINT)");
        let error = open(&database).prepare().await.unwrap_err();
        assert!(matches!(error, CtldbError::Schema(_)), "{name}: {error}");
        assert!(error.to_string().contains("amount"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_table_that_can_not_be_held_is_refused_and_leaves_nothing() {
    on_every_ctldb(async |ctldb, database| {
        // SQLite holds at most 2,000 columns, MySQL about 1,000.
        let names: Vec<String> = (0..2_100).map(|i| format!("f{i}")).collect();
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), FieldType::Integer)).collect();
        let schema = table("fam___tab", &fields, &["f0"]);
        let error = try_write(ctldb, vec![Step::Alter(SchemaChange::CreateTable(schema.clone()))]).await.unwrap_err();
        assert!(matches!(error, CtldbError::Refused(_)), "{error}");
        let answers = write(ctldb, vec![Step::Table(schema.table().clone()), Step::LastSeq]).await;
        assert_eq!(answers, [Answer::Table(None), Answer::Number(0)]);
        if database.is_mysql() {
            assert_eq!(database.value("SELECT COUNT(*) FROM ctlstore_ddl_intent").unwrap(), "0");
        }
    })
    .await;
}

#[tokio::test]
async fn concurrent_writes_serialise_and_their_rows_stay_together() {
    on_every_ctldb(async |ctldb, database| {
        let request = |writer: usize, round: usize| {
            let statements = (0..5).map(|part| format!("{writer} {round} {part}")).collect();
            vec![Step::AddUsage("one", 60, 1), Step::Usage("one", 60), Step::Append(statements)]
        };
        let writer = async |writer: usize| {
            let mut seen = Vec::new();
            for round in 0..10 {
                seen.push(write(ctldb, request(writer, round)).await[1].number());
            }
            seen
        };
        let seen = futures::future::join_all((0..8).map(writer)).await;
        // Each write saw the count that the one before it had left.
        let mut seen = seen.concat();
        seen.sort_unstable();
        assert_eq!(seen, (1..=80).collect::<Vec<_>>());
        let statements = contiguous_ledger(database);
        assert_eq!(statements.len(), 400);
        for together in statements.chunks(5) {
            let (request, _) = together[0].rsplit_once(' ').unwrap();
            let want: Vec<String> = (0..5).map(|part| format!("{request} {part}")).collect();
            assert_eq!(together, want);
        }
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
        let row = |k| vec![Value::Integer(k), text(&"x".repeat(100_000))];
        write(ctldb, vec![Step::Upsert(table.clone(), (0..50).map(row).collect())]).await;
        assert_eq!(size().await, Some(empty));
        if database.is_mysql() {
            // Else the server would bring its figures up to date in its own time.
            database.query("ANALYZE TABLE fam___tab");
        }
        ctldb.refresh_table_sizes().await.unwrap();
        let full = size().await.unwrap();
        assert!((5_000_000..20_000_000).contains(&full), "{full}");
    })
    .await;
}

#[tokio::test]
async fn a_closed_ctldb_says_so() {
    on_every_ctldb(async |ctldb, _| {
        ctldb.close().await;
        let error = try_write(ctldb, vec![Step::LastSeq]).await.unwrap_err();
        assert!(matches!(error, CtldbError::Unavailable(_)), "{error}");
    })
    .await;
}
