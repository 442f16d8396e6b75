//! Programs that open the LDB once and never again, as those of the original do: plain SQLite, read-only, with pools of 1
//! and 8 connections. They stay right while the ledger is pruned under the host and the LDB is brought forward in its
//! own file.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use support::bootstrap::{DEADLINE, Origin, assert_whole, ldb, metric, seq_of, wait_until_equal};
use support::client::role_status;
use support::wait::{wait_for, wait_until};
use support::{Client, Node, NodeProcess, http, process};

const SIGABRT: i32 = 6;
/// Rows that each write replaces, all with the same value.
const ROWS: i64 = 60;
const FAILPOINTS: [&str; 7] = [
    "catch-up-after-begin",
    "catch-up-amid-rows:30",
    "catch-up-after-rows",
    "catch-up-after-seq",
    "catch-up-after-history",
    "catch-up-after-commit",
    "catch-up-after-changelog",
];

/// One program that reads.
struct Reader {
    child: Child,
    told: BufReader<std::process::ChildStdout>,
}

impl Reader {
    fn start(path: &Path, pool: usize) -> Self {
        let mut command = Command::new("python3");
        command.arg("tests/ldb/readers_that_stay.py").arg(path).args([pool.to_string(), ROWS.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process::spawn(command);
        let told = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, told }
    }

    /// The seq, value and number of reads of its last read.
    #[track_caller]
    fn ask(&mut self) -> (i64, String, u64) {
        let mut line = String::new();
        let asked = self.child.stdin.as_mut().expect("a pipe").write_all(b"\n");
        if asked.is_err() || self.told.read_line(&mut line).expect("read") == 0 {
            let mut reason = String::new();
            let _ = std::io::Read::read_to_string(self.child.stderr.as_mut().expect("a pipe"), &mut reason);
            panic!("a reader ended: {reason}");
        }
        let (seq, rest) = line.trim_end().split_once(' ').expect("a seq");
        let (value, reads) = rest.rsplit_once(' ').expect("a value");
        (seq.parse().expect("a number"), value.to_owned(), reads.parse().expect("a number"))
    }

    #[track_caller]
    fn wait_for_seq(&mut self, seq: i64) {
        wait_until("a reader sees the seq", DEADLINE, || self.ask().0 >= seq);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All rows get the value `n`.
fn write(client: &Client, n: i64) -> i64 {
    let value = format!("{n:08}");
    let rows: Vec<_> = (0..ROWS).map(|id| (id, value.as_str())).collect();
    client.upsert("fam", "tab", &rows)
}

fn origin() -> Origin {
    let origin = Origin::with_rows(1);
    write(&origin.client, 0);
    origin
}

fn host(origin: &Origin) -> Node {
    let published = format!("file://{}", origin.published().display());
    origin.host().set("bootstrap.urls", vec![published])
}

fn ldb_seq(host: &Node) -> i64 {
    let seq = ldb(&host.ldb_path(), "SELECT seq FROM _ldb_seq").expect("read the seq");
    seq[0][0].as_deref().expect("a seq").parse().expect("a number")
}

/// Prunes the ledger past where the host stands, behind a snapshot that has what goes. Writes may go on.
fn leave_behind(origin: &Origin, host: &Node) {
    let at = ldb_seq(host);
    wait_until("the origin is further on", DEADLINE, || origin.last_seq() > at + 5 * ROWS);
    let published = origin.published();
    let fetched = wait_for("it is published", DEADLINE, || {
        let seq = seq_of(&published);
        (published.exists() && seq > at + 4 * ROWS).then_some(seq)
    });
    // As our pruning does: never the last row.
    origin.prune(fetched - 1);
}

#[test]
fn readers_that_never_open_the_file_again_stay_right_under_load() {
    let origin = origin();
    let host = host(&origin);
    let mut process = host.start();
    wait_until_equal(&host, &origin);
    let link = std::fs::read_link(host.ldb_path()).expect("a link");
    let mut readers: Vec<_> = [1, 8].map(|pool| Reader::start(&host.ldb_path(), pool)).into();
    let (stop, written) = (AtomicBool::new(false), AtomicI64::new(0));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            for n in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                write(&origin.client, n);
                written.store(n, Ordering::Relaxed);
            }
        });
        for round in 0..4 {
            // The reflector hears nothing for a while, as a host that is cut off.
            process.signal(libc::SIGSTOP);
            change_tables(&origin, round);
            leave_behind(&origin, &host);
            process.signal(libc::SIGCONT);
            let wanted = origin.last_seq();
            for reader in &mut readers {
                reader.wait_for_seq(wanted);
            }
            wait_until("it was done in the file", DEADLINE, || in_place(&process) > f64::from(round));
        }
        stop.store(true, Ordering::Relaxed);
        load.join().expect("the load");
    });
    assert!(written.into_inner() > 20);
    let last = origin.last_seq();
    for reader in &mut readers {
        reader.wait_for_seq(last);
        let (_, value, reads) = reader.ask();
        assert_eq!(Some(value), origin.rows()[0][1]);
        assert!(reads > 100, "{reads} reads");
    }
    wait_until_equal(&host, &origin);
    assert_eq!(std::fs::read_link(host.ldb_path()).expect("a link"), link, "another file took the path");
    assert_eq!(columns(&host), "id,value,c0,c1,c2,c3");
    let status = role_status(&process.ops_url(), "applier");
    assert_eq!(status["details"]["bootstrap"]["in_place"], json!(in_place(&process) as i64), "{status}");
    assert_eq!(status["details"]["bootstrap"]["catching_up"], Value::Null, "{status}");
    assert!(process.stop(DEADLINE).success());
}

fn in_place(process: &NodeProcess) -> f64 {
    metric(process, "ctlstore_bootstrap_in_place_total")
}

/// A table gets a column, and another table comes.
fn change_tables(origin: &Origin, round: i32) {
    if round == 0 {
        origin.client.create_table("fam", "side", &[("id", "integer"), ("value", "text")], 1).expect(200);
    }
    let table = origin.client.url("/families/fam/tables/side");
    http::exchange("PUT", &table, &[], json!({ "fields": [[format!("c{round}"), "integer"]] }).to_string())
        .expect("an answer")
        .expect(200);
    origin.client.create_table("fam", &format!("new{round}"), &[("id", "string")], 1).expect(200);
}

fn columns(host: &Node) -> String {
    let columns = ldb(&host.ldb_path(), "SELECT group_concat(name) FROM pragma_table_info('fam___side')").expect("ask");
    columns[0][0].clone().expect("columns")
}

#[test]
fn readers_that_never_open_the_file_again_stay_right_through_kills_at_every_step() {
    let origin = origin();
    let host = host(&origin);
    let mut process = host.start();
    wait_until_equal(&host, &origin);
    let link = std::fs::read_link(host.ldb_path()).expect("a link");
    let mut readers: Vec<_> = [1, 8].map(|pool| Reader::start(&host.ldb_path(), pool)).into();
    for (round, failpoint) in FAILPOINTS.into_iter().enumerate() {
        assert!(process.stop(DEADLINE).success());
        let before = ldb_seq(&host);
        for n in 0..10 {
            write(&origin.client, (round * 100 + n + 1) as i64);
        }
        leave_behind(&origin, &host);
        let mut killed = host.clone().env("CTLSTORE_FAILPOINT", failpoint).spawn();
        assert_eq!(killed.wait_exit(DEADLINE).signal(), Some(SIGABRT), "{failpoint}");
        // Whole, the old one or the new one, for whoever opens it now and for those who have it open.
        assert_whole(&host.ldb_path());
        let found = ldb_seq(&host);
        let is_new = ["catch-up-after-commit", "catch-up-after-changelog"].contains(&failpoint);
        assert_eq!(found > before, is_new, "{failpoint}: {found} after {before}");
        for reader in &mut readers {
            reader.wait_for_seq(found);
        }
        process = host.start();
        wait_until_equal(&host, &origin);
        for reader in &mut readers {
            reader.wait_for_seq(origin.last_seq());
        }
        assert_eq!(std::fs::read_link(host.ldb_path()).expect("a link"), link, "{failpoint}");
        wait_until("what was fetched is gone", Duration::from_secs(60), || {
            !host.data_dir().join("ldb.db.incoming").exists()
        });
    }
}
