//! Changes in the ctldb that an operator makes by hand, without the ledger lock, while groups assume the state that the
//! last commit left. Each change is noticed before anything is written.

use ctlstore_ctldb::Ctldb;
use ctlstore_ctldb::executive::Refusal;
use mysql_async::prelude::Queryable;

use super::single_round_trip::{Put, group, once_it_runs, settled, stored};
use support::ctldb::*;

#[tokio::test]
async fn what_was_changed_by_hand_is_noticed_before_anything_is_written() {
    type IsIt = fn(&Refusal) -> bool;
    let unauthorized: IsIt = |refusal| matches!(refusal, Refusal::Unauthorized);
    let cases: [(&str, IsIt); 5] = [
        ("UPDATE mutators SET secret = REPEAT('0', 64) WHERE writer = 'writer-0'", unauthorized),
        ("DELETE FROM mutators WHERE writer = 'writer-0'", unauthorized),
        ("UPDATE mutators SET cookie = 'x' WHERE writer = 'writer-0'", |r| matches!(r, Refusal::CookieMismatch)),
        ("INSERT INTO max_writer_rates VALUES ('writer-0', 0)", |r| matches!(r, Refusal::WriterStopped { .. })),
        ("INSERT INTO max_table_sizes VALUES ('fam', 'tab', 0, 0)", |r| matches!(r, Refusal::TableFull { .. })),
    ];
    for (change, is_it) in cases {
        on_every_server(async |database| {
            let (writers, _proxy, last) = settled(database).await;
            database.query(change);
            let mut puts = group(2, last + 1);
            puts[0].check = Some(format!("cookie of 0 with {last}"));
            let outcomes = writers.try_write(&puts).await.unwrap();
            let refusal = outcomes[0].as_ref().unwrap_err();
            assert!(is_it(refusal), "{change}: {refusal}");
            let other = if outcomes[1].is_ok() { last + 1 } else { last };
            assert_eq!(stored(database), [last, other], "{change}");
            contiguous_ledger(database);
        })
        .await;
    }
}

#[tokio::test]
async fn a_refusal_by_what_was_left_is_one_by_what_is_there() {
    on_every_server(async |database| {
        let (writers, _proxy, last) = settled(database).await;
        // By the assumed cookie the only request would be refused; by the stored one it is not.
        database.query("UPDATE mutators SET cookie = 'by hand' WHERE writer = 'writer-0'");
        let put = Put { writer: 0, value: last + 1, check: Some("by hand".to_owned()) };
        writers.write(&[put]).await;
        assert_eq!(stored(database), [last + 1, last]);
    })
    .await;
}

#[tokio::test]
async fn rows_and_columns_added_by_hand_are_noticed() {
    on_every_server(async |database| {
        let (writers, _proxy, last) = settled(database).await;
        let before = contiguous_ledger(database).len() as i64;
        database.query("ALTER TABLE fam___tab ADD COLUMN c BIGINT");
        let row = "INSERT INTO ctlstore_dml_ledger (seq, statement) VALUES ({seq}, 'ALTER TABLE fam___tab ADD COLUMN \"c\" INTEGER')";
        database.query(&row.replace("{seq}", &(before + 1).to_string()));
        let outcomes = writers.try_write(&group(2, last + 1)).await.unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.is_err()), "the table has another column");
        assert_eq!(stored(database), [last; 2]);
        assert_eq!(contiguous_ledger(database).len() as i64, before + 1);
    })
    .await;
}

#[tokio::test]
async fn a_ledger_emptied_by_hand_is_noticed() {
    on_every_server(async |database| {
        let (writers, _proxy, last) = settled(database).await;
        database.query("DELETE FROM ctlstore_dml_ledger");
        // By the assumed state the seqs would go on after the deleted rows.
        let seqs = writers.write(&group(2, last + 1)).await;
        assert_eq!(seqs, [1, 2]);
        assert_eq!(stored(database), [last + 1; 2]);
    })
    .await;
}

#[tokio::test]
async fn a_lock_row_removed_by_hand_is_noticed() {
    on_every_server(async |database| {
        let (writers, _proxy, last) = settled(database).await;
        database.query("DELETE FROM locks");
        assert!(writers.try_write(&group(2, last + 1)).await.is_err());
        assert_eq!(stored(database), [last; 2]);
    })
    .await;
}

#[tokio::test]
async fn a_ledger_row_put_in_by_hand_meanwhile_starts_the_group_again() {
    on_every_server(async |database| {
        let (writers, _proxy, last) = settled(database).await;
        let before = contiguous_ledger(database).len() as i64;
        let mut other = stranger(database).await;
        other.query_drop("START TRANSACTION").await.unwrap();
        let row =
            "INSERT INTO ctlstore_dml_ledger (seq, statement) VALUES ({seq}, 'DELETE FROM fam___tab WHERE k = 0')";
        other.query_drop(row.replace("{seq}", &(before + 1).to_string())).await.unwrap();
        let theirs = once_it_runs(database, "INSERT INTO \"ctlstore_dml_ledger%", async move {
            other.query_drop("COMMIT").await.unwrap();
        });
        let seqs = writers.write(&group(2, last + 1)).await;
        theirs.join().unwrap();
        assert_eq!(seqs, [before + 2, before + 3]);
        assert_eq!(writers.executive.ctldb().counters().contention_retries, 1);
        assert_eq!(contiguous_ledger(database).len() as i64, before + 3);
        assert_eq!(stored(database), [last + 1; 2]);
    })
    .await;
}
