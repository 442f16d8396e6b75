//! What only a ctldb on a server has to get right: other executives, lost connections
//! and answers, a schema that the original made.

mod ctldb_support;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ctldb_support::proxy::{Cut, Proxy};
use ctldb_support::*;
use ctlstore::ctldb::{ColumnCollation, Ctldb, CtldbError, SchemaChange, WriterRow};
use ctlstore::schema::{FieldType, Value};
use mysql_async::prelude::Queryable;
use support::{Flavour, PrivateServer, TestDatabase, wait_until};

const TABLE_OF_THE_ORIGINAL: &str = "CREATE TABLE fam___old (k VARCHAR(191), v BIGINT, PRIMARY KEY (k))
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci";

fn schema_of_the_original(database: &TestDatabase) -> Vec<support::sql::Row> {
    database.query(
        "SELECT table_name, column_name, column_type, collation_name, column_default, column_key, extra \
         FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name NOT LIKE 'ctlstore_meta' \
         AND table_name NOT LIKE 'ctlstore_ddl_intent' ORDER BY table_name, ordinal_position",
    )
}

fn upsert(key: &str) -> Step {
    Step::Upsert(table_ref("fam___tab"), vec![vec![text(key), Value::Integer(1)]])
}

fn append(statement: &str) -> Step {
    Step::Append(vec![statement.to_owned()])
}

/// Counts the runs of the operation that it is part of.
fn counter() -> (Step, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    (
        Step::hook(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }),
        count,
    )
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
        let upsert = |key: &str| Step::Upsert(old.clone(), vec![vec![text(key), Value::Integer(1)]]);
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
        let row = |k: &str, bytes| vec![text(k), Value::Integer(1), Value::Blob(vec![7; bytes])];
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
        // Nothing is in the way of the next one.
        make_table(&ctldb, "fam___tab").await;
    })
    .await;
}

#[tokio::test]
async fn a_killed_connection_is_replaced_and_the_write_done_once() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        make_table(&ctldb, "fam___tab").await;
        let (count, runs) = counter();
        let url = database.url.clone();
        let kill = Step::hook_once(move || kill_connections(&url));
        let steps = vec![count, Step::AddUsage("one", 60, 1), upsert("a"), append("x"), kill, Step::Usage("one", 60)];
        let answers = write(&ctldb, steps).await;
        assert_eq!(answers[5].number(), 1);
        assert_eq!(runs.load(Ordering::Relaxed), 2);
        assert_eq!(contiguous_ledger(database)[1..], ["x"]);
        // Idle connections that were killed are noticed, too.
        kill_connections(&database.url);
        write(&ctldb, vec![append("y")]).await;
        kill_connections(&database.url);
        assert_eq!(read(&ctldb, vec![Step::LastSeq]).await[0].number(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_deadlock_starts_the_whole_transaction_again() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        make_table(&ctldb, "fam___tab").await;
        let mut other = stranger(database).await;
        // The one that has written less is the deadlock's victim: us.
        let many: Vec<String> = (0..500).map(|i| format!("('other{i}', 60, 1)")).collect();
        other.query_drop("START TRANSACTION").await.unwrap();
        other.query_drop(format!("INSERT INTO writer_usage VALUES {}", many.join(","))).await.unwrap();
        let (count, runs) = counter();
        let url = database.url.clone();
        let other_waits = Step::hook_once(move || {
            let waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'UPDATE locks%' \
                           AND db = DATABASE()";
            wait_until("the other one waits for the lock", Duration::from_secs(30), || {
                support::sql::query(&url, waiting).unwrap() == [[Some("1".to_owned())]]
            });
        });
        let (started, start) = tokio::sync::oneshot::channel();
        let started = std::sync::Mutex::new(Some(started));
        let go = Step::hook_once(move || started.lock().unwrap().take().unwrap().send(()).unwrap());
        let collide = Step::AddUsage("other0", 60, 1);
        let steps = vec![count, append("x"), upsert("a"), go, Step::LastSeq, other_waits, collide, upsert("b")];
        // On a thread of its own: the hook above blocks this one.
        let theirs = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                start.await.unwrap();
                let mut other = other;
                other.query_drop("UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'").await.unwrap();
                other.query_drop("COMMIT").await.unwrap();
            });
        });
        write(&ctldb, steps).await;
        theirs.join().unwrap();
        assert_eq!(runs.load(Ordering::Relaxed), 2, "the deadlock did not happen");
        assert_eq!(contiguous_ledger(database)[1..], ["x"]);
        assert_eq!(read(&ctldb, vec![Step::Usage("other0", 60)]).await[0].number(), 2);
    })
    .await;
}

/// A ctldb by way of a proxy that can cut its commits.
async fn through_proxy(database: &TestDatabase) -> (impl Ctldb + use<>, Proxy) {
    let (_, port) = database.url.rsplit_once('/').unwrap().0.rsplit_once(':').unwrap();
    let proxy = Proxy::to(port.parse().unwrap());
    let ctldb = prepared_at(&proxy.url(&database.url)).await;
    (ctldb, proxy)
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_in_the_ledger() {
    on_every_server(async |database| {
        let (ctldb, proxy) = through_proxy(database).await;
        let (count, runs) = counter();
        proxy.cut(Cut::AfterCommit);
        let answers = write(&ctldb, vec![count, Step::AddUsage("one", 60, 1), append("x")]).await;
        assert!(proxy.has_cut());
        assert_eq!(answers[2].number(), 1);
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        assert_eq!(contiguous_ledger(database), ["x"]);
        assert_eq!(read(&ctldb, vec![Step::Usage("one", 60)]).await[0].number(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_done_again() {
    on_every_server(async |database| {
        let (ctldb, proxy) = through_proxy(database).await;
        for with_ledger in [true, false] {
            let (count, runs) = counter();
            proxy.cut(Cut::BeforeCommit);
            let mut steps = vec![count, Step::AddUsage("one", 60, 1)];
            steps.extend(with_ledger.then(|| append("x")));
            write(&ctldb, steps).await;
            assert!(proxy.has_cut());
            assert_eq!(runs.load(Ordering::Relaxed), 2);
        }
        assert_eq!(contiguous_ledger(database), ["x"]);
        assert_eq!(read(&ctldb, vec![Step::Usage("one", 60)]).await[0].number(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_lost_commit_without_ledger_rows_is_not_guessed_at() {
    on_every_server(async |database| {
        let (ctldb, proxy) = through_proxy(database).await;
        proxy.cut(Cut::AfterCommit);
        let error = try_write(&ctldb, vec![Step::AddUsage("one", 60, 1)]).await.unwrap_err();
        assert!(matches!(error, CtldbError::OutcomeUnknown(_)), "{error}");
        assert_eq!(read(&ctldb, vec![Step::Usage("one", 60)]).await[0].number(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_schema_change_whose_commit_was_lost_is_finished() {
    on_every_server(async |database| {
        for (name, cut) in [("fam___one", Cut::AfterCommit), ("fam___two", Cut::BeforeCommit)] {
            let (ctldb, proxy) = through_proxy(database).await;
            let before = ledger(database).len() as i64;
            let schema = table(name, &[("k", FieldType::Integer)], &["k"]);
            proxy.cut(cut);
            let change = SchemaChange::CreateTable(schema.clone());
            let answers = write(&ctldb, vec![Step::Alter(change)]).await;
            assert!(proxy.has_cut());
            assert_eq!(answers[0].number(), before + 1);
            assert_eq!(read(&ctldb, vec![Step::Table(schema.table().clone())]).await[0].table().schema, schema);
        }
        assert_eq!(contiguous_ledger(database).len(), 2);
        assert_eq!(database.value("SELECT COUNT(*) FROM ctlstore_ddl_intent").unwrap(), "0");
    })
    .await;
}

/// What an executive has written down before its schema change.
fn leave_intent(database: &TestDatabase, kind: &str, table: &str, column: &str, statement: &str) {
    let statement = statement.replace('\'', "''");
    database.query(&format!(
        "INSERT INTO ctlstore_ddl_intent (token, kind, table_name, column_name, ledger_seq, statement, ddl) \
         SELECT UUID(), '{kind}', '{table}', '{column}', COALESCE(MAX(seq), 0) + 1, '{statement}', '' \
         FROM ctlstore_dml_ledger"
    ));
}

fn intents_left(database: &TestDatabase) -> String {
    database.value("SELECT COUNT(*) FROM ctlstore_ddl_intent").unwrap()
}

#[tokio::test]
async fn a_dead_executives_change_that_took_effect_gets_its_ledger_row() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        let create = "CREATE TABLE fam___tab (\"a\" INTEGER, PRIMARY KEY(\"a\"));";
        leave_intent(database, "create", "fam___tab", "", create);
        database.query("CREATE TABLE fam___tab (a BIGINT NOT NULL, PRIMARY KEY (a))");
        assert_eq!(write(&ctldb, vec![append("x")]).await[0].number(), 2);

        let add = "ALTER TABLE fam___tab ADD COLUMN \"b\" REAL";
        leave_intent(database, "add", "fam___tab", "b", add);
        database.query("ALTER TABLE fam___tab ADD COLUMN b DOUBLE");
        let answers = write(&ctldb, vec![Step::Table(table_ref("fam___tab"))]).await;
        assert_eq!(answers[0].table().schema.fields().len(), 2);

        let drop = "DROP TABLE IF EXISTS fam___tab";
        leave_intent(database, "drop", "fam___tab", "", drop);
        database.query("DROP TABLE fam___tab");
        assert_eq!(write(&ctldb, vec![Step::Table(table_ref("fam___tab"))]).await[0], Answer::Table(None));

        assert_eq!(contiguous_ledger(database), [create, "x", add, drop]);
        assert_eq!(intents_left(database), "0");
    })
    .await;
}

#[tokio::test]
async fn a_dead_executives_change_that_never_happened_is_forgotten() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        let schema = make_table(&ctldb, "fam___tab").await;
        leave_intent(database, "create", "fam___new", "", "CREATE TABLE fam___new");
        leave_intent(database, "add", "fam___tab", "b", "ALTER TABLE fam___tab");
        leave_intent(database, "drop", "fam___tab", "", "DROP TABLE");
        let answers = write(&ctldb, vec![append("x"), Step::Table(schema.table().clone())]).await;
        assert_eq!(answers[1].table().schema, schema);
        assert_eq!(contiguous_ledger(database)[1..], ["x"]);
        assert_eq!(intents_left(database), "0");
    })
    .await;
}

#[tokio::test]
async fn a_change_whose_ledger_row_is_there_is_not_written_twice() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        let create = "CREATE TABLE fam___tab (\"a\" INTEGER, PRIMARY KEY(\"a\"));";
        leave_intent(database, "create", "fam___tab", "", create);
        database.query("CREATE TABLE fam___tab (a BIGINT NOT NULL, PRIMARY KEY (a))");
        database.query(&format!("INSERT INTO ctlstore_dml_ledger (seq, statement) VALUES (1, '{create}')"));
        write(&ctldb, vec![append("x")]).await;
        assert_eq!(contiguous_ledger(database), [create, "x"]);
        assert_eq!(intents_left(database), "0");
    })
    .await;
}

#[tokio::test]
async fn a_change_that_a_dead_executive_left_running_is_waited_for() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        let mut dead = stranger(database).await;
        dead.query_drop("SELECT GET_LOCK(CONCAT('ctlstore.ddl.', SHA1(DATABASE())), 0)").await.unwrap();
        let create = "CREATE TABLE fam___tab (\"a\" INTEGER, PRIMARY KEY(\"a\"));";
        leave_intent(database, "create", "fam___tab", "", create);
        let waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT COALESCE(GET_LOCK%' \
                       AND db = DATABASE()";
        let finish = async {
            let mut look = stranger(database).await;
            let deadline = soon();
            while look.query_first::<i64, _>(waiting).await.unwrap() != Some(1) {
                assert!(Instant::now() < deadline, "nobody waits for the change");
            }
            dead.query_drop("CREATE TABLE fam___tab (a BIGINT NOT NULL, PRIMARY KEY (a))").await.unwrap();
            dead.disconnect().await.unwrap();
        };
        let (answers, ()) = tokio::join!(write(&ctldb, vec![append("x")]), finish);
        assert_eq!(answers[0].number(), 2);
        assert_eq!(contiguous_ledger(database), [create, "x"]);
    })
    .await;
}

#[tokio::test]
async fn a_table_in_use_is_not_changed_and_the_change_leaves_nothing() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        let schema = make_table(&ctldb, "fam___tab").await;
        let mut other = stranger(database).await;
        other.query_drop("START TRANSACTION").await.unwrap();
        other.query_drop("SELECT * FROM fam___tab").await.unwrap();
        let add = || SchemaChange::AddColumn(schema.table().clone(), field("b", FieldType::Text));
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = ctldb.write(Steps(vec![Step::Alter(add())]), deadline).await.unwrap_err();
        assert!(matches!(error, CtldbError::Contention(_)), "{error:?}");
        assert_eq!(intents_left(database), "0");
        other.query_drop("COMMIT").await.unwrap();
        write(&ctldb, vec![Step::Alter(add())]).await;
        assert_eq!(contiguous_ledger(database).len(), 2);
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
        // As the original does it.
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
async fn a_write_that_is_given_up_leaves_neither_rows_nor_the_lock() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        let (reached, wait) = tokio::sync::oneshot::channel();
        let reached = std::sync::Mutex::new(Some(reached));
        let signal = Step::hook_once(move || reached.lock().unwrap().take().unwrap().send(()).unwrap());
        // Many calls after the signal, in the midst of which the write is dropped.
        let mut steps = vec![append("given up"), Step::Now, signal];
        steps.extend((0..100_000).map(|_| Step::Now));
        tokio::select! {
            _ = write(&ctldb, steps) => panic!("the write ended"),
            reached = wait => reached.unwrap(),
        }
        write(&ctldb, vec![append("x")]).await;
        assert_eq!(contiguous_ledger(database), ["x"]);
    })
    .await;
}

#[tokio::test]
async fn a_ledger_lock_held_elsewhere_is_waited_for_until_the_deadline() {
    on_every_server(async |database| {
        let ctldb = prepared(database).await;
        let mut other = stranger(database).await;
        other.query_drop("START TRANSACTION").await.unwrap();
        other.query_drop("UPDATE locks SET clock = clock + 1").await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(1);
        let error = ctldb.write(Steps(vec![append("x")]), deadline).await.unwrap_err();
        assert!(matches!(error, CtldbError::Unavailable(_) | CtldbError::Contention(_)), "{error:?}");
        let release = async { other.query_drop("COMMIT").await.unwrap() };
        let (answers, ()) = tokio::join!(write(&ctldb, vec![append("y")]), release);
        assert_eq!(answers[0].number(), 1);
        assert_eq!(contiguous_ledger(database), ["y"]);
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

#[tokio::test]
async fn a_server_that_is_away_is_an_error_until_it_is_back() {
    let mut server = PrivateServer::start(Flavour::MariaDb);
    server.execute("CREATE DATABASE test");
    server.stop();
    let ctldb = open_at(&server.url("test"));
    let error = ctldb.prepare().await.unwrap_err();
    assert!(matches!(error, CtldbError::Unavailable(_)), "{error}");
    server.start_again();
    ctldb.prepare().await.unwrap();
    write(&ctldb, vec![append("x")]).await;
    server.kill9();
    let error = try_write(&ctldb, vec![append("lost")]).await.unwrap_err();
    assert!(matches!(error, CtldbError::Unavailable(_)), "{error}");
    let error = ctldb.read(Steps(vec![Step::Now]), soon()).await.unwrap_err();
    assert!(matches!(error, CtldbError::Unavailable(_)), "{error}");
    server.start_again();
    assert_eq!(write(&ctldb, vec![append("y")]).await[0].number(), 2);
}

#[test]
fn urls_that_can_not_be_used_are_refused_without_showing_the_password() {
    for url in ["mysql://u:geheim@host", "mysql://u:geheim@host/db?unknown=1", "postgres://u:geheim@host/db", "sqlite:"]
    {
        let opened = ctlstore::ctldb::Location::parse(url)
            .and_then(|location| ctlstore::ctldb::AnyCtldb::open(&location, Default::default()));
        let error = opened.err().unwrap_or_else(|| panic!("{url} was taken")).to_string();
        assert!(error.contains("ctldb.url") && !error.contains("geheim"), "{error}");
    }
}
