//! What every ctldb must do, whatever the backend.

mod ctldb_support;
mod support;

use ctldb_support::*;
use ctlstore::ctldb::{Ctldb, LedgerTable, SchemaChange, SqliteCtldb};
use ctlstore::schema::{FieldType, Value};

#[tokio::test]
async fn rows_and_ledger_are_written_together() {
    let database = support::sqlite();
    let path = database.url.strip_prefix("sqlite:").unwrap().to_owned();
    let ctldb = SqliteCtldb::open(path.as_ref(), LedgerTable::default()).unwrap();
    ctldb.prepare().await.unwrap();
    ctldb.prepare().await.unwrap();
    let schema = table("fam___tab", &[("a", FieldType::String), ("b", FieldType::Decimal)], &["a"]);
    let answers = write(
        &ctldb,
        vec![
            Step::InsertFamily("fam"),
            Step::InsertFamily("fam"),
            Step::Alter(SchemaChange::CreateTable(schema.clone())),
            Step::Upsert(schema.table().clone(), vec![vec![text("x"), Value::Real(-0.0)]]),
            Step::Append(vec!["one".into(), "two".into()]),
            Step::Table(schema.table().clone()),
        ],
    )
    .await;
    assert_eq!(answers[0], Answer::Flag(true));
    assert_eq!(answers[1], Answer::Flag(false));
    assert_eq!(answers[2].number(), 1);
    assert_eq!(answers[4].number(), 3);
    assert_eq!(answers[5].table().schema, schema);
    ctldb.refresh_table_sizes().await.unwrap();
    let answers = read(&ctldb, vec![Step::TableSize(schema.table().clone())]).await;
    assert_eq!(answers[0], Answer::Size(Some(8192)));
    let second = SqliteCtldb::open(path.as_ref(), LedgerTable::default()).err().unwrap();
    assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
    ctldb.close().await;
    SqliteCtldb::open(path.as_ref(), LedgerTable::default()).unwrap();
}
