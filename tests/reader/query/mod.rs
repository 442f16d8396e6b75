//! `POST /v1/query` of a real reader process: its answers, its refusals, and hostile SQL. The tests
//! write the LDB as the Go program's reflector does.

mod answers;
mod endings;
mod hostile;
mod refusals;
mod time;

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use support::http::{Answer, post};
use support::reader_server::OriginalLdb;
use support::{Node, NodeProcess};

const TABLE: &str =
    r#"CREATE TABLE fam___tab ("k" INTEGER, "t" TEXT, "b" BLOB, "s" VARCHAR(191), "d" REAL, PRIMARY KEY("k"));"#;
/// A hundred thousand rows. Some have a text of 1,000 characters.
const MANY: &str = "
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
    INSERT INTO fam___many SELECT i, CASE i % 100 WHEN 0 THEN hex(zeroblob(500)) ELSE 'value ' || i END FROM n";
const MANY_TABLE: &str = r#"CREATE TABLE fam___many ("k" INTEGER, "v" TEXT, PRIMARY KEY("k"));"#;

/// A reader that runs queries, on an LDB with these statements applied.
struct Reader {
    node: NodeProcess,
    /// Clients of several threads share a reader, and a connection can't be shared.
    ldb: Mutex<OriginalLdb>,
    url: String,
    /// The directory of the LDB and of the node's other files.
    directory: PathBuf,
}

impl Reader {
    fn start(settings: &[(&str, Value)], statements: &[&str]) -> Self {
        let node = Node::new().roles(&["reader"]).set("reader.query.enabled", true);
        let node = settings.iter().fold(node, |node, (key, value)| node.set(key, value.clone()));
        fs::create_dir_all(node.data_dir()).expect("make the data directory");
        let ldb = OriginalLdb::create(&node.ldb_path());
        ldb.apply(statements);
        let directory = node.data_dir();
        let node = node.start();
        Self { directory, url: format!("{}/v1/query", node.reader_url()), node, ldb: Mutex::new(ldb) }
    }

    fn ldb(&self) -> MutexGuard<'_, OriginalLdb> {
        self.ldb.lock().expect("no test panics while it has it")
    }

    fn ask(&self, body: &Value) -> Answer {
        post(&self.url, body.to_string())
    }

    fn sql(&self, sql: &str) -> Answer {
        self.ask(&json!({ "sql": sql }))
    }

    /// The rows of a query, which must be answered.
    #[track_caller]
    fn rows(&self, sql: &str) -> Value {
        self.sql(sql).expect(200).json()["rows"].take()
    }

    /// The value of a metric; 0 if it has none yet.
    fn metric(&self, series: &str) -> f64 {
        let metrics = support::http::get(&format!("{}/metrics", self.node.ops_url())).expect(200).text();
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }
}
