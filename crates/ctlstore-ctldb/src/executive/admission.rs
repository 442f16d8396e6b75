//! Decides whether a mutation request is admitted, before anything is written: credentials, rate limit,
//! tables and their sizes, cookie, values. Entry point: [`Admission::plan`]. It writes nothing; `apply`
//! writes the plan.
//!
//! [`Admission`] keeps what was read for a group and what its requests will write. So each request is
//! judged as if those before it were committed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::ctldb::{ColumnCollation, CtldbError, ReadSet, RowChange, Session, StoredTable, TableLimit, WriterRow};
use ctlstore_core::schema::{TableRef, WriterName};
use ctlstore_core::sql;

use super::error::{ExecutiveError, Refusal};
use super::mutation::MutationRequest;
use super::rate_limit::Buckets;
use super::request::WriteRules;

/// The most mutations whose tables are in the read set. The tables of the others are read one by one.
const MAX_EXPECTED: usize = 256;

/// The writers and tables that these requests need.
pub(super) fn read_set<'a>(rules: &WriteRules, requests: &'a [Arc<MutationRequest>]) -> ReadSet<'a> {
    let tables = requests.iter().flat_map(|request| request.mutations.iter().map(|mutation| &mutation.table));
    ReadSet {
        writers: requests.iter().map(|request| &request.credentials.writer).collect(),
        usage_period: Buckets::of(rules.writer_limit).period_seconds(),
        tables: tables.take(MAX_EXPECTED).collect(),
    }
}

/// A table that was written to and is over its warning size, but not over its maximum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverWarnSize {
    pub table: TableRef,
    pub bytes: u64,
    pub warn_bytes: i64,
}

/// An admitted request: what it will write.
#[derive(Debug)]
pub(super) struct MutationPlan {
    pub writer: WriterName,
    pub cookie: Vec<u8>,
    pub rows: usize,
    /// Taken out to be written.
    pub changes: Vec<RowChange>,
    /// The ledger's rows with their markers. Taken out to be written.
    pub statements: Vec<String>,
    pub over_warn: Vec<OverWarnSize>,
}

impl MutationPlan {
    /// The rows that the plan adds to its writer's usage.
    pub(super) fn usage(&self) -> i64 {
        i64::try_from(self.rows).unwrap_or(i64::MAX)
    }

    /// Whether two keys that an LDB tells apart may be equal in the ctldb, in one of the tables.
    pub(super) fn may_merge(&self) -> bool {
        self.changes.iter().any(|change| change.table().collation == ColumnCollation::Merging)
    }
}

struct KnownWriter {
    row: WriterRow,
    used: i64,
}

struct KnownTable {
    stored: Arc<StoredTable>,
    size: u64,
    limit: TableLimit,
}

/// The writers and tables of one transaction. Each is read once, and then kept as the admitted requests
/// will leave it.
pub(super) struct Admission<'a> {
    rules: &'a WriteRules,
    buckets: Buckets,
    now: i64,
    writers: HashMap<WriterName, KnownWriter>,
    tables: HashMap<TableRef, KnownTable>,
}

impl<'a> Admission<'a> {
    pub(super) async fn begin<S: Session>(rules: &'a WriteRules, session: &mut S) -> Result<Admission<'a>, CtldbError> {
        let now = session.now().await?;
        let buckets = Buckets::of(rules.writer_limit);
        Ok(Self { rules, buckets, now, writers: HashMap::new(), tables: HashMap::new() })
    }

    /// The bucket in which this transaction's rows count.
    pub(super) fn bucket(&self) -> i64 {
        self.buckets.bucket_at(self.now)
    }

    /// Forgets what was read and what the admitted requests would have written.
    pub(super) fn forget(&mut self) {
        self.writers.clear();
        self.tables.clear();
    }

    /// Judges a request. The protocol demands this order: limits and tables are told only to a client with
    /// the right credentials.
    pub(super) async fn plan<S: Session>(
        &mut self,
        session: &mut S,
        request: &MutationRequest,
    ) -> Result<MutationPlan, ExecutiveError> {
        let rows = i64::try_from(request.mutations.len()).unwrap_or(i64::MAX);
        self.check_writer(session, request, rows).await?;
        let mut over_warn = Vec::new();
        for mutation in &request.mutations {
            let table = self.table(session, &mutation.table).await?;
            over_warn.extend(check_size(table)?);
        }
        over_warn.dedup();
        self.check_cookie(request)?;
        let mut changes = Vec::with_capacity(request.mutations.len());
        let mut statements = Vec::with_capacity(request.mutations.len() + 2);
        for mutation in &request.mutations {
            let table = self.table(session, &mutation.table).await?;
            let (change, statement) = mutation.check(&table.stored)?;
            changes.push(change);
            statements.push(statement);
        }
        if statements.len() > 1 {
            statements.insert(0, sql::BEGIN.to_owned());
            statements.push(sql::COMMIT.to_owned());
        }
        let writer = request.credentials.writer.clone();
        Ok(MutationPlan { writer, cookie: request.cookie.clone(), rows: changes.len(), changes, statements, over_warn })
    }

    /// Counts a plan as written: its cookie and its usage.
    pub(super) fn count_as_written(&mut self, plan: &MutationPlan) {
        if let Some(writer) = self.writers.get_mut(&plan.writer) {
            writer.row.cookie.clone_from(&plan.cookie);
            writer.used = writer.used.saturating_add(plan.usage());
        }
    }

    async fn check_writer<S: Session>(
        &mut self,
        session: &mut S,
        request: &MutationRequest,
        rows: i64,
    ) -> Result<(), ExecutiveError> {
        let credentials = &request.credentials;
        let bucket = self.bucket();
        if !self.writers.contains_key(&credentials.writer) {
            let row = credentials.check(session).await?.ok_or(Refusal::Unauthorized)?;
            let used = session.usage(&credentials.writer, bucket).await?;
            self.writers.insert(credentials.writer.clone(), KnownWriter { row, used });
        }
        let writer = &self.writers[&credentials.writer];
        if !credentials.secret.opens(&writer.row) {
            return Err(Refusal::Unauthorized.into());
        }
        let own = writer.row.rows_per_minute.map(|rows| self.buckets.rows(rows));
        let limit = own.unwrap_or(self.rules.writer_limit.amount);
        if limit <= 0 {
            return Err(Refusal::WriterStopped { writer: credentials.writer.clone(), limit }.into());
        }
        if rows > limit {
            return Err(Refusal::NeverWithinLimit {
                writer: credentials.writer.clone(),
                rows,
                limit,
                period_seconds: self.buckets.period_seconds(),
            }
            .into());
        }
        if writer.used.saturating_add(rows) > limit {
            return Err(Refusal::RateLimited {
                writer: credentials.writer.clone(),
                limit,
                period_seconds: self.buckets.period_seconds(),
                retry_after_seconds: self.buckets.seconds_left(self.now),
            }
            .into());
        }
        Ok(())
    }

    fn check_cookie(&self, request: &MutationRequest) -> Result<(), Refusal> {
        let stored = self.writers.get(&request.credentials.writer).map(|writer| &writer.row.cookie);
        match (&request.check_cookie, stored) {
            (Some(wanted), Some(stored)) if wanted != stored => Err(Refusal::CookieMismatch),
            _ => Ok(()),
        }
    }

    async fn table<S: Session>(&mut self, session: &mut S, name: &TableRef) -> Result<&KnownTable, ExecutiveError> {
        match self.tables.entry(name.clone()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(vacant) => {
                let stored = match session.table(name).await {
                    // Only this request is refused, not its group.
                    Err(CtldbError::ChangedByHand { table, reason }) => {
                        return Err(Refusal::ChangedByHand { table, reason }.into());
                    }
                    stored => stored?.ok_or_else(|| Refusal::NoTable(name.clone()))?,
                };
                let size = session.table_size(name).await?.unwrap_or(0);
                let limit = session.table_limit(name).await?.unwrap_or(self.rules.table_limit);
                Ok(vacant.insert(KnownTable { stored, size, limit }))
            }
        }
    }
}

fn check_size(table: &KnownTable) -> Result<Option<OverWarnSize>, Refusal> {
    let over = |limit: i64| u64::try_from(limit).is_ok_and(|limit| table.size > limit);
    let name = table.stored.schema.table().clone();
    if over(table.limit.max_bytes) {
        return Err(Refusal::TableFull { table: name, bytes: table.size, max_bytes: table.limit.max_bytes });
    }
    let warn_bytes = table.limit.warn_bytes;
    Ok(over(warn_bytes).then_some(OverWarnSize { table: name, bytes: table.size, warn_bytes }))
}
