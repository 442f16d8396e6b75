//! How fast ledger statements become rows of an LDB, against the ceiling: the same
//! rows through one prepared statement, without a ledger, a parser or a changelog.
//! Both with synchronous FULL and 16 KiB pages. What counts is the ratio of two that
//! ran one right after the other; its median is shown, by the clock and by the CPU
//! time of the thread, which says more where other programs share the cores.
//!
//! `cargo bench --bench apply -- fresh` is rows of new keys into an empty table, `-- large`
//! upserts of random keys into 1,000,000 rows, `-- large=5000000` into more; without
//! either, both. `-- alone=changelog`, `alone=history`, `alone=plain` and `alone=ceiling` run one way once,
//! for a profiler. Files go to the temporary directory (`TMPDIR`).

mod ldb_support;

use std::path::Path;
use std::time::Duration;

use ctlstore_core::ledger::Seq;
use ctlstore_ldb::Ldb;
use rusqlite::Connection;

use ldb_support::{Beside, CHECKPOINT_BYTES, CREATE, Row, Took, apply, batches, fresh_ldb, measure, median, random};

const ROWS: usize = 20_000;
const ROUNDS: usize = 9;
const WAYS: [Beside; 3] = [Beside::Nothing, Beside::Changelog, Beside::History];
const BATCHES: [usize; 3] = [100, 1_000, 10_000];
const CEILING_BATCH: usize = 10_000;
const LARGE: usize = 1_000_000;
const UPSERT: &str = r#"REPLACE INTO fam___tab ("id","n","r","v","b") VALUES(?,?,?,?,?)"#;
/// As the applier has them.
const NEW_FILE: &str = "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL";
const SETTINGS: &str = "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -32768";
const SHOWN: [&str; 5] = ["page_size", "journal_mode", "synchronous", "wal_autocheckpoint", "cache_size"];

/// The file that the ceiling writes, with a look at its WAL.
struct Ceiling {
    connection: Connection,
    wal: std::path::PathBuf,
}

impl Ceiling {
    fn open(path: &Path) -> Self {
        let connection = Connection::open(path).expect("a database");
        connection.execute_batch(SETTINGS).expect("the settings are taken");
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        Self { connection, wal: wal.into() }
    }

    fn fresh(directory: &Path) -> Self {
        let path = directory.join("ceiling.db");
        let connection = Connection::open(&path).expect("a database");
        connection.execute_batch(&format!("{NEW_FILE}; {CREATE}")).expect("the table is made");
        Self::open(&path)
    }

    fn insert(&self, rows: &[Row]) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(UPSERT)?;
        for chunk in rows.chunks(CEILING_BATCH) {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            for row in chunk {
                statement.execute((&row.id, row.n, row.r, &row.v, &row.b))?;
            }
            self.connection.execute_batch("COMMIT")?;
            if std::fs::metadata(&self.wal).is_ok_and(|wal| wal.len() >= CHECKPOINT_BYTES) {
                self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
            }
        }
        Ok(())
    }

    fn print_settings(&self) {
        let value = |name| {
            let value = self.connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
            format!("{name}={:?}", value.expect("the pragma has a value"))
        };
        println!("SQLite {}, {}", rusqlite::version(), SHOWN.map(value).join(", "));
    }
}

/// Medians of what `ours` took, and of its ratios to the ceiling of the same round.
fn print(what: &str, ours: &[Took], ceiling: &[Took]) {
    let nanos = |took: &[Took], part: fn(&Took) -> Duration| {
        median(took.iter().map(|took| part(took).as_secs_f64() * 1e9 / ROWS as f64).collect())
    };
    let ratio = |part: fn(&Took) -> Duration| {
        median(ours.iter().zip(ceiling).map(|(a, b)| part(b).as_secs_f64() / part(a).as_secs_f64()).collect())
    };
    println!(
        "| {what} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} |",
        1e9 / nanos(ours, |took| took.elapsed),
        nanos(ours, |took| took.elapsed),
        nanos(ours, |took| took.cpu),
        ratio(|took| took.elapsed),
        ratio(|took| took.cpu),
    );
}

fn print_head(title: &str) {
    println!("\n{title}: {ROWS} rows, {ROUNDS} rounds\n");
    println!(
        "| way | statements/s | elapsed ns | CPU ns | rate to ceiling | by CPU |\n| --- | --- | --- | --- | --- | --- |"
    );
}

fn fresh() {
    let rows: Vec<_> = (0..ROWS).map(|i| Row::new(random(i), random(i))).collect();
    let ways: Vec<_> = BATCHES.into_iter().flat_map(|size| WAYS.map(|beside| (size, beside))).collect();
    let (mut ceiling, mut ours) = (Vec::new(), vec![Vec::new(); ways.len()]);
    for round in 0..ROUNDS {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Ceiling::fresh(directory.path());
        if round == 0 {
            file.print_settings();
        }
        ceiling.push(measure(|| file.insert(&rows).expect("the rows are written")));
        for ((size, beside), took) in ways.iter().zip(&mut ours) {
            let batches = batches(&rows, *size, &mut Seq(1));
            let (_directory, mut ldb) = fresh_ldb(*beside);
            took.push(measure(|| apply(&mut ldb, &batches)));
        }
    }
    print_head("Into an empty table");
    print("ceiling, commits of 10,000", &ceiling, &ceiling);
    for ((size, beside), took) in ways.iter().zip(&ours) {
        print(&format!("commits of {size}, beside it: {beside:?}"), took, &ceiling);
    }
}

fn large(size: usize) {
    let (directory, mut ldb) = fresh_ldb(Beside::Changelog);
    let mut keys: Vec<u64> = (0..size).map(random).collect();
    // In the order of the key, since only then does it not take as long as all the rest.
    keys.sort_unstable();
    let mut seq = Seq(1);
    for chunk in keys.chunks(CEILING_BATCH) {
        let rows: Vec<_> = chunk.iter().map(|key| Row::new(*key, *key)).collect();
        apply(&mut ldb, &batches(&rows, CEILING_BATCH, &mut seq));
    }
    let path = ldb.path().to_owned();
    let file = ldb.file().to_owned();
    ldb.close().expect("the ldb closes");
    let copy = directory.path().join("ceiling.db");
    let bytes = std::fs::copy(&file, &copy).expect("the file is copied");
    let mut ldb = Ldb::open(&path, &Beside::Changelog.options(&directory)).expect("the ldb opens again");
    let file = Ceiling::open(&copy);
    file.print_settings();
    let (mut ceiling, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let row = |i| Row::new(keys[random(round * ROWS + i) as usize % size], random(i));
        let rows: Vec<_> = (0..ROWS).map(row).collect();
        let batches = batches(&rows, CEILING_BATCH, &mut seq);
        ceiling.push(measure(|| file.insert(&rows).expect("the rows are written")));
        ours.push(measure(|| apply(&mut ldb, &batches)));
    }
    print_head(&format!("Upserts of random keys into {size} rows, {} MB", bytes / 1_000_000));
    print("ceiling, commits of 10,000", &ceiling, &ceiling);
    print("commits of 10,000, changelog", &ours, &ceiling);
}

/// One way once, with as little around it as can be.
fn alone(way: &str) {
    let rows: Vec<_> = (0..ROWS).map(|i| Row::new(random(i), random(i))).collect();
    let took = if way == "ceiling" {
        let directory = tempfile::tempdir().expect("a directory");
        let file = Ceiling::fresh(directory.path());
        measure(|| file.insert(&rows).expect("the rows are written"))
    } else {
        let beside = match way {
            "plain" => Beside::Nothing,
            "changelog" => Beside::Changelog,
            _ => Beside::History,
        };
        let batches = batches(&rows, CEILING_BATCH, &mut Seq(1));
        let (_directory, mut ldb) = fresh_ldb(beside);
        measure(|| apply(&mut ldb, &batches))
    };
    println!("{way}: {:.0} ns CPU a statement", took.cpu.as_secs_f64() * 1e9 / ROWS as f64);
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let defaults = ["fresh".to_owned(), "large".to_owned()];
    for part in if asked.is_empty() { &defaults[..] } else { &asked } {
        match part.split_once('=').unwrap_or((part, "")) {
            ("fresh", "") => fresh(),
            ("large", "") => large(LARGE),
            ("large", rows) => large(rows.parse().expect("a number of rows")),
            ("alone", way @ ("changelog" | "history" | "plain" | "ceiling")) => alone(way),
            _ => {
                eprintln!(
                    "{part} is none of fresh, large, large=ROWS, alone=changelog, alone=history, alone=plain, alone=ceiling"
                );
                std::process::exit(2);
            }
        }
    }
}
