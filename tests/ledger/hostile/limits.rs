//! A ledger row that never ends, or that makes something huge, ends at a bound. The
//! protocol's own forms have none.

use std::thread;
use std::time::Duration;

use ctlstore_ldb::{ApplyError, ClaimedLdb, Ldb, LdbError, StatementLimits};

use support::ldb::{CREATE, Scratch, batch, integer, options, seq, strings, upsert};
use support::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n) INSERT INTO fam___tab SELECT max(i), 'x' FROM n";

fn small() -> StatementLimits {
    StatementLimits { max_bytes: 1 << 20, max_memory_bytes: 64 << 20, ..StatementLimits::default() }
}

fn with_limits(limits: StatementLimits) -> (Scratch, ClaimedLdb, Ldb) {
    let scratch = Scratch::new();
    let home = ClaimedLdb::claim_with(&scratch.ldb(), limits).unwrap();
    let mut ldb = home.open(&options(None)).unwrap();
    ldb.apply(&batch(1, &[CREATE])).unwrap();
    (scratch, home, ldb)
}

/// Set in the process that has the test below for itself.
const ALONE: &str = "CTLSTORE_TEST_ALONE";

/// Memory can be bounded only before anything in the process has used SQLite, so this test runs in one of its own.
#[test]
fn a_statement_that_takes_too_long_or_too_much_fails_by_its_seq_and_what_precedes_it_is_applied() {
    if std::env::var_os(ALONE).is_none() {
        const NAME: &str = concat!(
            module_path!(),
            "::a_statement_that_takes_too_long_or_too_much_fails_by_its_seq_and_what_precedes_it_is_applied"
        );
        let output = support::one_test(NAME).env(ALONE, "1").output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
        return;
    }
    ctlstore_reader::read::query::memory::bound().unwrap();
    let many = "x".repeat(2 << 20);
    let long = format!("INSERT INTO fam___tab VALUES(1, '' || '{many}')");
    let time = "took longer than reflector.statement_max_time, 1 s";
    let bytes = "reflector.statement_max_bytes";
    for (statement, reason) in [
        (ENDLESS, time),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT count(*) FROM n", time),
        (
            "UPDATE fam___tab SET v = (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n)",
            time,
        ),
        ("INSERT INTO fam___tab VALUES(9, zeroblob(900000000))", bytes),
        ("INSERT INTO fam___tab VALUES(9, printf('%.*c', 900000000, 'x'))", bytes),
        ("INSERT INTO fam___tab VALUES(9, hex(zeroblob(800000)))", bytes),
        (&long, bytes),
        (
            "WITH RECURSIVE n(b) AS (SELECT zeroblob(1000000) UNION ALL SELECT b FROM n, (SELECT 1 UNION ALL SELECT 2))
             INSERT INTO fam___tab SELECT 9, count(*) FROM n",
            "wants more than reflector.statement_max_memory_bytes, 67108864 bytes",
        ),
    ] {
        let max_time = Duration::from_secs(if reason == time { 1 } else { 600 });
        let (scratch, _home, mut ldb) = with_limits(StatementLimits { max_time, ..small() });
        let error = ldb.apply(&batch(2, &[&upsert(1, "a"), "--- BEGIN", statement, "--- COMMIT"])).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with("ledger row 4 (other) failed: ") && shown.contains(reason), "{shown}");
        assert!(matches!(error, ApplyError::Statement { applied: Some(_), .. }), "{shown}");
        assert_eq!(
            (seq(&scratch.reader()), strings(&scratch.reader(), "SELECT v FROM fam___tab")),
            (2, vec!["a".to_owned()])
        );
    }
}

#[test]
fn the_protocols_own_forms_are_not_bounded() {
    let limits = StatementLimits { max_time: Duration::ZERO, max_bytes: 1, max_memory_bytes: 1 };
    let (scratch, _home, mut ldb) = with_limits(limits);
    let value = "x".repeat(700 << 10);
    let rows: Vec<String> = (0..2000).map(|id| upsert(id, "a")).chain([upsert(1, &value)]).collect();
    let mut statements: Vec<&str> = rows.iter().map(String::as_str).collect();
    statements.push(r#"ALTER TABLE fam___tab ADD COLUMN "c" TEXT"#);
    statements.push(r#"DELETE FROM fam___tab WHERE "c" = 'nowhere'"#);
    ldb.apply(&batch(2, &statements)).unwrap();
    assert_eq!(integer(&scratch.reader(), "SELECT count(*) FROM fam___tab"), 2000);
    let next = 2 + statements.len() as i64;
    ldb.apply(&batch(next, &["DELETE FROM fam___tab", "DROP TABLE IF EXISTS fam___tab"])).unwrap();
}

#[test]
fn the_statement_at_work_is_known_and_can_be_stopped_without_loss() {
    let (scratch, home, mut ldb) = with_limits(StatementLimits::default());
    let watch = home.watch();
    assert_eq!(watch.at_work(), None);
    let applying = thread::spawn(move || {
        let result = ldb.apply(&batch(2, &[&upsert(1, "a"), ENDLESS]));
        (ldb, result)
    });
    wait_until("the row is at work", DEADLINE, || watch.at_work().is_some_and(|(seq, _)| seq.0 == 3));
    wait_until("its time goes on", DEADLINE, || watch.at_work().is_some_and(|(_, time)| time.as_millis() > 20));
    watch.stop();
    let (ldb, result) = applying.join().unwrap();
    assert!(matches!(result, Err(ApplyError::Ldb(LdbError::Stopped { seq })) if seq.0 == 3));
    assert_eq!(watch.at_work(), None);
    // The whole batch is rolled back, and comes again.
    assert_eq!((seq(&scratch.reader()), integer(&scratch.reader(), "SELECT count(*) FROM fam___tab")), (1, 0));
    ldb.close().unwrap();
    drop(home);
    scratch.open().apply(&batch(2, &[&upsert(1, "a")])).unwrap();
    assert_eq!(seq(&scratch.reader()), 2);
}
