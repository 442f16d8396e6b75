//! An LDB that is brought forward in its own file: what it is afterwards, what it is after a failure, and what that takes.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use ctlstore_core::Abort;
use ctlstore_core::ledger::{LdbPosition, Seq};
use ctlstore_ldb::changelog::history::{HistoryCursor, HistoryTail, What, directory_of};
use ctlstore_ldb::{CatchUp, CatchUpError, Ldb};
use rusqlite::Connection;

use support::ldb::workload::{self, Replay, Workload};
use support::ldb::{CREATE, Scratch, assert_same, batch, dump, integer, reader, seq, upsert};
use support::one_test;

/// A copy of the LDB in `directory`, as a file that nobody writes.
fn fetched_from(directory: &Path, to: &Path) -> PathBuf {
    let fetched = to.join("fetched.db");
    fs::copy(fs::canonicalize(directory.join("ldb.db")).unwrap(), &fetched).unwrap();
    fetched
}

fn applied(directory: &Path, workload: &Workload, until: i64) {
    let mut ldb = workload::open(directory, 1);
    ldb.adopt_ledger_id("a ledger").unwrap();
    let rows = workload.rows.iter().filter(|row| row.seq.0 <= until).cloned().collect();
    Workload { rows }.apply(&mut ldb, || 500);
    ldb.close().unwrap();
}

fn boundary(workload: &Workload, seq: i64) -> i64 {
    let replay = Replay::new(workload);
    (seq..).find(|seq| replay.is_boundary(*seq)).unwrap()
}

fn catch_up(ldb: &mut Ldb, fetched: &Path) -> Result<CatchUp, CatchUpError> {
    ldb.catch_up(fetched, &Abort::default(), &|_| ())
}

/// Everything that readers see.
fn state(ldb: &Path) -> Vec<String> {
    let connection = reader(ldb);
    assert_eq!(support::ldb::strings(&connection, "PRAGMA integrity_check"), ["ok"]);
    let mut state = dump(&connection);
    let mut own = connection.prepare("SELECT timestamp FROM _ldb_last_update").unwrap();
    state.extend(own.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap));
    state.push(format!("seq {}", seq(&connection)));
    state
}

#[test]
fn an_ldb_that_is_brought_forward_is_what_the_fetched_one_is() {
    for seed in 1..=6 {
        let workload = Workload::new(seed, 4_000, true);
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = here.path().join("ldb.db");
        applied(here.path(), &workload, boundary(&workload, 500 * seed as i64));
        applied(there.path(), &workload, boundary(&workload, 3_500));
        let fetched = fetched_from(there.path(), here.path());
        let (file, open) = (fs::canonicalize(&path).unwrap(), reader(&path));
        let mut ldb = workload::open(here.path(), seed);
        let done = catch_up(&mut ldb, &fetched).unwrap();
        let wanted = state(&there.path().join("ldb.db"));
        assert_same(&state(&path), &wanted, "brought forward");
        assert_eq!(fs::canonicalize(&path).unwrap(), file, "another file took the path");
        assert_eq!((done.to, done.rows > 0), (ldb.position().unwrap().seq, true));
        assert_eq!(ldb.position().unwrap().ledger_id.as_deref(), Some("a ledger"));
        // A connection from before sees it as well, and what comes after.
        assert_eq!(seq(&open), done.to.0);
        workload.apply(&mut ldb, || 200);
        assert_same(&dump(&open), &Replay::new(&workload).dump_at(workload.last_seq()), "applied after it");
        ldb.close().unwrap();
        assert_eq!(workload::open(here.path(), seed).position().unwrap().seq.0, workload.last_seq());
    }
}

/// The records of the history from number `next` on.
fn records(ldb: &Path, next: u64) -> (Vec<String>, u64) {
    let mut tail = HistoryTail::new(&directory_of(ldb));
    tail.poll().unwrap();
    let mut cursor = HistoryCursor::seek(&directory_of(ldb), next).unwrap().unwrap();
    let records = cursor.read(tail.next(), 1 << 20).unwrap().unwrap();
    let shown = records.iter().map(|record| match &record.what {
        What::Row { op, table, key, .. } => {
            let key: serde_json::Value = serde_json::from_str(key.get()).unwrap();
            format!("{} {table} {}", op.map_or("?".to_owned(), |op| format!("{op:?}")), key[0]["value"])
        }
        What::Table { change, table, .. } => format!("{change:?} {table}"),
        What::Resync { reason } => reason.clone(),
    });
    (shown.collect(), tail.next())
}

#[test]
fn tables_that_came_went_or_changed_become_what_the_fetched_ldb_has() {
    let (old, new) = (Scratch::new(), Scratch::new());
    let table = |name: &str| CREATE.replace("fam___tab", name);
    let mut statements = vec![CREATE.to_owned(), upsert(1, "a"), upsert(2, "b")];
    statements.extend(["fam___gone", "fam___wide", "fam___same", "fam___other_key", "FAM___case"].map(table));
    for name in ["gone", "wide", "same", "other_key"] {
        statements.push(upsert(1, "x").replace("fam___tab", &format!("fam___{name}")));
        statements.push(upsert(2, "y").replace("fam___tab", &format!("fam___{name}")));
    }
    let apply = |ldb: &mut Ldb, first: i64, statements: &[String]| {
        let statements: Vec<_> = statements.iter().map(String::as_str).collect();
        ldb.apply(&batch(first, &statements)).unwrap();
        first + statements.len() as i64
    };
    let mut ldb = workload::open(old.directory.path(), 1);
    let mut other = workload::open(new.directory.path(), 1);
    for ldb in [&mut ldb, &mut other] {
        ldb.adopt_ledger_id("a ledger").unwrap();
        apply(ldb, 1, &statements);
    }
    let (_, next) = records(&old.ldb(), 1);
    let more = [
        "DROP TABLE IF EXISTS fam___gone",
        "DROP TABLE IF EXISTS FAM___case",
        r#"ALTER TABLE fam___wide ADD COLUMN "c" REAL"#,
        r#"ALTER TABLE fam___wide ADD COLUMN "d" VARCHAR(191)"#,
        r#"REPLACE INTO fam___wide ("id","v","c","d") VALUES(2,'y',1.5,NULL)"#,
        r#"REPLACE INTO fam___wide ("id","v","c","d") VALUES(3,'z',NULL,'w')"#,
        "DROP TABLE IF EXISTS fam___other_key",
        r#"CREATE TABLE fam___other_key ("id" INTEGER, "v" VARCHAR(191), PRIMARY KEY("v"));"#,
        r#"REPLACE INTO fam___other_key ("id","v") VALUES(1,'x')"#,
        r#"REPLACE INTO fam___other_key ("id","v") VALUES(1,'y')"#,
        &table("fam___fresh"),
        r#"REPLACE INTO fam___fresh ("id","v") VALUES(7,'new')"#,
        &table("fam___case"),
        r#"DELETE FROM fam___tab WHERE "id" = 1"#,
        &upsert(2, "changed"),
        &upsert(3, "added"),
    ]
    .map(str::to_owned);
    apply(&mut other, 1 + statements.len() as i64, &more);
    other.close().unwrap();
    let fetched = fetched_from(new.directory.path(), old.directory.path());
    let done = catch_up(&mut ldb, &fetched).unwrap();
    assert_same(&state(&old.ldb()), &state(&new.ldb()), "brought forward");
    // Of the columns that came, only the rows with values in them were written.
    let written = 2 + 2 + 1 + 3;
    assert_eq!((done.tables, done.rows), (8, written));
    let told = [
        "Dropped case",
        "Upsert fresh 7",
        "Dropped gone",
        "Altered other_key",
        "Delete tab 1",
        "Upsert tab 2",
        "Upsert tab 3",
        "Altered wide",
    ];
    assert_eq!(records(&old.ldb(), next).0, told);
    // The ledger goes on.
    apply(
        &mut ldb,
        done.to.0 + 1,
        &[upsert(4, "next"), r#"REPLACE INTO fam___wide ("id","v","c","d") VALUES(9,'','1',NULL)"#.to_owned()],
    );
}

/// Runs SQL on the file of an LDB that is closed, as somebody might.
fn by_hand(ldb: &Path, sql: &str) {
    Connection::open(ldb).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn tables_as_no_ledger_makes_them_come_out_equal_too() {
    for (shape, old, new) in [
        ("(k TEXT PRIMARY KEY, v) WITHOUT ROWID", "('a',1),('b',2)", "('b',2.0),('c',x'00')"),
        (
            "(k TEXT COLLATE NOCASE, v TEXT COLLATE NOCASE, PRIMARY KEY(k))",
            "('a','x'),('b','y')",
            "('A','X'),('b','Y')",
        ),
        ("(k BLOB, v, PRIMARY KEY(k))", "(1,1),('a',2)", "(1.0,1),(x'61',2)"),
        ("(k TEXT, v TEXT)", "('a','x'),('a','x')", "('a','x'),('b','y'),('b','y')"),
        ("(k TEXT, v TEXT, PRIMARY KEY(k))", "(NULL,'x'),(NULL,'y'),('a','z')", "(NULL,'y'),(NULL,'w'),('a','z')"),
        ("(k TEXT, v TEXT, PRIMARY KEY(k), UNIQUE(v))", "('a','1'),('b','2')", "('a','2'),('b','1')"),
        ("(k TEXT, PRIMARY KEY(k))", "('a'),('b')", "('b'),('c')"),
        ("(k INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT DEFAULT \"dq\")", "(1,'a')", "(1,'b'),(5,'c')"),
    ] {
        let (here, there) = (Scratch::new(), Scratch::new());
        for (scratch, rows, statements) in [(&here, old, 1), (&there, new, 2)] {
            let mut ldb = scratch.open();
            ldb.apply(&batch(1, &[CREATE, &upsert(1, "a")][..statements])).unwrap();
            ldb.close().unwrap();
            by_hand(&scratch.ldb(), &format!("CREATE TABLE fam___odd {shape}; INSERT INTO fam___odd VALUES {rows}"));
        }
        by_hand(
            &here.ldb(),
            "CREATE UNIQUE INDEX local ON fam___tab (v); CREATE TABLE mine (a); INSERT INTO mine VALUES(1)",
        );
        let fetched = fetched_from(there.directory.path(), here.directory.path());
        let mut ldb = here.open();
        catch_up(&mut ldb, &fetched).unwrap();
        let rows = |path: &Path| {
            let dump = dump(&reader(path));
            dump.into_iter().filter(|row| row.contains("fam___")).collect::<Vec<_>>()
        };
        assert_same(&rows(&here.ldb()), &rows(&there.ldb()), shape);
        // A table of somebody else is none of the ledger's.
        assert_eq!(integer(&reader(&here.ldb()), "SELECT a FROM mine"), 1);
    }
}

#[test]
fn what_is_aborted_or_fails_leaves_the_ldb_as_it_was() {
    let workload = Workload::new(9, 3_000, false);
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = here.path().join("ldb.db");
    applied(here.path(), &workload, boundary(&workload, 1_000));
    applied(there.path(), &workload, workload.last_seq());
    let fetched = fetched_from(there.path(), here.path());
    let mut ldb = workload::open(here.path(), 1);
    let before = state(&path);
    let (_, next) = records(&path, 1);
    for steps in 0..4 {
        let (abort, left) = (Abort::default(), Cell::new(steps));
        let outcome = ldb.catch_up(&fetched, &abort, &|_| match left.get() {
            0 => abort.abort(),
            more => left.set(more - 1),
        });
        assert!(matches!(outcome, Err(CatchUpError::Aborted)), "{outcome:?}");
        assert_same(&state(&path), &before, "aborted");
    }
    // A file that is cut short is not this LDB's fault.
    let cut = here.path().join("cut.db");
    fs::copy(&fetched, &cut).unwrap();
    fs::File::options()
        .write(true)
        .open(&cut)
        .unwrap()
        .set_len(fs::metadata(&cut).unwrap().len() / 2 / 16384 * 16384)
        .unwrap();
    let outcome = catch_up(&mut ldb, &cut);
    assert!(matches!(outcome, Err(CatchUpError::FetchedDamaged { .. })), "{outcome:?}");
    assert_same(&state(&path), &before, "the fetched file is damaged");
    assert_eq!(records(&path, next).0, [""; 0]);
    catch_up(&mut ldb, &fetched).unwrap();
    assert_same(&state(&path), &state(&there.path().join("ldb.db")), "brought forward at last");
}

#[test]
fn only_a_later_state_of_the_same_ledger_can_take_the_place_of_the_rows() {
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    ldb.apply(&batch(1, &[CREATE, &upsert(1, "a")])).unwrap();
    let at = |seq, id: Option<&str>| LdbPosition { seq: Seq(seq), leader_ts: None, ledger_id: id.map(str::to_owned) };
    assert!(ldb.can_catch_up(&at(3, None)).unwrap() && ldb.can_catch_up(&at(3, Some("a"))).unwrap());
    ldb.adopt_ledger_id("a").unwrap();
    assert!(ldb.can_catch_up(&at(3, None)).unwrap() && ldb.can_catch_up(&at(3, Some("a"))).unwrap());
    for other in [at(3, Some("b")), at(2, Some("a")), at(1, None)] {
        assert!(!ldb.can_catch_up(&other).unwrap(), "{other:?}");
    }
}

/// What the process that measures itself is told.
const LARGE: &str = "LDB_IN_PLACE_LARGE";
const ROWS: i64 = 1_000_000;
/// More than the caches and the named rows together.
const MOST_MEMORY: u64 = 96 << 20;

#[test]
fn a_million_rows_are_brought_forward_in_bounded_memory_and_wal() {
    if let Some(directory) = std::env::var_os(LARGE) {
        return bring_large_forward(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = concat!(module_path!(), "::a_million_rows_are_brought_forward_in_bounded_memory_and_wal");
    let output = one_test(path).arg("--nocapture").env(LARGE, directory.path()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("rows brought forward"), "the other process ran no test: {told}");
}

fn bring_large_forward(directory: &Path) {
    let path = directory.join("ldb.db");
    let mut ldb = workload::open(directory, 1);
    let table = r#"CREATE TABLE fam___big ("k" VARCHAR(191), "v" TEXT, "n" INTEGER, PRIMARY KEY("k"));"#;
    ldb.apply(&batch(1, &[table])).unwrap();
    ldb.close().unwrap();
    let fill = |from: i64, to: i64| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {to})
             INSERT INTO fam___big SELECT printf('%016x', i * 2654435761 % 4294967296), printf('%060d', i), i FROM n;"
        )
    };
    by_hand(&path, &fill(0, ROWS));
    let fetched = fetched_from(directory, directory);
    by_hand(
        &fetched,
        &format!(
            "PRAGMA synchronous = OFF; UPDATE fam___big SET v = 'changed ' || v WHERE n % 2 = 0; DELETE FROM fam___big WHERE n % 10 = 1; {}
             UPDATE _ldb_seq SET seq = 2000000; PRAGMA wal_checkpoint(TRUNCATE);",
            fill(ROWS, ROWS + ROWS / 10)
        ),
    );
    let mut ldb = workload::open(directory, 1);
    let (before, most) = (memory(), Cell::new(0));
    let began = std::time::Instant::now();
    let done = ldb.catch_up(&fetched, &Abort::default(), &|_| most.set(most.get().max(memory()))).unwrap();
    assert_eq!(done.rows, (ROWS / 2 + ROWS / 10 + ROWS / 10) as u64);
    let grown = most.get().saturating_sub(before);
    let file = fs::canonicalize(&path).unwrap();
    let wal = PathBuf::from(format!("{}-wal", file.display()));
    let (pages, wal_bytes) = (integer(&reader(&path), "PRAGMA page_count") as u64, fs::metadata(&wal).unwrap().len());
    println!("{} rows brought forward in {:?}, {grown} bytes more, a WAL of {wal_bytes}", done.rows, began.elapsed());
    assert!(grown < MOST_MEMORY, "{grown} bytes more");
    assert!(wal_bytes <= (pages + 1) * (16_384 + 24), "a WAL of {wal_bytes} bytes for {pages} pages");
    support::wait_until("the WAL is cut", std::time::Duration::from_secs(60), || {
        ldb.maintain().unwrap();
        fs::metadata(&wal).unwrap().len() < 1 << 20
    });
    let sum = "SELECT sum(n) + count(*) + sum(length(v)) FROM fam___big";
    assert_eq!(integer(&reader(&path), sum), integer(&Connection::open(&fetched).unwrap(), sum));
}

/// Of this process, without what is mapped from files; in bytes.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
