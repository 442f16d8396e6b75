//! A consumer of the change feed that is killed and resumed at random, while writers run. The node is stopped and
//! killed, and the changelog rotates. In the end its cache equals the table, and it never had to start over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use support::client::{SECRET, WRITER, role_status};
use support::feed::{Cache, SOON, STOP, Stream, TABLE, node, rows, with_table};
use support::{http, wait_until};

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Writes at random until it is told to stop. If the node is away, it tries again.
fn write_at_random(executive: &Mutex<String>, seed: u64, is_done: &AtomicBool) {
    let mut dice = Dice(seed);
    let headers = [("ctlstore-writer", WRITER), ("ctlstore-secret", SECRET)];
    while !is_done.load(Ordering::Relaxed) {
        let mutations: Vec<_> = (0..=dice.below(8))
            .map(|_| match (dice.below(60), dice.below(4)) {
                (id, 0) => json!({ "table": "tab", "delete": true, "values": { "id": id } }),
                (id, _) => json!({ "table": "tab", "values": { "id": id, "value": dice.below(1 << 30).to_string() } }),
            })
            .collect();
        let url = format!("{}/families/fam/mutations", executive.lock().unwrap());
        let _ = http::exchange("POST", &url, &headers, json!({ "mutations": mutations }).to_string());
    }
}

/// Follows at random: connects, takes some events, and disconnects.
fn consume_at_random(reader: &Mutex<String>, seed: u64, query: &str, is_done: &AtomicBool) -> Cache {
    let (mut dice, mut cache) = (Dice(seed), Cache::default());
    loop {
        let base = reader.lock().unwrap().clone();
        let Ok(Ok(mut stream)) = Stream::open(&base, query, &cache.position) else { continue };
        for _ in 0..dice.below(300) {
            // Events that were not taken to their end come again from the position before.
            let Ok(Some(event)) = stream.next(SOON) else { break };
            if cache.take(&base, TABLE, &event).is_err() {
                break;
            }
        }
        if is_done.load(Ordering::Relaxed) && rows(&base, TABLE).is_ok_and(|rows| rows == cache.rows) {
            return cache;
        }
    }
}

#[test]
fn a_consumer_that_is_killed_and_resumed_has_the_table_in_the_end_and_never_starts_over() {
    let node = node().set("changelog.max_bytes", 10_000).set("changes.retain_bytes", 16 << 20);
    let (mut process, _) = with_table(&node);
    let executive = Arc::new(Mutex::new(process.executive_url()));
    let reader = Arc::new(Mutex::new(process.reader_url()));
    let (is_written, is_done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (1..4)
        .map(|seed| {
            let (executive, is_written) = (executive.clone(), is_written.clone());
            thread::spawn(move || write_at_random(&executive, seed, &is_written))
        })
        .collect();
    let consumers: Vec<_> = [(11, "?rows=true"), (12, ""), (13, "?family=fam&table=tab&rows=true")]
        .into_iter()
        .map(|(seed, query)| {
            let (reader, is_done) = (reader.clone(), is_done.clone());
            thread::spawn(move || consume_at_random(&reader, seed, query, &is_done))
        })
        .collect();
    let mut seq = 0;
    for round in 0..8 {
        // This much has to happen in each round.
        wait_until("writes go on", STOP, || {
            let status = role_status(&process.ops_url(), "applier");
            let now = status["last_seq"].as_i64().unwrap();
            let goes_on = now > seq + 300;
            seq = if goes_on { now } else { seq };
            goes_on
        });
        match round % 2 {
            0 => process.kill9(),
            _ => assert!(process.stop(STOP).success()),
        }
        process = node.start();
        *executive.lock().unwrap() = process.executive_url();
        *reader.lock().unwrap() = process.reader_url();
    }
    is_written.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    is_done.store(true, Ordering::Relaxed);
    let table = rows(&process.reader_url(), TABLE).unwrap();
    for consumer in consumers {
        let cache = consumer.join().unwrap();
        assert_eq!((cache.rows, cache.resyncs), (table.clone(), 0));
        assert!(cache.events > 300, "{} events", cache.events);
    }
}
