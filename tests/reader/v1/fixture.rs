//! A reader on an LDB of its own, and requests to it.

use std::path::PathBuf;

use ctlstore::http::reader::ReaderOptions;
use serde_json::Value;
use tempfile::TempDir;

use support::http::{self, Answer};
use support::reader_server::{OriginalLdb, ReaderServer, options};

pub const TEXT: &str = r#"CREATE TABLE fam___text ("k" VARCHAR(191), "v" TEXT, PRIMARY KEY("k"));"#;
pub const INTEGER: &str = r#"CREATE TABLE fam___int ("k" INTEGER, "v" TEXT, PRIMARY KEY("k"));"#;
pub const BYTES: &str = r#"CREATE TABLE fam___bytes ("k" BLOB(255), "v" TEXT, PRIMARY KEY("k"));"#;
/// A table whose key order differs from its column order.
pub const PAIR: &str =
    r#"CREATE TABLE fam___pair ("n" INTEGER, "v" TEXT, "name" VARCHAR(191), PRIMARY KEY("name","n"));"#;

pub struct Stage {
    pub ldb: OriginalLdb,
    pub server: ReaderServer,
    pub path: PathBuf,
    _directory: TempDir,
}

/// A reader on an LDB with these statements applied.
pub fn stage<S: AsRef<str>>(statements: impl IntoIterator<Item = S>) -> Stage {
    stage_with(statements, |_| {})
}

pub fn stage_with<S: AsRef<str>>(
    statements: impl IntoIterator<Item = S>,
    set: impl FnOnce(&mut ReaderOptions),
) -> Stage {
    let directory = support::scratch_dir();
    let path = directory.path().join("ldb.db");
    let ldb = OriginalLdb::create(&path);
    ldb.apply(statements);
    let mut options = options(&path);
    set(&mut options);
    Stage { ldb, server: ReaderServer::start(options), path, _directory: directory }
}

impl Stage {
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        http::get(&format!("{}/v1{path}", self.server.url))
    }

    #[track_caller]
    pub fn get_with(&self, path: &str, header: (&str, &str)) -> Answer {
        http::request("GET", &format!("{}/v1{path}", self.server.url), &[header], "")
    }

    #[track_caller]
    pub fn batch(&self, body: &Value) -> Answer {
        http::post(&format!("{}/v1/rows:batch", self.server.url), body.to_string())
    }

    /// Fills `fam___int` with the keys from 1 to `count`.
    pub fn count_up_to(&self, count: u64) {
        self.ldb.apply([format!(
            "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             REPLACE INTO fam___int SELECT i, 'v' || i FROM n"
        )]);
    }
}

/// Every page of a table. `path` may have a query string.
#[track_caller]
pub fn pages(url: &str, path: &str) -> Vec<Value> {
    let mut pages = Vec::new();
    let mut after = String::new();
    loop {
        let page = http::get(&format!("{url}/v1{path}{after}")).expect(200).json();
        let next = page["next"].as_str().map(str::to_owned);
        pages.push(page);
        let Some(next) = next else { return pages };
        after = format!("{}after={next}", if path.contains('?') { '&' } else { '?' });
        assert!(pages.len() < 100_000, "the pages of {path} have no end");
    }
}

/// The values of `column` in the rows of these pages.
pub fn column(pages: &[Value], column: &str) -> Vec<Value> {
    let rows = pages.iter().flat_map(|page| page["rows"].as_array().expect("rows"));
    rows.map(|row| row[column].clone()).collect()
}

#[track_caller]
pub fn number(answer: &Answer, header: &str) -> i64 {
    answer.header(header).unwrap_or_else(|| panic!("no {header} in {answer:?}")).parse().expect("a number")
}
