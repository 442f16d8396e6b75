//! What a point read by string key costs above the same statement bare: cached,
//! on a connection with the same settings, in a transaction of its own and in one
//! that is held. One thread, keys in random order.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use ctlstore::ldb::read::{KeyValue, LdbReader};
use ctlstore::ldb::{Ldb, LdbOptions};
use ctlstore::ledger::{Assembler, LedgerRow, Seq};
use ctlstore::schema::TableRef;
use rusqlite::{CachedStatement, Connection, OpenFlags};

const ROWS: u64 = 100_000;
/// Keys that are read in turn; odd, so that it shares no factor with the number of rows.
const KEYS: u64 = 9_973;
const CREATE: &str = r#"CREATE TABLE fam___tab ("id" VARCHAR(191), "n" INTEGER, "v" TEXT, PRIMARY KEY("id"));"#;
const SELECT: &str = r#"SELECT "id","n","v" FROM fam___tab WHERE "id" = ?"#;
/// As the library's reader has them.
const SETTINGS: &str = "PRAGMA query_only = 1; PRAGMA mmap_size = 67108864; PRAGMA cache_size = -2048";

fn key(i: u64) -> String {
    format!("key-{:020}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn fill(path: &Path) {
    let options = LdbOptions { wal_checkpoint_bytes: 40 << 20, changelog: None, history: None };
    let mut ldb = Ldb::open(path, &options).expect("an ldb");
    let mut assembler = Assembler::after(Seq(0));
    let upsert = |i| format!(r#"REPLACE INTO fam___tab ("id","n","v") VALUES('{}',{i},'{i:0100}')"#, key(i));
    let statements = std::iter::once(CREATE.to_owned()).chain((0..ROWS).map(upsert));
    for (seq, statement) in (1..).zip(statements) {
        assembler.push(LedgerRow { seq: Seq(seq), leader_ts: None, statement }).expect("rows are in order");
    }
    ldb.apply(&assembler.take_complete().expect("there are rows")).expect("the rows are applied");
    ldb.close().expect("the ldb closes");
}

fn bare(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).expect("the ldb opens");
    connection.execute_batch(SETTINGS).expect("the settings are taken");
    connection
}

fn read_bare(statement: &mut CachedStatement<'_>, key: &str) {
    let mut rows = statement.query([key]).expect("the query runs");
    let row = rows.next().expect("a row is read").expect("there is a row");
    for column in 0..3 {
        black_box(row.get_ref(column).expect("a column"));
    }
}

fn point_reads(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory for the ldb");
    let path = directory.path().join("ldb.db");
    fill(&path);
    println!("{SETTINGS}; {ROWS} rows of about 150 bytes");
    let keys: Vec<String> = (0..KEYS).map(|i| key(i * 7_919 % ROWS)).collect();
    let mut group = criterion.benchmark_group("point read");

    let table = TableRef::parse("fam", "tab").expect("a table's name");
    let values: Vec<[KeyValue; 1]> = keys.iter().map(|key| [KeyValue::Text(key.clone())]).collect();
    let (mut reader, mut json, mut next) = (LdbReader::new(&path), Vec::new(), values.iter().cycle());
    group.bench_function("library, as json", |bencher| {
        bencher.iter(|| {
            json.clear();
            let key = next.next().expect("keys go round");
            assert!(reader.get_json(&table, key, &mut json).expect("the ldb is read"), "there is no such row");
            black_box(json.len())
        });
    });

    let connection = bare(&path);
    for (name, begin, end) in [("bare", "", ""), ("bare, transaction held", "BEGIN", "END")] {
        connection.execute_batch(begin).expect("it begins");
        let mut next = keys.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut statement = connection.prepare_cached(SELECT).expect("the query is prepared");
                read_bare(&mut statement, next.next().expect("keys go round"));
            });
        });
        connection.execute_batch(end).expect("it ends");
    }
    group.finish();
}

criterion_group!(benches, point_reads);
criterion_main!(benches);
