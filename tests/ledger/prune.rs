//! What pruning a ledger leaves, on every kind of ctldb: its bounds, its mark, and what others make of a ledger
//! that has lost its beginning.

use std::time::Duration;

use ctlstore_core::ledger::{BlockLimit, CannotFollow, LdbPosition, LedgerSource, PruneLimit, Seq, VerifiedSnapshot};
use ctlstore_core::schema::FieldType;
use ctlstore_core::sql::{BEGIN, COMMIT};
use ctlstore_ctldb::executive::{PruneError, PruneOrder, PruneOutcome, PruneRefusal, plan, prune};
use ctlstore_ctldb::tail::{Tail, TailError};
use ctlstore_ctldb::{AnyCtldb, AnySource, Ctldb, LedgerTable, Location, SchemaChange};
use support::ctldb::*;
use support::{TestDatabase, every_ctldb, original};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn append(statements: &[&str]) -> Step {
    Step::Append(statements.iter().map(ToString::to_string).collect())
}

/// Rows 1 to `count`, each a statement by itself.
async fn filled(ctldb: &AnyCtldb, count: usize) {
    write(ctldb, vec![Step::Append((1..=count).map(|i| format!("statement {i}")).collect())]).await;
}

/// Has the rows up to `seq` be older than a day.
fn age(database: &TestDatabase, seq: i64) {
    database.query(&format!("UPDATE ctlstore_dml_ledger SET leader_ts = '2020-01-01 00:00:00' WHERE seq <= {seq}"));
}

fn ledger_id(database: &TestDatabase) -> String {
    database.value("SELECT value FROM ctlstore_meta WHERE name = 'ledger_id'").expect("a ledger id")
}

/// Keeps a day, and what a snapshot of this ledger at `seq` does not have.
fn order(database: &TestDatabase, seq: i64) -> PruneOrder {
    let snapshot = VerifiedSnapshot {
        seq: Seq(seq),
        leader_ts: None,
        ledger_id: Some(ledger_id(database)),
        url: "file:///s.db".to_owned(),
    };
    PruneOrder { keep: DAY, snapshot, no_original_reflectors: false }
}

fn seqs(database: &TestDatabase) -> Vec<i64> {
    ledger(database).into_iter().map(|(seq, _)| seq).collect()
}

fn mark(database: &TestDatabase) -> Option<i64> {
    let rows = database.query("SELECT value FROM ctlstore_meta WHERE name = 'low_water_seq'");
    rows.first().map(|row| row[0].as_deref().expect("a mark").parse().expect("a number"))
}

async fn pruned(ctldb: &AnyCtldb, order: PruneOrder) -> PruneOutcome {
    prune(ctldb, order, |_| true).await.unwrap_or_else(|error| panic!("prune: {error}"))
}

async fn refused(ctldb: &AnyCtldb, order: PruneOrder) -> PruneRefusal {
    match prune(ctldb, order, |_| true).await {
        Err(PruneError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn source(database: &TestDatabase) -> AnySource {
    let location = Location::parse(&database.url).expect("a good url");
    AnySource::new(&location, LedgerTable::default(), Duration::from_secs(30)).expect("a source")
}

#[tokio::test]
async fn only_old_rows_of_a_snapshot_go_and_never_the_last() {
    on_every_ctldb(async |ctldb, database| {
        filled(ctldb, 20).await;
        assert_eq!(pruned(ctldb, order(database, 20)).await.rows, 0);
        assert_eq!((seqs(database).len(), mark(database)), (20, None), "young rows stay");

        age(database, 16);
        let outcome = pruned(ctldb, order(database, 12)).await;
        assert_eq!((outcome.rows, outcome.limit, outcome.low_water), (12, PruneLimit::Snapshot, Some(Seq(13))));
        assert_eq!((seqs(database)[0], mark(database)), (13, Some(13)));

        let outcome = pruned(ctldb, order(database, 20)).await;
        assert_eq!((outcome.rows, outcome.limit), (4, PruneLimit::Age));
        assert_eq!((seqs(database)[0], mark(database)), (17, Some(17)));

        age(database, 20);
        let outcome = pruned(ctldb, order(database, 20)).await;
        assert_eq!((outcome.rows, outcome.limit), (3, PruneLimit::LastRow));
        assert_eq!((seqs(database), mark(database)), (vec![20], Some(20)));
        let again = pruned(ctldb, order(database, 20)).await;
        assert_eq!((again.rows, again.limit, again.low_water), (0, PruneLimit::LastRow, Some(Seq(20))));
    })
    .await;
}

#[tokio::test]
async fn no_ledger_transaction_is_cut_in_two() {
    on_every_ctldb(async |ctldb, database| {
        let many: Vec<String> = (0..2_000).map(|i| format!("row {i}")).collect();
        let long = [vec![BEGIN.to_owned()], many, vec![COMMIT.to_owned()]].concat();
        let steps =
            vec![append(&["a", BEGIN, "b", "c", COMMIT, "d"]), Step::Append(long), append(&[BEGIN, "z", COMMIT])];
        write(ctldb, steps).await;
        age(database, i64::MAX);
        assert_eq!(pruned(ctldb, order(database, 4)).await.low_water, Some(Seq(2)));
        assert_eq!(pruned(ctldb, order(database, 5)).await.low_water, Some(Seq(6)));
        // The one that is longer than a step goes as a whole or not at all.
        assert_eq!(pruned(ctldb, order(database, 2_007)).await.low_water, Some(Seq(7)));
        let outcome = pruned(ctldb, order(database, 2_011)).await;
        assert_eq!((outcome.rows, outcome.limit, outcome.low_water), (2_002, PruneLimit::LastRow, Some(Seq(2_009))));
        assert_eq!(seqs(database), [2_009, 2_010, 2_011]);
    })
    .await;
}

#[tokio::test]
async fn seqs_are_not_given_twice_after_everything_that_may_go_is_gone() {
    for (name, database) in every_ctldb() {
        println!("on {name}");
        let ctldb = prepared(&database).await;
        filled(&ctldb, 700).await;
        age(&database, 700);
        let outcome = pruned(&ctldb, order(&database, 700)).await;
        assert_eq!(outcome.rows, 699);
        assert!(outcome.transactions >= 2, "699 rows went in {} transactions", outcome.transactions);
        ctldb.close().await;
        let ctldb = prepared(&database).await;
        assert_eq!(write(&ctldb, vec![append(&["next"])]).await[0].number(), 701);
        assert_eq!(seqs(&database), [700, 701]);
        ctldb.close().await;
    }
}

#[tokio::test]
async fn a_prune_that_is_stopped_leaves_a_ledger_that_is_right() {
    on_every_ctldb(async |ctldb, database| {
        filled(ctldb, 3_000).await;
        age(database, 3_000);
        let outcome = prune(ctldb, order(database, 2_900), |so_far| so_far.transactions < 1).await.expect("pruned");
        assert_eq!((outcome.transactions, outcome.limit), (1, PruneLimit::Rows));
        let first = outcome.low_water.expect("a mark").0;
        assert_eq!((seqs(database)[0], mark(database)), (first, Some(first)));
        assert_eq!(pruned(ctldb, order(database, 2_900)).await.low_water, Some(Seq(2_901)));
    })
    .await;
}

#[tokio::test]
async fn a_plan_says_what_goes_and_changes_nothing() {
    on_every_ctldb(async |ctldb, database| {
        filled(ctldb, 20).await;
        age(database, 16);
        let before = (ledger(database), mark(database));
        let planned = plan(&mut source(database), &order(database, 12)).await.expect("a plan");
        assert_eq!((planned.first, planned.last, planned.cut), (Some(Seq(1)), Some(Seq(20)), Some(Seq(12))));
        assert_eq!((planned.rows, planned.limit), (12, PruneLimit::Snapshot));
        let bytes: usize = before.0[..12].iter().map(|(_, statement)| statement.len()).sum();
        assert_eq!(planned.bytes, bytes as u64);
        assert_eq!(planned.oldest_left.expect("a time").to_string(), "2020-01-01 00:00:00+00:00");
        assert_eq!((ledger(database), mark(database)), before);
        let outcome = pruned(ctldb, order(database, 12)).await;
        assert_eq!((outcome.rows, outcome.bytes), (planned.rows, planned.bytes));
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_of_another_ledger_prunes_nothing() {
    on_every_ctldb(async |ctldb, database| {
        filled(ctldb, 10).await;
        age(database, 10);
        let of = |id: Option<&str>, seq| {
            let mut order = order(database, seq);
            order.snapshot.ledger_id = id.map(str::to_owned);
            order
        };
        let own = ledger_id(database);
        let other = refused(ctldb, of(Some("another"), 5)).await;
        assert!(matches!(other, PruneRefusal::OtherLedger { .. }), "{other}");
        assert!(other.to_string().contains("another") && other.to_string().contains(&own), "{other}");
        let unnamed = refused(ctldb, of(None, 5)).await;
        assert!(matches!(unnamed, PruneRefusal::SnapshotWithoutLedger { .. }), "{unnamed}");
        let ahead = refused(ctldb, of(Some(&own), 11)).await;
        assert!(matches!(ahead, PruneRefusal::SnapshotAhead { .. }), "{ahead}");
        assert_eq!((seqs(database).len(), mark(database)), (10, None));
    })
    .await;
}

/// The ledger table as the original makes it in an SQLite ctldb.
const ORIGINAL_SQLITE_LEDGER: &str = "CREATE TABLE ctlstore_dml_ledger (seq INTEGER PRIMARY KEY AUTOINCREMENT, \
                                      leader_ts DATETIME DEFAULT CURRENT_TIMESTAMP, statement MEDIUMTEXT NOT NULL)";

#[tokio::test]
async fn a_ctldb_of_the_original_is_pruned_only_on_the_word_that_its_reflectors_are_gone() {
    for (name, database) in every_ctldb() {
        println!("on {name}");
        match database.is_mysql() {
            true => original::SCHEMA.iter().for_each(|statement| drop(database.query(statement))),
            false => drop(database.query(ORIGINAL_SQLITE_LEDGER)),
        }
        let ctldb = prepared(&database).await;
        filled(&ctldb, 10).await;
        age(&database, 10);
        assert_eq!(refused(&ctldb, order(&database, 5)).await, PruneRefusal::MadeByOriginal);
        let planned = plan(&mut source(&database), &order(&database, 5)).await;
        assert!(matches!(planned, Err(PruneError::Refused(PruneRefusal::MadeByOriginal))), "{planned:?}");
        assert_eq!((seqs(&database).len(), mark(&database)), (10, None));
        let anyway = PruneOrder { no_original_reflectors: true, ..order(&database, 5) };
        assert_eq!(pruned(&ctldb, anyway).await.low_water, Some(Seq(6)));
        ctldb.close().await;
    }
}

#[tokio::test]
async fn gaps_that_others_left_stay_legal() {
    on_every_ctldb(async |ctldb, database| {
        filled(ctldb, 10).await;
        database.query("DELETE FROM ctlstore_dml_ledger WHERE seq IN (6, 7)");
        age(database, 10);
        assert_eq!(pruned(ctldb, order(database, 5)).await.low_water, Some(Seq(6)));
        // An ldb that has row 5 has missed nothing.
        assert_eq!(follow(database, 5).await.expect("it follows"), [8, 9, 10]);
        assert_eq!(pruned(ctldb, order(database, 7)).await.rows, 0);
    })
    .await;
}

/// What a reflector reads whose LDB is at `seq`.
async fn follow(database: &TestDatabase, seq: i64) -> Result<Vec<i64>, TailError> {
    let mut source = source(database);
    let position = LdbPosition { seq: Seq(seq), leader_ts: None, ledger_id: Some(ledger_id(database)) };
    let (mut tail, _) = Tail::open(&mut source, &position).await?;
    let found = tail.next(BlockLimit { rows: 1_000, bytes: 1 << 20 }).await?;
    Ok(found.rows.iter().map(|row| row.seq.0).collect())
}

#[tokio::test]
async fn whoever_is_behind_the_mark_does_not_go_on() {
    on_every_ctldb(async |ctldb, database| {
        filled(ctldb, 10).await;
        age(database, 10);
        pruned(ctldb, order(database, 6)).await;
        for behind in [0, 3, 5] {
            let refused = follow(database, behind).await.expect_err("a hole");
            assert!(matches!(refused, TailError::CannotFollow(CannotFollow::Pruned { .. })), "{refused}");
        }
        assert_eq!(follow(database, 6).await.expect("it follows"), [7, 8, 9, 10]);
        assert_eq!(follow(database, 8).await.expect("it follows"), [9, 10]);
    })
    .await;
}

#[tokio::test]
async fn rows_that_go_while_somebody_reads_are_no_gap() {
    on_every_ctldb(async |ctldb, database| {
        filled(ctldb, 10).await;
        age(database, 10);
        let mut source = source(database);
        let nothing_yet = LdbPosition { ledger_id: Some(ledger_id(database)), ..LdbPosition::default() };
        let (mut tail, _) = Tail::open(&mut source, &LdbPosition { ..nothing_yet }).await.expect("it may follow");
        pruned(ctldb, order(database, 6)).await;
        let refused = tail.next(BlockLimit { rows: 100, bytes: 1 << 20 }).await.expect_err("a hole");
        assert!(matches!(refused, TailError::CannotFollow(CannotFollow::Pruned { .. })), "{refused}");
        source.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_executive_that_was_away_notices_schema_changes_whose_rows_are_gone() {
    on_every_server(async |database| {
        let (away, other) = (prepared(database).await, prepared(database).await);
        let schema = make_table(&away, "fam___tab").await;
        let known = write(&away, vec![Step::Table(schema.table().clone())]).await[0].table();
        assert_eq!(known.schema.fields().len(), 2);
        let change = SchemaChange::AddColumn(schema.table().clone(), field("added", FieldType::Text));
        write(&other, vec![Step::Alter(change)]).await;
        write(&other, vec![append(&["a", "b"])]).await;
        age(database, i64::MAX);
        assert_eq!(pruned(&other, order(database, 3)).await.low_water, Some(Seq(4)));
        let now = write(&away, vec![Step::Table(schema.table().clone())]).await[0].table();
        assert_eq!(now.schema.fields().len(), 3);
        away.close().await;
        other.close().await;
    })
    .await;
}
