//! The requests on limits of tables and writers: list, set and delete. Routes for them are in
//! `http/executive/limits.rs` of the node. `admission` enforces the limits.

use std::time::Instant;

use crate::ctldb::{Ctldb, CtldbError, CtldbOperation, Session, TableLimit};
use ctlstore_core::schema::{TableRef, WriterName};

use super::error::{ExecutiveError, Refusal};
use super::rate_limit::RateLimit;
use super::request::{Executive, OperationRequest, Request, RequestAnswer};

/// A table's own limit. The names are as stored; another program may have written them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTableLimit {
    pub family: String,
    pub table: String,
    pub limit: TableLimit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableLimitList {
    /// The limit of tables without a limit of their own.
    pub global: TableLimit,
    pub tables: Vec<NamedTableLimit>,
}

/// A writer's own limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedWriterLimit {
    pub writer: String,
    pub limit: RateLimit,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterLimitList {
    /// The limit of writers without a limit of their own.
    pub global: RateLimit,
    pub writers: Vec<NamedWriterLimit>,
}

impl RequestAnswer for TableLimitList {}
impl RequestAnswer for WriterLimitList {}

/// Reads the size limits of all tables.
#[derive(Debug)]
pub struct ListTableLimits;

impl Request for ListTableLimits {
    type Answer = TableLimitList;
    const IS_WRITE: bool = false;

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<TableLimitList, ExecutiveError> {
        let stored = executive.read(self, deadline).await?;
        let named = |(family, table, limit)| NamedTableLimit { family, table, limit };
        Ok(TableLimitList { global: executive.rules.table_limit, tables: stored.into_iter().map(named).collect() })
    }
}

impl CtldbOperation for ListTableLimits {
    type Output = Result<Vec<(String, String, TableLimit)>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        session.table_limits().await.map(Ok)
    }
}

/// Reads the rate limits of all writers.
#[derive(Debug)]
pub struct ListWriterLimits;

impl Request for ListWriterLimits {
    type Answer = WriterLimitList;
    const IS_WRITE: bool = false;

    async fn execute<C: Ctldb>(
        self,
        executive: &Executive<C>,
        deadline: Instant,
    ) -> Result<WriterLimitList, ExecutiveError> {
        let stored = executive.read(self, deadline).await?;
        let named = |(writer, rows)| NamedWriterLimit { writer, limit: RateLimit::per_minute(rows) };
        Ok(WriterLimitList { global: executive.rules.writer_limit, writers: stored.into_iter().map(named).collect() })
    }
}

impl CtldbOperation for ListWriterLimits {
    type Output = Result<Vec<(String, i64)>, Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        session.writer_limits().await.map(Ok)
    }
}

/// Gives a table a size limit of its own.
#[derive(Debug)]
pub struct SetTableLimit {
    table: TableRef,
    limit: TableLimit,
}

impl SetTableLimit {
    pub fn new(table: TableRef, limit: TableLimit) -> Result<Self, Refusal> {
        for (name, bytes) in [("max-size", limit.max_bytes), ("warn-size", limit.warn_bytes)] {
            if bytes < 0 {
                return Err(Refusal::BadLimit(format!("{name} {bytes} is negative")));
            }
        }
        Ok(Self { table, limit })
    }
}

impl OperationRequest for SetTableLimit {
    type Reply = ();
}

impl CtldbOperation for SetTableLimit {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        match session.table(&self.table).await {
            Ok(None) => return Ok(Err(Refusal::NoTable(self.table.clone()))),
            // A limit may be set: it is no row of the table.
            Ok(Some(_)) | Err(CtldbError::ChangedByHand { .. }) => {}
            Err(error) => return Err(error),
        }
        session.set_table_limit(&self.table, self.limit).await.map(Ok)
    }
}

/// Deletes a table's own size limit.
#[derive(Debug)]
pub struct DeleteTableLimit(pub TableRef);

impl OperationRequest for DeleteTableLimit {
    type Reply = ();
}

impl CtldbOperation for DeleteTableLimit {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let deleted = session.delete_table_limit(&self.0).await?;
        Ok(if deleted { Ok(()) } else { Err(Refusal::NoTableLimit(self.0.clone())) })
    }
}

/// Gives a writer a rate limit of its own. It is stored as rows per minute.
#[derive(Debug)]
pub struct SetWriterLimit {
    writer: WriterName,
    rows_per_minute: i64,
}

impl SetWriterLimit {
    pub fn new(writer: WriterName, limit: RateLimit) -> Result<Self, Refusal> {
        Ok(Self { writer, rows_per_minute: limit.rows_per_minute()? })
    }
}

impl OperationRequest for SetWriterLimit {
    type Reply = ();
}

impl CtldbOperation for SetWriterLimit {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        if session.writer(&self.writer).await?.is_none() {
            return Ok(Err(Refusal::NoWriter(self.writer.clone())));
        }
        session.set_writer_limit(&self.writer, self.rows_per_minute).await.map(Ok)
    }
}

/// Deletes a writer's own rate limit.
#[derive(Debug)]
pub struct DeleteWriterLimit(pub WriterName);

impl OperationRequest for DeleteWriterLimit {
    type Reply = ();
}

impl CtldbOperation for DeleteWriterLimit {
    type Output = Result<(), Refusal>;

    async fn run<S: Session>(&self, session: &mut S) -> Result<Self::Output, CtldbError> {
        let deleted = session.delete_writer_limit(&self.0).await?;
        Ok(if deleted { Ok(()) } else { Err(Refusal::NoWriterLimit(self.0.to_string())) })
    }
}
