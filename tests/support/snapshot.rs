//! An LDB that the real applier writes from a generated ledger, and the check of its snapshots: one
//! file that equals the ledger replayed up to the snapshot's seq.

pub mod stored;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use ctlstore_core::Abort;
use ctlstore_core::ledger::{Assembler, LedgerRow, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_ldb::snapshot::{Delivered, Publisher, SnapshotError, SnapshotUrl, Target};
use ctlstore_ldb::{Ldb, LdbOptions};
use rusqlite::{Connection, OpenFlags};

/// Rows of each ledger transaction.
const ROWS: i64 = 5;
/// Ledger rows of each transaction: its rows, BEGIN and COMMIT.
const STEP: i64 = ROWS + 2;

/// The ledger. Its first row creates a table. Then each transaction sets all rows to one new value and
/// adds one row.
pub fn ledger_row(seq: i64) -> String {
    if seq == 1 {
        return r#"CREATE TABLE fam___tab ("k" VARCHAR(191), "v" INTEGER, "t" TEXT, PRIMARY KEY("k"));"#.to_owned();
    }
    let transaction = (seq - 2) / STEP;
    let place = (seq - 2) % STEP;
    let upsert = |key: &str| {
        let text = "x".repeat(100 + (transaction % 50) as usize);
        format!(r#"REPLACE INTO fam___tab ("k","v","t") VALUES('{key}',{transaction},'{text}')"#)
    };
    match place {
        0 => "--- BEGIN".to_owned(),
        1 => upsert(&format!("own{transaction}")),
        place if place == STEP - 1 => "--- COMMIT".to_owned(),
        place => upsert(&format!("shared{place}")),
    }
}

/// The last row of the ledger's `n`th transaction.
pub fn end_of(transaction: i64) -> i64 {
    1 + transaction * STEP
}

/// The LDB, open for its applier.
pub struct Applier {
    ldb: Ldb,
    assembler: Assembler,
}

impl Applier {
    pub fn open(path: &Path) -> Self {
        let options = LdbOptions { wal_checkpoint_bytes: 1 << 20, changelog: None, history: None };
        let ldb = Ldb::open(path, &options).expect("open the ldb");
        let seq = ldb.position().expect("the ldb's position").seq;
        Self { ldb, assembler: Assembler::after(seq) }
    }

    /// Applies the generated ledger up to `last`, in one batch.
    pub fn apply_to(&mut self, last: i64) {
        for seq in self.assembler.last_seq().0 + 1..=last {
            let row = LedgerRow { seq: Seq(seq), leader_ts: Some(Timestamp::now()), statement: ledger_row(seq) };
            self.assembler.push(row).expect("the ledger is in order");
        }
        if let Some(batch) = self.assembler.take_complete() {
            self.ldb.apply(&batch).expect("apply a batch");
            self.ldb.maintain().expect("look after the WAL");
        }
    }

    /// Applies one statement of the test as the ledger's next row.
    pub fn apply(&mut self, statement: String) {
        let seq = Seq(self.assembler.last_seq().0 + 1);
        self.assembler.push(LedgerRow { seq, leader_ts: Some(Timestamp::now()), statement }).expect("in order");
        let batch = self.assembler.take_complete().expect("one statement is a batch");
        self.ldb.apply(&batch).expect("apply a batch");
    }

    pub fn adopt(&mut self, ledger_id: &str) {
        self.ldb.adopt_ledger_id(ledger_id).expect("adopt a ledger");
    }
}

/// A publisher of the LDB to plain files.
pub fn publisher(ldb: &Path, snapshots: &[&Path]) -> Publisher {
    Publisher::new(ldb, snapshots.iter().map(|path| Target::new(SnapshotUrl::File(path.to_path_buf()))))
}

/// The result of a round over all destinations.
#[derive(Debug)]
pub enum Outcome {
    NothingYet,
    /// Every destination had it already.
    Unchanged,
    /// At least one got it.
    Taken {
        seq: i64,
        failures: Vec<SnapshotError>,
    },
}

/// Runs a round and waits for all of its destinations; the first error if none got the snapshot.
pub fn round(publisher: &mut Publisher, abort: &Abort) -> Result<Outcome, SnapshotError> {
    let round = publisher.round(Duration::MAX, abort)?;
    if round.position.is_none() {
        let refused = round.ended.into_iter().find_map(|ended| ended.outcome.err());
        return refused.map_or(Ok(Outcome::NothingYet), Err);
    }
    let mut delivered = Vec::new();
    let mut failures = Vec::new();
    for ended in round.ended {
        match ended.outcome {
            Ok(got) => delivered.extend(got),
            Err(error) => failures.push(error),
        }
    }
    let untidy: Vec<&Delivered> = delivered.iter().filter(|got| got.trouble.is_some()).collect();
    assert!(untidy.is_empty(), "{untidy:?}");
    match delivered.first() {
        Some(first) => Ok(Outcome::Taken { seq: first.position.seq.0, failures }),
        None => failures.into_iter().next().map_or(Ok(Outcome::Unchanged), Err),
    }
}

/// Runs a round after which every destination must have the snapshot; returns its seq.
#[track_caller]
pub fn take(publisher: &mut Publisher) -> i64 {
    match round(publisher, &Abort::default()) {
        Ok(Outcome::Taken { seq, failures }) if failures.is_empty() => seq,
        other => panic!("no snapshot was taken: {other:?}"),
    }
}

/// The names in a directory, sorted.
pub fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("list the directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

/// Checks the file as a new host would use it, and returns its seq.
#[track_caller]
pub fn check(snapshot: &Path) -> i64 {
    let header = fs::read(snapshot).expect("read the snapshot");
    assert_eq!(&header[..16], b"SQLite format 3\0");
    assert_eq!(header[18..20], [2, 2], "the header is not marked for WAL");
    let mode = fs::metadata(snapshot).expect("look at the snapshot").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    let uri = format!("file:{}?immutable=1", snapshot.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags).expect("open the snapshot");
    let report: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check it");
    assert_eq!(report, "ok");
    let seq = connection.query_row("SELECT seq FROM _ldb_seq WHERE id = 1", [], |row| row.get(0)).expect("its seq");
    assert_eq!(rows(&connection), rows(&replay(seq)), "the snapshot at seq {seq} is not the ledger replayed to it");
    for suffix in ["-wal", "-shm", "-journal"] {
        let beside = format!("{}{suffix}", snapshot.display());
        assert!(!Path::new(&beside).exists(), "{beside} was left");
    }
    seq
}

/// The ledger applied by SQLite alone.
fn replay(last: i64) -> Connection {
    let connection = Connection::open_in_memory().expect("open a database in memory");
    connection.execute_batch("BEGIN").expect("begin");
    for seq in 1..=last {
        connection.execute_batch(&format!("{}\n", ledger_row(seq))).expect("run a ledger statement");
    }
    connection.execute_batch("COMMIT").expect("commit");
    connection
}

fn rows(connection: &Connection) -> Vec<(String, i64, String)> {
    let mut statement = connection.prepare("SELECT k, v, t FROM fam___tab ORDER BY k").expect("prepare");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("query");
    rows.collect::<Result<_, _>>().expect("read the rows")
}
