//! What a read of the library costs above the same statement bare: prepared once and
//! cached, on a connection with the same settings, in a transaction of its own and in
//! one that is held. Point reads by string key, in random order, and scans.
//!
//! Counted is CPU time, since other work on the machine would meet the longer cases
//! harder. The cases take turns in rounds; printed are medians, and each case's ratio
//! to its reference.
//! `CTLSTORE_BENCH_ROWS` sets the number of rows (100,000).

use std::env;
use std::hint::black_box;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ctlstore_core::schema::TableRef;
use ctlstore_reader::Reader;
use ctlstore_reader::read::LdbReader;
use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OpenFlags};
use serde::Deserialize;

const ROWS: i64 = 100_000;
/// Keys that are read in turn; odd, so that it shares no factor with the number of rows.
const KEYS: i64 = 9_973;
/// Rows that begin with one of these are scanned.
const GROUP: i64 = 100;
const ROUNDS: usize = 21;
const READS: usize = 4_000;
/// Reads in one snapshot.
const HELD: usize = 50;
/// How long several threads read in a round.
const TOGETHER: Duration = Duration::from_millis(150);

/// As a new LDB is made.
const CREATE: &str = r#"PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; BEGIN;
    CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
    CREATE TABLE fam___tab ("id" VARCHAR(191), "n" INTEGER, "v" TEXT, PRIMARY KEY("id"));
    CREATE TABLE fam___grp ("g" INTEGER, "n" INTEGER, "v" TEXT, PRIMARY KEY("g","n"));"#;
const INSERT: &str = "INSERT INTO fam___tab VALUES(?, ?, ?)";
const INSERT_GROUP: &str = "INSERT INTO fam___grp VALUES(?, ?, ?)";
const SELECT: &str = r#"SELECT "id","n","v" FROM fam___tab WHERE "id" = ?1"#;
const SELECT_GROUP: &str = r#"SELECT "g","n","v" FROM fam___grp WHERE "g" = ?1 ORDER BY "n""#;
/// As the library's connections have them.
const SETTINGS: &str = "PRAGMA query_only = 1; PRAGMA mmap_size = 2147418112; PRAGMA cache_size = -2048";

#[derive(Deserialize)]
struct Row {
    id: String,
    n: i64,
    v: String,
}

#[derive(Deserialize)]
struct Borrowed<'r> {
    id: &'r str,
    n: i64,
    v: &'r str,
}

fn key(i: i64) -> String {
    format!("key-{:020}", (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn fill(path: &Path, rows: i64) {
    let connection = Connection::open(path).expect("an ldb");
    connection.execute_batch(CREATE).expect("tables are made");
    for (sql, grouped) in [(INSERT, false), (INSERT_GROUP, true)] {
        let mut insert = connection.prepare(sql).expect("the insert is prepared");
        for i in 0..rows {
            let value = format!("{i:0100}");
            let inserted = match grouped {
                true => insert.execute((i / GROUP, i % GROUP, value)),
                false => insert.execute((key(i), i, value)),
            };
            inserted.expect("a row is written");
        }
    }
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").expect("the rows are committed");
}

fn bare(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).expect("the ldb opens");
    connection.execute_batch(SETTINGS).expect("the settings are taken");
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).expect("a plan is kept");
    connection
}

fn prepared<'c>(connection: &'c Connection, sql: &str) -> CachedStatement<'c> {
    connection.prepare_cached(sql).expect("the query is prepared")
}

/// The columns as SQLite has them, and nothing made of them.
fn read_bare(connection: &Connection, key: &str) {
    let mut statement = prepared(connection, SELECT);
    let mut rows = statement.query([key]).expect("the query runs");
    let row = rows.next().expect("a row is read").expect("there is a row");
    for column in 0..3 {
        black_box(row.get_ref(column).expect("a column"));
    }
}

/// The same struct, filled by hand.
fn read_by_hand(connection: &Connection, key: &str) -> Row {
    let read = |row: &rusqlite::Row<'_>| Ok(Row { id: row.get(0)?, n: row.get(1)?, v: row.get(2)? });
    prepared(connection, SELECT).query_row([key], read).expect("there is a row")
}

/// The same tuples, made by hand.
fn scan_by_hand(connection: &Connection, group: i64) -> usize {
    let mut statement = prepared(connection, SELECT_GROUP);
    let rows = statement.query_map([group], |row| <(i64, i64, String)>::try_from(row)).expect("the query runs");
    rows.map(|row| black_box(row.expect("a row is read")).2).filter(|value| value.len() == 100).count()
}

/// What is measured: nanoseconds of CPU for each of some reads.
struct Case<'c> {
    name: &'static str,
    /// The case that it is held against.
    against: Option<&'static str>,
    run: Box<dyn FnMut() -> f64 + 'c>,
    figures: Vec<f64>,
}

impl<'c> Case<'c> {
    fn new(name: &'static str, against: Option<&'static str>, run: impl FnMut() -> f64 + 'c) -> Self {
        Self { name, against, run: Box::new(run), figures: Vec::new() }
    }

    fn median(&self) -> f64 {
        median(self.figures.clone())
    }
}

fn nanos(reads: usize, mut read: impl FnMut(usize)) -> f64 {
    let began = cpu_seconds();
    (0..reads).for_each(&mut read);
    (cpu_seconds() - began) * 1e9 / reads as f64
}

/// What this thread has had of a processor so far, its system calls with it.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is written to a timespec that is there.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the thread has a clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Reads a second of `threads` threads together: by the clock, and by what each of them
/// had of a processor, as if nothing else ran.
fn together(threads: usize, read: impl Fn(usize) + Sync) -> (f64, f64) {
    let (until, read) = (Instant::now() + TOGETHER, &read);
    let count = |thread: usize| {
        let (mut reads, began) = (0, cpu_seconds());
        while Instant::now() < until {
            (0..100).for_each(|i| read(thread * 4_999 + reads + i));
            reads += 100;
        }
        (reads as f64, reads as f64 / (cpu_seconds() - began))
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || count(thread))).collect();
        let done = running.into_iter().map(|thread| thread.join().expect("the thread ends"));
        let (reads, by_cpu) = done.fold((0.0, 0.0), |sum, (reads, by_cpu)| (sum.0 + reads, sum.1 + by_cpu));
        (reads / TOGETHER.as_secs_f64(), by_cpu)
    })
}

fn main() {
    let rows = env::var("CTLSTORE_BENCH_ROWS").map_or(ROWS, |rows| rows.parse().expect("a number of rows"));
    let directory = tempfile::tempdir().expect("a directory for the ldb");
    let path = directory.path().join("ldb.db");
    fill(&path, rows);
    println!("{rows} rows of about 150 bytes, {GROUP} in a group; {SETTINGS}");

    let keys: Vec<String> = (0..KEYS).map(|i| key(i * 7_919 % rows)).collect();
    let key = |i: usize| keys[i % keys.len()].as_str();
    let (free, held) = (bare(&path), bare(&path));
    held.execute_batch("BEGIN").expect("it begins");
    let reader = Reader::open(&path).expect("the ldb is read");
    let get = |i: usize| reader.get::<Row>("fam", "tab", key(i)).expect("the ldb is read").expect("there is a row");
    let use_row = |row: Row| drop(black_box((row.id, row.n, row.v)));
    let borrow =
        |row: ctlstore_reader::Row<'_>| row.deserialize().map(|row: Borrowed<'_>| black_box((row.id, row.n, row.v)).1);
    let scan = |i: usize| reader.scan_prefix::<(i64, i64, String)>("fam", "grp", i as i64 % (rows / GROUP));

    let table = TableRef::parse("fam", "tab").expect("a table's name");
    let (mut json_reader, mut json) = (LdbReader::new(&path), Vec::new());
    let mut cases = [
        Case::new("bare", None, || nanos(READS, |i| read_bare(&free, key(i)))),
        Case::new("bare, struct by hand", None, || nanos(READS, |i| use_row(read_by_hand(&free, key(i))))),
        Case::new("get, struct", Some("bare"), || nanos(READS, |i| use_row(get(i)))),
        Case::new("get, struct ", Some("bare, struct by hand"), || nanos(READS, |i| use_row(get(i)))),
        Case::new("get_with, borrowed struct", Some("bare"), || {
            nanos(READS, |i| _ = reader.get_with("fam", "tab", key(i), borrow).expect("the ldb is read"))
        }),
        Case::new("json", Some("bare"), || {
            nanos(READS, |i| {
                json.clear();
                assert!(json_reader.get_json(&table, key(i), &mut json).expect("the ldb is read"));
            })
        }),
        Case::new("held bare", None, || nanos(READS, |i| read_bare(&held, key(i)))),
        Case::new("held bare, struct by hand", None, || nanos(READS, |i| use_row(read_by_hand(&held, key(i))))),
        Case::new("snapshot get, struct", Some("held bare"), || {
            let read = |s: &ctlstore_reader::ReadTransaction<'_>| {
                Ok(nanos(READS, |i| use_row(s.get("fam", "tab", key(i)).expect("it is read").expect("there is a row"))))
            };
            reader.read_transaction(read).expect("the ldb is read")
        }),
        Case::new("snapshot get_with, borrowed struct", Some("held bare"), || {
            let read = |s: &ctlstore_reader::ReadTransaction<'_>| {
                Ok(nanos(READS, |i| _ = s.get_with("fam", "tab", key(i), borrow).expect("it is read")))
            };
            reader.read_transaction(read).expect("the ldb is read")
        }),
        Case::new("scan of a group by hand", None, || {
            nanos(READS / 40, |i| assert_eq!(scan_by_hand(&free, i as i64 % (rows / GROUP)), GROUP as usize))
        }),
        Case::new("scan_prefix of a group", Some("scan of a group by hand"), || {
            nanos(READS / 40, |i| {
                assert_eq!(
                    scan(i).map(|row| row.expect("it is read").2).filter(|value| value.len() == 100).count(),
                    GROUP as usize
                )
            })
        }),
    ];
    // Cases by a part of their name, for a profiler.
    let only = env::args().skip(1).find(|word| !word.starts_with('-'));
    for _ in 0..ROUNDS {
        for case in cases.iter_mut().filter(|case| only.as_ref().is_none_or(|only| case.name.trim() == only)) {
            let figure = (case.run)();
            case.figures.push(figure);
        }
    }
    if let Some(only) = only {
        return println!("{only}: see the profiler");
    }
    let reference = |name| cases.iter().find(|case| case.name == name).map(Case::median);
    for case in cases.iter().filter(|case| !case.figures.is_empty()) {
        let ratio = case.against.and_then(reference).map(|bare| case.median() / bare);
        let against = case.against.map(|name| format!(" of {name}")).unwrap_or_default();
        let ratio = ratio.map(|ratio| format!("{ratio:5.2}{against}")).unwrap_or_default();
        println!("{:36} {:8.0} ns  {ratio}", case.name.trim(), case.median());
    }

    let read = |i: usize| drop(black_box(get(i)));
    let snapshot = |i: usize| {
        let read = |s: &ctlstore_reader::ReadTransaction<'_>| {
            (0..HELD).try_for_each(|j| s.get::<Row>("fam", "tab", key(i * HELD + j)).map(|row| drop(black_box(row))))
        };
        reader.read_transaction(read).expect("the ldb is read");
    };
    let arithmetic = |_| {
        black_box((0..2_000).fold(1u64, |a, b| black_box(a.wrapping_mul(31) ^ b)));
    };
    two_threads("get", read);
    two_threads("get within snapshots of 50", snapshot);
    two_threads("arithmetic: what the machine has to give", arithmetic);
}

/// How many times the reads of one thread two do; by the clock no more than the machine
/// has left for them.
fn two_threads(what: &str, read: impl Fn(usize) + Sync) {
    let (mut by_clock, mut by_cpu) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS / 2 {
        let (one, two) = (together(1, &read), together(2, &read));
        by_clock.push(two.0 / one.0);
        by_cpu.push(two.1 / one.1);
    }
    println!("two threads, {what}: {:.2} times one, {:.2} by CPU time", median(by_clock), median(by_cpu));
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
