//! Two executive processes and eight concurrent writers on one ctldb of the MySQL family. The ledger lock keeps
//! transactions whole and in order, and cookies and limits exact.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ctlstore_core::sql::{self, Literal, Statement};
use serde_json::{Value, json};
use support::http::{self, Answer};
use support::{Client, Node, NodeProcess, TestDatabase};

const WRITERS: usize = 8;
const REQUESTS: usize = 40;
/// The rows that all writers write.
const ROWS: i64 = 5;
const LIMIT: u64 = 100;

struct Fleet {
    database: TestDatabase,
    _nodes: Vec<NodeProcess>,
    executives: Vec<String>,
}

/// Two executives with a limit for writers without a limit of their own.
fn fleet(database: TestDatabase) -> Fleet {
    let start = |_| {
        let node = Node::new().roles(&["executive"]).ctldb(&database.url);
        let node = node.set("executive.writer_limit.rows", LIMIT).set("executive.writer_limit.period", "1d");
        let process = node.start();
        Client::new(process.executive_url()).wait_until_serving();
        process
    };
    let nodes: Vec<NodeProcess> = (0..2).map(start).collect();
    let executives = nodes.iter().map(NodeProcess::executive_url).collect();
    Fleet { database, _nodes: nodes, executives }
}

impl Fleet {
    fn register(&self, writer: &str, rows_per_minute: Option<u64>) {
        http::post(&format!("{}/writers/{writer}", self.executives[0]), "secret").expect(200);
        if let Some(amount) = rows_per_minute {
            let limit = json!({ "amount": amount, "period": "1m" }).to_string();
            http::post(&format!("{}/limits/writers/{writer}", self.executives[0]), limit).expect(200);
        }
    }

    fn mutate(&self, executive: usize, writer: &str, body: &Value) -> Answer {
        let url = format!("{}/families/fam/mutations", self.executives[executive % self.executives.len()]);
        http::request("POST", &url, &headers(writer), body.to_string())
    }

    fn cookie(&self, executive: usize, writer: &str) -> String {
        let url = format!("{}/cookie", self.executives[executive % self.executives.len()]);
        http::request("GET", &url, &headers(writer), "").expect(200).text()
    }
}

fn headers(writer: &str) -> [(&str, &str); 2] {
    [("ctlstore-writer", writer), ("ctlstore-secret", "secret")]
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A request that writes its tag into every row and sets the next cookie.
fn tagged(tag: &str, from: Option<&str>, to: &str) -> Value {
    let rows = (0..ROWS).map(|id| json!({ "table": "tab", "values": { "id": id, "value": tag } }));
    let mut body = json!({ "mutations": rows.collect::<Vec<_>>(), "cookie": base64(to) });
    if let Some(from) = from {
        body["check_cookie"] = json!(base64(from));
    }
    body
}

#[test]
fn transactions_stay_whole_and_in_order_on_every_server() {
    let databases = [Some(support::mariadb()), support::mysql56()];
    for database in databases.into_iter().flatten() {
        let fleet = Arc::new(fleet(database));
        Client::new(&fleet.executives[0]).create_simple_table("fam", "tab");
        let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
        each_writer(|writer| {
            let (fleet, acknowledged) = (fleet.clone(), acknowledged.clone());
            move || write_chain(&fleet, writer, &acknowledged)
        });
        check_ledger(&fleet.database, &acknowledged.lock().unwrap());
    }
}

fn each_writer<F: FnOnce() + Send + 'static>(work: impl Fn(usize) -> F) {
    let threads: Vec<_> = (0..WRITERS).map(|writer| std::thread::spawn(work(writer))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// One writer's requests, in turn to the two executives. Each checks the cookie that the one before it has set.
fn write_chain(fleet: &Fleet, writer: usize, acknowledged: &Mutex<BTreeMap<i64, String>>) {
    let name = format!("writer-{writer}");
    fleet.register(&name, Some(1_000_000));
    let mut cookie = fleet.cookie(0, &name);
    for request in 0..REQUESTS {
        let tag = format!("{writer}-{request}");
        let answer = fleet.mutate(writer + request, &name, &tagged(&tag, Some(&cookie), &tag)).expect(200);
        let seq: i64 = answer.header("ctlstore-seq").unwrap().parse().unwrap();
        assert_eq!(acknowledged.lock().unwrap().insert(seq, tag.clone()), None, "seq {seq} was given twice");
        cookie = tag;
    }
    assert_eq!(fleet.cookie(writer, &name), cookie);
}

/// Checks that the ledger has every acknowledged request once, whole, contiguous, and at the answered seq. Checks that
/// the table has the rows that the ledger makes.
fn check_ledger(database: &TestDatabase, acknowledged: &BTreeMap<i64, String>) {
    let rows = database.query("SELECT seq, statement FROM ctlstore_dml_ledger ORDER BY seq");
    let (mut expected_seq, mut open, mut found, mut table) = (1, None, BTreeMap::new(), BTreeMap::new());
    for row in rows {
        let (seq, text): (i64, _) = (row[0].as_deref().unwrap().parse().unwrap(), row[1].clone().unwrap());
        assert_eq!(seq, expected_seq, "the ledger has a hole");
        expected_seq += 1;
        match sql::parse(&text) {
            Statement::CreateTable { .. } => assert!(open.is_none()),
            Statement::Begin => assert!(open.replace(Vec::new()).is_none(), "row {seq} begins within a transaction"),
            Statement::Upsert(row) => {
                let [Literal::Integer(id), Literal::Text(tag)] = row.values.as_slice() else { panic!("{text}") };
                open.as_mut().expect("a transaction").push(tag.to_string());
                table.insert(*id, tag.to_string());
            }
            Statement::Commit => {
                let tags = open.take().expect("a transaction");
                assert_eq!(tags, vec![tags[0].clone(); ROWS as usize], "row {seq} ends a torn transaction");
                found.insert(seq, tags[0].clone());
            }
            other => panic!("row {seq} is {other:?}"),
        }
    }
    assert_eq!(&found, acknowledged);
    assert_eq!(found.len(), WRITERS * REQUESTS);
    let stored = database.query("SELECT id, value FROM fam___tab");
    let stored: BTreeMap<i64, String> =
        stored.into_iter().map(|row| (row[0].as_deref().unwrap().parse().unwrap(), row[1].clone().unwrap())).collect();
    assert_eq!(stored, table, "the table is not what the ledger says");
}

#[test]
fn a_cookie_is_moved_by_exactly_one_of_those_who_saw_it() {
    let fleet = Arc::new(fleet(support::mariadb()));
    Client::new(&fleet.executives[0]).create_simple_table("fam", "tab");
    fleet.register("racer", Some(1_000_000));
    fleet.mutate(0, "racer", &tagged("0", None, "0")).expect(200);
    let won = Arc::new(AtomicU64::new(0));
    each_writer(|writer| {
        let (fleet, won) = (fleet.clone(), won.clone());
        move || {
            for request in 0..REQUESTS {
                let seen = fleet.cookie(request, "racer");
                let next = (seen.parse::<u64>().unwrap() + 1).to_string();
                match fleet.mutate(writer + request, "racer", &tagged(&next, Some(&seen), &next)).status {
                    200 => drop(won.fetch_add(1, Ordering::Relaxed)),
                    409 => {}
                    other => panic!("status {other}"),
                }
            }
        }
    });
    let won = won.load(Ordering::Relaxed);
    assert_eq!(fleet.cookie(0, "racer"), won.to_string());
    assert!(won >= REQUESTS as u64, "somebody wins every round, {won} did");
}

#[test]
fn a_limit_holds_across_executives_to_the_row() {
    let fleet = Arc::new(fleet(support::mariadb()));
    Client::new(&fleet.executives[0]).create_simple_table("fam", "tab");
    fleet.register("limited", None);
    let written = Arc::new(AtomicU64::new(0));
    each_writer(|writer| {
        let (fleet, written) = (fleet.clone(), written.clone());
        move || {
            for request in 0..REQUESTS {
                let row = json!({ "mutations": [{ "table": "tab", "values": { "id": 1, "value": "x" } }] });
                match fleet.mutate(writer + request, "limited", &row).status {
                    200 => drop(written.fetch_add(1, Ordering::Relaxed)),
                    429 => {}
                    other => panic!("status {other}"),
                }
            }
        }
    });
    assert_eq!(written.load(Ordering::Relaxed), LIMIT);
    let ledger = fleet.database.value("SELECT COUNT(*) FROM ctlstore_dml_ledger WHERE statement LIKE 'REPLACE%'");
    assert_eq!(ledger, Some(LIMIT.to_string()));
}
