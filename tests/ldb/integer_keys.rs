//! Rows without a key in a table of one integer key: SQLite would choose a number, at the end of the numbers by chance.

use support::ldb::{Scratch, batch, integer};

const TABLE: &str = r#"CREATE TABLE fam___tab ("id" INTEGER, "v" TEXT, PRIMARY KEY("id"));"#;

#[test]
fn an_upsert_that_leaves_out_an_integer_key_or_makes_it_null_stops_the_applier() {
    // Not bound, since SQLite reads such a number.
    let huge = format!(r#"REPLACE INTO fam___tab ("v") VALUES(1{})"#, "0".repeat(400));
    for upsert in
        [r#"REPLACE INTO fam___tab ("v") VALUES('x')"#, r#"REPLACE INTO fam___tab ("id","v") VALUES(NULL,'x')"#, &huge]
    {
        let scratch = Scratch::new();
        let mut ldb = scratch.open();
        let last = format!(r#"REPLACE INTO fam___tab ("id","v") VALUES({},'last')"#, i64::MAX);
        ldb.apply(&batch(1, &[TABLE, &last])).unwrap();
        let error = ldb.apply(&batch(3, &[upsert])).unwrap_err().to_string();
        assert!(error.contains("gives a row no key") && error.contains('3'), "{upsert}: {error}");
        assert_eq!(integer(&scratch.reader(), "SELECT COUNT(*) FROM fam___tab"), 1);
    }
}

#[test]
fn keys_of_other_kinds_and_of_several_columns_are_as_before() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    let statements = [
        r#"CREATE TABLE fam___text ("id" VARCHAR(191), "v" TEXT, PRIMARY KEY("id"));"#,
        r#"CREATE TABLE fam___two ("a" INTEGER, "b" INTEGER, PRIMARY KEY("a","b"));"#,
        TABLE,
        r#"REPLACE INTO fam___text ("v") VALUES('x')"#,
        r#"REPLACE INTO fam___two ("a","b") VALUES(1,2)"#,
        r#"REPLACE INTO fam___tab ("v","id") VALUES('x',7)"#,
        r#"REPLACE INTO fam___tab ("v","id") VALUES(NULL,8)"#,
    ];
    ldb.apply(&batch(1, &statements)).unwrap();
    assert_eq!(integer(&scratch.reader(), "SELECT SUM(id) FROM fam___tab"), 15);
}
