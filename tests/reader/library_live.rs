//! The reader library while the real applier writes: schema changes, new generations, rotation, and
//! reads that wait for a write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ctlstore_ldb::Ldb;
use ctlstore_reader::{ReadError, ReadTransaction, Reader, RotatingReader, Seq, Value};
use rusqlite::Connection;
use support::ldb::{Scratch, batch, options, reader as plain_reader};

const DEADLINE: Duration = Duration::from_secs(60);
const THREADS: usize = 8;

/// The sum of two rows in every state that a reader may see.
const SUM: i64 = 1_000;
const TRANSACTIONS: i64 = 1_200;
/// The schema changes, and the LDB gets a new generation, once in so many transactions.
const CHANGE_EVERY: i64 = 10;
const REPLACE_EVERY: i64 = 150;

fn create() -> Vec<String> {
    let table = |name: &str| format!(r#"CREATE TABLE fam___{name} ("id" INTEGER, "n" INTEGER, PRIMARY KEY("id"));"#);
    let mut statements = vec![table("left"), table("right")];
    statements.extend(balanced(0));
    statements.extend(changed(0));
    statements
}

fn balanced(n: i64) -> Vec<String> {
    let upsert = |name: &str, n: i64| format!(r#"REPLACE INTO fam___{name} ("id","n") VALUES(1,{n})"#);
    vec!["--- BEGIN".to_owned(), upsert("left", n), upsert("right", SUM - n), "--- COMMIT".to_owned()]
}

/// Statements that change three tables, each of which has one row that tells the table's shape. Two are
/// made again, one with another column and one with another type. The third gets a further column.
fn changed(n: i64) -> Vec<String> {
    let column = format!("c{n}");
    let count = n / CHANGE_EVERY;
    let declared = ["TEXT", "BLOB"][(n / CHANGE_EVERY % 2) as usize];
    let mut statements = vec![
        "DROP TABLE IF EXISTS fam___moving".to_owned(),
        format!(r#"CREATE TABLE fam___moving ("{column}" REAL, "id" VARCHAR(191), "v" INTEGER, PRIMARY KEY("id"));"#),
        format!(r#"REPLACE INTO fam___moving ("{column}","id","v") VALUES(0.5,'one',{n})"#),
        "DROP TABLE IF EXISTS fam___kind".to_owned(),
        format!(r#"CREATE TABLE fam___kind ("id" VARCHAR(191), "b" {declared}, "v" VARCHAR(191), PRIMARY KEY("id"));"#),
        format!(r#"REPLACE INTO fam___kind ("id","b","v") VALUES('one','bytes','{declared}')"#),
    ];
    let added: Vec<_> = (1..=count).map(|i| format!(r#","a{i}""#)).collect();
    statements.push(match count {
        0 => r#"CREATE TABLE fam___wide ("id" VARCHAR(191), "v" INTEGER, PRIMARY KEY("id"));"#.to_owned(),
        _ => format!(r#"ALTER TABLE fam___wide ADD COLUMN "a{count}" INTEGER"#),
    });
    let columns = added.concat();
    let values = ",0".repeat(added.len());
    statements.push(format!(r#"REPLACE INTO fam___wide ("id","v"{columns}) VALUES('one',{count}{values})"#));
    statements
}

/// One LDB and its applier, which works until all transactions are applied.
struct Applier {
    path: PathBuf,
    ldb: Option<Ldb>,
    next: i64,
}

impl Applier {
    fn open(path: PathBuf) -> Self {
        let ldb = Ldb::open(&path, &options(None)).unwrap();
        let mut this = Self { path, ldb: Some(ldb), next: 1 };
        this.apply(&create());
        this
    }

    fn apply(&mut self, statements: &[String]) {
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        let batch = batch(self.next, &statements);
        self.next = self.ldb.as_mut().unwrap().apply(&batch).unwrap().seq.0 + 1;
    }

    fn run(&mut self, applied: &AtomicI64) {
        for n in 1..=TRANSACTIONS {
            self.apply(&balanced(n));
            if n % CHANGE_EVERY == 0 {
                self.apply(&changed(n));
            } else if n % CHANGE_EVERY == 5 {
                self.apply(&[format!(r#"ALTER TABLE fam___left ADD COLUMN "more{n}" INTEGER"#)]);
            }
            if n % REPLACE_EVERY == 0 {
                self.replace();
            }
            self.ldb.as_mut().unwrap().maintain().unwrap();
            applied.store(self.next - 1, Ordering::SeqCst);
        }
    }

    /// Does as a bootstrap: a complete file replaces the LDB, and the applier goes on in it.
    fn replace(&mut self) {
        self.ldb.take().unwrap().close().unwrap();
        let name = format!("ldb.db.gen-{:013}", 1_000 + self.next);
        let next = self.path.with_file_name(&name);
        plain_reader(&self.path).execute("VACUUM INTO ?1", [next.to_str().unwrap()]).unwrap();
        let made = Connection::open(&next).unwrap();
        made.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        made.close().unwrap();
        let link = self.path.with_extension("new-link");
        std::os::unix::fs::symlink(&name, &link).unwrap();
        std::fs::rename(&link, &self.path).unwrap();
        self.ldb = Some(Ldb::open(&self.path, &options(None)).unwrap());
    }
}

/// Checks the sum, and that the reader never goes back.
fn check_sum(snapshot: &ReadTransaction<'_>, last: &mut i64) -> Result<(), ReadError> {
    let n = |table| snapshot.get_with("fam", table, 1, |row| row.get::<i64>("n"));
    let left = n("left")?.unwrap();
    let seq = snapshot.last_seq()?.0;
    assert_eq!(left + n("right")?.unwrap(), SUM, "a torn transaction at {seq}");
    assert!(left >= *last, "{left} after {last}");
    *last = left;
    Ok(())
}

/// Checks that each row is in a table of the shape that the row tells.
fn check_shapes(reader: &Reader) -> Result<(), ReadError> {
    type Row = BTreeMap<String, Value>;
    let row: Row = reader.get("fam", "moving", "one")?.unwrap();
    let Value::Integer(n) = row["v"] else { panic!("{row:?}") };
    let names: Vec<_> = row.keys().cloned().collect();
    assert_eq!(names, [format!("c{n}"), "id".into(), "v".into()], "a stale table");
    let row: Row = reader.get("fam", "kind", "one")?.unwrap();
    let is_bytes = matches!(row["b"], Value::Blob(_));
    assert_eq!(row["v"], Value::from(if is_bytes { "BLOB" } else { "TEXT" }), "a stale type");
    let row: Row = reader.get("fam", "wide", "one")?.unwrap();
    assert_eq!(row["v"], Value::from(row.len() as i64 - 2), "a stale column list");
    assert_eq!(reader.schema("fam", "moving")?.fields().len(), 3);
    assert_eq!(reader.scan_prefix::<Row>("fam", "wide", ()).collect::<Result<Vec<_>, _>>()?.len(), 1);
    Ok(())
}

#[test]
fn eight_threads_read_without_an_error_through_schema_changes_new_generations_and_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["one", "two"].map(|name| directory.path().join(name).join("ldb.db"));
    let mut appliers = paths.clone().map(Applier::open);
    let reader = Reader::open(&paths[0]).unwrap();
    let rotating = RotatingReader::open(&paths, Duration::from_millis(20)).unwrap();
    let applied = AtomicI64::new(appliers[0].next - 1);
    let others = AtomicI64::new(0);
    let done = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    let turns = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let reader = reader.clone();
            let rotating = &rotating;
            let applied = &applied;
            let done = &done;
            let reads = &reads;
            let turns = &turns;
            scope.spawn(move || {
                let mut last = 0;
                let mut turn = rotating.path().to_owned();
                while !done.load(Ordering::SeqCst) {
                    // The read sees everything that was applied before it began.
                    let seq = Seq(applied.load(Ordering::SeqCst));
                    reader.min_seq(seq, DEADLINE).read_transaction(|snapshot| check_sum(snapshot, &mut last)).unwrap();
                    reader.read_transaction(|snapshot| check_sum(snapshot, &mut last)).unwrap();
                    check_shapes(&reader).unwrap();
                    check_shapes(rotating).unwrap();
                    rotating.read_transaction(|snapshot| check_sum(snapshot, &mut i64::MIN.clone())).unwrap();
                    let now = rotating.path();
                    turns.fetch_add(u64::from(now != turn), Ordering::Relaxed);
                    turn = now.to_owned();
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let [one, two] = &mut appliers;
        let applied = &applied;
        let others = &others;
        let writers = [scope.spawn(move || one.run(applied)), scope.spawn(move || two.run(others))];
        let results = writers.map(|writer| writer.join());
        done.store(true, Ordering::SeqCst);
        for result in results {
            result.unwrap();
        }
    });
    let reads = reads.into_inner();
    let turns = turns.into_inner();
    println!("{reads} rounds of reads, {turns} turns seen");
    assert!(reads > 100 && turns > 2 * THREADS as u64, "{reads} rounds of reads, {turns} turns");
    assert_eq!(reader.last_seq().unwrap().0, appliers[0].next - 1);
}

#[test]
fn ten_thousand_writes_are_each_seen_by_the_read_that_waits_for_them() {
    const CLIENTS: usize = 4;
    const WRITES: usize = 2_500;
    let scratch = Scratch::new();
    let mut ldb = scratch.open();
    ldb.apply(&batch(1, &[support::ldb::CREATE])).unwrap();
    let reader = Reader::open(scratch.ldb()).unwrap();
    let (writes, queue) = mpsc::sync_channel::<(i64, String, mpsc::SyncSender<Seq>)>(CLIENTS);
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        scope.spawn(move || apply_what_comes(&mut ldb, &queue));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let reader = reader.clone();
                let writes = writes.clone();
                scope.spawn(move || {
                    let mut waits = Vec::with_capacity(WRITES);
                    for i in 0..WRITES {
                        let id = client as i64;
                        let value = format!("{client}-{i}");
                        let (answer, answered) = mpsc::sync_channel(1);
                        writes.send((id, value.clone(), answer)).unwrap();
                        let seq = answered.recv().unwrap();
                        let began = Instant::now();
                        let row: Option<(i64, String)> = reader.min_seq(seq, DEADLINE).get("fam", "tab", id).unwrap();
                        waits.push(began.elapsed());
                        assert_eq!(row, Some((id, value)));
                    }
                    waits
                })
            })
            .collect();
        drop(writes);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    waits.sort_unstable();
    println!(
        "waited p50 {:?}, p99 {:?}, at most {:?}",
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        waits[waits.len() - 1]
    );
    assert_eq!(waits.len(), CLIENTS * WRITES);
}

/// Answers each write with its seq before it is applied, as the executive does. Writes that came
/// meanwhile are applied together.
fn apply_what_comes(ldb: &mut Ldb, queue: &mpsc::Receiver<(i64, String, mpsc::SyncSender<Seq>)>) {
    let mut next = ldb.position().unwrap().seq.0 + 1;
    while let Ok(first) = queue.recv() {
        let mut statements = Vec::new();
        for (id, value, answer) in std::iter::once(first).chain(queue.try_iter()) {
            let seq = next + statements.len() as i64;
            statements.push(support::ldb::upsert(id, &value));
            answer.send(Seq(seq)).unwrap();
        }
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        next = ldb.apply(&batch(next, &statements)).unwrap().seq.0 + 1;
        ldb.maintain().unwrap();
    }
}

#[test]
fn the_seq_that_the_applier_announces_wakes_a_reader_in_another_thread() {
    let scratch = Scratch::new();
    let reader = Reader::open(scratch.ldb()).unwrap();
    let wait = |seq| reader.wait_for(Seq(seq), DEADLINE);
    thread::scope(|scope| {
        // The read waits even while there is no LDB.
        let waiting = scope.spawn(|| wait(3).unwrap());
        let mut ldb = scratch.open();
        ldb.apply(&batch(1, &[support::ldb::CREATE])).unwrap();
        ldb.apply(&batch(2, &[&support::ldb::upsert(1, "a"), &support::ldb::upsert(2, "b")])).unwrap();
        assert_eq!(waiting.join().unwrap(), Seq(3));
        assert_announced(&scratch.ldb(), 3);
    });
}

fn assert_announced(ldb: &Path, seq: i64) {
    let announced = std::fs::read_to_string(ldb.with_file_name("ldb.db.seq")).unwrap();
    assert_eq!(announced.trim().parse::<i64>().unwrap(), seq);
}
