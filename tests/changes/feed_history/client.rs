//! A program that follows the history of changes as the reader does, without the reader.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ctlstore_ldb::changelog::history::{
    Grown, HistoryCursor, HistoryTail, Op, Record, TableChange, What, directory_of,
};

use support::ldb::follower::rows;
use support::ldb::reader;

/// A program that knows from the history alone which rows there are.
pub struct Client {
    pub directory: PathBuf,
    tail: HistoryTail,
    pub history: Option<String>,
    /// The number of the next record.
    pub next: u64,
    /// Each row, with its values if they were read after the last change.
    rows: BTreeMap<String, Option<String>>,
    pub resyncs: Vec<String>,
}

impl Client {
    /// Begins with the rows of `ldb` and the end of the history.
    pub fn new(ldb: &Path) -> Self {
        let directory = directory_of(ldb);
        let mut client = Self {
            tail: HistoryTail::new(&directory),
            directory,
            history: None,
            next: 1,
            rows: BTreeMap::new(),
            resyncs: Vec::new(),
        };
        client.read_up();
        client.next = client.tail.next();
        client.history = client.tail.history().map(str::to_owned);
        client.load(ldb);
        client
    }

    pub fn load(&mut self, ldb: &Path) {
        self.rows = rows(&reader(ldb)).into_iter().map(|(row, values)| (row, Some(values))).collect();
    }

    fn read_up(&mut self) {
        while !matches!(self.tail.poll().unwrap(), Grown::By(records) if records.is_empty()) {}
    }

    /// Goes on at its position, as after a time of absence.
    pub fn go_on(&mut self) -> Vec<Record> {
        self.tail = HistoryTail::new(&self.directory);
        self.read_up();
        assert_eq!(self.tail.history(), self.history.as_deref(), "another history");
        let mut cursor = HistoryCursor::seek(&self.directory, self.next).unwrap().expect("not too old");
        let mut all = Vec::new();
        while self.next < self.tail.next() {
            for record in cursor.read(self.tail.next(), 1000).unwrap().expect("not too old") {
                assert_eq!(record.number, self.next);
                self.next += 1;
                self.take(&record);
                all.push(record);
            }
        }
        all
    }

    fn take(&mut self, record: &Record) {
        let is_of = |row: &str, family: &str, table: &str| row.starts_with(&format!("{family}___{table} "));
        match &record.what {
            What::Row { op, family, table, key } => {
                let key: Vec<serde_json::Value> = serde_json::from_str(key.get()).unwrap();
                let values: Vec<_> = key.iter().map(|part| part["value"].to_string()).collect();
                let row = format!("{family}___{table} {}", values.join(","));
                match op.expect("an op") {
                    Op::Upsert => drop(self.rows.insert(row, None)),
                    Op::Delete => drop(self.rows.remove(&row)),
                }
            }
            What::Table { change: TableChange::Cleared | TableChange::Dropped, family, table } => {
                self.rows.retain(|row, _| !is_of(row, family, table));
            }
            What::Table { change, .. } => panic!("{change:?}"),
            What::Resync { reason } => self.resyncs.push(reason.clone()),
        }
    }

    /// Compares with the rows of the LDB, and reads those that have changed.
    #[track_caller]
    pub fn check(&mut self, ldb: &Path) {
        let there = rows(&reader(ldb));
        assert_eq!(self.rows.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
        for (row, values) in &self.rows {
            assert!(values.as_ref().is_none_or(|values| *values == there[row]), "{row} has changed unsaid");
        }
        self.load(ldb);
    }
}
