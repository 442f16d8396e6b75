//! Our executive and the original's on one ctldb, at each place where the original holds no lock or knows nothing of
//! what ours has begun. A stand-in runs the original's statements one by one (`go_executive`).

mod drop_table;
mod go_executive;
mod killed;
mod reflectors;

use std::time::Duration;

use ctlstore::actors::executive::ExecutiveOptions;
use serde_json::{Value, json};
use support::TestDatabase;
use support::in_process::replay::{ledger, replay, rows};
use support::in_process::{Executive, destructive};

use go_executive::GoExecutive;

const DEADLINE: Duration = Duration::from_secs(60);
/// The forms of the original for a table of a string key, in the ledger and on the server.
const CREATE: &str = r#"CREATE TABLE fam___strings ("id" VARCHAR(191), "v" TEXT, PRIMARY KEY("id"));"#;
const CREATE_DDL: &str = "CREATE TABLE fam___strings (\"id\" VARCHAR(191), \"v\" MEDIUMTEXT, PRIMARY KEY(\"id\")) \
                          DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_unicode_ci";

/// A ctldb that the original made, on every server of the MySQL family.
fn originals() -> Vec<TestDatabase> {
    let databases: Vec<TestDatabase> = [Some(support::mariadb()), support::mysql56()].into_iter().flatten().collect();
    for database in &databases {
        for statement in support::original::SCHEMA {
            database.query(statement);
        }
    }
    databases
}

/// One of ours with family, table `tab` and writer, and the original's beside it with a table of a string key.
fn fleet(database: &TestDatabase) -> (Executive, GoExecutive) {
    let ours = Executive::serving(database, settings());
    ours.furnish();
    let mut go = GoExecutive::on(database);
    go.change(CREATE, CREATE_DDL);
    (ours, go)
}

fn settings() -> ExecutiveOptions {
    let mut settings = destructive();
    settings.rules.writer_limit.amount = i64::MAX;
    settings
}

fn string_row(id: &str) -> Value {
    json!({"mutations": [{"table": "strings", "values": {"id": id, "v": "ours"}}]})
}

/// What every LDB comes to hold: the ledger replayed, which fails where a reflector would stop. Its tables have the
/// columns and the rows of the ctldb.
#[track_caller]
fn assert_ledger_is_the_ctldb(database: &TestDatabase) {
    let replayed = replay(&ledger(database, 0));
    let named = "table_schema = DATABASE() AND LOCATE('___', table_name) > 0";
    let columns = format!(
        "SELECT table_name, column_name FROM information_schema.columns WHERE {named} ORDER BY table_name, column_name"
    );
    let found: Vec<(String, String)> =
        database.query(&columns).into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect();
    let said = "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table' \
                ORDER BY m.name, c.name";
    let text = |value: &rusqlite::types::Value| match value {
        rusqlite::types::Value::Text(text) => text.clone(),
        rusqlite::types::Value::Integer(integer) => integer.to_string(),
        other => format!("{other:?}"),
    };
    let said: Vec<(String, String)> = rows(&replayed, said).iter().map(|row| (text(&row[0]), text(&row[1]))).collect();
    assert_eq!(found, said, "columns of the ctldb and of the ledger");
    let mut tables: Vec<&String> = found.iter().map(|(table, _)| table).collect();
    tables.dedup();
    for table in tables {
        let keys = format!("SELECT id FROM {table} ORDER BY id");
        let mut found: Vec<String> = database.query(&keys).into_iter().map(|row| row[0].clone().unwrap()).collect();
        let mut said: Vec<String> = rows(&replayed, &keys).iter().map(|row| text(&row[0])).collect();
        found.sort();
        said.sort();
        assert_eq!(found, said, "rows of {table}");
    }
}
