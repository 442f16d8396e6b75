//! How fast ledger statements become rows of an LDB, against the ceiling: the same
//! rows through one prepared statement, without a ledger, a parser or a changelog.
//! Both with synchronous FULL, into a fresh file, with keys in random order.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ctlstore::changelog::ChangelogOptions;
use ctlstore::ldb::{Ldb, LdbOptions};
use ctlstore::ledger::{Assembler, Batch, LedgerRow, Seq};
use ctlstore::schema::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

const ROWS: usize = 20_000;
const BATCHES: [usize; 3] = [100, 1_000, 10_000];
const CREATE: &str =
    r#"CREATE TABLE fam___tab ("id" VARCHAR(191), "n" INTEGER, "r" REAL, "v" TEXT, "b" BLOB, PRIMARY KEY("id"));"#;
const UPSERT: &str = r#"REPLACE INTO fam___tab ("id","n","r","v","b") VALUES(?,?,?,?,?)"#;

/// About 130 bytes.
struct Row {
    id: String,
    n: i64,
    r: f64,
    v: String,
    b: Vec<u8>,
}

fn rows() -> Vec<Row> {
    let row = |i: usize| {
        // Odd, so that every number below 2^64 comes once.
        let random = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Row {
            id: format!("key-{random:020}"),
            n: random as i64 >> 8,
            r: random as f64 / 7.0,
            v: format!("{random:064}"),
            b: random.to_be_bytes().to_vec(),
        }
    };
    (0..ROWS).map(row).collect()
}

fn batches(rows: &[Row], size: usize) -> Vec<Batch> {
    let statement = |row: &Row| {
        let b = hex::encode(&row.b);
        format!(
            r#"REPLACE INTO fam___tab ("id","n","r","v","b") VALUES('{}',{},{},'{}',x'{b}')"#,
            row.id, row.n, row.r, row.v
        )
    };
    let mut seq = Seq(1);
    let chunk = |chunk: &[Row]| {
        let mut assembler = Assembler::after(seq);
        for row in chunk {
            seq = seq.next();
            let row = LedgerRow { seq, leader_ts: Some(Timestamp::now()), statement: statement(row) };
            assembler.push(row).expect("rows are in order");
        }
        assembler.take_complete().expect("there are rows")
    };
    rows.chunks(size).map(chunk).collect()
}

fn fresh_ldb(with_changelog: bool) -> (TempDir, Ldb) {
    let directory = tempfile::tempdir().expect("a directory for the ldb");
    let changelog = ChangelogOptions { path: directory.path().join("change.log"), max_bytes: 1 << 20 };
    let options =
        LdbOptions { wal_checkpoint_bytes: 40 << 20, changelog: with_changelog.then_some(changelog), history: None };
    let mut ldb = Ldb::open(&directory.path().join("ldb.db"), &options).expect("an ldb");
    let mut assembler = Assembler::after(Seq(0));
    let create = LedgerRow { seq: Seq(1), leader_ts: None, statement: CREATE.to_owned() };
    assembler.push(create).expect("the first row");
    ldb.apply(&assembler.take_complete().expect("a batch")).expect("the table is made");
    (directory, ldb)
}

fn fresh_file(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join("ceiling.db")).expect("a database");
    let settings = "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                    PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -32768;";
    connection.execute_batch(settings).and_then(|()| connection.execute_batch(CREATE)).expect("the table is made");
    connection
}

fn insert(connection: &Connection, rows: &[Row], size: usize) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(UPSERT)?;
    for chunk in rows.chunks(size) {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for row in chunk {
            statement.execute((&row.id, row.n, row.r, &row.v, &row.b))?;
        }
        connection.execute_batch("COMMIT")?;
    }
    Ok(())
}

fn apply(criterion: &mut Criterion) {
    let rows = rows();
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10).measurement_time(Duration::from_secs(5));
    for size in BATCHES {
        let batches = batches(&rows, size);
        for (name, with_changelog) in [("plain", false), ("changelog", true)] {
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_batched_ref(
                    || fresh_ldb(with_changelog),
                    |(_directory, ldb)| {
                        for batch in &batches {
                            black_box(ldb.apply(batch).expect("the batch is applied"));
                        }
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.bench_function("ceiling/10000", |bencher| {
        bencher.iter_batched_ref(
            || {
                let directory = tempfile::tempdir().expect("a directory");
                let connection = fresh_file(directory.path());
                (directory, connection)
            },
            |(_directory, connection)| insert(connection, &rows, 10_000).expect("the rows are written"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
