//! Schema changes that an executive has begun and not finished.

use std::time::{Duration, Instant};

use ctlstore_core::schema::FieldType;
use ctlstore_ctldb::{Ctldb, CtldbError, SchemaChange};
use mysql_async::prelude::Queryable;

use super::append;
use support::TestDatabase;
use support::ctldb::*;

/// The intent that an executive commits before its schema change.
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
