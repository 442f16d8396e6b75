//! What the benches on applying share: rows, batches of them, an LDB to apply them to,
//! and how time is taken.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ctlstore_core::ledger::{Assembler, Batch, LedgerRow, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::changelog::ChangelogOptions;
use ctlstore_ldb::changelog::history::HistoryOptions;
use ctlstore_ldb::{Ldb, LdbOptions};
use tempfile::TempDir;

/// The node's default, as are the sizes below.
pub const CHECKPOINT_BYTES: u64 = 40 << 20;
const CHANGELOG_BYTES: u64 = 1 << 20;
const HISTORY_BYTES: u64 = 64 << 20;
pub const CREATE: &str =
    r#"CREATE TABLE fam___tab ("id" VARCHAR(191), "n" INTEGER, "r" REAL, "v" TEXT, "b" BLOB, PRIMARY KEY("id"));"#;

/// What is written beside the LDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    Nothing,
    Changelog,
    /// The changelog, and the history that the feed of changes reads.
    History,
}

impl Beside {
    pub fn options(self, directory: &TempDir) -> LdbOptions {
        let changelog = ChangelogOptions { path: directory.path().join("change.log"), max_bytes: CHANGELOG_BYTES };
        let history = HistoryOptions::beside(&directory.path().join("ldb.db"), HISTORY_BYTES);
        LdbOptions {
            wal_checkpoint_bytes: CHECKPOINT_BYTES,
            changelog: (self != Self::Nothing).then_some(changelog),
            history: (self == Self::History).then_some(history),
        }
    }
}

/// About 130 bytes.
pub struct Row {
    pub id: String,
    pub n: i64,
    pub r: f64,
    pub v: String,
    pub b: Vec<u8>,
}

impl Row {
    pub fn new(key: u64, value: u64) -> Self {
        Self {
            id: format!("key-{key:020}"),
            n: value as i64 >> 8,
            r: (value >> 20) as f64 / 64.0,
            v: format!("{value:064}"),
            b: value.to_be_bytes().to_vec(),
        }
    }

    fn statement(&self) -> String {
        let b = hex::encode(&self.b);
        format!(
            r#"REPLACE INTO fam___tab ("id","n","r","v","b") VALUES('{}',{},{},'{}',x'{b}')"#,
            self.id, self.n, self.r, self.v
        )
    }
}

/// Odd, so that every number below 2^64 comes once.
pub fn random(i: usize) -> u64 {
    (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Rows as ledger batches behind `seq`, which moves on.
pub fn batches(rows: &[Row], size: usize, seq: &mut Seq) -> Vec<Batch> {
    let batch = |chunk: &[Row]| {
        let mut assembler = Assembler::after(*seq);
        for row in chunk {
            *seq = seq.next();
            let row = LedgerRow { seq: *seq, leader_ts: Some(Timestamp::now()), statement: row.statement() };
            assembler.push(row).expect("rows are in order");
        }
        assembler.take_complete().expect("there are rows")
    };
    rows.chunks(size).map(batch).collect()
}

/// An LDB with an empty table at seq 1.
pub fn fresh_ldb(beside: Beside) -> (TempDir, Ldb) {
    let directory = tempfile::tempdir().expect("a directory for the ldb");
    let mut ldb = Ldb::open(&directory.path().join("ldb.db"), &beside.options(&directory)).expect("an ldb");
    let mut assembler = Assembler::after(Seq(0));
    let create = LedgerRow { seq: Seq(1), leader_ts: None, statement: CREATE.to_owned() };
    assembler.push(create).expect("the first row");
    ldb.apply(&assembler.take_complete().expect("a batch")).expect("the table is made");
    (directory, ldb)
}

pub fn apply(ldb: &mut Ldb, batches: &[Batch]) {
    for batch in batches {
        black_box(ldb.apply(batch).expect("the batch is applied"));
        ldb.maintain().expect("the wal is checkpointed");
    }
}

/// What one run of one way took.
#[derive(Clone, Copy)]
pub struct Took {
    pub elapsed: Duration,
    pub cpu: Duration,
}

pub fn measure(work: impl FnOnce()) -> Took {
    let (start, cpu) = (Instant::now(), thread_cpu());
    work();
    Took { elapsed: start.elapsed(), cpu: thread_cpu() - cpu }
}

/// CPU time of this thread so far, user and system.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every Linux, and `time` is there to be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
