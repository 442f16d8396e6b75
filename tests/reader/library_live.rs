//! The reader library while the real applier writes: through schema changes, new
//! generations and rotation, and reads that wait for a write.

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

/// Two rows whose sum is this in every state that a reader may see.
const SUM: i64 = 1_000;
const TRANSACTIONS: i64 = 1_200;
/// Every so many transactions the schema changes, and the LDB gets a new generation.
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

/// Tables whose one row says what they look like: one with another column, one with
/// another type, each made again under its name, and one that has got a column more.
fn changed(n: i64) -> Vec<String> {
    let column = format!("c{n}");
    let (count, declared) = (n / CHANGE_EVERY, ["TEXT", "BLOB"][(n / CHANGE_EVERY % 2) as usize]);
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
    let (columns, values) = (added.concat(), ",0".repeat(added.len()));
    statements.push(format!(r#"REPLACE INTO fam___wide ("id","v"{columns}) VALUES('one',{count}{values})"#));
    statements
}

/// One LDB and its applier, at work until all transactions are applied.
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

    /// As a bootstrap does: a finished file takes the path, and the applier goes on in it.
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

/// The sum holds, and the reader never goes back.
fn check_sum(snapshot: &ReadTransaction<'_>, last: &mut i64) -> Result<(), ReadError> {
    let n = |table| snapshot.get_with("fam", table, 1, |row| row.get::<i64>("n"));
    let (left, seq) = (n("left")?.unwrap(), snapshot.last_seq()?.0);
    assert_eq!(left + n("right")?.unwrap(), SUM, "a torn transaction at {seq}");
    assert!(left >= *last, "{left} after {last}");
    *last = left;
    Ok(())
}

/// Each row is in a table of the shape that the row says.
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
    let (applied, others, done) = (AtomicI64::new(appliers[0].next - 1), AtomicI64::new(0), AtomicBool::new(false));
    let (reads, turns) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let reader = reader.clone();
            let (rotating, applied, done, reads, turns) = (&rotating, &applied, &done, &reads, &turns);
            scope.spawn(move || {
                let (mut last, mut turn) = (0, rotating.path().to_owned());
                while !done.load(Ordering::SeqCst) {
                    // What was applied before the read began is in what it sees.
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
        let (applied, others) = (&applied, &others);
        let writers = [scope.spawn(move || one.run(applied)), scope.spawn(move || two.run(others))];
        let results = writers.map(|writer| writer.join());
        done.store(true, Ordering::SeqCst);
        for result in results {
            result.unwrap();
        }
    });
    let (reads, turns) = (reads.into_inner(), turns.into_inner());
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
                let (reader, writes) = (reader.clone(), writes.clone());
                scope.spawn(move || {
                    let mut waits = Vec::with_capacity(WRITES);
                    for i in 0..WRITES {
                        let (id, value) = (client as i64, format!("{client}-{i}"));
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

/// Answers each write with its seq before it is applied, as the executive does, and
/// applies together what has come meanwhile.
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
        // It waits through there being no LDB at all.
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
