//! What taking a snapshot costs: how long it takes against `cp` and fsync of the same
//! file, and how long the applier's commits wait for it, against those right before and
//! after it, with nothing beside them, and against those beside `cp`. Each round has
//! all of it, so that what else goes on on the machine meets all alike; shown are medians
//! over the rounds, and the slowest commit of all.
//!
//! `cargo bench --bench snapshot`; `-- mb=500 rate=5000 rounds=5` are its settings: the
//! LDB's size, the rows that are applied each second, the rounds. Beside it a thread writes and
//! flushes a small file of its own, for the disk's part in it. Files go to the temporary
//! directory (`TMPDIR`), which needs room for twice the LDB.

use std::env;
use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ctlstore_core::Abort;
use ctlstore_core::ledger::{Assembler, LedgerRow, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::snapshot::{Phase, SnapshotProgress, take};
use ctlstore_ldb::{Ldb, LdbOptions};
use rusqlite::Connection;

/// The node's default.
const CHECKPOINT_BYTES: u64 = 40 << 20;
/// How often the applier commits what has come.
const TICK: Duration = Duration::from_millis(5);
/// How long nothing else goes on before and after each of the others.
const QUIET: Duration = Duration::from_secs(2);
/// The rows that are there have about a kilobyte.
const FILL: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?1)
    INSERT INTO fam___big SELECT printf('key-%08d', x), x, hex(randomblob(450)) FROM n";
/// One row of so many takes an older one's place.
const REPLACED: u64 = 10;
const CREATE: &str = r#"CREATE TABLE fam___big ("k" VARCHAR(191), "v" INTEGER, "t" TEXT, PRIMARY KEY("k"));"#;
const BESIDE: [&str; 4] = ["nothing", "the copy", "its checks", "cp + fsync"];
const NOTHING: usize = 0;
const COPY: usize = 1;
const CHECKS: usize = 2;
const CP: usize = 3;

/// What goes on, and what commits and flushes took meanwhile, in milliseconds.
#[derive(Default)]
struct Watch {
    beside: AtomicUsize,
    stop: AtomicBool,
    commits: [Mutex<Vec<f64>>; 4],
    flushes: [Mutex<Vec<f64>>; 4],
    /// When the last copy was made, before its checks.
    copied: Mutex<Option<Instant>>,
}

impl Watch {
    fn now(&self, beside: usize) {
        self.beside.store(beside, Ordering::Relaxed);
    }

    /// Runs `work`, whose time goes to what goes on as it begins or ends, whichever has more to say.
    fn time(&self, into: &[Mutex<Vec<f64>>; 4], work: impl FnOnce() -> Duration) {
        let before = self.beside.load(Ordering::Relaxed);
        let took = work().as_secs_f64() * 1e3;
        let beside = before.max(self.beside.load(Ordering::Relaxed));
        into[beside].lock().expect("nobody panicked").push(took);
    }
}

/// Tells the watch where a snapshot is.
impl SnapshotProgress for Watch {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        if phase == Phase::Copy && Some(done) == total {
            self.now(CHECKS);
            *self.copied.lock().expect("nobody panicked") = Some(Instant::now());
        }
    }
}

fn main() {
    let setting = |name: &str, default: u64| {
        env::args().find_map(|arg| arg.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).unwrap_or(default)
    };
    let (mb, rate, rounds) = (setting("mb", 500), setting("rate", 5_000), setting("rounds", 5));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (ldb, copy) = (directory.path().join("ldb.db"), directory.path().join("copy.db"));
    let rows = fill(&ldb, mb);
    println!("ldb of {} MB, {rows} rows; {rate} rows/s, a commit each {TICK:?}; {rounds} rounds", size(&ldb) >> 20);
    let watch = Arc::new(Watch::default());
    let (mut takes, mut copies, mut cps) = (Vec::new(), Vec::new(), Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| apply(&ldb, rows, rate, &watch));
        scope.spawn(|| flush(&directory.path().join("beside"), &watch));
        for _ in 0..rounds {
            thread::sleep(QUIET);
            watch.now(COPY);
            let progress: Arc<dyn SnapshotProgress> = Arc::clone(&watch) as _;
            let began = Instant::now();
            black_box(take(&ldb, &copy, &Abort::default(), &progress).expect("take a snapshot"));
            takes.push(began.elapsed().as_secs_f64());
            let copied = watch.copied.lock().expect("nobody panicked").expect("a copy was made");
            copies.push((copied - began).as_secs_f64());
            watch.now(NOTHING);
            fs::remove_file(&copy).expect("remove the copy");
            thread::sleep(QUIET);
            watch.now(CP);
            cps.push(copy_and_flush(&ldb, &copy).as_secs_f64());
            watch.now(NOTHING);
        }
        watch.stop.store(true, Ordering::Relaxed);
    });
    let (taken, copied, cp) = (median(&mut takes), median(&mut copies), median(&mut cps));
    println!("taken and checked in {taken:.2} s, of which copied in {copied:.2} s; cp + fsync {cp:.2} s");
    println!("ratio {:.2}, of the copy alone {:.2}", taken / cp, copied / cp);
    for (what, times) in [("commits", &watch.commits), ("flushes of 4 KiB", &watch.flushes)] {
        for (beside, times) in BESIDE.iter().zip(times) {
            report(what, beside, &mut times.lock().expect("nobody panicked"));
        }
    }
}

fn report(what: &str, beside: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get(((times.len() - 1) as f64 * part) as usize).copied().unwrap_or_default();
    if !times.is_empty() {
        let (p50, p99, p999, most) = (at(0.5), at(0.99), at(0.999), at(1.0));
        let over = times.iter().filter(|ms| **ms > 50.0).count();
        let count = times.len();
        println!(
            "{what} beside {beside}: {count}, p50 {p50:.1} ms, p99 {p99:.1}, p99.9 {p999:.1}, most {most:.1}; above 50 ms: {over}"
        );
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).expect("look at a file").len()
}

fn options() -> LdbOptions {
    LdbOptions { wal_checkpoint_bytes: CHECKPOINT_BYTES, changelog: None, history: None }
}

fn row(seq: u64, statement: String) -> LedgerRow {
    LedgerRow { seq: Seq(seq as i64), leader_ts: Some(Timestamp::now()), statement }
}

/// An LDB of about `mb` MB at seq 1; gives its rows.
fn fill(path: &Path, mb: u64) -> u64 {
    let mut ldb = Ldb::open(path, &options()).expect("make an ldb");
    let mut assembler = Assembler::after(Seq::ZERO);
    assembler.push(row(1, CREATE.to_owned())).expect("the ledger begins");
    ldb.apply(&assembler.take_complete().expect("a batch")).expect("apply it");
    ldb.close().expect("close the ldb");
    let connection = Connection::open(path).expect("open the ldb");
    connection.execute_batch("PRAGMA synchronous = OFF").expect("set it up");
    let rows = mb << 10;
    connection.execute(FILL, [rows as i64]).expect("fill it");
    drop(connection);
    File::open(path).and_then(|file| file.sync_all()).expect("flush it");
    rows
}

/// Applies rows at the rate, most of them new and some in place of older ones.
fn apply(path: &Path, rows: u64, rate: u64, watch: &Watch) {
    let mut ldb = Ldb::open(path, &options()).expect("open the ldb");
    let mut assembler = Assembler::after(Seq(1));
    let (began, mut applied) = (Instant::now(), 0_u64);
    while !watch.stop.load(Ordering::Relaxed) {
        thread::sleep(TICK);
        let due = began.elapsed().as_millis() as u64 * rate / 1_000;
        for _ in 0..(due - applied).min(1_000) {
            applied += 1;
            // Steps by a large prime, so that no two next to each other share a page.
            let key = if applied.is_multiple_of(REPLACED) { applied * 7_368_787 % rows } else { rows + applied };
            let text = "y".repeat(100);
            let upsert = format!(r#"REPLACE INTO fam___big ("k","v","t") VALUES('key-{key:08}',{applied},'{text}')"#);
            assembler.push(row(1 + applied, upsert)).expect("the ledger goes on");
        }
        let Some(batch) = assembler.take_complete() else { continue };
        watch.time(&watch.commits, || {
            let done = ldb.apply(&batch).expect("apply a batch");
            done.execute + done.commit
        });
        ldb.maintain().expect("look after the WAL");
    }
}

/// Writes and flushes a page in place, as a commit into a WAL does.
fn flush(path: &Path, watch: &Watch) {
    let file = File::create(path).expect("make a file");
    file.write_all_at(&[0; 1 << 20], 0).expect("write it");
    file.sync_all().expect("flush it");
    let mut at = 0;
    while !watch.stop.load(Ordering::Relaxed) {
        thread::sleep(TICK);
        at = (at + 4096) % (1 << 20);
        watch.time(&watch.flushes, || {
            let began = Instant::now();
            file.write_all_at(&[1; 4096], at).and_then(|()| file.sync_data()).expect("flush it");
            began.elapsed()
        });
    }
}

fn copy_and_flush(from: &Path, to: &Path) -> Duration {
    let began = Instant::now();
    // Not in this process: on closing the file it would lose SQLite's locks on it.
    assert!(Command::new("cp").arg(from).arg(to).status().expect("run cp").success());
    File::open(to).and_then(|file| file.sync_all()).expect("flush the copy");
    let took = began.elapsed();
    fs::remove_file(to).expect("remove the copy");
    took
}
