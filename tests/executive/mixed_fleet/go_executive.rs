//! A stand-in for the original's executive on a server: its statements in its order, one at a time, so that a test
//! decides what happens between two of them. Dropped, it is killed: its connections end, and with them what is open.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use support::TestDatabase;
use tokio::runtime::Runtime;

/// What the original sets in each of its sessions.
const SESSION: &str = "SET sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'";
const LOCK: &str = "UPDATE locks SET clock = clock + 1 WHERE id = 'ledger'";

pub struct GoExecutive {
    runtime: Runtime,
    /// Its transaction's connection.
    transaction: Conn,
    /// The one that runs CREATE and ALTER beside it.
    beside: Conn,
}

impl GoExecutive {
    pub fn on(database: &TestDatabase) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = Opts::from(OptsBuilder::from_opts(Opts::from_url(&database.url).unwrap()).setup(vec![SESSION]));
        let connect = || runtime.block_on(Conn::new(options.clone())).expect("connect");
        let (transaction, beside) = (connect(), connect());
        Self { runtime, transaction, beside }
    }

    /// Runs a statement in the transaction's connection.
    pub fn run(&mut self, sql: &str) -> Result<(), mysql_async::Error> {
        self.runtime.block_on(self.transaction.query_drop(sql))
    }

    #[track_caller]
    fn must(&mut self, sql: &str) {
        self.run(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Begins a transaction that has the ledger lock.
    pub fn lock(&mut self) {
        self.must("START TRANSACTION");
        self.must(LOCK);
    }

    /// Adds a ledger row, in the transaction or, after a DROP TABLE, without one.
    pub fn log(&mut self, statement: &str) {
        self.must(&format!("INSERT INTO ctlstore_dml_ledger (statement) VALUES('{}')", statement.replace('\'', "''")));
    }

    /// Runs the DDL of a CREATE or ALTER, on its other connection.
    pub fn ddl(&mut self, sql: &str) -> Result<(), mysql_async::Error> {
        self.runtime.block_on(self.beside.query_drop(sql))
    }

    pub fn commit(&mut self) {
        self.must("COMMIT");
    }

    pub fn roll_back(&mut self) {
        self.must("ROLLBACK");
    }

    /// A whole CREATE TABLE or ADD COLUMN, in its order: lock, ledger row, DDL, commit.
    pub fn change(&mut self, statement: &str, ddl: &str) {
        self.lock();
        self.log(statement);
        self.ddl(ddl).expect("the ddl");
        self.commit();
    }

    /// The first half of a DROP TABLE: the DDL commits, and the ledger lock is gone.
    pub fn begin_drop(&mut self, table: &str) {
        self.lock();
        self.must(&format!("DROP TABLE {table}"));
    }

    /// The second half.
    pub fn end_drop(&mut self, table: &str) {
        self.log(&format!("DROP TABLE IF EXISTS {table}"));
        self.commit();
    }

    /// The columns of a table as the server has them now. That is all that the original goes by.
    pub fn columns(&mut self, table: &str) -> Vec<String> {
        let sql = format!(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() \
             AND table_name = '{table}' ORDER BY ordinal_position"
        );
        self.runtime.block_on(self.transaction.query(sql)).expect("the columns")
    }

    /// Writes a row of the key `id` with a value in each column that the table has. An error is the server's, after
    /// which it rolls back.
    pub fn write(&mut self, table: &str, id: i64) -> Result<(), mysql_async::Error> {
        let columns = self.columns(table);
        let value = |column: &String| if column == "id" { id.to_string() } else { format!("{id}") };
        let values: Vec<String> = columns.iter().map(value).collect();
        let statement = format!(r#"REPLACE INTO {table} ("{}") VALUES({})"#, columns.join("\",\""), values.join(","));
        self.lock();
        match self.run(&statement) {
            Ok(()) => {
                self.log(&statement);
                self.commit();
                Ok(())
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Ends it as `kill -9` does: the server sees both connections go, and rolls back what is open.
    pub fn kill(self) {
        drop(self);
    }
}
