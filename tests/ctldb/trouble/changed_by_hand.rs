//! An operator changes tables of the ctldb by hand. The executive follows the ledger's definitions, or refuses that table
//! alone and names it. Every LDB can still apply the whole ledger.

use std::time::Duration;

use rusqlite::types::Value as Stored;
use serde_json::{Value, json};

use ctlstore::actors::executive::ExecutiveOptions;

use support::http::{get, post, request};
use support::in_process::replay::{assert_contiguous, ledger, replay, rows};
use support::in_process::{Executive, destructive, row};
use support::{TestDatabase, every_ctldb, scratch_dir, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// Family `fam` with `tab`, which will be changed by hand, and `other`, which will not.
fn furnished(database: &TestDatabase) -> Executive {
    let executive = Executive::serving(database, destructive());
    executive.furnish();
    let table = json!({"fields": [["id", "integer"], ["v", "text"]], "keyFields": ["id"]}).to_string();
    post(&executive.at("/families/fam/tables/other"), table).expect(200);
    executive.mutate(&json!({"mutations": [row(1, "one"), other(1)]})).expect(200);
    executive
}

fn other(id: i64) -> Value {
    json!({"table": "other", "values": {"id": id, "v": "x"}})
}

/// The rows of `tab` in the ledger's replay. Checks that all statements run.
fn replayed(database: &TestDatabase) -> Vec<Vec<Stored>> {
    let ledger = ledger(database, 0);
    assert_contiguous(&ledger);
    rows(&replay(&ledger), "SELECT * FROM fam___tab ORDER BY id")
}

fn servers() -> Vec<(&'static str, TestDatabase)> {
    every_ctldb().into_iter().filter(|(_, database)| database.is_mysql()).collect()
}

/// The findings of `doctor` about this ctldb: level, finding, repair.
fn doctor(database: &TestDatabase) -> Vec<(String, String, String)> {
    let directory = scratch_dir();
    std::fs::write(directory.path().join("node.toml"), format!("ctldb.url = {:?}", database.url)).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ctlstore"));
    command.current_dir(directory.path()).args(["doctor", "--config", "node.toml", "--role", "executive", "--json"]);
    let output = command.output().expect("run doctor");
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    findings.as_array().unwrap().iter().map(|f| (text(&f["level"]), text(&f["what"]), text(&f["mend"]))).collect()
}

#[test]
fn a_column_added_by_hand_is_not_the_ledgers_and_writes_go_on_without_it() {
    for (kind, database) in every_ctldb() {
        let executive = furnished(&database);
        database.query("ALTER TABLE fam___tab ADD COLUMN extra INTEGER");
        executive.mutate(&json!({"mutations": [row(2, "two")]})).expect(200);
        // An executive that has never seen the table without the column does the same.
        executive.stop();
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.mutate(&json!({"mutations": [row(3, "three")]})).expect(200);
        let sent = json!({"table": "tab", "values": {"id": 4, "v": "four", "extra": 4}});
        let answer = executive.mutate(&json!({"mutations": [sent]})).expect(400);
        assert_eq!(answer.text(), "table fam___tab has no field extra\n", "{kind}");
        let fields = json!([["id", "integer"], ["v", "text"]]);
        assert_eq!(get(&executive.at("/schema/table/fam/tab")).expect(200).json()["fields"], fields, "{kind}");
        // Otherwise the ctldb would have values that no LDB gets.
        let put = json!({"fields": [["extra", "integer"]]}).to_string();
        let answer = request("PUT", &executive.at("/families/fam/tables/tab"), &[], put).expect(409);
        assert!(answer.text().contains("has a column extra"), "{kind}: {}", answer.text());
        assert_eq!(replayed(&database).len(), 3, "{kind}");
        let found = doctor(&database);
        let told = found.iter().find(|(_, what, _)| what.contains("fam___tab")).unwrap_or_else(|| panic!("{found:?}"));
        assert_eq!((told.0.as_str(), told.2.as_str()), ("warn", "ALTER TABLE fam___tab DROP COLUMN extra;"), "{kind}");
        database.query(told.2.trim_end_matches(';'));
        assert!(!doctor(&database).iter().any(|(_, what, _)| what.contains("fam___tab")), "{kind}");
    }
}

/// Changes after which the ctldb would store other rows than the LDBs, each with a part of the reason.
const CHANGES: [(&str, &str); 13] = [
    ("ALTER TABLE fam___tab DROP COLUMN v", "the ctldb has no column v"),
    ("ALTER TABLE fam___tab ADD COLUMN must INT NOT NULL", "column must is not in the ledger and wants a value"),
    ("ALTER TABLE fam___tab MODIFY v DATETIME", "column v is datetime in the ctldb and text in the ledger"),
    ("ALTER TABLE fam___tab MODIFY v CHAR(100)", "column v is char(100)"),
    ("ALTER TABLE fam___tab MODIFY v INT", "column v is int"),
    ("ALTER TABLE fam___tab DROP PRIMARY KEY, ADD PRIMARY KEY (id, v(9))", "index PRIMARY compares only the beginning"),
    ("ALTER TABLE fam___tab MODIFY v VARBINARY(50) NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (v, id)", "column v is"),
    ("ALTER TABLE fam___tab DROP PRIMARY KEY", "its key is () in the ctldb and (id) in the ledger"),
    ("ALTER TABLE fam___tab ADD UNIQUE INDEX once (v(20))", "it has the unique index once"),
    ("CREATE TRIGGER meddler BEFORE INSERT ON fam___tab FOR EACH ROW SET NEW.v = 'x'", "it has the trigger meddler"),
    ("ALTER TABLE fam___tab ENGINE = MyISAM", "it is in MyISAM, which has no transactions"),
    ("DROP TABLE fam___tab", "the ledger has it, the ctldb does not"),
    ("RENAME TABLE fam___tab TO old; CREATE VIEW fam___tab AS SELECT * FROM old", "the ctldb has a view of its name"),
];

#[test]
fn a_table_that_was_changed_by_hand_is_refused_alone_by_name_and_doctor_lists_it() {
    for (change, reason) in CHANGES {
        for (kind, database) in servers() {
            let executive = furnished(&database);
            let change = match change {
                // The server changes the type only if all values are numbers.
                "ALTER TABLE fam___tab MODIFY v INT" | "ALTER TABLE fam___tab MODIFY v DATETIME" => {
                    database.query("UPDATE fam___tab SET v = NULL");
                    change
                }
                change => change,
            };
            change.split("; ").for_each(|statement| drop(database.query(statement)));
            let before = ledger(&database, 0).len();
            executive.stop();
            let executive = Executive::serving(&database, destructive());
            let answer = executive.mutate(&json!({"mutations": [row(2, "two")]})).expect(409);
            let told = answer.text();
            assert!(told.starts_with("table fam___tab was changed by hand: "), "{kind}, {change}: {told}");
            assert!(told.contains(reason), "{kind}, {change}: {told}");
            // Other tables can be written: in the same family, and in the same group.
            executive.mutate(&json!({"mutations": [other(2)]})).expect(200);
            executive.mutate(&json!({"mutations": [other(3), row(3, "three")]})).expect(409);
            let family = get(&executive.at("/schema/family/fam")).expect(200).json();
            let names: Vec<&str> = family.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["other"], "{kind}, {change}");
            get(&executive.at("/schema/table/fam/tab")).expect(409);
            let url = executive.at("/families/fam/tables/tab");
            request("PUT", &url, &[], r#"{"fields":[["more","text"]]}"#).expect(409);
            let table = json!({"fields": [["id", "integer"]], "keyFields": ["id"]}).to_string();
            post(&url, table).expect(409);
            request("DELETE", &executive.at("/clear-rows/families/fam/tables/tab"), &[], "").expect(409);
            request("DELETE", &executive.at("/clear-rows/families/fam"), &[], "").expect(409);
            assert_eq!(ledger(&database, 0).len(), before + 1, "{kind}, {change}");
            assert_eq!(replayed(&database).len(), 1, "{kind}, {change}");
            let found = doctor(&database);
            let told = found.iter().find(|(_, what, _)| what.contains("fam___tab"));
            let (level, what, mend) = told.unwrap_or_else(|| panic!("{kind}, {change}: {found:?}"));
            assert!(level == "warn" && what.contains(reason), "{kind}, {change}: {what}");
            assert!(mend.contains("CREATE TABLE fam___tab (\"id\" INTEGER"), "{kind}, {change}: {mend}");
        }
    }
}

#[test]
fn a_change_by_hand_under_a_running_executive_is_met_by_the_first_write_that_fails() {
    for (kind, database) in servers() {
        for change in ["DROP COLUMN v", "ADD COLUMN must INT NOT NULL"] {
            let executive = Executive::serving(&database, destructive());
            if get(&executive.at("/schema/table/fam/tab")).status == 404 {
                executive.furnish();
            }
            executive.mutate(&json!({"mutations": [row(1, "one")]})).expect(200);
            database.query(&format!("ALTER TABLE fam___tab {change}"));
            let answer = executive.mutate(&json!({"mutations": [row(2, "two")]})).expect(409);
            assert!(answer.text().contains("was changed by hand"), "{kind}: {}", answer.text());
            replayed(&database);
            // After the repair the table can be written again.
            let back = if change.starts_with("DROP") { "ADD COLUMN v MEDIUMTEXT" } else { "DROP COLUMN must" };
            database.query(&format!("ALTER TABLE fam___tab {back}"));
            executive.mutate(&json!({"mutations": [row(3, "three")]})).expect(200);
        }
    }
}

#[test]
fn what_a_write_would_not_notice_is_noticed_when_the_tables_are_next_measured() {
    for (kind, database) in servers() {
        let settings = ExecutiveOptions { size_interval: Duration::from_millis(50), ..ExecutiveOptions::default() };
        let executive = Executive::serving(&database, settings);
        executive.furnish();
        executive.mutate(&json!({"mutations": [row(1, "one")]})).expect(200);
        database.query("ALTER TABLE fam___tab ADD UNIQUE INDEX once (v(20))");
        wait_until("the index is noticed", DEADLINE, || {
            let answer = executive.mutate(&json!({"mutations": [row(1, "one")]}));
            answer.status == 409 && answer.text().contains("unique index once")
        });
        assert_eq!(replayed(&database).len(), 1, "{kind}");
    }
}

#[test]
fn a_table_made_by_hand_is_no_table_of_the_ledger() {
    for (kind, database) in every_ctldb() {
        let executive = furnished(&database);
        database.query("CREATE TABLE fam___hand (id INTEGER NOT NULL, v TEXT, PRIMARY KEY (id))");
        database.query("CREATE TABLE fam___odd (id INTEGER NOT NULL, at TIMESTAMP NULL, PRIMARY KEY (id))");
        for table in ["hand", "odd"] {
            let sent = json!({"table": table, "values": {"id": 1, "v": "x"}});
            let answer = executive.mutate(&json!({"mutations": [sent]})).expect(409);
            assert!(answer.text().contains(&format!("table fam___{table} was")), "{kind}: {}", answer.text());
            assert!(answer.text().contains("made by hand"), "{kind}: {}", answer.text());
            let url = executive.at(&format!("/families/fam/tables/{table}"));
            post(&url, r#"{"fields":[["id","integer"]],"keyFields":["id"]}"#).expect(409);
            request("DELETE", &url, &[], "").expect(409);
        }
        let family = get(&executive.at("/schema/family/fam")).expect(200).json();
        assert_eq!(family.as_array().unwrap().len(), 2, "{kind}: {family}");
        replayed(&database);
        let found = doctor(&database);
        for table in ["fam___hand", "fam___odd"] {
            let told = found.iter().any(|(_, what, mend)| what.contains(table) && mend.contains("DROP TABLE"));
            assert!(told, "{kind}: {found:?}");
        }
    }
}

#[test]
fn a_table_changed_by_hand_in_an_embedded_ctldb_is_refused_alone() {
    for (change, reason) in [
        ("ALTER TABLE fam___tab DROP COLUMN v", "the ctldb has no column v"),
        (
            "ALTER TABLE fam___tab ADD COLUMN must TEXT NOT NULL DEFAULT 'x'; CREATE UNIQUE INDEX once ON fam___tab (must)",
            "unique index once",
        ),
        ("CREATE TRIGGER meddler AFTER INSERT ON fam___tab BEGIN DELETE FROM fam___other; END", "trigger meddler"),
        ("DROP TABLE fam___tab", "the ledger has it, the ctldb does not"),
        ("ALTER TABLE fam___tab RENAME TO fam___moved", "the ledger has it, the ctldb does not"),
    ] {
        let database = support::sqlite();
        let executive = furnished(&database);
        let file = database.url.strip_prefix("sqlite:").unwrap();
        rusqlite::Connection::open(file).unwrap().execute_batch(change).unwrap();
        let answer = executive.mutate(&json!({"mutations": [row(2, "two")]})).expect(409);
        assert!(answer.text().contains(reason), "{change}: {}", answer.text());
        executive.mutate(&json!({"mutations": [other(2)]})).expect(200);
        assert_eq!(replayed(&database).len(), 1, "{change}");
        let found = doctor(&database);
        assert!(found.iter().any(|(_, what, _)| what.contains(reason)), "{change}: {found:?}");
    }
}

#[test]
fn what_the_ledger_says_is_known_when_its_rows_are_gone_and_when_another_program_wrote_them() {
    for (kind, database) in servers() {
        let executive = furnished(&database);
        // As the original does it, without our record of definitions.
        database.query("UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'");
        database.query("ALTER TABLE fam___tab ADD COLUMN w DOUBLE");
        let add = "INSERT INTO ctlstore_dml_ledger (seq, statement) SELECT MAX(seq) + 1, \
                   'ALTER TABLE fam___tab ADD COLUMN \"w\" REAL' FROM ctlstore_dml_ledger";
        database.query(add);
        let wide = |id: i64| json!({"mutations": [{"table": "tab", "values": {"id": id, "v": "x", "w": 0.5}}]});
        executive.mutate(&wide(2)).expect(200);
        assert_eq!(replayed(&database).len(), 2, "{kind}");
        executive.stop();
        // A start of the executive records it. Then the ledger's beginning may be pruned.
        Executive::serving(&database, ExecutiveOptions::default()).stop();
        database.query("DELETE FROM ctlstore_dml_ledger WHERE seq < 7");
        database.query("ALTER TABLE fam___tab ADD COLUMN extra INT");
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.mutate(&wide(3)).expect(200);
        let last = ledger(&database, 0).pop().unwrap().1;
        assert_eq!(last, r#"REPLACE INTO fam___tab ("id","v","w") VALUES(3,'x',0.5)"#, "{kind}");
    }
}

#[test]
fn a_ctldb_whose_ledger_lost_its_beginning_before_is_taken_as_it_is() {
    for (kind, database) in servers() {
        let executive = furnished(&database);
        executive.stop();
        // As an older version leaves a pruned ledger.
        database.query("DROP TABLE ctlstore_table_definition");
        database.query("DELETE FROM ctlstore_dml_ledger WHERE seq < 3");
        let executive = Executive::serving(&database, ExecutiveOptions::default());
        executive.mutate(&json!({"mutations": [row(9, "nine"), other(9)]})).expect(200);
        assert_eq!(get(&executive.at("/schema/family/fam")).expect(200).json().as_array().unwrap().len(), 2, "{kind}");
    }
}

#[test]
fn an_unfinished_schema_change_that_no_ldb_can_apply_gets_no_ledger_row() {
    for (kind, database) in servers() {
        let executive = furnished(&database);
        let intent = |kind: &str, table: &str, column: &str, statement: &str| {
            database.query(&format!(
                "INSERT INTO ctlstore_ddl_intent (token, kind, table_name, column_name, ledger_seq, statement, ddl) \
                 SELECT UUID(), '{kind}', '{table}', '{column}', MAX(seq) + 1, '{statement}', '' FROM ctlstore_dml_ledger"
            ));
        };
        // The first intent has a name that an older version accepted, the second a table that the ledger already has.
        database.query("CREATE TABLE sqlite___stat (a BIGINT NOT NULL, PRIMARY KEY (a))");
        intent("create", "sqlite___stat", "", "CREATE TABLE sqlite___stat (\"a\" INTEGER, PRIMARY KEY(\"a\"));");
        intent("create", "fam___tab", "", "CREATE TABLE fam___tab (\"id\" INTEGER, PRIMARY KEY(\"id\"));");
        database.query("ALTER TABLE fam___other ADD COLUMN w DOUBLE");
        intent("add", "fam___other", "w", "ALTER TABLE fam___other ADD COLUMN \"w\" REAL");
        let wide = json!({"table": "other", "values": {"id": 7, "v": "x", "w": 1.5}});
        executive.mutate(&json!({"mutations": [wide]})).expect(200);
        assert_eq!(database.value("SELECT COUNT(*) FROM ctlstore_ddl_intent").as_deref(), Some("0"), "{kind}");
        let statements: Vec<String> = ledger(&database, 0).into_iter().map(|(_, statement)| statement).collect();
        let last = statements.len() - 2;
        assert_eq!(statements[last], "ALTER TABLE fam___other ADD COLUMN \"w\" REAL", "{kind}");
        assert!(!statements.iter().any(|statement| statement.contains("sqlite___stat")), "{kind}");
        replayed(&database);
    }
}
