//! [`AnyCtldb`] is a ctldb on MySQL or SQLite, [`AnySource`] a ledger source on either. The kind follows
//! from the [`Location`]. The module only passes calls on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ctlstore_core::ledger::{Block, BlockLimit, HeadRow, LedgerInfo, LedgerSource, Replication, Seq, SourceError};
use ctlstore_core::schema::Timestamp;

use super::error::CtldbError;
use super::mysql::{self, MysqlCtldb, MysqlSource, ServerAddress};
use super::own_tables::LedgerTable;
use super::session::{Counters, Ctldb, CtldbOperation, LedgerIdentity, TableFault};
use super::sqlite::{self, SqliteCtldb, SqliteSource};

/// Where a ctldb is. It may hold a password, so it must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of this host.
    Sqlite(PathBuf),
    /// A server of the MySQL family.
    Mysql(ServerAddress),
}

impl Location {
    /// Reads `sqlite:PATH` or `mysql://…`. Errors don't repeat the URL.
    pub fn parse(url: &str) -> Result<Self, CtldbError> {
        match url.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(Path::new(path).to_owned())),
            Some(("mysql", _)) => Ok(Self::Mysql(ServerAddress::new(url))),
            _ => Err(CtldbError::Failed("ctldb.url is neither sqlite:PATH nor mysql://…".to_owned())),
        }
    }
}

/// The statements that make a ctldb, as an executive runs them if a table is missing. They are for a MySQL
/// server whose collation for keys is given, or without one for SQLite.
pub fn schema_sql(ledger: &LedgerTable, mysql_collation: Option<&str>) -> String {
    match mysql_collation {
        Some(collation) => mysql::schema_sql(ledger, collation),
        None => sqlite::schema_sql(ledger),
    }
}

/// A ctldb of either kind.
#[derive(Clone)]
pub enum AnyCtldb {
    Sqlite(SqliteCtldb),
    Mysql(MysqlCtldb),
}

impl AnyCtldb {
    /// Claims an SQLite file for this process. Does not connect to a server yet.
    pub fn open(location: &Location, ledger: LedgerTable) -> Result<Self, CtldbError> {
        Ok(match location {
            Location::Sqlite(path) => Self::Sqlite(SqliteCtldb::open(path, ledger)?),
            Location::Mysql(address) => Self::Mysql(MysqlCtldb::new(address, ledger)?),
        })
    }
}

impl Ctldb for AnyCtldb {
    async fn prepare(&self) -> Result<(), CtldbError> {
        match self {
            Self::Sqlite(ctldb) => ctldb.prepare().await,
            Self::Mysql(ctldb) => ctldb.prepare().await,
        }
    }

    async fn write<O: CtldbOperation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        match self {
            Self::Sqlite(ctldb) => ctldb.write(operation, deadline).await,
            Self::Mysql(ctldb) => ctldb.write(operation, deadline).await,
        }
    }

    async fn read<O: CtldbOperation>(&self, operation: O, deadline: Instant) -> Result<O::Output, CtldbError> {
        match self {
            Self::Sqlite(ctldb) => ctldb.read(operation, deadline).await,
            Self::Mysql(ctldb) => ctldb.read(operation, deadline).await,
        }
    }

    async fn check_writable(&self, after_failure: bool, deadline: Instant) -> Result<(), CtldbError> {
        match self {
            Self::Sqlite(ctldb) => ctldb.check_writable(after_failure, deadline).await,
            Self::Mysql(ctldb) => ctldb.check_writable(after_failure, deadline).await,
        }
    }

    async fn refresh_table_sizes(&self) -> Result<(), CtldbError> {
        match self {
            Self::Sqlite(ctldb) => ctldb.refresh_table_sizes().await,
            Self::Mysql(ctldb) => ctldb.refresh_table_sizes().await,
        }
    }

    fn counters(&self) -> Counters {
        match self {
            Self::Sqlite(ctldb) => ctldb.counters(),
            Self::Mysql(ctldb) => ctldb.counters(),
        }
    }

    async fn close(&self) {
        match self {
            Self::Sqlite(ctldb) => ctldb.close().await,
            Self::Mysql(ctldb) => ctldb.close().await,
        }
    }
}

/// The ledger of a ctldb of either kind.
pub enum AnySource {
    Sqlite(SqliteSource),
    Mysql(Box<MysqlSource>),
}

impl AnySource {
    /// Each query takes at most `timeout`. Does not connect yet.
    pub fn new(location: &Location, ledger: LedgerTable, timeout: Duration) -> Result<Self, CtldbError> {
        Ok(match location {
            Location::Sqlite(path) => Self::Sqlite(SqliteSource::new(path, ledger, timeout)),
            Location::Mysql(address) => Self::Mysql(Box::new(MysqlSource::new(address, ledger, timeout)?)),
        })
    }

    /// The present time by the ctldb's clock.
    pub async fn now(&mut self) -> Result<Timestamp, SourceError> {
        match self {
            Self::Sqlite(source) => Ok(source.now()),
            Self::Mysql(source) => source.now().await,
        }
    }

    /// The ledger's identity.
    pub async fn identity(&mut self) -> Result<LedgerIdentity, SourceError> {
        match self {
            Self::Sqlite(source) => source.identity().await,
            Self::Mysql(source) => source.identity().await,
        }
    }

    /// The first `most` rows after `after`, or of the whole ledger, without their statements.
    pub async fn heads(&mut self, after: Option<Seq>, most: usize) -> Result<Vec<HeadRow>, SourceError> {
        match self {
            Self::Sqlite(source) => source.heads(after, most).await,
            Self::Mysql(source) => source.heads(after, most).await,
        }
    }

    /// The tables that an operator changed by hand. Uses a connection of its own.
    pub async fn table_faults(&mut self) -> Result<Vec<TableFault>, SourceError> {
        match self {
            Self::Sqlite(source) => source.table_faults().await,
            Self::Mysql(source) => source.table_faults().await.map_err(|e| SourceError::Failed(e.to_string())),
        }
    }
}

impl LedgerSource for AnySource {
    async fn describe(&mut self) -> Result<LedgerInfo, SourceError> {
        match self {
            Self::Sqlite(source) => source.describe().await,
            Self::Mysql(source) => source.describe().await,
        }
    }

    async fn read(&mut self, after: Seq, up_to: Option<Seq>, limit: BlockLimit) -> Result<Block, SourceError> {
        match self {
            Self::Sqlite(source) => source.read(after, up_to, limit).await,
            Self::Mysql(source) => source.read(after, up_to, limit).await,
        }
    }

    async fn settle(&mut self, after: Seq, up_to: Seq) -> Result<(), SourceError> {
        match self {
            Self::Sqlite(source) => source.settle(after, up_to).await,
            Self::Mysql(source) => source.settle(after, up_to).await,
        }
    }

    async fn replication(&mut self) -> Option<Replication> {
        match self {
            Self::Sqlite(source) => source.replication().await,
            Self::Mysql(source) => source.replication().await,
        }
    }

    async fn close(&mut self) {
        match self {
            Self::Sqlite(source) => source.close().await,
            Self::Mysql(source) => source.close().await,
        }
    }
}
