//! What our reflectors make of a ledger that the original writes to.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use support::client::role_status;
use support::{Node, wait_until};

use super::{DEADLINE, GoExecutive, fleet, originals};

fn ldb_value<T: rusqlite::types::FromSql>(path: &Path, sql: &str) -> Option<T> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.query_row(sql, [], |row| row.get(0)).ok()
}

#[test]
fn a_row_that_is_inserted_before_one_seen_and_committed_after_it_is_waited_for() {
    for database in originals() {
        let (ours, mut go) = fleet(&database);
        ours.stop();
        let node = Node::new().roles(&["reflector"]).ctldb(&database.url).set("reflector.poll_interval", "20ms");
        let _process = node.start();
        let seq = || ldb_value::<i64>(&node.ldb_path(), "SELECT seq FROM _ldb_seq WHERE id = 1");
        let last = || database.value("SELECT MAX(seq) FROM ctlstore_dml_ledger").unwrap().parse::<i64>().unwrap();
        wait_until("the ldb has all of it", DEADLINE, || seq() == Some(last()));
        // A long request of the original: its first row is inserted, its commit takes its time.
        go.lock();
        go.run(r#"REPLACE INTO fam___strings ("id","v") VALUES('late','x')"#).unwrap();
        go.log(r#"REPLACE INTO fam___strings ("id","v") VALUES('late','x')"#);
        // Another one of the original's ends a DROP TABLE: its row is behind, and is seen first.
        let mut other = GoExecutive::on(&database);
        other.log("DROP TABLE IF EXISTS fam___other");
        wait_until("the reflector waits", DEADLINE, || {
            let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() \
                       AND info LIKE '%LOCK IN SHARE MODE' AND info NOT LIKE '%processlist%'";
            database.value(sql).as_deref() == Some("1")
        });
        go.commit();
        wait_until("the ldb has all of it", DEADLINE, || seq() == Some(last()));
        let rows = ldb_value::<i64>(&node.ldb_path(), "SELECT COUNT(*) FROM fam___strings WHERE id = 'late'");
        assert_eq!(rows, Some(1), "the row that came late is lost");
    }
}

#[test]
fn a_running_reflector_adopts_the_ledger_id_that_our_first_executive_makes() {
    let database = originals().remove(0);
    let mut go = GoExecutive::on(&database);
    go.change(super::CREATE, super::CREATE_DDL);
    let node = Node::new().roles(&["reflector"]).ctldb(&database.url).set("reflector.poll_interval", "20ms");
    let process = node.start();
    let path = node.ldb_path();
    wait_until("the ldb has all of it", DEADLINE, || ldb_value(&path, "SELECT seq FROM _ldb_seq") == Some(1_i64));
    let adopted = || ldb_value::<String>(&path, "SELECT value FROM _ldb_meta WHERE name = 'ledger_id'");
    assert_eq!(adopted(), None);
    let executive = Node::new().roles(&["executive"]).ctldb(&database.url).start();
    wait_until("the reflector adopts it", DEADLINE, || adopted().is_some());
    assert_eq!(adopted(), database.value("SELECT value FROM ctlstore_meta WHERE name = 'ledger_id'"));
    let said = role_status(&process.ops_url(), "poller");
    assert!(said.to_string().contains(&adopted().unwrap()), "{said}");
    drop(executive);
}
