//! Lost connections, lost answers and lost transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ctlstore_core::schema::FieldType;
use ctlstore_ctldb::{Ctldb, CtldbError, SchemaChange};
use mysql_async::prelude::Queryable;

use super::{append, upsert};
use support::ctldb::proxy::{Cut, Proxy};
use support::ctldb::*;
use support::{Flavour, PrivateServer, TestDatabase, wait_until};

/// A step that counts how often its operation runs.
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
        // Killed idle connections are noticed, too.
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
        // The transaction that has written less is the deadlock's victim: ours.
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
        // On another thread, because the hook above blocks this one.
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

/// A ctldb behind a proxy that can cut the connection at a commit.
pub async fn through_proxy(database: &TestDatabase) -> (impl Ctldb + use<>, Proxy) {
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
            // The DDL is what commits.
            proxy.cut_at(cut, "CREATE TABLE fam___");
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

#[tokio::test]
async fn a_dropped_table_whose_commit_was_lost_is_dropped_once_and_its_seq_is_answered() {
    on_every_server(async |database| {
        for (name, cut) in [("fam___one", Cut::AfterCommit), ("fam___two", Cut::BeforeCommit)] {
            let (ctldb, proxy) = through_proxy(database).await;
            let schema = make_table(&ctldb, name).await;
            let before = ledger(database).len() as i64;
            proxy.cut(cut);
            let answers = write(&ctldb, vec![Step::Alter(SchemaChange::DropTable(schema.table().clone()))]).await;
            assert!(proxy.has_cut());
            assert_eq!(answers[0].number(), before + 1);
            assert_eq!(read(&ctldb, vec![Step::Table(schema.table().clone())]).await[0], Answer::Table(None));
        }
        assert_eq!(contiguous_ledger(database).len(), 4);
        assert_eq!(database.value("SELECT COUNT(*) FROM ctlstore_ddl_intent").unwrap(), "0");
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
        // Many statements follow the signal. The write is dropped while they run.
        let call = || Step::FamilyExists("fam");
        let mut steps = vec![append("given up"), call(), signal];
        steps.extend((0..100_000).map(|_| call()));
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
