//! Which entries statements make: one for each row that really changed, numbered
//! without a gap, and a jump wherever a row was not named.

use std::fs;

use support::ldb::follower::{Entry, Follower};
use support::ldb::{CREATE, Scratch, batch, seq, upsert};

const LARGE: u64 = 1 << 30;

fn entries(scratch: &Scratch) -> Vec<Entry> {
    let text = fs::read_to_string(scratch.changelog()).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Number, row and ledger seq of each entry.
fn shown(scratch: &Scratch) -> Vec<String> {
    entries(scratch).iter().map(|e| format!("{} {} @{}", e.seq, e.row(), e.ledger_seq)).collect()
}

#[test]
fn an_entry_is_written_byte_for_byte_as_the_protocol_says() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(LARGE);
    let create = r#"CREATE TABLE fam___keys ("b" BLOB(255), "s" VARCHAR(191), "i" INTEGER, PRIMARY KEY("i","s","b"));"#;
    let upsert = r#"REPLACE INTO fam___keys ("b","s","i") VALUES(x'00ff','it''s',-7)"#;
    ldb.apply(&batch(4710, &[create, upsert])).unwrap();
    assert_eq!(
        fs::read_to_string(scratch.changelog()).unwrap(),
        "{\"seq\":1,\"family\":\"fam\",\"table\":\"keys\",\"key\":[\
         {\"name\":\"b\",\"type\":\"BLOB(255)\",\"value\":\"AP8=\"},\
         {\"name\":\"s\",\"type\":\"VARCHAR(191)\",\"value\":\"it's\"},\
         {\"name\":\"i\",\"type\":\"INTEGER\",\"value\":-7}],\"ledgerSeq\":4711}\n"
    );
}

#[test]
fn a_row_has_one_entry_for_each_statement_that_changed_it() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(LARGE);
    let statements = [
        CREATE.to_owned(),
        upsert(1, "new"),
        upsert(1, "replaced"),
        upsert(2, "new"),
        r#"DELETE FROM fam___tab WHERE "id" = 1"#.to_owned(),
        r#"DELETE FROM fam___tab WHERE "id" = 1"#.to_owned(),
        "DELETE FROM fam___tab".to_owned(),
        "INSERT INTO fam___tab VALUES(7,'a'),(8,'b'),(9,'c')".to_owned(),
        "UPDATE fam___tab SET id = id + 10 WHERE id > 7".to_owned(),
    ];
    let applied = ldb.apply(&batch(1, &statements.each_ref().map(String::as_str))).unwrap();
    let expected = [
        "1 fam___tab 1 @2",
        "2 fam___tab 1 @3",
        "3 fam___tab 2 @4",
        "4 fam___tab 1 @5",
        "5 fam___tab 2 @7",
        "6 fam___tab 7 @8",
        "7 fam___tab 8 @8",
        "8 fam___tab 9 @8",
        "9 fam___tab 8 @9",
        "10 fam___tab 18 @9",
        "11 fam___tab 9 @9",
        "12 fam___tab 19 @9",
    ];
    assert_eq!(shown(&scratch), expected);
    assert_eq!((applied.changelog.entries, applied.changelog.jumps), (12, 0));
}

#[test]
fn nothing_is_written_of_what_is_rolled_back() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(LARGE);
    ldb.apply(&batch(1, &[CREATE, &upsert(1, "a")])).unwrap();
    let statements = ["--- BEGIN", &upsert(2, "b"), "nonsense", "--- COMMIT"];
    for _ in 0..3 {
        ldb.apply(&batch(3, &statements)).unwrap_err();
    }
    ldb.apply(&batch(3, &[&upsert(3, "c")])).unwrap();
    assert_eq!(shown(&scratch), ["1 fam___tab 1 @2", "2 fam___tab 3 @3"]);
}

#[test]
fn a_cleared_table_names_its_rows_up_to_the_bound_and_jumps_beyond() {
    for (rows, expected) in [(10_000, (20_001, 10_000, 0)), (10_001, (20_002 - 10_000 + 2, 1, 1))] {
        let scratch = Scratch::new();
        let mut ldb = scratch.open_logged(LARGE);
        let fill: Vec<_> = (1..=rows).map(|id| upsert(id, "a")).collect();
        let statements: Vec<_> = std::iter::once(CREATE).chain(fill.iter().map(String::as_str)).collect();
        ldb.apply(&batch(1, &statements)).unwrap();
        let applied = ldb.apply(&batch(rows + 2, &["DELETE FROM fam___tab"])).unwrap();
        assert_eq!(applied.rows_changed, rows as u64);
        ldb.apply(&batch(rows + 3, &[&upsert(1, "b")])).unwrap();
        let last = entries(&scratch).last().unwrap().seq;
        assert_eq!((last, applied.changelog.entries, applied.changelog.jumps), expected, "{rows} rows");
    }
}

#[test]
fn what_takes_rows_along_unnamed_is_seen_as_a_jump_at_once() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(LARGE);
    let other = r#"CREATE TABLE fam___other ("id" INTEGER, PRIMARY KEY("id"));"#;
    ldb.apply(&batch(1, &[CREATE, other, &upsert(1, "a"), r#"REPLACE INTO fam___other ("id") VALUES(5)"#])).unwrap();
    let mut follower = Follower::new(scratch.changelog());
    follower.follow();
    follower.load(&scratch.reader());
    ldb.apply(&batch(5, &["DROP TABLE IF EXISTS fam___tab"])).unwrap();
    assert_eq!((follower.follow().len(), follower.resyncs), (1, 1));
    // An empty table, or none, takes no row with it.
    ldb.apply(&batch(6, &[CREATE, "DROP TABLE IF EXISTS fam___tab", "DROP TABLE IF EXISTS fam___tab"])).unwrap();
    assert_eq!((follower.follow().len(), follower.resyncs), (0, 1));
    // In a form that is not the protocol's, it is noticed by the changed schema.
    ldb.apply(&batch(9, &["drop table fam___other"])).unwrap();
    assert_eq!((follower.follow().len(), follower.resyncs), (1, 2));
    assert_eq!(shown(&scratch)[2..], ["4 fam___tab 1 @5", "6 ___  @9"]);
}

#[test]
fn a_table_made_again_in_the_same_batch_is_named_by_its_new_key() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(LARGE);
    let again = r#"CREATE TABLE fam___tab ("v" INTEGER, "id" VARCHAR(191), PRIMARY KEY("id"));"#;
    let row = r#"REPLACE INTO fam___tab ("v","id") VALUES(1,'x')"#;
    ldb.apply(&batch(1, &[CREATE, "DROP TABLE IF EXISTS fam___tab", again, row])).unwrap();
    assert_eq!(shown(&scratch), ["1 fam___tab \"x\" @4"]);
    // The keys that were learned in a transaction are forgotten when it is rolled back.
    let statements = ["--- BEGIN", "DROP TABLE IF EXISTS fam___tab", CREATE, &upsert(1, "a"), "nonsense", "--- COMMIT"];
    ldb.apply(&batch(5, &statements)).unwrap_err();
    ldb.apply(&batch(5, &[row])).unwrap();
    assert_eq!(shown(&scratch)[1..], ["2 fam___tab \"x\" @5"]);
}

#[test]
fn the_applier_makes_no_entries_of_its_own_tables() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(LARGE);
    ldb.adopt_ledger_id("ledger").unwrap();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    assert_eq!(shown(&scratch), [""; 0]);
    assert_eq!(seq(&scratch.reader()), 1);
}

#[test]
fn a_changelog_of_no_bytes_is_no_changelog() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open_logged(0);
    ldb.apply(&batch(1, &[CREATE, &upsert(1, "a")])).unwrap();
    assert!(!scratch.changelog().exists());
}
