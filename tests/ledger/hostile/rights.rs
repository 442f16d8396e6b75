//! A ledger row may do what the protocol has, and legal changes of rows. Everything else
//! stops the applier, with the row's number and form.

use ctlstore_core::Abort;
use ctlstore_ldb::snapshot::SnapshotUrl;
use ctlstore_ldb::snapshot::fetch::{Wanted, fetch};
use ctlstore_ldb::{ApplyError, Ldb};
use rusqlite::Connection;

use support::ldb::{CREATE, Scratch, batch, dump, integer, seq, strings, upsert};

fn with_table() -> (Scratch, Ldb) {
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    ldb.apply(&batch(1, &[CREATE, &upsert(1, "a")])).unwrap();
    (scratch, ldb)
}

/// Everything in the file, the applier's own tables among it.
fn everything(scratch: &Scratch) -> Vec<String> {
    let mut all = dump(&scratch.reader());
    let own = "SELECT 'seq ' || seq FROM _ldb_seq UNION ALL SELECT name || ' ' || timestamp FROM _ldb_last_update
        UNION ALL SELECT name || ' ' || value FROM _ldb_meta
        UNION ALL SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema";
    all.extend(strings(&scratch.reader(), own));
    all
}

#[test]
fn a_row_that_is_no_change_of_a_familys_table_is_refused_and_changes_nothing() {
    let (scratch, mut ldb) = with_table();
    let before = everything(&scratch);
    let statements = [
        // The temporary schema would stand before the main one.
        "CREATE TEMP TABLE fam___tab (id INTEGER PRIMARY KEY, v TEXT)",
        "CREATE TABLE temp.fam___tab (id INTEGER PRIMARY KEY, v TEXT)",
        "CREATE TEMPORARY TABLE _ldb_seq (id INTEGER PRIMARY KEY, seq BIGINT)",
        "CREATE TEMP VIEW fam___tab AS SELECT 1",
        "CREATE TEMP TRIGGER t AFTER INSERT ON main.fam___tab BEGIN SELECT 1; END",
        // What acts on its own later.
        "CREATE TRIGGER t AFTER INSERT ON _ldb_seq BEGIN UPDATE _ldb_seq SET seq = 1000; END",
        "CREATE TRIGGER t AFTER INSERT ON _ldb_last_update BEGIN DELETE FROM fam___tab; END",
        "CREATE TRIGGER IF NOT EXISTS fam___t AFTER INSERT ON fam___tab BEGIN DELETE FROM fam___tab; END",
        "/* DELETE */ CREATE TRIGGER t AFTER DELETE ON fam___tab BEGIN SELECT 1; END",
        "CREATE VIEW fam___view AS SELECT * FROM _ldb_seq",
        "CREATE INDEX i ON fam___tab (v)",
        "CREATE UNIQUE INDEX i ON _ldb_seq (seq)",
        "CREATE VIRTUAL TABLE fam___fts USING fts5(a)",
        "CREATE VIRTUAL TABLE fam___tree USING rtree(id, a, b)",
        // A row's hidden number, which differs between hosts.
        r#"REPLACE INTO fam___tab ("rowid","id","v") VALUES(1,5,'x')"#,
        r#"DELETE FROM fam___tab WHERE "_rowid_" = 1"#,
        "INSERT INTO fam___tab (OID, v) VALUES(1, 'x')",
        "UPDATE fam___tab SET v = [rowid]",
        // The applier's own tables, and the schema's.
        "REPLACE INTO _ldb_seq VALUES(1, 1000)",
        r#"REPLACE INTO _ldb_seq ("id","seq") VALUES(1,1000)"#,
        "INSERT INTO _LDB_SEQ VALUES(1, 1000) ON CONFLICT(id) DO UPDATE SET seq = 1000",
        r#"WITH _ldb_x AS (SELECT 1000 AS s) UPDATE main."_ldb_seq" SET seq = (SELECT s FROM _ldb_x)"#,
        "DELETE FROM _ldb_meta",
        "ALTER TABLE _ldb_seq ADD COLUMN x INTEGER",
        "ALTER TABLE fam___tab RENAME TO _ldb_other",
        "ALTER TABLE fam___tab RENAME TO fam___other",
        "ALTER TABLE fam___tab RENAME COLUMN v TO w",
        "ALTER TABLE fam___tab DROP COLUMN v",
        "ALTER TABLE fam___tab ALTER COLUMN v SET NOT NULL",
        "ALTER TABLE fam___tab ADD COLUMN w TEXT CHECK (length(w) < 3)",
        "ALTER TABLE fam___tab ADD COLUMN w INTEGER AS (id + 1)",
        "DROP TABLE _ldb_seq",
        "DROP TABLE IF EXISTS _ldb_meta",
        "DROP INDEX IF EXISTS i",
        "UPDATE sqlite_schema SET sql = '' WHERE name = '_ldb_seq'",
        "INSERT INTO sqlite_master VALUES('table','fam___x','fam___x',0,'CREATE TABLE fam___x(a)')",
        "INSERT INTO fam___tab SELECT id + 7, seq FROM _ldb_seq",
        "INSERT INTO fam___tab SELECT 7, count(*) FROM _ldb_meta AS innocent",
        "INSERT INTO fam___tab SELECT 7, sql FROM sqlite_schema",
        "INSERT INTO fam___tab SELECT 7, name FROM pragma_table_info('fam___tab')",
        "INSERT INTO fam___tab SELECT 7, count(*) FROM pragma_database_list",
        "UPDATE fam___tab SET v = (SELECT value FROM json_each('[1]'))",
        // Tables of other shapes and names.
        "CREATE TABLE loose (a)",
        "CREATE TABLE _ldb_mine (a)",
        "CREATE TABLE fam___copy AS SELECT * FROM fam___tab",
        "CREATE TABLE fam___auto (a INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE fam___chance (a INTEGER, b DEFAULT (random()))",
        "CREATE TABLE fam___when (a INTEGER, b DEFAULT CURRENT_TIMESTAMP)",
        "CREATE TABLE fam___checked (a TEXT CHECK (length(a) > 2))",
        // Answers that differ between hosts, or take their time.
        "UPDATE fam___tab SET v = random()",
        "INSERT INTO fam___tab VALUES(7, hex(randomblob(8)))",
        "UPDATE fam___tab SET v = datetime('now')",
        "UPDATE fam___tab SET v = CURRENT_TIMESTAMP",
        "UPDATE fam___tab SET v = last_insert_rowid() + changes()",
        "UPDATE fam___tab SET v = sqlite_version()",
        "UPDATE fam___tab SET v = load_extension('x')",
        "UPDATE fam___tab SET v = replace(v, 'a', 'b')",
        // More than one, or none of them.
        "DELETE FROM fam___tab; UPDATE fam___tab SET v = 1",
        "SELECT 1;SELECT 2",
        "PRAGMA foreign_keys = ON",
        "PRAGMA main.user_version",
        "EXPLAIN DELETE FROM fam___tab",
        "VACUUM",
        "REINDEX",
        "ANALYZE",
        "DETACH main",
        "SAVEPOINT s",
        "END",
        ";",
    ];
    for statement in statements {
        let error = ldb.apply(&batch(3, &[statement])).unwrap_err();
        let ApplyError::Statement { seq: at, form, applied: None, .. } = &error else { panic!("{statement}: {error}") };
        assert_eq!(at.0, 3, "{statement}");
        assert!(error.to_string().contains(&format!("ledger row 3 ({form}")), "{statement}: {error}");
        assert_eq!(everything(&scratch), before, "{statement}");
    }
    ldb.apply(&batch(3, &[&upsert(2, "b")])).unwrap();
    assert_eq!(seq(&scratch.reader()), 3);
}

#[test]
fn what_is_refused_is_said_in_words_and_without_a_value() {
    let (_scratch, mut ldb) = with_table();
    for (statement, reason) in [
        ("INSERT INTO fam___tab VALUES(1, hex(randomblob(8)))", "it may not call randomblob"),
        ("UPDATE _ldb_seq SET seq = 'secret'", "it may not change rows of _ldb_seq"),
        ("INSERT INTO fam___tab SELECT 7, value FROM _ldb_meta", "it may not read _ldb_meta"),
        ("CREATE TABLE IF NOT EXISTS secret (a)", "it may not make anything but a plain table family___table"),
        ("DELETE FROM fam___tab; SELECT 'secret'", "it holds more than one statement"),
        ("INSERT INTO fam___tab VALUES(1, 2, 'secret')", "table fam___tab has 2 columns but 3 values were supplied"),
        ("INSERT INTO fam___none VALUES('secret')", "no such table: fam___none"),
        ("INSERT INTO fam___tab VALUES(1, \"secret\")", "no such column: …"),
        ("INSERT INTO fam___tab VALUES(1, 'x')", "UNIQUE constraint failed: fam___tab.id"),
        ("INSERT INTO fam___tab VALUES('secret', 'x')", "datatype mismatch"),
    ] {
        let error = ldb.apply(&batch(3, &[statement])).unwrap_err().to_string();
        assert!(error.starts_with(&format!("ledger row 3 (other) failed: {reason}")), "{error}");
        assert!(error.ends_with("correct or delete that row in the ctldb; every reflector waits at it"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn legal_changes_of_rows_in_any_form_stay_legal() {
    let (scratch, mut ldb) = with_table();
    let statements = [
        "INSERT INTO fam___tab VALUES(2,'b'),(3,'c');",
        "insert or ignore into fam___tab (id, v) values (3, 'again') -- there already",
        "INSERT INTO fam___tab VALUES(3,'d') ON CONFLICT(id) DO UPDATE SET v = excluded.v || upper('x')",
        "UPDATE fam___tab SET v = substr(v, 1, 1) || printf('%03d', id) WHERE id IN (SELECT max(id) FROM fam___tab)",
        "WITH n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 12) INSERT INTO fam___tab SELECT i, 'n' FROM n",
        "DELETE FROM fam___tab WHERE v LIKE 'n%' AND id > (SELECT count(*) + 4 FROM fam___tab) RETURNING id",
        "/* a filler */ SELECT 1",
        "-- another",
        "CREATE TABLE IF NOT EXISTS fam___more (\"default\" VARCHAR(191), b INTEGER NOT NULL, PRIMARY KEY(\"default\")) WITHOUT ROWID",
        "alter table fam___more add c integer not null default 0",
        "REPLACE INTO fam___more VALUES('x', 1, 2);;",
        "CREATE TABLE Fam___Odd_ (a BLOB, UNIQUE(a))",
        "drop table Fam___Odd_ ;",
    ];
    ldb.apply(&batch(3, &statements)).unwrap();
    let rows = strings(&scratch.reader(), "SELECT id || v FROM fam___tab ORDER BY id");
    assert_eq!(rows, ["1a", "2b", "3d003", "10n"]);
    assert_eq!(strings(&scratch.reader(), "SELECT \"default\" || b || c FROM fam___more"), ["x12"]);
    assert_eq!(seq(&scratch.reader()), 2 + statements.len() as i64);
}

const TRIGGERS: &str = "CREATE TRIGGER jump AFTER INSERT ON _ldb_seq BEGIN UPDATE _ldb_seq SET seq = seq + 1000; END;
    CREATE TRIGGER empty AFTER INSERT ON _ldb_last_update BEGIN DELETE FROM fam___tab; END;
    CREATE TRIGGER more AFTER INSERT ON fam___tab BEGIN UPDATE fam___tab SET v = 'theirs'; END;
    CREATE VIEW fam___view AS SELECT seq AS id FROM _ldb_seq;";

#[test]
fn triggers_that_an_ldb_has_already_do_nothing() {
    let (scratch, ldb) = with_table();
    ldb.close().unwrap();
    Connection::open(scratch.ldb()).unwrap().execute_batch(TRIGGERS).unwrap();
    let mut ldb = scratch.open_logged(1 << 20);
    assert_eq!(ldb.triggers().unwrap(), ["jump", "empty", "more"]);
    ldb.apply(&batch(3, &[&upsert(2, "b"), "INSERT INTO fam___tab VALUES(3, 'c')"])).unwrap();
    assert_eq!(seq(&scratch.reader()), 4);
    assert_eq!(strings(&scratch.reader(), "SELECT v FROM fam___tab ORDER BY id"), ["a", "b", "c"]);
    // Not through the view either.
    let error = ldb.apply(&batch(5, &["INSERT INTO fam___tab SELECT id, 'x' FROM fam___view"])).unwrap_err();
    assert!(error.to_string().starts_with("ledger row 5 (other) failed: "), "{error}");
    ldb.adopt_ledger_id("other").unwrap();
    assert_eq!(integer(&scratch.reader(), "SELECT seq FROM _ldb_seq"), 4);
}

#[test]
fn a_snapshot_that_has_triggers_is_refused_by_name() {
    let (scratch, ldb) = with_table();
    ldb.close().unwrap();
    let snapshot = scratch.directory.path().join("snapshot.db");
    let fetched = |sql: &str, to: &str| {
        std::fs::copy(std::fs::canonicalize(scratch.ldb()).unwrap(), &snapshot).unwrap();
        Connection::open(&snapshot).unwrap().execute_batch(sql).unwrap();
        let to = scratch.directory.path().join(to);
        fetch(&SnapshotUrl::File(snapshot.clone()), &to, &Wanted::default(), &Abort::default(), &())
    };
    assert_eq!(fetched("CREATE VIEW harmless AS SELECT 1", "one").unwrap().position.seq.0, 2);
    for (sql, named) in [
        ("CREATE TRIGGER jump AFTER INSERT ON _ldb_seq BEGIN SELECT 1; END", "a trigger jump"),
        ("CREATE TRIGGER more AFTER DELETE ON fam___tab BEGIN SELECT 1; END", "a trigger more"),
        ("CREATE VIEW fam___view AS SELECT 1", "a view fam___view"),
    ] {
        let error = fetched(sql, "two").unwrap_err().to_string();
        assert!(error.contains(&format!("has {named}, which no ledger makes")), "{error}");
    }
}
