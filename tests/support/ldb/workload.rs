//! A random ledger from a seed, a process that applies it, and the expected rows. The expected rows come
//! from running the statements with plain SQLite.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use ctlstore_core::ledger::{Assembler, LedgerRow, Seq};
use ctlstore_ldb::changelog::ChangelogOptions;
use ctlstore_ldb::changelog::history::HistoryOptions;
use ctlstore_ldb::{Ldb, LdbOptions};
use rusqlite::Connection;

use super::{dump, row};
use crate::one_test;

const TABLES: [&str; 3] = ["fam___left", "fam___right", "fam___other"];

/// Large enough for a whole workload. The workload fills several segments.
const HISTORY_BYTES: u64 = 4 << 20;

/// The variables by which a test passes a workload to the process that it starts.
const DIRECTORY: &str = "LDB_WORKLOAD_DIRECTORY";
const SEED: &str = "LDB_WORKLOAD_SEED";
const CHUNK: &str = "LDB_WORKLOAD_CHUNK";

/// Pseudo-random numbers from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn roll(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

pub struct Workload {
    pub rows: Vec<LedgerRow>,
}

impl Workload {
    /// About `length` ledger rows. With `drops` some tables go with all their rows.
    pub fn new(seed: u64, length: usize, drops: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut made = Self { rows: Vec::new() };
        for table in TABLES {
            made.push(&create(table));
        }
        while made.rows.len() < length {
            match dice.roll(100) {
                0..40 => made.push(&mutation(&mut dice)),
                40..95 => {
                    made.push("--- BEGIN");
                    for _ in 0..1 + dice.roll(12) {
                        made.push(&mutation(&mut dice));
                    }
                    // A reader must find it in both tables or in neither.
                    let id = 1_000 + dice.roll(5);
                    let value = dice.roll(1 << 40);
                    made.push(&upsert("fam___left", id, value));
                    made.push(&upsert("fam___right", id, value));
                    made.push("--- COMMIT");
                }
                95..97 => made.push("DELETE FROM fam___other"),
                97 if drops && dice.roll(8) == 0 => {
                    made.push("DROP TABLE IF EXISTS fam___other");
                    made.push(&create("fam___other"));
                }
                // A gap, as refused requests leave.
                _ => {
                    let seq = made.next() + 2;
                    made.rows.push(row(seq, &mutation(&mut dice)));
                }
            }
        }
        made
    }

    fn next(&self) -> i64 {
        self.rows.last().map_or(1, |row| row.seq.0 + 1)
    }

    fn push(&mut self, statement: &str) {
        self.rows.push(row(self.next(), statement));
    }

    pub fn last_seq(&self) -> i64 {
        self.next() - 1
    }

    /// Applies the rows that `ldb` does not have yet, about `chunk` at a time.
    pub fn apply(&self, ldb: &mut Ldb, mut chunk: impl FnMut() -> u64) {
        let position = ldb.position().unwrap().seq;
        let mut assembler = Assembler::after(position);
        let mut left = chunk();
        for row in self.rows.iter().filter(|row| row.seq > position) {
            assembler.push(row.clone()).unwrap();
            left = left.saturating_sub(1);
            if (left == 0 || row.seq == Seq(self.last_seq()))
                && let Some(batch) = assembler.take_complete()
            {
                ldb.apply(&batch).unwrap();
                ldb.maintain().unwrap();
                left = chunk();
            }
        }
    }
}

fn create(table: &str) -> String {
    format!(r#"CREATE TABLE {table} ("id" INTEGER, "v" TEXT, "w" VARCHAR(191), PRIMARY KEY("id","w"));"#)
}

fn upsert(table: &str, id: u64, value: u64) -> String {
    format!(r#"REPLACE INTO {table} ("id","v","w") VALUES({id},'{value:040}','key')"#)
}

fn mutation(dice: &mut Dice) -> String {
    let table = TABLES[dice.roll(3) as usize];
    let id = dice.roll(300);
    match dice.roll(4) {
        0 => format!(r#"DELETE FROM {table} WHERE "id" = {id} AND "w" = 'key'"#),
        _ => upsert(table, id, dice.roll(1 << 40)),
    }
}

/// The rows of a ledger that plain SQLite replayed up to some seq.
pub struct Replay<'w> {
    workload: &'w Workload,
    applied: usize,
    connection: Connection,
}

impl<'w> Replay<'w> {
    pub fn new(workload: &'w Workload) -> Self {
        Self { workload, applied: 0, connection: Connection::open_in_memory().unwrap() }
    }

    /// The rows that an LDB at `seq` must have. `seq` never goes back.
    pub fn dump_at(&mut self, seq: i64) -> Vec<String> {
        while let Some(row) = self.workload.rows.get(self.applied).filter(|row| row.seq.0 <= seq) {
            if !row.statement.starts_with("---") {
                self.connection.execute_batch(&row.statement).unwrap();
            }
            self.applied += 1;
        }
        dump(&self.connection)
    }

    /// Whether a ledger transaction ends at `seq`.
    pub fn is_boundary(&self, seq: i64) -> bool {
        let before = self.workload.rows.iter().take_while(|row| row.seq.0 <= seq);
        let markers: Vec<_> = before.filter(|row| row.statement.starts_with("---")).collect();
        markers.last().is_none_or(|marker| marker.statement == "--- COMMIT")
    }
}

/// The workload of the process that applies one.
pub struct Task {
    pub directory: PathBuf,
    pub seed: u64,
    chunk: Option<u64>,
}

impl Task {
    /// `None` in a process that a test runner started.
    pub fn from_environment() -> Option<Self> {
        let number = |name| std::env::var(name).ok().map(|value| value.parse().unwrap());
        let directory = PathBuf::from(std::env::var_os(DIRECTORY)?);
        Some(Self { directory, seed: number(SEED).unwrap(), chunk: number(CHUNK) })
    }

    /// Opens the LDB in the directory and applies the whole workload.
    pub fn run(&self, workload: &Workload) {
        let mut ldb = open(&self.directory, self.seed);
        let mut dice = Dice::new(std::process::id().into());
        workload.apply(&mut ldb, || self.chunk.unwrap_or_else(|| 1 + dice.roll(60)));
    }
}

/// The LDB in `directory`. Every third seed has a changelog that rotates often, the
/// others one that never does; all have a history.
pub fn open(directory: &Path, seed: u64) -> Ldb {
    let max_bytes = if seed.is_multiple_of(3) { 16 * 1024 } else { 1 << 30 };
    let changelog = ChangelogOptions { path: directory.join("change.log"), max_bytes };
    let path = directory.join("ldb.db");
    let history = HistoryOptions::beside(&path, HISTORY_BYTES);
    let options = LdbOptions { wal_checkpoint_bytes: 256 * 1024, changelog: Some(changelog), history: Some(history) };
    Ldb::open(&path, &options).unwrap()
}

/// Starts this test binary again, for its test `test` alone (a path as [`one_test`] takes it), to work on `directory`.
pub fn start(test: &str, directory: &Path, seed: u64, chunk: Option<u64>, failpoint: Option<&str>) -> Child {
    let mut command = one_test(test);
    command.env(DIRECTORY, directory).env(SEED, seed.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(chunk) = chunk {
        command.env(CHUNK, chunk.to_string());
    }
    if let Some(failpoint) = failpoint {
        command.env("CTLSTORE_FAILPOINT", failpoint);
    }
    command.spawn().unwrap()
}
