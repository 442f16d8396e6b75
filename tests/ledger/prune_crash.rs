//! Prunes that die at random, many times: the mark never says less than what is gone, and no reflector passes a hole.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ctlstore_core::ledger::{BlockLimit, CannotFollow, LdbPosition, LedgerSource, Seq};
use ctlstore_ctldb::tail::{Tail, TailError};
use ctlstore_ctldb::{AnySource, Ctldb, LedgerTable, Location};
use support::ctldb::{Step, make_table, prepared, write};
use support::prune::*;
use support::{TestDatabase, every_ctldb, scratch_dir, wait_until};

const ROWS: i64 = 20_000;
const KILLS: usize = 12;
/// What one state of the ctldb says of itself.
const STATE: &str = "SELECT (SELECT value FROM ctlstore_meta WHERE name = 'low_water_seq'), MIN(seq), MAX(seq), COUNT(*) \
                     FROM ctlstore_dml_ledger";
const LIMIT: BlockLimit = BlockLimit { rows: 500, bytes: 1 << 20 };

/// The mark, after a check that the ledger begins there and is whole from there on.
#[track_caller]
fn consistent_mark(database: &TestDatabase, when: &str) -> i64 {
    let row = database.query(STATE).remove(0);
    let number = |at: usize| row[at].as_deref().map(|text| text.parse::<i64>().expect("a number"));
    let (first, last, rows) = (number(1).expect("a row"), number(2).expect("a row"), number(3).expect("a count"));
    assert_eq!(number(0).unwrap_or(1), first, "{when}: the mark and the first row");
    assert_eq!((last, rows), (ROWS, ROWS - first + 1), "{when}: a row is missing");
    first
}

/// What a reflector would read whose LDB is at `seq`.
async fn follow(source: &mut AnySource, ledger_id: &str, seq: i64) -> Result<Vec<i64>, TailError> {
    let position = LdbPosition { seq: Seq(seq), leader_ts: None, ledger_id: Some(ledger_id.to_owned()) };
    let (mut tail, _) = Tail::open(source, &position).await?;
    Ok(tail.next(LIMIT).await?.rows.iter().map(|row| row.seq.0).collect())
}

fn source(url: &str) -> AnySource {
    let location = Location::parse(url).expect("a good url");
    AnySource::new(&location, LedgerTable::default(), Duration::from_secs(30)).expect("a source")
}

/// Reads on from everywhere until it is told to stop, as hosts do that are behind; counts what it was refused.
fn read_on(url: &str, ledger_id: &str, over: &AtomicBool, refused: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut source = source(url);
        while !over.load(Ordering::Relaxed) {
            let seq = rand::random_range(0..ROWS);
            match follow(&mut source, ledger_id, seq).await {
                Ok(rows) => {
                    let want = (seq + 1..).take(rows.len());
                    assert!(rows.iter().copied().eq(want), "whoever is at {seq} reads {:?}", rows.first());
                }
                Err(TailError::CannotFollow(CannotFollow::Pruned { .. })) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                // The server may be busy with what was killed.
                Err(TailError::Source(_)) => {}
                Err(other) => panic!("whoever is at {seq} meets {other}"),
            }
        }
        source.close().await;
    });
}

/// Dies at each place where that could hurt, in the first transaction and in later ones.
fn die_at_failpoints(database: &TestDatabase, home: &Path, arguments: &[&str]) {
    for failpoint in ["prune-after-mark", "prune-after-delete", "prune-after-commit"] {
        for hit in [1, 2] {
            let armed = format!("{failpoint}:{hit}");
            let before = consistent_mark(database, &armed);
            let output = command(&database.url, home, arguments).env("CTLSTORE_FAILPOINT", &armed).output();
            let output = output.expect("run the command");
            assert!(text(&output.stderr).contains(failpoint), "{armed}: {}", text(&output.stderr));
            wait_until("its transaction is over", DEADLINE, || may_write(database));
            let after = consistent_mark(database, &armed);
            let committed = hit > 1 || failpoint == "prune-after-commit";
            assert_eq!(after > before, committed, "{armed}: from {before} to {after}");
        }
    }
}

/// Whether nobody holds the ledger lock any more.
fn may_write(database: &TestDatabase) -> bool {
    support::sql::query(&database.url, "UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'").is_ok()
}

/// Dies wherever it is when it has come some way further, again and again.
fn die_at_random(database: &TestDatabase, home: &Path, arguments: &[&str]) {
    for kill in 0..KILLS {
        let before = consistent_mark(database, "before a kill");
        let far = before + rand::random_range(1..ROWS / KILLS as i64);
        let mut child = spawn(command(&database.url, home, arguments));
        wait_until("it has come some way", DEADLINE, || {
            mark(database).is_some_and(|mark| mark >= far) || child.try_wait().expect("ask for its state").is_some()
        });
        child.kill().and_then(|()| child.wait()).expect("kill it");
        let after = consistent_mark(database, &format!("kill {kill}"));
        assert!(after > before, "kill {kill} came before anything was done");
        if after == ROWS {
            return;
        }
    }
}

#[tokio::test]
async fn a_prune_that_is_killed_at_random_leaves_no_hole_that_anyone_passes() {
    for (name, database) in every_ctldb() {
        println!("on {name}");
        let home = scratch_dir();
        let ctldb = prepared(&database).await;
        make_table(&ctldb, "fam___tab").await;
        write(&ctldb, vec![Step::Append((2..=ROWS as usize).map(upsert).collect())]).await;
        ctldb.close().await;
        age(&database, ROWS);
        let snapshot = publish(&database, &home.path().join("snapshot.db"));
        let arguments = ["--keep", "1d", "--snapshot", &snapshot];
        let (id, over, refused) = (ledger_id(&database), AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_on(&database.url, &id, &over, &refused));
            // The reader must end whatever happens, or the scope never would.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                die_at_failpoints(&database, home.path(), &arguments);
                die_at_random(&database, home.path(), &arguments);
                printed(run(&database.url, home.path(), &arguments));
                assert_eq!(consistent_mark(&database, "at the end"), ROWS);
            }));
            over.store(true, Ordering::Relaxed);
            reader.join().expect("nobody reads past a hole");
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic);
            }
        });
        assert!(refused.load(Ordering::Relaxed) > 0, "nobody was behind the mark");
        let mut source = source(&database.url);
        assert_eq!(follow(&mut source, &id, ROWS - 1).await.expect("it follows"), [ROWS]);
        let hole = follow(&mut source, &id, ROWS - 2).await.expect_err("a hole");
        assert!(matches!(hole, TailError::CannotFollow(CannotFollow::Pruned { .. })), "{hole}");
        source.close().await;
    }
}
