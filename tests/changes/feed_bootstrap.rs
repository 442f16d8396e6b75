//! A host whose LDB is brought to a snapshot, because the ledger was pruned under it: a client that follows its changes
//! gets those too that no ledger row has brought, and need not start over.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::json;
use support::bootstrap::{DEADLINE, Origin, wait_until_equal};
use support::feed::{Cache, Stream, rows};
use support::wait_until;

const TABLE: &str = "fam/tab";
const SOON: Duration = Duration::from_millis(200);

/// Follows until the cache is what the table is.
fn follow(base: &str, cache: &mut Cache) {
    let mut stream = Stream::open(base, "?rows=true", &cache.position).expect("an answer").expect("a stream");
    wait_until("the cache has what the table has", DEADLINE, || {
        match stream.next(SOON) {
            Ok(Some(event)) => cache.take(base, TABLE, &event).expect("the table is read"),
            Ok(None) => panic!("the stream has ended"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        !cache.rows.is_empty() && rows(base, TABLE).is_ok_and(|rows| rows == cache.rows)
    });
}

#[test]
fn a_host_that_bootstraps_again_tells_its_followers_what_has_changed() {
    let origin = Origin::with_rows(300);
    let published = format!("file://{}", origin.published().display());
    let host = origin.host().set("bootstrap.urls", vec![published]);
    let mut process = host.start();
    wait_until_equal(&host, &origin);
    let mut cache = Cache::default();
    follow(&process.reader_url(), &mut cache);
    assert_eq!(cache.rows.len(), 300);

    for (round, failpoint) in ["", "catch-up-after-history", "catch-up-after-commit"].into_iter().enumerate() {
        assert!(process.stop(DEADLINE).success());
        let behind = origin.last_seq();
        let first = round as i64 * 50;
        origin.write(first, first + 100, &format!("round {round}"));
        let delete = |id| json!({ "table": "tab", "delete": true, "values": { "id": id } });
        let deletes: Vec<_> = (first..first + 20).map(delete).collect();
        origin.client.try_mutate("fam", &json!({ "mutations": deletes })).expect("an answer").expect(200);
        origin.write(1000 + first, 1010 + first, "new");
        origin.snapshot();
        origin.prune(behind + 20);
        if !failpoint.is_empty() {
            let mut killed = host.clone().env("CTLSTORE_FAILPOINT", failpoint).spawn();
            assert!(!killed.wait_exit(DEADLINE).success());
        }
        process = host.start();
        let events = cache.events;
        // At once, while the old file may still be read.
        let base = process.reader_url();
        let before = cache.rows.clone();
        wait_until("the change feed serves", DEADLINE, || {
            Stream::open(&base, "", &cache.position).is_ok_and(|s| s.is_ok())
        });
        take_until_something_changed(&base, &mut cache, &before);
        wait_until_equal(&host, &origin);
        follow(&base, &mut cache);
        assert_eq!(cache.resyncs, 0, "{failpoint}");
        // The rows that changed, and not every row.
        let told = cache.events - events;
        assert!((100..=130).contains(&told), "{told} changes were told");
    }
}

/// Follows until the first change comes.
fn take_until_something_changed(base: &str, cache: &mut Cache, before: &std::collections::BTreeMap<i64, String>) {
    let mut stream = Stream::open(base, "?rows=true", &cache.position).expect("an answer").expect("a stream");
    while cache.rows == *before {
        let event = stream.expect();
        cache.take(base, TABLE, &event).expect("the table is read");
    }
}
