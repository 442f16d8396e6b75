//! Support for tests of pruning: a ledger that an LDB can follow, snapshots that a real snapshotter publishes, and the
//! command as a process.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::client::role_status;
use crate::{Node, TestDatabase, process, wait_until};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// A statement that an LDB with `fam___tab` takes.
pub fn upsert(id: usize) -> String {
    format!(r#"REPLACE INTO fam___tab ("k","v") VALUES('key {id}',{id})"#)
}

/// Makes the rows up to `seq` older than a day.
#[track_caller]
pub fn age(database: &TestDatabase, seq: i64) {
    database.query(&format!("UPDATE ctlstore_dml_ledger SET leader_ts = '2020-01-01 00:00:00' WHERE seq <= {seq}"));
}

#[track_caller]
pub fn ledger_id(database: &TestDatabase) -> String {
    database.value("SELECT value FROM ctlstore_meta WHERE name = 'ledger_id'").expect("a ledger id")
}

#[track_caller]
pub fn mark(database: &TestDatabase) -> Option<i64> {
    let rows = database.query("SELECT value FROM ctlstore_meta WHERE name = 'low_water_seq'");
    rows.first().map(|row| row[0].as_deref().expect("a mark").parse().expect("a number"))
}

#[track_caller]
pub fn number(database: &TestDatabase, question: &str) -> i64 {
    database.value(question).unwrap_or_else(|| panic!("{question}: null")).parse().expect("a number")
}

/// The ledger's first row, its last row, and the number of rows.
#[track_caller]
pub fn ends(database: &TestDatabase) -> (i64, i64, i64) {
    let row = database.query("SELECT MIN(seq), MAX(seq), COUNT(*) FROM ctlstore_dml_ledger").remove(0);
    let number = |value: &Option<String>| value.as_deref().expect("a row").parse().expect("a number");
    (number(&row[0]), number(&row[1]), number(&row[2]))
}

/// Lets a host follow the ledger to its end and publish a snapshot at `file`; returns its URL.
#[track_caller]
pub fn publish(database: &TestDatabase, file: &Path) -> String {
    let url = format!("file://{}", file.display());
    let host = Node::new().roles(&["reflector", "snapshotter"]).ctldb(&database.url);
    let host = host.set("snapshotter.urls", vec![url.clone()]).set("snapshotter.interval", "100ms").start();
    let last = ends(database).1;
    wait_until("the snapshot is published", DEADLINE, || {
        role_status(&host.ops_url(), "snapshotter")["last_seq"].as_i64() == Some(last)
    });
    url
}

/// `ctlstore ledger prune` on a ctldb, with its data directory in `home`.
pub fn command(url: &str, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(crate::binary());
    command.args(["ledger", "prune"]).args(arguments).current_dir(home);
    command.env("CTLSTORE__CTLDB__URL", url).env("CTLSTORE__NODE__DATA_DIR", home);
    command
}

/// Runs it to its end.
pub fn run(url: &str, home: &Path, arguments: &[&str]) -> Output {
    command(url, home, arguments).output().expect("run the command")
}

/// Starts it; its output goes nowhere.
pub fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process::spawn(command)
}

/// Its output after a success.
#[track_caller]
pub fn printed(output: Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
pub fn json(output: Output) -> Value {
    serde_json::from_str(&printed(output)).expect("json")
}

/// Its message after a failure with this exit code.
#[track_caller]
pub fn complaint(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
