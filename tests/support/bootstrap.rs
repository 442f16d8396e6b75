//! An origin that writes a ledger and publishes snapshots of its LDB, hosts that start from these snapshots, and
//! functions that check both from outside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::client::role_status;
use crate::wait::wait_for;
use crate::{Client, Node, NodeProcess, scratch_dir, sql, wait_until};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// An executive with a snapshotter of its own, and a table `fam___tab`.
pub struct Origin {
    pub node: Node,
    _process: NodeProcess,
    pub client: Client,
}

impl Origin {
    /// Starts one whose table has `rows` rows of about a hundred bytes each.
    pub fn with_rows(rows: i64) -> Self {
        let node = Node::new().roles(&["executive", "reflector", "snapshotter"]).set("snapshotter.interval", "50ms");
        let process = node.start();
        let client = Client::registered(process.executive_url());
        client.create_simple_table("fam", "tab");
        let origin = Self { node, _process: process, client };
        origin.write(0, rows, "first");
        origin
    }

    /// Upserts rows `from` to `to`; returns the last seq.
    pub fn write(&self, from: i64, to: i64, value: &str) -> i64 {
        let ids: Vec<i64> = (from..to).collect();
        let value = |id: &i64| format!("{value} {id} {}", noise(*id));
        let mut seq = 0;
        for ids in ids.chunks(100) {
            let rows: Vec<_> = ids.iter().map(|id| (*id, value(id))).collect();
            let rows: Vec<_> = rows.iter().map(|(id, value)| (*id, value.as_str())).collect();
            seq = self.client.upsert("fam", "tab", &rows);
        }
        seq
    }

    pub fn ctldb(&self) -> String {
        format!("sqlite:{}", self.node.data_dir().join("ctldb.db").display())
    }

    pub fn last_seq(&self) -> i64 {
        self.number("SELECT max(seq) FROM ctlstore_dml_ledger")
    }

    pub fn number(&self, query: &str) -> i64 {
        let rows = sql::query(&self.ctldb(), query).expect("ask the ctldb");
        rows[0][0].as_deref().expect("a number").parse().expect("a number")
    }

    /// The URL at which its snapshotter publishes.
    pub fn published(&self) -> PathBuf {
        self.node.data_dir().join("snapshots/snapshot.db")
    }

    /// A snapshot with all rows that the ledger has now.
    #[track_caller]
    pub fn snapshot(&self) -> Vec<u8> {
        let last = self.last_seq();
        wait_for("everything is published", DEADLINE, || {
            (self.published().exists() && seq_of(&self.published()) == last).then_some(())
        });
        std::fs::read(self.published()).expect("read the snapshot")
    }

    /// A host that follows this origin's ledger, on paths of its own.
    pub fn host(&self) -> Node {
        Node::new().roles(&["reflector", "reader"]).ctldb(&self.ctldb()).set("reflector.poll_interval", "50ms")
    }

    /// Deletes the ledger's rows up to `seq`, as pruning does.
    pub fn prune(&self, seq: i64) {
        let low_water = format!("REPLACE INTO ctlstore_meta (name, value) VALUES('low_water_seq', '{}')", seq + 1);
        sql::query(&self.ctldb(), &low_water).expect("set the low-water mark");
        sql::query(&self.ctldb(), &format!("DELETE FROM ctlstore_dml_ledger WHERE seq <= {seq}")).expect("prune");
    }

    /// Every row of the table in the ctldb.
    pub fn rows(&self) -> Vec<sql::Row> {
        sql::query(&self.ctldb(), "SELECT id, value FROM fam___tab ORDER BY id").expect("read the ctldb")
    }
}

/// Text that compresses badly.
fn noise(id: i64) -> String {
    hex::encode(Sha256::digest(id.to_le_bytes()))
}

/// A file of these bytes in a directory of its own, with its `file:` URL.
pub struct Published {
    pub path: PathBuf,
    pub url: String,
    _directory: TempDir,
}

impl Published {
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        let directory = scratch_dir();
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("write the snapshot");
        Self { url: format!("file://{}", path.display()), path, _directory: directory }
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).expect("compress");
    encoder.finish().expect("compress")
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("compress")
}

/// `snapshot` as the original makes it: its page size, its two tables, vacuumed, marked for WAL.
pub fn by_the_original(snapshot: &[u8]) -> Vec<u8> {
    let scratch = Published::new("original.db", snapshot);
    let connection = Connection::open(&scratch.path).expect("open");
    let shape = "PRAGMA journal_mode = DELETE; DROP TABLE _ldb_meta; PRAGMA page_size = 4096; VACUUM; \
                 PRAGMA journal_mode = WAL; PRAGMA wal_checkpoint(TRUNCATE);";
    connection.execute_batch(shape).expect("shape it");
    connection.close().expect("close");
    let file = std::fs::read(&scratch.path).expect("read");
    assert_eq!(file[18..20], [2, 2]);
    file
}

/// The manifest of `file`, stored as `stored` under `key`. The tables' digests are left out.
pub fn manifest(file: &[u8], stored: &[u8], key: &str) -> Value {
    let path = Published::new("looked-at.db", file);
    let connection = open_immutable(&path.path);
    let ledger_id: Option<String> =
        connection.query_row("SELECT value FROM _ldb_meta WHERE name = 'ledger_id'", [], |row| row.get(0)).ok();
    json!({
        "format_version": 1, "ledger_id": ledger_id, "seq": seq_of(&path.path), "leader_ts": null,
        "taken_at": "2026-01-01T00:00:00Z", "key": key,
        "compression": if key.contains(".gz") { "gzip" } else if key.contains(".zst") { "zstd" } else { "none" },
        "bytes": file.len(), "sha256": hex::encode(Sha256::digest(file)), "sha1": "",
        "stored_bytes": stored.len(), "stored_sha256": hex::encode(Sha256::digest(stored)),
        "sqlite_version": "3", "tables": [],
    })
}

fn open_immutable(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{}?immutable=1", path.display()), flags).expect("open a snapshot")
}

pub fn seq_of(snapshot: &Path) -> i64 {
    let seq = open_immutable(snapshot).query_row("SELECT seq FROM _ldb_seq WHERE id = 1", [], |row| row.get(0));
    seq.unwrap_or(0)
}

/// Reads an LDB with SQLite, as any other program would.
pub fn ldb(path: &Path, query: &str) -> Result<Vec<sql::Row>, String> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| e.to_string())?;
    let mut statement = connection.prepare(query).map_err(|e| e.to_string())?;
    let width = statement.column_count();
    let text = |row: &rusqlite::Row<'_>, column| {
        row.get::<_, rusqlite::types::Value>(column).map(|value| match value {
            rusqlite::types::Value::Null => None,
            rusqlite::types::Value::Integer(number) => Some(number.to_string()),
            rusqlite::types::Value::Text(text) => Some(text),
            other => Some(format!("{other:?}")),
        })
    };
    let rows = statement.query_map([], |row| (0..width).map(|column| text(row, column)).collect());
    rows.and_then(Iterator::collect).map_err(|error| error.to_string())
}

/// Waits until the host's LDB has all of the origin's ledger, and equals its ctldb.
#[track_caller]
pub fn wait_until_equal(host: &Node, origin: &Origin) {
    let last = origin.last_seq().to_string();
    wait_for("the host has all of the ledger", DEADLINE, || {
        let seq = ldb(&host.ldb_path(), "SELECT seq FROM _ldb_seq").ok()?;
        (seq.first()?.first()?.as_ref()? == &last).then_some(())
    });
    assert_whole(&host.ldb_path());
    let found = ldb(&host.ldb_path(), "SELECT id, value FROM fam___tab ORDER BY id").expect("read the ldb");
    assert!(found == origin.rows(), "the ldb is not the ctldb");
}

#[track_caller]
pub fn assert_whole(ldb_path: &Path) {
    assert_eq!(ldb(ldb_path, "PRAGMA integrity_check"), Ok(vec![vec![Some("ok".to_owned())]]));
}

/// The applier's status once it satisfies `condition`.
#[track_caller]
pub fn wait_for_applier(host: &NodeProcess, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, DEADLINE, || Some(role_status(&host.ops_url(), "applier")).filter(|status| condition(status)))
}

/// Waits until the applier names a failure that contains `text`.
#[track_caller]
pub fn wait_for_failure(host: &NodeProcess, text: &str) -> Value {
    wait_for_applier(host, text, |status| status["last_error"]["message"].to_string().contains(text))
}

/// The value of one line of `/metrics`; 0 if the line is missing.
pub fn metric(host: &NodeProcess, name: &str) -> f64 {
    let text = crate::http::get(&format!("{}/metrics", host.ops_url())).expect(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Names beside the host's LDB that contain `part`.
pub fn names(host: &Node, part: &str) -> Vec<String> {
    let entries = std::fs::read_dir(host.data_dir()).expect("list the data directory");
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.contains(part));
    names.sort();
    names
}

#[track_caller]
pub fn wait_until_retrying(host: &NodeProcess) {
    wait_until("the applier retries", DEADLINE, || role_status(&host.ops_url(), "applier")["state"] == "retrying");
}

/// Replaces an LDB by a file that can't be read. The LDB was a plain file, as the original makes it.
pub fn write_damaged(host: &Node, bytes: &[u8]) {
    std::fs::write(host.ldb_path(), bytes).expect("write");
    std::fs::write(host.data_dir().join("ldb.db.seq"), format!("{:020}\n", 7)).expect("write");
}
