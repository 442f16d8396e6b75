//! Ledger batches become rows: all or nothing, each once, and in order. A statement that does not belong
//! in a ledger is refused.

use ctlstore_core::ledger::{Assembler, LdbPosition, Seq};
use ctlstore_ldb::{ApplyError, Ldb, LdbError};
use support::ldb::{CREATE, Scratch, batch, batch_of, dump, integer, row, seq, strings, timestamp, upsert};

/// An LDB with one table at seq 1.
fn with_table() -> (Scratch, Ldb) {
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    (scratch, ldb)
}

fn fault(error: ApplyError) -> (i64, Option<String>, &'static str, String, Option<i64>) {
    match error {
        ApplyError::Statement { seq, table, form, reason, applied, .. } => {
            (seq.0, table, form, reason, applied.map(|applied| applied.seq.0))
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_batch_brings_rows_seq_and_timestamp_together() {
    let (scratch, mut ldb) = with_table();
    let applied =
        ldb.apply(&batch(2, &["--- BEGIN", &upsert(1, "a"), &upsert(2, "b"), "--- COMMIT", &upsert(1, "c")])).unwrap();
    assert_eq!((applied.seq, applied.leader_ts), (Seq(6), Some(timestamp(6))));
    assert_eq!((applied.ledger_rows, applied.statements, applied.rows_changed, applied.skipped), (5, 3, 3, 0));
    let reader = scratch.reader();
    assert_eq!(seq(&reader), 6);
    assert_eq!(strings(&reader, "SELECT id || v FROM fam___tab ORDER BY id"), ["1c", "2b"]);
    assert_eq!(
        strings(&reader, "SELECT name || ' ' || timestamp FROM _ldb_last_update"),
        ["ledger 2026-01-01 00:00:06+00:00"]
    );
    assert_eq!(ldb.position().unwrap(), LdbPosition { seq: Seq(6), leader_ts: Some(timestamp(6)), ledger_id: None });
    let touched = std::fs::read_to_string(scratch.directory.path().join("ldb.db.seq")).unwrap();
    assert_eq!(touched.trim().parse(), Ok(6));
}

#[test]
fn a_table_that_is_there_already_is_said_to_be() {
    let (_scratch, mut ldb) = with_table();
    let (seq, table, form, reason, _) = fault(ldb.apply(&batch(2, &[CREATE])).unwrap_err());
    assert_eq!((seq, table.as_deref(), form), (2, Some("fam___tab"), "create table"));
    assert_eq!(reason, "table fam___tab already exists");
}

#[test]
fn every_form_of_statement_is_applied() {
    let (scratch, mut ldb) = with_table();
    let statements = [
        r#"ALTER TABLE fam___tab ADD COLUMN "r" REAL"#,
        r#"REPLACE INTO fam___tab ("id","v","r") VALUES(1,'it''s',0.5)"#,
        r#"REPLACE INTO fam___tab ("id","v","r") VALUES(2,NULL,-10)"#,
        r#"REPLACE INTO fam___tab ("id","v","r") VALUES(3,x'6100',true)"#,
        r#"DELETE FROM fam___tab WHERE "id" = 2"#,
        r#"CREATE TABLE fam___gone ("id" INTEGER, PRIMARY KEY("id"));"#,
        "DROP TABLE IF EXISTS fam___gone",
        "DROP TABLE IF EXISTS fam___never",
        r#"CREATE TABLE fam___cleared ("id" INTEGER, PRIMARY KEY("id"));"#,
        r#"REPLACE INTO fam___cleared ("id") VALUES(1)"#,
        "DELETE FROM fam___cleared",
        r#"UPDATE fam___tab SET "v" = 'of no known form' WHERE "id" = 1; -- two in one"#,
    ];
    ldb.apply(&batch(2, &statements)).unwrap();
    let tables = dump(&scratch.reader());
    assert_eq!(
        tables[2..],
        [
            "fam___tab: Integer(1), Text(\"of no known form\"), real 0.5 3fe0000000000000",
            "fam___tab: Integer(3), Blob([97, 0]), real 1.0 3ff0000000000000",
        ]
    );
}

#[test]
fn rows_that_were_applied_before_are_skipped_and_none_besides() {
    let (scratch, mut ldb) = with_table();
    ldb.apply(&batch(2, &[&upsert(1, "a"), &upsert(2, "b")])).unwrap();
    let replayed = ldb.apply(&batch(1, &[CREATE, &upsert(1, "old"), &upsert(2, "old")])).unwrap();
    assert_eq!((replayed.seq, replayed.ledger_rows, replayed.skipped), (Seq(3), 0, 3));
    let overlapping = ldb.apply(&batch(3, &[&upsert(2, "old"), &upsert(3, "new")])).unwrap();
    assert_eq!((overlapping.seq, overlapping.ledger_rows, overlapping.skipped), (Seq(4), 1, 1));
    assert_eq!(strings(&scratch.reader(), "SELECT v FROM fam___tab ORDER BY id"), ["a", "b", "new"]);
}

#[test]
fn a_batch_behind_rows_that_the_ldb_lacks_is_refused() {
    let (scratch, mut ldb) = with_table();
    let mut assembler = Assembler::after(Seq(4));
    assembler.push(row(5, &upsert(1, "late"))).unwrap();
    let error = ldb.apply(&assembler.take_complete().unwrap()).unwrap_err();
    assert!(matches!(error, ApplyError::Ldb(LdbError::Behind { at: Seq(1), follows: Seq(4), .. })), "{error}");
    assert_eq!(ldb.position().unwrap().seq, Seq(1));
    assert_eq!(integer(&scratch.reader(), "SELECT count(*) FROM fam___tab"), 0);
}

#[test]
fn gaps_between_seqs_are_the_pollers_to_judge() {
    let (scratch, mut ldb) = with_table();
    ldb.apply(&batch_of([row(7, &upsert(1, "a")), row(9, &upsert(2, "b"))])).unwrap();
    assert_eq!(seq(&scratch.reader()), 9);
}

#[test]
fn a_row_without_a_timestamp_keeps_the_last_one() {
    let (_scratch, mut ldb) = with_table();
    let mut second = row(2, &upsert(1, "a"));
    second.leader_ts = None;
    let applied = ldb.apply(&batch_of([second])).unwrap();
    assert_eq!((applied.seq, applied.leader_ts), (Seq(2), None));
    assert_eq!(ldb.position().unwrap().leader_ts, Some(timestamp(1)));
}

#[test]
fn what_precedes_a_statement_that_fails_is_applied_and_nothing_of_its_transaction() {
    let (scratch, mut ldb) = with_table();
    let missing = r#"REPLACE INTO fam___missing ("id","v") VALUES(1,'secret value')"#;
    let statements =
        [&upsert(1, "a"), "--- BEGIN", &upsert(2, "b"), missing, "--- COMMIT", &upsert(3, "c")].map(str::to_owned);
    let statements = statements.each_ref().map(String::as_str);
    let error = ldb.apply(&batch(2, &statements)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ledger row 5 (upsert fam___missing) failed: no such table: fam___missing; correct or delete that row in the ctldb; every reflector waits at it"
    );
    let (seq_at_fault, table, form, _, applied) = fault(error);
    assert_eq!((seq_at_fault, table.as_deref(), form, applied), (5, Some("fam___missing"), "upsert", Some(2)));
    let reader = scratch.reader();
    assert_eq!((seq(&reader), strings(&reader, "SELECT v FROM fam___tab")), (2, vec!["a".to_owned()]));
    // A second try stops at the same row, and applies nothing more.
    assert_eq!(fault(ldb.apply(&batch(2, &statements)).unwrap_err()).4, None);
    assert_eq!(seq(&reader), 2);
}

#[test]
fn an_error_never_repeats_a_value() {
    let (_scratch, mut ldb) = with_table();
    for statement in [
        "REPLACE INTO fam___tab VALUES(1,'secret",
        "INSERT INTO fam___tab VALUES(1, 'secret' 'secret')",
        r#"INSERT INTO fam___tab VALUES(1, "secret")"#,
        "SELECT secret(1)",
        "secret",
        r#"CREATE TABLE fam___new ("a" INTEGER) secret 'secret"#,
        r#"ALTER TABLE fam___tab ADD COLUMN "x" REAL secret secret('"#,
    ] {
        let error = ldb.apply(&batch(2, &[statement])).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(fault(error).0, 2);
    }
}

#[test]
fn a_ledger_can_neither_end_the_transaction_nor_leave_the_ldb() {
    let (scratch, mut ldb) = with_table();
    let elsewhere = scratch.directory.path().join("elsewhere.db");
    let attach = format!("ATTACH '{}' AS other", elsewhere.display());
    for statement in [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "SAVEPOINT s",
        "UPDATE fam___tab SET v = 1; COMMIT; BEGIN",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA writable_schema = ON",
        "UPDATE _ldb_seq SET seq = 1000",
        r#"REPLACE INTO _ldb_seq ("id","seq") VALUES(1,1000)"#,
        r#"DELETE FROM _ldb_seq WHERE "id" = 1"#,
        "DELETE FROM _ldb_meta",
        "DROP TABLE IF EXISTS _ldb_seq",
        "DELETE FROM sqlite_schema",
        &attach,
    ] {
        let error = ldb.apply(&batch(2, &[&upsert(1, "before"), statement])).unwrap_err();
        let (at, _, _, _, applied) = fault(error);
        assert_eq!(at, 3, "{statement}");
        // The first statement, COMMIT, lets the row before it be applied. The others find that row applied.
        assert_eq!(applied, (statement == "COMMIT").then_some(2), "{statement}");
        assert_eq!(seq(&scratch.reader()), 2, "{statement}");
    }
    assert!(!elsewhere.exists());
    ldb.apply(&batch(3, &[&upsert(2, "after")])).unwrap();
}

#[test]
fn a_statement_with_a_nul_character_is_refused_whole() {
    let (scratch, mut ldb) = with_table();
    let error = ldb.apply(&batch(2, &["DELETE FROM fam___tab WHERE id = 1\0 OR 1"])).unwrap_err();
    assert_eq!(fault(error).3, "it holds a NUL character");
    assert_eq!(seq(&scratch.reader()), 1);
}

#[test]
fn an_ldb_that_stands_within_a_transaction_is_not_gone_on_with() {
    let (scratch, ldb) = with_table();
    ldb.close().unwrap();
    rusqlite::Connection::open(scratch.ldb()).unwrap().execute("UPDATE _ldb_seq SET seq = 3", []).unwrap();
    let mut ldb = scratch.open();
    let error = ldb.apply(&batch(2, &["--- BEGIN", &upsert(1, "a"), &upsert(2, "b"), "--- COMMIT"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ledger row 4 (upsert fam___tab) failed: the ldb stands at 3, within its ledger transaction"
    );
    assert_eq!(integer(&scratch.reader(), "SELECT count(*) FROM fam___tab"), 0);
}

#[test]
fn a_drop_within_another_requests_transaction_is_accepted() {
    let (scratch, mut ldb) = with_table();
    ldb.apply(&batch(2, &["--- BEGIN", &upsert(1, "a"), "DROP TABLE IF EXISTS fam___tab", "--- COMMIT"])).unwrap();
    assert_eq!(dump(&scratch.reader()), [""; 0]);
}

#[test]
fn a_table_made_again_with_other_columns_takes_the_new_rows() {
    let (scratch, mut ldb) = with_table();
    let create = r#"CREATE TABLE fam___tab ("id" VARCHAR(191), "v" INTEGER, "w" BLOB, PRIMARY KEY("id"));"#;
    let row = r#"REPLACE INTO fam___tab ("id","v","w") VALUES('1',2,x'03')"#;
    ldb.apply(&batch(2, &[&upsert(1, "a"), "DROP TABLE IF EXISTS fam___tab", create, row])).unwrap();
    assert_eq!(dump(&scratch.reader())[1..], ["fam___tab: Text(\"1\"), Integer(2), Blob([3])"]);
}
