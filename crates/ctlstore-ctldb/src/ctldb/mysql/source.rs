//! [`MysqlSource`]: reads the ledger of a MySQL ctldb, on a connection of its own. It reads row by row, so
//! at most one block is in memory. If an answer was not read to its end, the connection is closed. The
//! source only reads.

use std::time::{Duration, Instant};

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, Row, Value};

use crate::ctldb::error::CtldbError;
use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::session::{LedgerIdentity, TableFault};
use ctlstore_core::ledger::{
    Block, BlockLimit, HeadRow, LedgerInfo, LedgerRow, LedgerSource, Replication, Seq, SourceError,
};
use ctlstore_core::schema::Timestamp;

use super::address::{Login, ServerAddress};
use super::catalog;
use super::error::{self, NO_SUCH_TABLE, SqlError};
use super::ledger_head;
use super::pooled_connection::{PooledConnection, login, read_row};

const ENDS: &str = "SELECT MIN(seq), MAX(seq), (SELECT statement LIKE 'CREATE TABLE %' FROM {ledger} \
                    ORDER BY seq LIMIT 1) FROM {ledger}";
const BLOCK: &str = "SELECT seq, leader_ts, statement FROM {ledger} WHERE seq > {after} AND seq <= {up_to} \
                     ORDER BY seq LIMIT {rows}";

/// A read that locks waits for rows that are inserted and not yet committed. Its locks end with the statement.
const SETTLED: &str = "SELECT COUNT(*) FROM {ledger} WHERE seq > {after} AND seq <= {up_to} LOCK IN SHARE MODE";

/// The rows that the first query asks for, before their size is known.
const FIRST_ROWS: usize = 1_000;

/// The time for closing the connection in order.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The ledger on a server of the MySQL family.
pub struct MysqlSource {
    login: Login,
    ledger: LedgerTable,
    timeout: Duration,
    connection: Option<Conn>,
    /// The rows to ask for in one query. Chosen so that a block's limit of bytes rarely cuts an answer short.
    rows: usize,
}

impl MysqlSource {
    /// Each query takes at most `timeout`. Does not connect yet.
    pub fn new(address: &ServerAddress, ledger: LedgerTable, timeout: Duration) -> Result<Self, CtldbError> {
        let login = login(address)?;
        Ok(Self { login, ledger, timeout, connection: None, rows: FIRST_ROWS })
    }

    /// The present time by the ctldb's clock.
    pub async fn now(&mut self) -> Result<Timestamp, SourceError> {
        let now: Vec<Value> = self.rows(ledger_head::UTC_NOW.to_owned()).await?;
        let now = now.first().and_then(ledger_head::timestamp);
        now.ok_or_else(|| SourceError::Failed("the server does not tell the time".to_owned()))
    }

    /// The ledger's identity.
    pub async fn identity(&mut self) -> Result<LedgerIdentity, SourceError> {
        let meta = self.ask(async |connection| Ok((read_meta(connection).await?, true))).await?;
        Ok(ledger_head::identity(&meta, self.rows(ledger_head::columns(&self.ledger)).await?))
    }

    /// The first `most` rows after `after`, or of the whole ledger, without their statements.
    pub async fn heads(&mut self, after: Option<Seq>, most: usize) -> Result<Vec<HeadRow>, SourceError> {
        let heads = self.rows(ledger_head::heads(&self.ledger, after, most)).await?;
        Ok(heads.into_iter().map(ledger_head::head_row).collect())
    }

    /// The tables that were changed by hand.
    pub async fn table_faults(&mut self) -> Result<Vec<TableFault>, CtldbError> {
        let deadline = Instant::now() + self.timeout;
        let connecting = tokio::time::timeout_at(deadline.into(), connect(&mut self.login)).await;
        let connection = match connecting {
            Ok(connection) => connection.map_err(|e| error::no_connection(self.login.options(), e))?,
            Err(_) => return Err(CtldbError::Unavailable("no answer in time".to_owned())),
        };
        let database = self.login.options().db_name().unwrap_or_default();
        catalog::read_faults(&mut PooledConnection::new(connection), database, &self.ledger, deadline).await
    }

    /// All rows of an answer that is small.
    async fn rows<T: FromRow>(&mut self, sql: String) -> Result<Vec<T>, SourceError> {
        let name = self.ledger.as_str().to_owned();
        self.ask(async move |connection| {
            let rows: Vec<Row> = connection.query(&sql).await.map_err(|e| failed(e, &name))?;
            let rows: Result<Vec<T>, _> = rows.into_iter().map(read_row).collect();
            Ok((rows.map_err(unexpected)?, true))
        })
        .await
    }

    /// Runs a query within the time-out. The connection is kept only if the answer was read to its end, which
    /// `question` returns beside its result.
    async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut Conn) -> Result<(T, bool), SourceError>,
    ) -> Result<T, SourceError> {
        let kept = self.connection.take();
        let login = &mut self.login;
        let work = async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => connect(login).await.map_err(|e| no_connection(login.options(), e))?,
            };
            let (answer, ended) = question(&mut connection).await?;
            Ok((connection, answer, ended))
        };
        let work = tokio::time::timeout(self.timeout, work).await;
        let (connection, answer, ended) =
            work.map_err(|_| SourceError::Unavailable("no answer in time".to_owned()))??;
        if ended {
            self.connection = Some(connection);
        } else {
            close(connection).await;
        }
        Ok(answer)
    }

    /// Reads the next rows into `block` with one query. `bytes` counts the bytes of the block's statements.
    /// False if no rows came after these.
    async fn read_more(
        &mut self,
        block: &mut Block,
        bytes: &mut usize,
        after: Seq,
        up_to: Seq,
        limit: BlockLimit,
    ) -> Result<bool, SourceError> {
        let asked = self.rows.min(limit.rows - block.rows.len());
        let name = self.ledger.as_str().to_owned();
        let sql = self.ledger.fill(BLOCK).replace("{after}", &after.to_string());
        let sql = sql.replace("{up_to}", &up_to.to_string()).replace("{rows}", &asked.to_string());
        let left = limit.bytes - *bytes;
        let (rows, got, cut) = self
            .ask(async move |connection| {
                let mut result = connection.query_iter(&sql).await.map_err(|e| failed(e, &name))?;
                let mut rows = Vec::new();
                let mut got = 0;
                let mut ended = false;
                let mut cut = false;
                while got <= left {
                    let Some(row) = result.next().await.map_err(|e| failed(e, &name))? else {
                        ended = true;
                        break;
                    };
                    let row = match ledger_row(row) {
                        // The rows before a bad row are good. The next read begins with the bad one.
                        Err(_) if !rows.is_empty() => {
                            cut = true;
                            break;
                        }
                        read => read?,
                    };
                    got += row.statement.len();
                    rows.push(row);
                }
                Ok(((rows, got, cut), ended))
            })
            .await?;
        let full = rows.len() == asked;
        if got > left {
            self.rows = (rows.len() * 3 / 4).max(1);
        } else if full && got <= left / 2 {
            self.rows = self.rows.max(asked.saturating_mul(2));
        }
        *bytes += got;
        block.rows.extend(rows);
        Ok(full || cut || *bytes > limit.bytes)
    }
}

impl LedgerSource for MysqlSource {
    async fn describe(&mut self) -> Result<LedgerInfo, SourceError> {
        let name = self.ledger.as_str().to_owned();
        let ends = self.ledger.fill(ENDS);
        self.ask(async move |connection| {
            let rows: Vec<Row> = connection.query(&ends).await.map_err(|e| failed(e, &name))?;
            let row = rows.into_iter().next().ok_or_else(|| SourceError::Failed("no answer".to_owned()))?;
            let (first, last, creates) =
                read_row::<(Option<i64>, Option<i64>, Option<bool>)>(row).map_err(unexpected)?;
            let meta = read_meta(connection).await?;
            let identity = ledger_head::identity(&meta, Vec::new());
            let info = LedgerInfo {
                ledger_id: identity.ledger_id,
                first: first.map(Seq),
                first_creates_table: creates.unwrap_or(false),
                last: last.map(Seq),
                low_water: identity.low_water,
            };
            Ok((info, true))
        })
        .await
    }

    async fn settle(&mut self, after: Seq, up_to: Seq) -> Result<(), SourceError> {
        let sql = self.ledger.fill(SETTLED).replace("{after}", &after.to_string());
        match self.rows::<i64>(sql.replace("{up_to}", &up_to.to_string())).await {
            // Older servers want more than the right to read. Then waiting for a while has to do.
            Ok(_) | Err(SourceError::Failed(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn replication(&mut self) -> Option<Replication> {
        let asked = self.ask(async |connection| Ok((replication(connection).await, true))).await;
        // If the server is away, the next query reports it.
        asked.ok().flatten()
    }

    async fn read(&mut self, after: Seq, up_to: Option<Seq>, limit: BlockLimit) -> Result<Block, SourceError> {
        let mut block = Block::default();
        let mut bytes = 0;
        let last = up_to.unwrap_or(Seq(i64::MAX));
        while block.rows.len() < limit.rows && bytes <= limit.bytes {
            let after = block.rows.last().map_or(after, |row| row.seq);
            match self.read_more(&mut block, &mut bytes, after, last, limit).await {
                Ok(true) => {}
                Ok(false) => {
                    block.at_end = up_to.is_none();
                    break;
                }
                Err(SourceError::BadRow { .. }) if !block.rows.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(block)
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            close(connection).await;
        }
    }
}

/// How far a replica is, `None` for a server that is no replica. If the user may not ask for that, a read-only server
/// counts as a replica.
async fn replication(connection: &mut Conn) -> Option<Replication> {
    // MySQL from 8.4 on knows only the new words, other servers only the old ones.
    let mut status = connection.query::<Row, _>("SHOW SLAVE STATUS").await;
    if status.is_err() {
        status = connection.query::<Row, _>("SHOW REPLICA STATUS").await;
    }
    if let Some(row) = status.ok().and_then(|rows| rows.into_iter().next()) {
        let get = |names: [&str; 2]| names.iter().find_map(|name| row.get_opt::<Option<String>, _>(*name)?.ok()?);
        let runs = |names| get(names).is_some_and(|state| state == "Yes");
        let is_running =
            runs(["Slave_IO_Running", "Replica_IO_Running"]) && runs(["Slave_SQL_Running", "Replica_SQL_Running"]);
        let behind = get(["Seconds_Behind_Master", "Seconds_Behind_Source"]);
        return Some(match behind.as_deref() {
            _ if !is_running => Replication::Stopped,
            Some("0") => Replication::CaughtUp,
            _ => Replication::Behind,
        });
    }
    let read_only: Option<u64> = connection.query_first("SELECT @@global.read_only").await.ok().flatten();
    read_only.is_some_and(|read_only| read_only != 0).then_some(Replication::Unknown)
}

/// Connects. If the server refuses the password, tries the one that the password file now holds.
async fn connect(login: &mut Login) -> Result<Conn, mysql_async::Error> {
    match Conn::new(login.options().clone()).await {
        Err(error) => {
            *login = login.renewed(error).await?;
            Conn::new(login.options().clone()).await
        }
        connected => connected,
    }
}

async fn close(connection: Conn) {
    // The socket is closed in any case.
    let _ = tokio::time::timeout(GOODBYE_TIMEOUT, connection.disconnect()).await;
}

/// Reads our rows of `ctlstore_meta`. There are none on a ctldb that only the original has written.
async fn read_meta(connection: &mut Conn) -> Result<Vec<(String, String)>, SourceError> {
    match connection.query::<Row, _>(ledger_head::META).await {
        Ok(rows) => rows.into_iter().map(|row| read_row(row).map_err(unexpected)).collect(),
        Err(mysql_async::Error::Server(error)) if error.code == NO_SUCH_TABLE => Ok(Vec::new()),
        Err(error) => Err(failed(error, "ctlstore_meta")),
    }
}

fn ledger_row(row: Row) -> Result<LedgerRow, SourceError> {
    let (seq, leader_ts, statement) = read_row::<(i64, Value, Vec<u8>)>(row).map_err(unexpected)?;
    let bad = |reason: &str| SourceError::BadRow { seq: Seq(seq), reason: reason.to_owned() };
    let leader_ts = match leader_ts {
        Value::NULL => None,
        Value::Bytes(text) => {
            let time = std::str::from_utf8(&text).ok().and_then(Timestamp::parse);
            Some(time.ok_or_else(|| bad("leader_ts is not a time"))?)
        }
        _ => return Err(bad("leader_ts is not a time")),
    };
    let statement = String::from_utf8(statement).map_err(|_| bad("statement is not utf-8"))?;
    Ok(LedgerRow { seq: Seq(seq), leader_ts, statement })
}

fn no_connection(options: &Opts, error: mysql_async::Error) -> SourceError {
    // The message alone. The variant shows the kind of error.
    match error::no_connection(options, error) {
        CtldbError::Unavailable(reason) => SourceError::Unavailable(reason),
        other => SourceError::Failed(other.to_string()),
    }
}

fn failed(error: mysql_async::Error, ledger: &str) -> SourceError {
    let error = SqlError::from(error);
    if error.code() == Some(NO_SUCH_TABLE) {
        return SourceError::NoLedger(ledger.to_owned());
    }
    match CtldbError::from(error) {
        CtldbError::Unavailable(reason) | CtldbError::Contention(reason) => SourceError::Unavailable(reason),
        // For a read this means a missing right or an error of the server's disk.
        CtldbError::Failed(reason) | CtldbError::NotWritable(reason) => SourceError::Failed(reason),
        other => SourceError::Failed(other.to_string()),
    }
}

fn unexpected(error: SqlError) -> SourceError {
    match error {
        SqlError::Server { message, .. } | SqlError::Broken(message) => SourceError::Failed(message),
    }
}
