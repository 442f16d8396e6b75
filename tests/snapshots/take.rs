//! Taking a snapshot of LDBs of every kind: the content of the copy. No file is left if there is
//! no snapshot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ctlstore_core::Abort;
use ctlstore_core::ledger::Seq;
use ctlstore_ldb::snapshot::{Phase, Snapshot, SnapshotError, SnapshotProgress, digests, take};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use support::SmallDisk;

/// The applier's tables as the original makes them.
const ORIGINAL: &str = "
PRAGMA journal_mode = WAL;
CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
CREATE TABLE _ldb_last_update (name STRING PRIMARY KEY NOT NULL, timestamp DATETIME NOT NULL);
INSERT INTO _ldb_seq VALUES (1, 4711);
INSERT INTO _ldb_last_update VALUES ('ledger', '2026-01-02 03:04:05+00:00');";

struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(support::scratch_dir())
    }

    fn ldb(&self) -> PathBuf {
        self.0.path().join("an ldb?#%.db")
    }

    fn copy(&self) -> PathBuf {
        self.0.path().join("a copy'\"?#%.db")
    }

    /// An LDB of the original with these tables too.
    fn make(&self, before: &str, sql: &str) -> Connection {
        let connection = Connection::open(self.ldb()).unwrap();
        connection.execute_batch(before).unwrap();
        connection.execute_batch(ORIGINAL).unwrap();
        connection.execute_batch(sql).unwrap();
        connection
    }

    fn take(&self) -> Result<Snapshot, SnapshotError> {
        self.take_with(&Abort::default(), Arc::new(()))
    }

    fn take_with(&self, abort: &Abort, progress: Arc<dyn SnapshotProgress>) -> Result<Snapshot, SnapshotError> {
        let taken = take(&self.ldb(), &self.copy(), abort, &progress);
        let left: Vec<_> = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let of_copy = left.iter().filter(|name| name.to_string_lossy().starts_with("a copy")).count();
        assert_eq!(of_copy, usize::from(taken.is_ok()), "beside the copy, or instead of none: {left:?}");
        taken
    }
}

fn immutable(path: &Path) -> Connection {
    let escaped: String = path.to_str().unwrap().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags).unwrap()
}

/// Everything that a database holds: values with their storage class, and floats by their bits.
fn everything(connection: &Connection) -> Vec<String> {
    let mut all = Vec::new();
    for pragma in ["page_size", "encoding", "auto_vacuum", "user_version", "application_id"] {
        let value: Value = connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap();
        all.push(format!("{pragma} {value:?}"));
    }
    all.extend(query(connection, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2"));
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
    let mut statement = connection.prepare(tables).unwrap();
    let names: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for name in names {
        let quoted = name.replace('"', "\"\"");
        let mut rows = query(connection, &format!("SELECT * FROM \"{quoted}\""));
        rows.sort();
        all.extend(rows.into_iter().map(|row| format!("{name}: {row}")));
    }
    all
}

fn query(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let shown = |value: Value| match value {
        Value::Real(real) => format!("real {:x}", real.to_bits()),
        other => format!("{other:?}"),
    };
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column).map(shown)).collect());
    rows.unwrap().map(|row: rusqlite::Result<Vec<_>>| row.unwrap().join(", ")).collect()
}

const ODD: &str = r#"
PRAGMA foreign_keys = OFF;
CREATE TABLE fam___values ("k" VARCHAR(191), "i" INTEGER, "r" REAL, "t" TEXT, "b" BLOB, "any", PRIMARY KEY("k"));
INSERT INTO fam___values VALUES
  ('nulls', NULL, NULL, NULL, NULL, NULL),
  ('ends', 9223372036854775807, 9e999, '', x'', 1),
  ('begins', -9223372036854775808, -9e999, 'a' || char(0) || 'b', x'00ff', 1.0),
  ('no number', 'text in it', 9e999 - 9e999, x'610062', 'text in it', x'31'),
  ('whole', 1.0, 10, 5, 7, '1'),
  ('small', 1.5, 5e-324, 'ä€😀', zeroblob(3), -0.0),
  ('huge', 0, 0.1, printf('%.*c', 600000, 'x'), zeroblob(600000), 1e300),
  (NULL, 2, 2, 'a key of another program', NULL, NULL);
ALTER TABLE fam___values ADD COLUMN "late" TEXT;
ALTER TABLE fam___values ADD COLUMN "late_with_default" INTEGER DEFAULT 7;
INSERT INTO fam___values VALUES ('later', 1, 1, 1, 1, 1, 'x', 8);
CREATE TABLE fam___empty ("k" INTEGER, "v" TEXT, PRIMARY KEY("k"));
CREATE TABLE fam___keys ("a" VARCHAR(191), "b" INTEGER, "c" BLOB(255), PRIMARY KEY("b","a","c"));
INSERT INTO fam___keys VALUES ('x', 1, x'01'), ('X', 1, x'01'), ('x ', 1, x'01'), ('x', 2, x'');
CREATE TABLE "an odd ""name"", it's [one]" ("a ""column""" TEXT PRIMARY KEY, "select" INT, "rowid" TEXT) WITHOUT ROWID;
INSERT INTO "an odd ""name"", it's [one]" VALUES ('b', 1, 'r'), ('a', 2, 's');
CREATE TABLE no_key (a, b);
INSERT INTO no_key VALUES (1, 2), (1, 2), (3, 4);
DELETE FROM no_key WHERE rowid = 1;
CREATE TABLE counting (id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT DEFAULT "in double quotes");
INSERT INTO counting (v) VALUES ('one'), ('two'), ('three');
DELETE FROM counting WHERE id > 1;
CREATE TABLE strict_one (i INT NOT NULL CHECK (i > 0), t TEXT COLLATE NOCASE, UNIQUE (t, i DESC)) STRICT;
INSERT INTO strict_one VALUES (1, 'a'), (2, 'A'), (3, 'b');
CREATE TABLE generated (a INT, b INT GENERATED ALWAYS AS (a * 2) STORED, c INT AS (a + 1) VIRTUAL);
INSERT INTO generated VALUES (1), (2);
CREATE TABLE parents (id INTEGER PRIMARY KEY);
CREATE TABLE children (id INTEGER PRIMARY KEY, parent REFERENCES parents(id));
INSERT INTO children VALUES (1, 99);
CREATE INDEX by_expression ON fam___values (length("t"), "r" DESC);
CREATE INDEX some_only ON fam___values ("i") WHERE "i" > 0;
CREATE UNIQUE INDEX "an ""index""" ON fam___keys ("c", "a" DESC, "b");
CREATE INDEX without_case ON fam___keys ("a" COLLATE NOCASE);
CREATE VIEW a_view AS SELECT "k" FROM fam___values;
CREATE TABLE fired (what TEXT);
CREATE TRIGGER a_trigger AFTER INSERT ON fam___keys BEGIN INSERT INTO fired VALUES (new.a); END;
ANALYZE;
PRAGMA user_version = -5;
PRAGMA application_id = 1234567;"#;

#[test]
fn everything_of_an_odd_schema_is_in_the_copy() {
    for before in [
        "PRAGMA page_size = 1024;",
        "PRAGMA encoding = 'UTF-16le';",
        "PRAGMA auto_vacuum = 2; PRAGMA page_size = 65536;",
    ] {
        let scratch = Scratch::new();
        let ldb = scratch.make(before, ODD);
        let snapshot = scratch.take().unwrap();
        let copy = immutable(&snapshot.path);
        assert_eq!(everything(&copy), everything(&ldb), "{before}");
        assert_eq!(query(&copy, "PRAGMA integrity_check"), query(&ldb, "PRAGMA integrity_check"), "{before}");
        assert_eq!(snapshot.tables, digests(&ldb).unwrap(), "{before}");
        assert_eq!((snapshot.position.seq, snapshot.position.ledger_id), (Seq(4711), None));
        assert_eq!(snapshot.position.leader_ts.unwrap().to_string(), "2026-01-02 03:04:05+00:00");
    }
}

#[test]
fn a_copy_is_compact_and_described_by_what_it_is_taken_with() {
    let scratch = Scratch::new();
    let table = r#"CREATE TABLE fam___tab ("k" VARCHAR(191), "v" TEXT, PRIMARY KEY("k"));"#;
    let ldb = scratch.make("", table);
    let fill = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000)
        INSERT INTO fam___tab SELECT x, hex(randomblob(40)) FROM n;";
    ldb.execute_batch(fill).unwrap();
    ldb.execute_batch("DELETE FROM fam___tab WHERE k % 10 > 0").unwrap();
    ldb.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let snapshot = scratch.take().unwrap();
    let file = fs::read(&snapshot.path).unwrap();
    assert!(file.len() as u64 * 5 < fs::metadata(scratch.ldb()).unwrap().len());
    assert_eq!(query(&immutable(&snapshot.path), "PRAGMA freelist_count"), ["Integer(0)"]);
    assert_eq!(file[18..20], [2, 2], "the header is not marked for WAL");
    assert_eq!(fs::metadata(&snapshot.path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(snapshot.bytes, file.len() as u64);
    assert_eq!(snapshot.sha256, hex::encode(Sha256::digest(&file)));
    assert_eq!(snapshot.sha1, STANDARD.encode(Sha1::digest(&file)));
    let tables: Vec<_> = snapshot.tables.iter().map(|table| (table.name.as_str(), table.rows)).collect();
    assert_eq!(tables, [("fam___tab", 2_000)]);
}

#[test]
fn an_ldb_without_tables_has_a_snapshot_and_one_without_statements_has_none() {
    let scratch = Scratch::new();
    let ldb = scratch.make("", "");
    assert_eq!(scratch.take().unwrap().tables, []);
    fs::remove_file(scratch.copy()).unwrap();
    ldb.execute_batch("DELETE FROM _ldb_seq").unwrap();
    let empty = scratch.take().unwrap_err();
    assert!(matches!(empty, SnapshotError::Empty(_)), "{empty}");
    drop(ldb);
    fs::remove_file(scratch.ldb()).unwrap();
    let missing = scratch.take().unwrap_err();
    assert!(matches!(missing, SnapshotError::Ldb(_)), "{missing}");
    assert!(!scratch.ldb().exists());
}

/// Every column is a part of the key, so there is a second place for every value.
const ALL_KEY: &str = r#"
CREATE TABLE fam___tab ("k" VARCHAR(191), "i" INTEGER, "b" BLOB(255), PRIMARY KEY("k","i","b"));
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 400)
INSERT INTO fam___tab SELECT hex(randomblob(9)), x * 1000003, randomblob(12) FROM n;"#;

#[test]
fn flipped_bits_in_a_table_or_its_index_end_in_no_snapshot_or_in_one_without_them() {
    const FLIPS: usize = 250;
    let scratch = Scratch::new();
    let ldb = scratch.make("PRAGMA page_size = 1024;", ALL_KEY);
    let sound = digests(&ldb).unwrap();
    let pages: Vec<usize> = {
        let of_tab = "SELECT pageno FROM dbstat WHERE name IN ('fam___tab', 'sqlite_autoindex_fam___tab_1')";
        let mut statement = ldb.prepare(of_tab).unwrap();
        statement.query_map([], |row| row.get::<_, u32>(0)).unwrap().map(|page| page.unwrap() as usize).collect()
    };
    ldb.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
    drop(ldb);
    let file = fs::read(scratch.ldb()).unwrap();
    let mut refused = 0;
    for _ in 0..FLIPS {
        let page = pages[rand::random_range(0..pages.len())];
        let (byte, bit) = ((page - 1) * 1024 + rand::random_range(0..1024), rand::random_range(0..8));
        let mut flipped = file.clone();
        flipped[byte] ^= 1 << bit;
        fs::write(scratch.ldb(), &flipped).unwrap();
        match scratch.take() {
            // Its directory does not exist.
            Ok(snapshot) => {
                assert_eq!(snapshot.tables, sound, "bit {bit} of byte {byte}");
                fs::remove_file(&snapshot.path).unwrap();
            }
            Err(SnapshotError::Damaged { .. } | SnapshotError::Copy { .. }) => refused += 1,
            Err(error) => panic!("bit {bit} of byte {byte}: {error}"),
        }
    }
    assert!(refused > FLIPS / 4, "{refused} of {FLIPS} were refused");
}

#[test]
fn a_truncated_ldb_or_another_kind_of_file_has_no_snapshot() {
    let scratch = Scratch::new();
    let ldb = scratch.make("PRAGMA page_size = 1024;", ALL_KEY);
    ldb.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).unwrap();
    drop(ldb);
    let file = fs::read(scratch.ldb()).unwrap();
    for part in [file.len() / 2, file.len() - 1024, 1000] {
        fs::write(scratch.ldb(), &file[..part]).unwrap();
        scratch.take().unwrap_err();
    }
    fs::write(scratch.ldb(), "not a database, ".repeat(200)).unwrap();
    scratch.take().unwrap_err();
}

#[test]
fn an_index_that_lacks_a_row_is_named() {
    let scratch = Scratch::new();
    let ldb = scratch.make("", ALL_KEY);
    // Each has as many entries as the other has rows. Only the content of one entry differs.
    ldb.execute_batch(
        "PRAGMA writable_schema = ON;
         CREATE TABLE loose (a, b);
         INSERT INTO loose VALUES (1, 1), (2, 2);
         CREATE INDEX by_a ON loose (a);
         UPDATE sqlite_schema SET sql = 'CREATE INDEX by_a ON loose (b)' WHERE name = 'by_a';",
    )
    .unwrap();
    drop(ldb);
    let reopened = Connection::open(scratch.ldb()).unwrap();
    reopened.execute_batch("PRAGMA writable_schema = ON; UPDATE loose SET b = 7 WHERE a = 1;").unwrap();
    reopened
        .execute_batch("UPDATE sqlite_schema SET sql = 'CREATE INDEX by_a ON loose (a)' WHERE name = 'by_a'")
        .unwrap();
    drop(reopened);
    match scratch.take().unwrap_err() {
        SnapshotError::Damaged { report, .. } => {
            assert!(report.contains("by_a") && report.contains("loose"), "{report}")
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_there() {
    let scratch = Scratch::new();
    let _ldb = scratch.make("", &format!("{ALL_KEY} CREATE TABLE fam___big AS SELECT zeroblob(3000000) AS b;"));
    let small = SmallDisk::mount("1m");
    let progress: Arc<dyn SnapshotProgress> = Arc::new(());
    let full = take(&scratch.ldb(), &small.path("copy.db"), &Abort::default(), &progress).unwrap_err();
    assert!(matches!(full, SnapshotError::DiskFull(_)), "{full}");
    assert_eq!(fs::read_dir(small.directory()).unwrap().count(), 0);
}

/// Keeps the reports of progress, and aborts as soon as a phase has begun.
struct Witness {
    seen: Mutex<Vec<(Phase, u64, Option<u64>)>>,
    abort_in: Option<Phase>,
    abort: Abort,
}

impl SnapshotProgress for Witness {
    fn at(&self, phase: Phase, done: u64, total: Option<u64>) {
        self.seen.lock().unwrap().push((phase, done, total));
        if self.abort_in == Some(phase) {
            self.abort.abort();
        }
    }
}

fn witness(abort_in: Option<Phase>) -> Arc<Witness> {
    Arc::new(Witness { seen: Mutex::default(), abort_in, abort: Abort::default() })
}

/// Some megabytes.
const BIG: &str = "CREATE TABLE fam___big (k INTEGER PRIMARY KEY, v BLOB);
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 30000)
INSERT INTO fam___big SELECT x, zeroblob(1000) FROM n;";

#[test]
fn progress_grows_phase_by_phase_to_its_total() {
    let scratch = Scratch::new();
    let _ldb = scratch.make("", BIG);
    let witness = witness(None);
    let snapshot = scratch.take_with(&witness.abort, witness.clone()).unwrap();
    let seen = witness.seen.lock().unwrap();
    let mut phases: Vec<Phase> = seen.iter().map(|(phase, ..)| *phase).collect();
    phases.dedup();
    assert_eq!(phases, [Phase::Copy, Phase::Check, Phase::Hash]);
    for pair in seen.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert!(pair[0].1 <= pair[1].1 && pair[0].2 == pair[1].2, "{pair:?}");
    }
    let last = |phase| seen.iter().rfind(|(seen, ..)| *seen == phase).unwrap();
    assert_eq!(*last(Phase::Check), (Phase::Check, 30_000, Some(30_000)));
    assert_eq!(*last(Phase::Hash), (Phase::Hash, snapshot.bytes, Some(snapshot.bytes)));
    assert_eq!(Some(last(Phase::Copy).1), last(Phase::Copy).2);
}

#[test]
fn an_abort_ends_every_phase_and_leaves_nothing() {
    let scratch = Scratch::new();
    let _ldb = scratch.make("", BIG);
    for phase in [Phase::Copy, Phase::Check, Phase::Hash] {
        let witness = witness(Some(phase));
        let aborted = scratch.take_with(&witness.abort, witness.clone()).unwrap_err();
        assert!(matches!(aborted, SnapshotError::Aborted), "in {phase:?}: {aborted}");
        let seen = witness.seen.lock().unwrap();
        assert!(seen.last().is_some_and(|(last, ..)| *last == phase), "aborted in {phase:?}, ended after {seen:?}");
    }
}
