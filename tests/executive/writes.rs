//! Many writers at once: no row is lost, no transaction is torn, usage is counted right, and requests that wait share a
//! commit.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use ctlstore::actors::executive::ExecutiveOptions;
use support::http::{post, request};
use support::in_process::hold::Hold;
use support::in_process::replay::{assert_contiguous, ledger, replay, rows};
use support::in_process::{Executive, row};
use support::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

fn unlimited() -> ExecutiveOptions {
    let mut settings = ExecutiveOptions::default();
    settings.rules.writer_limit.amount = i64::MAX;
    settings
}

/// A period that does not end within the test.
fn limited(rows: i64) -> ExecutiveOptions {
    let mut settings = unlimited();
    settings.rules.writer_limit.amount = rows;
    settings.rules.writer_limit.period = Duration::from_secs(1_000_000_000);
    settings
}

/// Runs `client` in several threads at once.
fn concurrently(clients: i64, client: impl Fn(i64) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..clients {
            let client = &client;
            scope.spawn(move || client(number));
        }
    });
}

fn waiting(executive: &Executive) -> u64 {
    executive.status().details["waiting"].as_u64().unwrap()
}

/// The rows of the ctldb's table, as text.
fn stored(database: &support::TestDatabase) -> Vec<Vec<Option<String>>> {
    database.query("SELECT id, v FROM fam___tab ORDER BY id")
}

fn replayed(ledger: &[(i64, String)]) -> Vec<Vec<Option<String>>> {
    let text = |value: rusqlite::types::Value| match value {
        rusqlite::types::Value::Integer(integer) => Some(integer.to_string()),
        rusqlite::types::Value::Text(text) => Some(text),
        other => panic!("{other:?}"),
    };
    let rows = rows(&replay(ledger), "SELECT id, v FROM fam___tab ORDER BY id");
    rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect()
}

#[test]
fn requests_that_wait_share_a_commit_and_a_refused_one_among_them_leaves_nothing() {
    for (kind, database) in support::every_ctldb() {
        let executive = Executive::serving(&database, unlimited());
        executive.furnish();
        let before = executive.status().details["commits"].as_u64().unwrap();
        let hold = Hold::on(&database.url);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| executive.mutate(&json!({"mutations": [row(0, "first")]})));
            // The first request commits alone, and all others wait for it.
            executive.wait_until_committing(1);
            let mut others = Vec::new();
            for id in 1..=8_i64 {
                let bad = id == 5;
                let values = if bad { json!({"id": id, "v": 1}) } else { json!({"id": id, "v": "v"}) };
                let good_row = row(100 + id, "w");
                let body = json!({"mutations": [good_row, {"table": "tab", "values": values}]});
                let executive = &executive;
                others.push((bad, scope.spawn(move || executive.mutate(&body))));
            }
            wait_until("all others wait", DEADLINE, || waiting(&executive) == 8);
            hold.release();
            first.join().unwrap().expect(200);
            for (bad, other) in others {
                other.join().unwrap().expect(if bad { 400 } else { 200 });
            }
        });
        assert_eq!(executive.status().details["commits"].as_u64(), Some(before + 2), "{kind}");
        let ledger = ledger(&database, 0);
        assert_contiguous(&ledger);
        assert_eq!(ledger.len(), 1 + 1 + 7 * 4, "{kind}");
        assert_eq!(stored(&database).len(), 1 + 7 * 2, "{kind}");
        assert_eq!(stored(&database), replayed(&ledger), "{kind}");
        assert!(!ledger.iter().any(|(_, statement)| statement.contains("105")), "{kind}: the refused request's row");
    }
}

#[test]
fn concurrent_requests_of_one_writer_all_succeed_and_each_stays_in_one_piece() {
    for (kind, database) in support::every_ctldb() {
        let executive = Executive::serving(&database, unlimited());
        executive.furnish();
        concurrently(8, |client| {
            for request in 0..10 {
                let id = client * 1000 + request * 10;
                let mutations: Vec<Value> = (0..3).map(|i| row(id + i, &format!("client {client}"))).collect();
                let answer = executive.mutate(&json!({"mutations": mutations})).expect(200);
                assert!(answer.header("ctlstore-seq").is_some());
            }
        });
        let ledger = ledger(&database, 0);
        assert_contiguous(&ledger);
        let transactions: Vec<_> = ledger[1..].chunks(5).collect();
        assert_eq!(transactions.len(), 80, "{kind}");
        for transaction in transactions {
            assert_eq!((transaction[0].1.as_str(), transaction[4].1.as_str()), ("--- BEGIN", "--- COMMIT"));
            let first: &str = &transaction[1].1;
            let id: i64 = first.split(['(', ',']).nth(3).unwrap().parse().unwrap();
            assert_eq!(id % 10, 0, "{kind}: {first} begins no request");
            let client = id / 1000;
            for (i, (_, statement)) in transaction[1..4].iter().enumerate() {
                let want = format!(
                    r#"REPLACE INTO fam___tab ("id","v") VALUES({},'client {client}')"#,
                    id + i64::try_from(i).unwrap()
                );
                assert_eq!(*statement, want, "{kind}");
            }
        }
        assert_eq!(stored(&database), replayed(&ledger), "{kind}");
        let usage = database.value("SELECT SUM(amount) FROM writer_usage").unwrap();
        assert_eq!(usage.parse::<f64>().unwrap(), 240.0, "{kind}");
    }
}

#[test]
fn check_cookie_lets_exactly_one_of_many_through() {
    for (kind, database) in support::every_ctldb() {
        let executive = Executive::serving(&database, unlimited());
        executive.furnish();
        let credentials = [("ctlstore-writer", "writer"), ("ctlstore-secret", "secret")];
        let first = get_cookie(&executive);
        assert!(!first.is_empty(), "{kind}: a new writer's cookie is empty");
        request("POST", &executive.at("/cookie"), &credentials, "0").expect(200);
        let passed = AtomicI64::new(0);
        concurrently(6, |client| {
            use base64::Engine;
            let base64 = |n: i64| base64::engine::general_purpose::STANDARD.encode(n.to_string());
            for round in 0..10 {
                let body = json!({"mutations": [row(round, &format!("client {client}"))],
                    "check_cookie": base64(round), "cookie": base64(round + 1)});
                // Every writer tries to replace this round's cookie by the next one.
                wait_until("the round begins", DEADLINE, || get_cookie_number(&executive) >= round);
                match executive.mutate(&body).status {
                    200 => drop(passed.fetch_add(1, Ordering::SeqCst)),
                    status => assert_eq!(status, 409, "{kind}"),
                }
            }
        });
        assert_eq!(passed.load(Ordering::SeqCst), 10, "{kind}");
        assert_eq!(get_cookie_number(&executive), 10, "{kind}");
        assert_eq!(ledger(&database, 1).len(), 10, "{kind}");
        // Without a cookie the stored one is emptied, and an empty check_cookie must find that.
        executive.mutate(&json!({"mutations": [row(1, "x")]})).expect(200);
        assert_eq!(get_cookie(&executive), b"", "{kind}");
        executive.mutate(&json!({"mutations": [row(1, "x")], "check_cookie": ""})).expect(200);
        executive.mutate(&json!({"mutations": [row(1, "x")], "check_cookie": "AA=="})).expect(409);
    }
}

fn get_cookie(executive: &Executive) -> Vec<u8> {
    let credentials = [("ctlstore-writer", "writer"), ("ctlstore-secret", "secret")];
    request("GET", &executive.at("/cookie"), &credentials, "").expect(200).body
}

fn get_cookie_number(executive: &Executive) -> i64 {
    String::from_utf8(get_cookie(executive)).unwrap().parse().unwrap()
}

#[test]
fn rate_limits_are_exact_under_concurrency() {
    const LIMIT: i64 = 50;
    for (kind, database) in support::every_ctldb() {
        let executive = Executive::serving(&database, limited(LIMIT));
        executive.furnish();
        let accepted = AtomicI64::new(0);
        concurrently(8, |client| {
            for request in 0..6 {
                let size = 1 + (client + request) % 3;
                let mutations: Vec<Value> = (0..size).map(|i| row(client * 100 + request * 10 + i, "v")).collect();
                match executive.mutate(&json!({"mutations": mutations})).status {
                    200 => drop(accepted.fetch_add(size, Ordering::SeqCst)),
                    status => assert_eq!(status, 429, "{kind}"),
                }
            }
        });
        let accepted = accepted.into_inner();
        assert!(accepted <= LIMIT && accepted > LIMIT - 3, "{kind}: {accepted} rows were let through");
        for _ in accepted..LIMIT {
            executive.mutate(&json!({"mutations": [row(9999, "v")]})).expect(200);
        }
        executive.mutate(&json!({"mutations": [row(9999, "v")]})).expect(429);
        let usage = database.value("SELECT SUM(amount) FROM writer_usage").unwrap();
        assert_eq!(usage.parse::<f64>().unwrap() as i64, LIMIT, "{kind}");
        // Another writer has a limit of its own.
        post(&executive.at("/writers/second"), "secret").expect(200);
        post(&executive.at("/limits/writers/second"), json!({"amount": 0, "period": "1m"}).to_string()).expect(200);
        executive.mutate_as("second", "secret", &json!({"mutations": [row(1, "v")]})).expect(429);
    }
}

#[test]
fn a_client_that_goes_away_neither_loses_its_write_nor_disturbs_the_next() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, unlimited());
    executive.furnish();
    let hold = Hold::on(&database.url);
    let body = json!({"mutations": [row(1, "gone")]}).to_string();
    let mut stream = TcpStream::connect(executive.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /families/fam/mutations HTTP/1.1\r\nhost: test\r\nctlstore-writer: writer\r\nctlstore-secret: secret\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    executive.wait_until_committing(1);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| executive.mutate(&json!({"mutations": [row(2, "stays")]})));
        wait_until("a request waits behind the first", DEADLINE, || waiting(&executive) == 1);
        drop(stream);
        hold.release();
        second.join().unwrap().expect(200);
    });
    let ids: BTreeSet<String> =
        stored(&database).into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    assert_eq!(ids, BTreeSet::from(["1".to_owned(), "2".to_owned()]));
}

#[test]
fn a_full_queue_is_503_with_a_retry_after_and_those_within_it_are_written() {
    let database = support::sqlite();
    let executive = Executive::serving(&database, unlimited());
    executive.furnish();
    let large = "l".repeat(500_000);
    let hold = Hold::on(&database.url);
    let (written, refused) = (AtomicI64::new(0), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for id in 0..48 {
            let (executive, large, written, refused) = (&executive, &large, &written, &refused);
            scope.spawn(move || {
                let answer = executive.mutate(&json!({"mutations": [row(id * 2, large), row(id * 2 + 1, large)]}));
                if answer.status == 200 {
                    written.fetch_add(1, Ordering::SeqCst);
                } else {
                    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        wait_until("the queue is full", DEADLINE, || refused.load(Ordering::SeqCst) > 0);
        hold.release();
    });
    assert_eq!(written.load(Ordering::SeqCst) + refused.load(Ordering::SeqCst), 48);
    let stored = database.value("SELECT COUNT(*) FROM fam___tab").unwrap();
    assert_eq!(stored.parse::<i64>().unwrap(), written.load(Ordering::SeqCst) * 2);
    assert_contiguous(&ledger(&database, 0));
}

#[test]
fn stopping_during_a_write_storm_loses_nothing_that_was_acknowledged() {
    for (kind, database) in support::every_ctldb() {
        let executive = Executive::serving(&database, unlimited());
        executive.furnish();
        let (url, metrics) = (executive.url.clone(), executive.metrics.clone());
        let next = AtomicI64::new(0);
        let acknowledged: BTreeSet<i64> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut acknowledged = Vec::new();
                        loop {
                            let id = next.fetch_add(1, Ordering::SeqCst);
                            let credentials = [("ctlstore-writer", "writer"), ("ctlstore-secret", "secret")];
                            let body = json!({"mutations": [row(id, "v")]}).to_string();
                            let url = format!("{url}/families/fam/mutations");
                            match support::http::exchange("POST", &url, &credentials, body) {
                                Ok(answer) if answer.status == 200 => acknowledged.push(id),
                                Ok(answer) => assert_eq!(answer.status, 503, "{kind}: {}", answer.text()),
                                Err(_) => return acknowledged,
                            }
                        }
                    })
                })
                .collect();
            wait_until("the storm is on", DEADLINE, || metrics.executive.mutations.get() > 50);
            executive.stop();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
        });
        let stored: BTreeSet<i64> =
            stored(&database).iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect();
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "{kind}: {lost:?}");
        assert!(acknowledged.len() > 40, "{kind}: only {} writes", acknowledged.len());
    }
}
