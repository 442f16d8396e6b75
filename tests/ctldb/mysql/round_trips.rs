//! The round trips to the server that a group of requests needs.

use super::lost::through_proxy;
use super::single_round_trip::{Writers, group};
use support::ctldb::*;

const WRITERS: usize = 8;

#[tokio::test]
async fn a_server_that_knows_blocks_answers_a_group_once() {
    on_every_server(async |database| {
        let (ctldb, proxy) = through_proxy(database).await;
        let writers = Writers::new(ctldb, database, WRITERS).await;
        let last = writers.settle(WRITERS, &proxy).await;
        // Directly after a group that went as one batch, unless this machine paused for a second.
        let mut answers = Vec::new();
        for value in last + 1..last + 20 {
            let (sent, answered) = (proxy.sent(), proxy.answered());
            writers.write(&group(WRITERS, value)).await;
            if proxy.sent() - sent == 1 {
                answers.push(proxy.answered() - answered);
            }
        }
        let is_mariadb = database.value("SELECT VERSION()").unwrap().contains("MariaDB");
        // Otherwise one for each statement: begin, lock, rows, cookies, usage, ledger, commit, and the precondition's four or
        // more.
        let as_expected = |answers: &usize| if is_mariadb { *answers == 1 } else { *answers >= 11 };
        assert!(!answers.is_empty() && answers.iter().all(as_expected), "{answers:?}");
    })
    .await;
}

#[tokio::test]
async fn a_group_takes_two_round_trips_and_one_that_follows_it_one() {
    on_every_server(async |database| {
        let (ctldb, proxy) = through_proxy(database).await;
        let writers = Writers::new(ctldb, database, WRITERS).await;
        // The first group also reads the table, and usage that does not exist yet.
        writers.write(&group(WRITERS, 1)).await;
        let before = proxy.sent();
        let seqs = writers.write(&group(WRITERS, 2)).await;
        assert_eq!(proxy.sent() - before, 2);
        assert_eq!(seqs, (seqs[0]..seqs[0] + WRITERS as i64).collect::<Vec<_>>());
        let last = writers.settle(WRITERS, &proxy).await;
        let ledger = contiguous_ledger(database).len();
        assert_eq!(ledger, 1 + (2 + last as usize) * WRITERS);
        let stored = database.query("SELECT writer, cookie FROM mutators ORDER BY writer");
        for (writer, row) in stored.iter().enumerate() {
            assert_eq!(row[1].as_deref(), Some(&*format!("cookie of {writer} with {last}")));
        }
        assert_eq!(database.value("SELECT SUM(amount) FROM writer_usage").unwrap(), (ledger - 1).to_string());
    })
    .await;
}
