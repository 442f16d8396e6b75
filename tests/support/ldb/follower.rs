//! A consumer of the changelog: a program that caches every row of an LDB and follows the changelog. An
//! entry drops its row from the cache; a jump in the numbers drops all rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::types::Value;

/// One line of the changelog.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    pub seq: u64,
    pub family: String,
    pub table: String,
    pub key: Vec<KeyPart>,
    pub ledger_seq: i64,
}

#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPart {
    pub name: String,
    #[serde(rename = "type")]
    pub declared: String,
    pub value: serde_json::Value,
}

impl Entry {
    /// The table's SQL name and the key's values.
    pub fn row(&self) -> String {
        let key: Vec<_> = self.key.iter().map(|part| part.value.to_string()).collect();
        format!("{}___{} {}", self.family, self.table, key.join(","))
    }
}

/// Reads entries, across rotations.
pub struct Follower {
    path: PathBuf,
    file: Option<(File, u64)>,
    /// The last entry's number, 0 before the first one. To begin in the middle is a jump.
    last: u64,
    /// Every row at the last [`Follower::load`].
    cache: BTreeMap<String, String>,
    dropped: BTreeSet<String>,
    pub resyncs: u64,
    is_resynced: bool,
}

impl Follower {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            last: 0,
            cache: BTreeMap::new(),
            dropped: BTreeSet::new(),
            resyncs: 0,
            is_resynced: false,
        }
    }

    /// Caches all rows.
    pub fn load(&mut self, ldb: &Connection) {
        self.cache = rows(ldb);
        self.dropped.clear();
        self.is_resynced = false;
    }

    /// Reads new entries of the changelog.
    pub fn follow(&mut self) -> Vec<Entry> {
        let entries = self.read();
        for entry in &entries {
            if entry.seq != self.last + 1 {
                self.resyncs += 1;
                self.is_resynced = true;
            }
            self.last = entry.seq;
            self.dropped.insert(entry.row());
        }
        entries
    }

    fn read(&mut self) -> Vec<Entry> {
        let mut text = String::new();
        if let Some((file, _)) = &mut self.file {
            file.read_to_string(&mut text).unwrap();
        }
        if let Ok(mut file) = File::open(&self.path) {
            let inode = file.metadata().unwrap().ino();
            if self.file.as_ref().map(|(_, inode)| *inode) != Some(inode) {
                file.read_to_string(&mut text).unwrap();
                self.file = Some((file, inode));
            }
        }
        // A line without its end is not read yet.
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        if let Some((file, _)) = &mut self.file {
            file.seek(SeekFrom::Current(-((text.len() - complete) as i64))).unwrap();
        }
        // A torn line that a later start ended is no entry.
        text[..complete].lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The cached rows that differ from the LDB's although no entry named them.
    pub fn stale(&self, ldb: &Connection) -> Vec<String> {
        if self.is_resynced {
            return Vec::new();
        }
        let there = rows(ldb);
        let known: BTreeSet<_> = self.cache.keys().chain(there.keys()).collect();
        let is_stale = |row: &&String| !self.dropped.contains(*row) && self.cache.get(*row) != there.get(*row);
        known.into_iter().filter(is_stale).cloned().collect()
    }
}

/// All rows by table and key.
pub fn rows(ldb: &Connection) -> BTreeMap<String, String> {
    let tables = super::strings(ldb, "SELECT name FROM sqlite_schema WHERE type = 'table' AND instr(name, '___') > 1");
    let mut rows = BTreeMap::new();
    for table in tables {
        let key = format!("SELECT cid FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY cid");
        let mut statement = ldb.prepare(&key).unwrap();
        let key = statement.query_map([], |row| row.get::<_, isize>(0)).unwrap();
        let key: Vec<_> = key.map(|column| column.unwrap() as usize).collect();
        let mut statement = ldb.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let shown: Vec<_> = key.iter().map(|&i| json(row.get(i).unwrap())).collect();
            let values: Vec<_> = (0..columns).map(|i| format!("{:?}", row.get::<_, Value>(i).unwrap())).collect();
            rows.insert(format!("{table} {}", shown.join(",")), values.join(","));
        }
    }
    rows
}

fn json(value: Value) -> String {
    match value {
        Value::Integer(integer) => integer.to_string(),
        Value::Text(text) => serde_json::to_string(&text).unwrap(),
        other => panic!("the tests here have no keys like {other:?}"),
    }
}
