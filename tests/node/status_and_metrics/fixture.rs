//! The nodes of the scenarios: an executive and a host on one embedded ctldb, which the tests can also change
//! without the executive.

use std::path::PathBuf;

use super::watch::{Moved, Watch};
use support::{Client, Node, NodeProcess, sql};

/// A ctldb with family `fam`, table `tab` and a writer in it.
pub struct Stage {
    pub writer: Node,
    pub executive: NodeProcess,
    pub client: Client,
}

impl Stage {
    pub fn new() -> Self {
        let writer = Node::new().roles(&["executive"]);
        let executive = writer.start();
        let client = Client::registered(executive.executive_url());
        client.create_simple_table("fam", "tab");
        Self { writer, executive, client }
    }

    pub fn ctldb_path(&self) -> PathBuf {
        self.writer.data_dir().join("ctldb.db")
    }

    pub fn ctldb_url(&self) -> String {
        format!("sqlite:{}", self.ctldb_path().display())
    }

    /// A node that reads this ctldb's ledger often.
    pub fn host(&self) -> Node {
        Node::new()
            .roles(&["reflector", "reader"])
            .ctldb(&self.ctldb_url())
            .set("reflector.poll_interval", "50ms")
            .set("reader.workers", 1)
    }

    pub fn upsert(&self, rows: &[(i64, &str)]) -> i64 {
        self.client.upsert("fam", "tab", rows)
    }

    /// Appends a ledger row that no executive would write, `skip` numbers after the last one; returns its seq.
    pub fn append(&self, statement: &str, skip: i64) -> i64 {
        let last = self.ask("SELECT MAX(seq) FROM ctlstore_dml_ledger");
        let seq = last.parse::<i64>().expect("a seq") + 1 + skip;
        self.run("INSERT INTO ctlstore_dml_ledger (seq, statement) VALUES (?, ?)", (seq, statement));
        seq
    }

    /// Changes the statement of a ledger row.
    pub fn rewrite(&self, seq: i64, statement: &str) {
        self.run("UPDATE ctlstore_dml_ledger SET statement = ? WHERE seq = ?", (statement, seq));
    }

    pub fn run(&self, statement: &str, values: impl rusqlite::Params) {
        let connection = rusqlite::Connection::open(self.ctldb_path()).expect("open the ctldb");
        connection.busy_timeout(super::watch::DEADLINE).expect("set a timeout");
        assert_eq!(connection.execute(statement, values).expect("change the ctldb"), 1);
    }

    fn ask(&self, statement: &str) -> String {
        let rows = sql::query(&self.ctldb_url(), statement).expect("ask the ctldb");
        rows[0][0].clone().expect("a value")
    }
}

/// Starts a node and waits until it is ready.
pub fn ready<'a>(node: &Node, moved: &'a Moved) -> (NodeProcess, Watch<'a>) {
    let process = node.start();
    let watch = Watch::new(process.ops_url(), moved);
    watch.wait_ready();
    (process, watch)
}

/// The lines of a node's log that contain all of `words`.
pub fn lines(process: &NodeProcess, words: &[&str]) -> Vec<String> {
    let log = process.log();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}
