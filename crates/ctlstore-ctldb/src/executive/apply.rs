//! Writes a group of mutation requests in one transaction. Entry point: [`Executive::mutate`]. `admission`
//! judges the requests; only refusals of the ctldb itself come up here.
//!
//! 1. Each request is judged before anything of it is written.
//! 2. All changes of the group are sent with the commit, and no answer is awaited before it. The ctldb
//!    hardly ever refuses one of them.
//! 3. If it does, nothing is written. The group runs again step by step: each request has a savepoint,
//!    and a refused one is rolled back alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::ctldb::{
    ColumnCollation, Ctldb, CtldbError, CtldbOperation, ReadSet, RowChange, Session, StoredTable, WriterMark,
};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{FieldValue, WriterName};
use ctlstore_core::sql;

use super::admission::{self, Admission, MutationPlan, OverWarnSize};
use super::error::{ExecutiveError, Refusal};
use super::mutation::MutationRequest;
use super::request::{Executive, WriteRules};

/// A request that is written and committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRequest {
    /// The last seq that the request wrote.
    pub seq: Seq,
    pub rows: usize,
    /// The number of ledger rows, with markers.
    pub statements: usize,
    pub over_warn: Vec<OverWarnSize>,
}

impl<C: Ctldb> Executive<C> {
    /// Commits the requests together, in order. Each has its own answer: a refused request writes nothing and
    /// does not change the others. An error is one for all of them.
    pub async fn mutate(
        &self,
        requests: Vec<Arc<MutationRequest>>,
        deadline: Instant,
    ) -> Result<Vec<Result<WrittenRequest, Refusal>>, CtldbError> {
        let group = |requests, step_by_step| MutationGroup { requests, rules: Arc::clone(&self.rules), step_by_step };
        match self.ctldb.write(group(requests.clone(), false), deadline).await {
            // The refusal belongs to one of the requests, but it is unknown to which.
            Err(CtldbError::Refused(_)) => self.ctldb.write(group(requests, true), deadline).await,
            outcome => outcome,
        }
    }
}

struct MutationGroup {
    requests: Vec<Arc<MutationRequest>>,
    rules: Arc<WriteRules>,
    /// Whether each write awaits its answer, so that a refusal belongs to one request.
    step_by_step: bool,
}

type RequestOutcome = Result<WrittenRequest, Refusal>;

/// Admitted requests that are not written yet, each with its index in the group.
type Unwritten = Vec<(usize, MutationPlan)>;

impl CtldbOperation for MutationGroup {
    type Output = Vec<RequestOutcome>;

    fn read_set(&self) -> ReadSet<'_> {
        admission::read_set(&self.rules, &self.requests)
    }

    async fn run<S: Session>(&self, session: &mut S) -> Result<Vec<RequestOutcome>, CtldbError> {
        let mut admission = Admission::begin(&self.rules, session).await?;
        let mut outcomes = BTreeMap::new();
        let mut unwritten = Unwritten::new();
        let mut step_by_step = self.step_by_step;
        for (index, request) in self.requests.iter().enumerate() {
            match refused(admission.plan(session, request).await)? {
                Err(refusal) => drop(outcomes.insert(index, Err(refusal))),
                Ok(plan) if plan.may_merge() => {
                    // Its keys are compared with the stored ones, so the earlier requests are written first.
                    step_by_step = true;
                    self.write_together(session, &mut admission, &mut unwritten, &mut outcomes).await?;
                    outcomes.insert(index, self.write_alone(session, &mut admission, request).await?);
                }
                Ok(plan) => {
                    admission.count_as_written(&plan);
                    unwritten.push((index, plan));
                }
            }
        }
        if step_by_step {
            self.write_together(session, &mut admission, &mut unwritten, &mut outcomes).await?;
        } else if !unwritten.is_empty() {
            let (indexes, mut plans): (Vec<usize>, Vec<MutationPlan>) = unwritten.into_iter().unzip();
            session.apply_unanswered(&changes_of(&mut plans)).await?;
            let written = record(session, admission.bucket(), &mut plans).await?;
            outcomes.extend(indexes.into_iter().zip(written.into_iter().map(Ok)));
        }
        Ok(outcomes.into_values().collect())
    }
}

impl MutationGroup {
    /// Writes the admitted requests in few round trips. If the ctldb refuses one of them, each request since
    /// the first of them is judged and written again alone. That includes requests that were refused: the
    /// reason may have been a request that is now not written.
    async fn write_together<S: Session>(
        &self,
        session: &mut S,
        admission: &mut Admission<'_>,
        unwritten: &mut Unwritten,
        outcomes: &mut BTreeMap<usize, RequestOutcome>,
    ) -> Result<(), CtldbError> {
        let (indexes, mut plans): (Vec<usize>, Vec<MutationPlan>) = std::mem::take(unwritten).into_iter().unzip();
        if plans.is_empty() {
            return Ok(());
        }
        let since = indexes[0]..outcomes.len() + indexes.len();
        session.savepoint().await?;
        let bucket = admission.bucket();
        match write(session, bucket, &mut plans).await {
            Ok(written) => outcomes.extend(indexes.into_iter().zip(written.into_iter().map(Ok))),
            Err(CtldbError::Refused(_)) => {
                session.rollback_to_savepoint().await?;
                admission.forget();
                for index in since {
                    outcomes.insert(index, self.write_alone(session, admission, &self.requests[index]).await?);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Judges a request by the present state, and writes it. If it is refused, nothing of it stays.
    async fn write_alone<S: Session>(
        &self,
        session: &mut S,
        admission: &mut Admission<'_>,
        request: &MutationRequest,
    ) -> Result<RequestOutcome, CtldbError> {
        let mut plan = match refused(admission.plan(session, request).await)? {
            Ok(plan) => plan,
            Err(refusal) => return Ok(Err(refusal)),
        };
        session.savepoint().await?;
        let bucket = admission.bucket();
        let written = if plan.may_merge() {
            write_comparing_keys(session, bucket, &mut plan).await
        } else {
            write(session, bucket, std::slice::from_mut(&mut plan)).await.map_err(ExecutiveError::from)
        };
        match refused(written.map(|mut written| written.remove(0)))? {
            Ok(written) => {
                admission.count_as_written(&plan);
                Ok(Ok(written))
            }
            Err(refusal) => {
                session.rollback_to_savepoint().await?;
                Ok(Err(refusal))
            }
        }
    }
}

/// Separates refusals of the client's request from errors that end the transaction. Data that the ctldb
/// can't hold is a refusal.
fn refused<T>(outcome: Result<T, ExecutiveError>) -> Result<Result<T, Refusal>, CtldbError> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(ExecutiveError::Refused(refusal)) => Ok(Err(refusal)),
        Err(ExecutiveError::Ctldb(CtldbError::Refused(reason))) => Ok(Err(Refusal::ByCtldb(reason))),
        Err(ExecutiveError::Ctldb(error)) => Err(error),
        Err(other) => Err(CtldbError::Failed(other.to_string())),
    }
}

/// Writes the rows, cookies, usage and ledger rows of all plans.
async fn write<S: Session>(
    session: &mut S,
    bucket: i64,
    plans: &mut [MutationPlan],
) -> Result<Vec<WrittenRequest>, CtldbError> {
    session.apply(&changes_of(plans)).await?;
    record(session, bucket, plans).await
}

fn changes_of(plans: &mut [MutationPlan]) -> Vec<RowChange> {
    plans.iter_mut().flat_map(|plan| std::mem::take(&mut plan.changes)).collect()
}

/// Writes the cookies, usage and ledger rows of all plans. Their rows are written already.
async fn record<S: Session>(
    session: &mut S,
    bucket: i64,
    plans: &mut [MutationPlan],
) -> Result<Vec<WrittenRequest>, CtldbError> {
    let mut writers: BTreeMap<&WriterName, (&[u8], i64)> = BTreeMap::new();
    for plan in plans.iter() {
        let (cookie, rows) = writers.entry(&plan.writer).or_default();
        *cookie = &plan.cookie;
        *rows += plan.usage();
    }
    let marks = writers.into_iter().map(|(writer, (cookie, rows))| WriterMark { writer, cookie, rows });
    session.mark_writers(bucket, &marks.collect::<Vec<_>>()).await?;
    let counts: Vec<usize> = plans.iter().map(|plan| plan.statements.len()).collect();
    let statements: Vec<String> = plans.iter_mut().flat_map(|plan| std::mem::take(&mut plan.statements)).collect();
    let last = session.append(&statements).await?;
    // The seqs are consecutive, so each plan's last seq follows from the last one of all.
    let mut seq = last.0 - statements.len() as i64;
    let written = plans.iter_mut().zip(counts).map(|(plan, statements)| {
        seq += statements as i64;
        let over_warn = std::mem::take(&mut plan.over_warn);
        WrittenRequest { seq: Seq(seq), rows: plan.rows, statements, over_warn }
    });
    Ok(written.collect())
}

/// Writes a plan with tables in which different keys may be equal. Before each such row the rows before it
/// are written, and its key is compared with the stored one.
async fn write_comparing_keys<S: Session>(
    session: &mut S,
    bucket: i64,
    plan: &mut MutationPlan,
) -> Result<Vec<WrittenRequest>, ExecutiveError> {
    let mut from = 0;
    for (index, change) in plan.changes.iter().enumerate() {
        let table = change.table();
        if table.collation != ColumnCollation::Merging {
            continue;
        }
        if from < index {
            session.apply(&plan.changes[from..index]).await?;
            from = index;
        }
        let key = key_of(change);
        if let Some(stored) = session.stored_key(table, &key).await?
            && !same_key(&stored, &key)
        {
            return Err(merged(table, &key, &stored).into());
        }
    }
    session.apply(&plan.changes[from..]).await?;
    Ok(record(session, bucket, std::slice::from_mut(plan)).await?)
}

/// The key's values, in the table's column order.
fn key_of(change: &RowChange) -> Vec<FieldValue> {
    match change {
        RowChange::Upsert { table, values } => {
            table.schema.key_in_column_order().into_iter().map(|index| values[index].clone()).collect()
        }
        RowChange::Delete { key, .. } => key.clone(),
    }
}

/// Whether two keys are equal, bytewise. A boolean is stored as an integer.
fn same_key(a: &[FieldValue], b: &[FieldValue]) -> bool {
    fn stored(value: &FieldValue) -> FieldValue {
        match value {
            FieldValue::Boolean(boolean) => FieldValue::Integer(i64::from(*boolean)),
            other => other.clone(),
        }
    }
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| stored(a) == stored(b))
}

fn merged(table: &StoredTable, given: &[FieldValue], stored: &[FieldValue]) -> Refusal {
    let shown = |key: &[FieldValue]| {
        let mut out = String::new();
        for (i, value) in key.iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "(" });
            sql::push_literal(&mut out, value);
        }
        out + ")"
    };
    Refusal::MergedKeys { table: table.schema.table().clone(), given: shown(given), stored: shown(stored) }
}
