//! The contract of every ctldb: one suite that runs on SQLite, on MariaDB and, if the environment names one, on MySQL
//! 5.6.

mod values;

use ctlstore_core::schema::{FieldType, FieldValue};
use ctlstore_ctldb::{Ctldb, CtldbError, SchemaChange, TableLimit, WriterRow};
use support::ctldb::*;

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
async fn what_is_expected_is_answered_as_if_it_had_not_been() {
    on_every_ctldb(async |ctldb, _| {
        let (limited, other) = (table_ref("fam___tab"), table_ref("fam___other"));
        let row = |cookie: u8| WriterRow { secret_hash: "ab".repeat(32), cookie: vec![cookie], rows_per_minute: None };
        let limit = TableLimit { warn_bytes: 1, max_bytes: 2 };
        write(
            ctldb,
            vec![
                Step::InsertWriter("o'ne", row(1)),
                Step::InsertWriter("{place}", row(2)),
                Step::SetWriterLimit("{place}", 7),
                Step::AddUsage("o'ne", 0, 3),
                Step::AddUsage("nobody", 0, 4),
                Step::SetTableLimit(limited.clone(), limit),
            ],
        )
        .await;
        let asked = || {
            vec![
                Step::Writer("o'ne"),
                Step::Writer("{place}"),
                Step::Writer("O'NE"),
                Step::Writer("nobody"),
                Step::Usage("o'ne", 0),
                Step::Usage("o'ne", 120),
                Step::Usage("{place}", 0),
                Step::Usage("nobody", 0),
                Step::TableLimit(limited.clone()),
                Step::TableLimit(other.clone()),
            ]
        };
        let names = ["o'ne", "{place}", "O'NE", "nobody"].map(writer);
        // With a period this long, the present time is in the first bucket.
        let expect = Step::Expect(names.to_vec(), i64::MAX, vec![limited.clone(), other.clone()]);
        // Later writes are seen as well.
        let changes =
            [Step::SetCookie("o'ne", vec![9]), Step::AddUsage("o'ne", 0, 5), Step::DeleteTableLimit(limited.clone())];
        let steps = [vec![expect], asked(), changes.to_vec(), asked()].concat();
        let answers = write(ctldb, steps).await;
        let writer = |row: Option<WriterRow>| Answer::Writer(row);
        let second = WriterRow { rows_per_minute: Some(7), ..row(2) };
        let before = [writer(Some(row(1))), writer(Some(second)), writer(None), writer(None)];
        assert_eq!(answers[1..5], before);
        assert_eq!(answers[5..9], [3, 0, 0, 4].map(Answer::Number));
        assert_eq!(answers[9..11], [Answer::TableLimit(Some(limit)), Answer::TableLimit(None)]);
        let after = &answers[14..];
        assert_eq!(after[0], writer(Some(row(9))));
        assert_eq!(after[1..4], before[1..]);
        assert_eq!(after[4..8], [8, 0, 0, 4].map(Answer::Number));
        assert_eq!(after[8..], [Answer::TableLimit(None), Answer::TableLimit(None)]);
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

#[tokio::test]
async fn an_error_undoes_everything_and_burns_no_seq() {
    on_every_ctldb(async |ctldb, database| {
        let schema = make_table(ctldb, "fam___tab").await;
        let steps = vec![
            Step::InsertFamily("fam"),
            Step::Upsert(schema.table().clone(), vec![vec![text("a"), FieldValue::Integer(1)]]),
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
        let upsert = |key: &str| Step::Upsert(schema.table().clone(), vec![vec![text(key), FieldValue::Integer(1)]]);
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
        // The next start makes the row again.
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
        // Each write saw the count of the one before it.
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
async fn a_closed_ctldb_says_so() {
    on_every_ctldb(async |ctldb, _| {
        ctldb.close().await;
        let error = try_write(ctldb, vec![Step::LastSeq]).await.unwrap_err();
        assert!(matches!(error, CtldbError::Unavailable(_)), "{error}");
    })
    .await;
}
