//! The tasks of a ctldb on a server: other executives, lost connections and answers, a schema that the original made.

mod external_changes;
mod intents;
mod lost;
mod round_trips;
mod single_round_trip;

use ctlstore_core::schema::{FieldType, FieldValue};
use ctlstore_ctldb::{ColumnCollation, CtldbError, SchemaChange, WriterRow};
use support::ctldb::*;
use support::{Flavour, PrivateServer, TestDatabase};

const TABLE_OF_THE_ORIGINAL: &str = "CREATE TABLE fam___old (k VARCHAR(191), v BIGINT, PRIMARY KEY (k))
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci";

fn schema_of_the_original(database: &TestDatabase) -> Vec<support::sql::Row> {
    database.query(
        "SELECT table_name, column_name, column_type, collation_name, column_default, column_key, extra \
         FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name NOT LIKE 'ctlstore_meta' \
         AND table_name NOT LIKE 'ctlstore_ddl_intent' AND table_name NOT LIKE 'ctlstore_table_definition' ORDER BY table_name, ordinal_position",
    )
}

fn upsert(key: &str) -> Step {
    Step::Upsert(table_ref("fam___tab"), vec![vec![text(key), FieldValue::Integer(1)]])
}

fn append(statement: &str) -> Step {
    Step::Append(vec![statement.to_owned()])
}

#[tokio::test]
async fn a_schema_of_the_original_is_worked_with_unchanged() {
    on_every_server(async |database| {
        for statement in support::original::SCHEMA {
            database.query(statement);
        }
        database.query(TABLE_OF_THE_ORIGINAL);
        let before = schema_of_the_original(database);
        let ctldb = prepared(database).await;
        let row = WriterRow { secret_hash: "aa".repeat(32), cookie: vec![1], rows_per_minute: Some(5) };
        let old = table_ref("fam___old");
        let upsert = |key: &str| Step::Upsert(old.clone(), vec![vec![text(key), FieldValue::Integer(1)]]);
        let answers = write(
            &ctldb,
            vec![
                Step::InsertFamily("fam"),
                Step::InsertWriter("Writer", row.clone()),
                Step::Writer("Writer"),
                Step::Writer("writer"),
                Step::AddUsage("Writer", 60, 2),
                append("REPLACE INTO fam___old (\"k\",\"v\") VALUES('ä\u{1f600}',1)"),
                upsert("a"),
                Step::Table(old.clone()),
                Step::StoredKey(old.clone(), vec![text("A ")]),
                Step::StoredKey(old.clone(), vec![text("b")]),
            ],
        )
        .await;
        assert_eq!(answers[2], Answer::Writer(Some(row.clone())));
        assert_eq!(answers[3], Answer::Writer(None), "the name is compared bytewise");
        assert_eq!(answers[7].table().collation, ColumnCollation::Merging);
        assert_eq!(answers[8], Answer::Key(Some(vec![text("a")])), "the key that the server takes for it");
        assert_eq!(answers[9], Answer::Key(None));
        let merged = try_write(&ctldb, vec![Step::InsertWriter("writer", row)]).await.unwrap_err();
        assert!(matches!(merged, CtldbError::Refused(_)), "{merged}");
        assert_eq!(schema_of_the_original(database), before);
        assert_eq!(contiguous_ledger(database).len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_not_cut() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        let fields = [("k", FieldType::String), ("i", FieldType::Integer), ("b", FieldType::ByteString)];
        let schema = table("fam___tab", &fields, &["k"]);
        write(&ctldb, vec![Step::Alter(SchemaChange::CreateTable(schema.clone()))]).await;
        let row = |k: &str, bytes| vec![text(k), FieldValue::Integer(1), FieldValue::Blob(vec![7; bytes])];
        for row in [row(&"x".repeat(192), 1), row("k", 256)] {
            let steps = vec![Step::Savepoint, Step::Upsert(schema.table().clone(), vec![row.clone()])];
            let error = try_write(&ctldb, steps).await.unwrap_err();
            assert!(matches!(error, CtldbError::Refused(_)), "{error}");
        }
        assert_eq!(database.value("SELECT COUNT(*) FROM fam___tab").unwrap(), "0");
    })
    .await;
}

#[tokio::test]
async fn tables_that_the_server_can_not_hold_are_refused() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        let names: Vec<String> = (0..120).map(|i| format!("f{i}")).collect();
        let wide: Vec<_> = names.iter().map(|name| (name.as_str(), FieldType::String)).collect();
        let key: Vec<&str> = names[..20].iter().map(String::as_str).collect();
        let too_wide = table("fam___tab", &wide, &["f0"]);
        let long_key = table("fam___tab", &wide[..20], &key[..5]);
        let many_keys = table("fam___tab", &wide[..20], &key);
        for schema in [too_wide, long_key, many_keys] {
            let change = SchemaChange::CreateTable(schema);
            let error = try_write(&ctldb, vec![Step::Alter(change)]).await.unwrap_err();
            assert!(matches!(error, CtldbError::Refused(_)), "{error}");
        }
        let left = "SELECT (SELECT COUNT(*) FROM ctlstore_ddl_intent) + (SELECT COUNT(*) FROM ctlstore_dml_ledger) + \
                    (SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() \
                     AND table_name = 'fam___tab')";
        assert_eq!(database.value(left).unwrap(), "0");
        // Nothing blocks the next one.
        make_table(&ctldb, "fam___tab").await;
    })
    .await;
}

#[tokio::test]
async fn several_executives_keep_each_others_rows_whole() {
    on_every_server(async |database| {
        let executives = [prepared(database).await, prepared(database).await];
        let writer = async |writer: usize| {
            for round in 0..10 {
                let statements = (0..7).map(|part| format!("{writer} {round} {part}")).collect();
                write(&executives[writer % 2], vec![Step::LastSeq, Step::Append(statements)]).await;
            }
        };
        futures::future::join_all((0..8).map(writer)).await;
        let statements = contiguous_ledger(database);
        assert_eq!(statements.len(), 8 * 10 * 7);
        for together in statements.chunks(7) {
            let (request, _) = together[0].rsplit_once(' ').unwrap();
            assert!(together.iter().all(|s| s.rsplit_once(' ').unwrap().0 == request), "{together:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_schema_change_by_another_executive_is_seen() {
    on_every_server(async |database| {
        let (one, two) = (prepared(database).await, prepared(database).await);
        let schema = make_table(&one, "fam___tab").await;
        let columns = async |ctldb: &_| {
            let answers = write(ctldb, vec![Step::Table(schema.table().clone())]).await;
            answers[0].table().schema.fields().len()
        };
        assert_eq!([columns(&one).await, columns(&two).await], [2, 2]);
        let add = SchemaChange::AddColumn(schema.table().clone(), field("b", FieldType::Text));
        write(&two, vec![Step::Alter(add)]).await;
        assert_eq!([columns(&one).await, columns(&two).await], [3, 3]);
        // As the original does it, without an intent.
        database.query("ALTER TABLE fam___tab ADD COLUMN c DOUBLE");
        database.query(
            "INSERT INTO ctlstore_dml_ledger (statement) VALUES ('ALTER TABLE fam___tab ADD COLUMN \"c\" REAL')",
        );
        assert_eq!([columns(&one).await, columns(&two).await], [4, 4]);
        database.query("DROP TABLE fam___tab");
        database.query("INSERT INTO ctlstore_dml_ledger (statement) VALUES ('DROP TABLE IF EXISTS fam___tab')");
        let answers = write(&one, vec![Step::Table(schema.table().clone())]).await;
        assert_eq!(answers[0], Answer::Table(None));
    })
    .await;
}

#[tokio::test]
async fn rows_are_contiguous_where_the_server_counts_in_threes() {
    let server = PrivateServer::start_with(Flavour::MariaDb, &["--auto-increment-increment=3"]);
    server.execute("CREATE DATABASE test");
    let ctldb = prepared_at(&server.url("test")).await;
    for _ in 0..3 {
        write(&ctldb, vec![Step::InsertFamily("fam"), Step::Append(vec!["a".into(), "b".into()])]).await;
    }
    let seqs = server.execute("SELECT seq FROM test.ctlstore_dml_ledger ORDER BY seq");
    assert_eq!(seqs, ["1", "2", "3", "4", "5", "6"].map(|seq| [Some(seq.to_owned())]));
}

#[test]
fn urls_that_can_not_be_used_are_refused_without_showing_the_password() {
    for url in ["mysql://u:geheim@host", "mysql://u:geheim@host/db?unknown=1", "postgres://u:geheim@host/db", "sqlite:"]
    {
        let opened = ctlstore_ctldb::Location::parse(url)
            .and_then(|location| ctlstore_ctldb::AnyCtldb::open(&location, Default::default()));
        let error = opened.err().unwrap_or_else(|| panic!("{url} was taken")).to_string();
        assert!(error.contains("ctldb.url") && !error.contains("geheim"), "{error}");
    }
}
