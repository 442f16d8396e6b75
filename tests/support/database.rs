//! A database of its own for every test, on each kind of ctldb.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::server::{Flavour, MYSQL56_VARIABLE, PrivateServer};
use super::{process, sql};

/// One server of each flavour per test binary. The first test that needs it starts it.
static MARIADB: LazyLock<PrivateServer> = LazyLock::new(|| PrivateServer::start(Flavour::MariaDb));
static MYSQL56: LazyLock<PrivateServer> = LazyLock::new(|| PrivateServer::start(Flavour::MySql56));

/// An empty database with the server's own defaults (its default character set is latin1, as on many real servers). It
/// is dropped with this value.
pub struct TestDatabase {
    /// A value for `ctldb.url`: `sqlite:PATH` or `mysql://root@127.0.0.1:PORT/NAME`.
    pub url: String,
    home: ClaimedLdb,
}

enum ClaimedLdb {
    Directory { _removed_on_drop: TempDir },
    Server { server: &'static PrivateServer, name: String },
}

impl TestDatabase {
    fn on(server: &'static PrivateServer) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        server.execute(&format!("CREATE DATABASE {name}"));
        Self { url: server.url(&name), home: ClaimedLdb::Server { server, name } }
    }

    /// Runs one statement and returns its rows.
    #[track_caller]
    pub fn query(&self, statement: &str) -> Vec<sql::Row> {
        sql::query(&self.url, statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// The text of the statement's only value.
    #[track_caller]
    pub fn value(&self, statement: &str) -> Option<String> {
        let mut rows = self.query(statement);
        assert!(rows.len() == 1 && rows[0].len() == 1, "{statement}: not one value: {rows:?}");
        rows.remove(0).remove(0)
    }

    pub fn is_mysql(&self) -> bool {
        matches!(self.home, ClaimedLdb::Server { .. })
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let ClaimedLdb::Server { server, name } = &self.home {
            let _ = sql::query(&server.url("mysql"), &format!("DROP DATABASE IF EXISTS {name}"));
        }
    }
}

/// A path for an embedded SQLite ctldb. The node makes the file.
pub fn sqlite() -> TestDatabase {
    let directory = process::scratch_dir();
    let url = format!("sqlite:{}", directory.path().join("ctldb.db").display());
    TestDatabase { url, home: ClaimedLdb::Directory { _removed_on_drop: directory } }
}

pub fn mariadb() -> TestDatabase {
    TestDatabase::on(&MARIADB)
}

/// `None` only if the environment names no MySQL 5.6 to test with.
pub fn mysql56() -> Option<TestDatabase> {
    std::env::var_os(MYSQL56_VARIABLE).map(|_| TestDatabase::on(&MYSQL56))
}

/// One database of every available kind, each with its name for messages.
pub fn every_ctldb() -> Vec<(&'static str, TestDatabase)> {
    let mut all = vec![("sqlite", sqlite()), ("mariadb", mariadb())];
    all.extend(mysql56().map(|database| ("mysql 5.6", database)));
    all
}
