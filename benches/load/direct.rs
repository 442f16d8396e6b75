//! What connections straight to the database do: the reference for writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;

use super::data;

const SQLITE_SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
const SQLITE_TABLES: &str = "
    CREATE TABLE points (id VARCHAR(191) PRIMARY KEY, n INTEGER, v TEXT);
    CREATE TABLE ledger (seq INTEGER PRIMARY KEY AUTOINCREMENT,
        leader_ts TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f','now')), statement TEXT NOT NULL);
    CREATE TABLE locks (id VARCHAR(191) PRIMARY KEY, clock BIGINT NOT NULL);
    CREATE TABLE writers (id VARCHAR(191) PRIMARY KEY, cookie BLOB NOT NULL, clock BIGINT NOT NULL);
    CREATE TABLE written (id VARCHAR(191) PRIMARY KEY, amount BIGINT NOT NULL);
    INSERT INTO locks VALUES ('ledger', 0);";
const MYSQL_TABLES: [&str; 6] = [
    "CREATE TABLE points (id VARCHAR(191) CHARACTER SET utf8mb4 PRIMARY KEY, n BIGINT, v MEDIUMTEXT CHARACTER SET utf8mb4)",
    "CREATE TABLE ledger (seq BIGINT AUTO_INCREMENT PRIMARY KEY,
        leader_ts DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6), statement MEDIUMTEXT CHARACTER SET utf8mb4 NOT NULL)",
    "CREATE TABLE locks (id VARCHAR(191) PRIMARY KEY, clock BIGINT NOT NULL)",
    "CREATE TABLE writers (id VARCHAR(191) PRIMARY KEY, cookie BLOB NOT NULL, clock BIGINT NOT NULL)",
    "INSERT INTO locks VALUES ('ledger', 0)",
    "CREATE TABLE written (id VARCHAR(191) PRIMARY KEY, amount BIGINT NOT NULL)",
];

/// An open connection to a database with the reference's tables.
pub enum Direct {
    Sqlite(rusqlite::Connection),
    MySql(mysql_async::Conn),
}

impl Direct {
    /// `url` names an empty database, `sqlite:PATH` or `mysql://…`.
    pub async fn open(url: &str) -> Self {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let connection = rusqlite::Connection::open(path).expect("a database");
            connection.execute_batch(SQLITE_SETTINGS).expect("the settings are taken");
            connection.execute_batch(SQLITE_TABLES).expect("the tables are made");
            return Self::Sqlite(connection);
        }
        let mut connection = mysql_async::Conn::from_url(url).await.expect("the server takes connections");
        for statement in MYSQL_TABLES {
            connection.query_drop(statement).await.expect("the tables are made");
        }
        Self::MySql(connection)
    }

    /// Another connection to a server's database that has the tables.
    pub async fn join(url: &str) -> Self {
        Self::MySql(mysql_async::Conn::from_url(url).await.expect("the server takes connections"))
    }

    /// Writers 0 to `writers`, of whom nothing is written yet.
    pub async fn add_writers(&mut self, writers: usize) {
        for writer in 0..writers {
            self.run(&format!("INSERT INTO writers VALUES ('writer-{writer}', '', 0)")).await;
            self.run(&format!("INSERT INTO written VALUES ('writer-{writer}', 0)")).await;
        }
    }

    pub async fn run(&mut self, statement: &str) {
        match self {
            Self::Sqlite(connection) => connection.execute_batch(statement).expect("the statement runs"),
            Self::MySql(connection) => connection.query_drop(statement).await.expect("the statement runs"),
        }
    }

    /// Runs the units in turn for `time`; units per second.
    pub async fn rate(&mut self, units: &[Vec<String>], time: Duration) -> f64 {
        let (start, mut done) = (Instant::now(), 0u32);
        for unit in units.iter().cycle() {
            for statement in unit {
                self.run(statement).await;
            }
            done += 1;
            if start.elapsed() >= time {
                break;
            }
        }
        f64::from(done) / start.elapsed().as_secs_f64()
    }
}

fn row(i: usize) -> String {
    format!("('{}',{i},'{}')", data::id(i), data::text(i))
}

fn ledger_row(i: usize) -> String {
    format!(r#"('REPLACE INTO bench___points ("id","n","v") VALUES(''{}'',{i},''{}'')')"#, data::id(i), data::text(i))
}

/// Commits of `size` rows by multi-row statements, over the first `rows` rows.
pub fn multi_row(size: usize, rows: usize) -> Vec<Vec<String>> {
    let unit = |start: usize| {
        let list = |make: fn(usize) -> String| (start..start + size).map(make).collect::<Vec<_>>().join(",");
        vec![
            "BEGIN".to_owned(),
            format!("REPLACE INTO points VALUES {}", list(row)),
            format!("INSERT INTO ledger (statement) VALUES {}", list(ledger_row)),
            "COMMIT".to_owned(),
        ]
    };
    (0..rows / size).map(|i| unit(i * size)).collect()
}

/// One transaction for each of `rows`, with one round trip for each statement that the
/// protocol asks for: the lock, usage and cookie of `writer` read and written, the row and
/// its statement.
pub fn one_by_one(writer: usize, rows: std::ops::Range<usize>) -> Vec<Vec<String>> {
    let unit = |i| {
        vec![
            "BEGIN".to_owned(),
            "UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'".to_owned(),
            format!("SELECT amount FROM written WHERE id = 'writer-{writer}'"),
            format!("SELECT cookie FROM writers WHERE id = 'writer-{writer}'"),
            format!("REPLACE INTO points VALUES {}", row(i)),
            format!("UPDATE writers SET cookie = '', clock = clock + 1 WHERE id = 'writer-{writer}'"),
            format!("UPDATE written SET amount = amount + 1 WHERE id = 'writer-{writer}'"),
            format!("INSERT INTO ledger (statement) VALUES {}", ledger_row(i)),
            "COMMIT".to_owned(),
        ]
    };
    rows.map(unit).collect()
}

/// A connection for each writer, each as [`Direct::rate`] by itself; units per second of all.
pub async fn rate_of_all(connections: &mut Vec<Direct>, units: &[Arc<Vec<Vec<String>>>], time: Duration) -> f64 {
    let tasks = connections.drain(..).zip(units.iter().cloned()).map(|(mut connection, units)| {
        tokio::spawn(async move {
            let rate = connection.rate(&units, time).await;
            (connection, rate)
        })
    });
    let mut all = 0.0;
    for task in tasks.collect::<Vec<_>>() {
        let (connection, rate) = task.await.expect("the writer runs");
        connections.push(connection);
        all += rate;
    }
    all
}

/// A commit for each row of the ledger, and nothing else.
pub fn autocommit(rows: usize) -> Vec<Vec<String>> {
    (0..rows).map(|i| vec![format!("INSERT INTO ledger (statement) VALUES {}", ledger_row(i))]).collect()
}
