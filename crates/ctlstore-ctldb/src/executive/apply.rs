//! A group of mutation requests as one transaction. What a request is refused for
//! is found before it has written anything; only what the ctldb itself refuses is
//! found while writing. That hardly ever happens, so a group is first written without
//! asking: all that it changes goes with the commit. Where the ctldb refuses some of that,
//! nothing is written, and the group is done again step by step, with savepoints to go
//! back to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ctldb::{ColumnCollation, CtldbError, Operation, ReadSet, RowChange, Session, StoredTable, WriterMark};
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::{Value, WriterName};
use ctlstore_core::sql;

use super::Options;
use super::admission::{self, Admission, MutationPlan, OverWarnSize};
use super::error::{ExecutiveError, Refusal};
use super::mutation::MutationRequest;

/// A request that is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The last seq that the request wrote.
    pub seq: Seq,
    pub rows: usize,
    /// Ledger rows, markers included.
    pub statements: usize,
    pub over_warn: Vec<OverWarnSize>,
}

pub(super) struct MutationGroup {
    pub requests: Vec<Arc<MutationRequest>>,
    pub options: Arc<Options>,
    /// Whether what is written is asked for at once, so that a refusal can be told to be
    /// one request's.
    pub step_by_step: bool,
}

type Outcome = Result<Written, Refusal>;

/// Requests that nothing speaks against and that are not written yet, each with
/// its place in the group.
type Batch = Vec<(usize, MutationPlan)>;

impl Operation for MutationGroup {
    type Output = Vec<Outcome>;

    fn read_set(&self) -> ReadSet<'_> {
        admission::read_set(&self.options, &self.requests)
    }

    async fn run<S: Session>(&self, session: &mut S) -> Result<Vec<Outcome>, CtldbError> {
        let mut known = Admission::begin(&self.options, session).await?;
        let mut outcomes = BTreeMap::new();
        let mut batch = Batch::new();
        let mut step_by_step = self.step_by_step;
        for (index, request) in self.requests.iter().enumerate() {
            match refused(known.plan(session, request).await)? {
                Err(refusal) => drop(outcomes.insert(index, Err(refusal))),
                Ok(plan) if plan.may_merge() => {
                    // Its keys are compared with what is stored, so that must be all there is.
                    step_by_step = true;
                    self.write_batch(session, &mut known, &mut batch, &mut outcomes).await?;
                    outcomes.insert(index, self.write_alone(session, &mut known, request).await?);
                }
                Ok(plan) => {
                    known.adopt(&plan);
                    batch.push((index, plan));
                }
            }
        }
        if step_by_step {
            self.write_batch(session, &mut known, &mut batch, &mut outcomes).await?;
        } else if !batch.is_empty() {
            let (indexes, mut plans): (Vec<usize>, Vec<MutationPlan>) = batch.into_iter().unzip();
            session.apply_unanswered(&changes_of(&mut plans)).await?;
            let written = record(session, known.bucket(), &mut plans).await?;
            outcomes.extend(indexes.into_iter().zip(written.into_iter().map(Ok)));
        }
        Ok(outcomes.into_values().collect())
    }
}

impl MutationGroup {
    /// Writes the batch in as few round trips as it takes. When the ctldb refuses some
    /// of it, each request since the batch began is judged and written again by itself:
    /// also one that was refused for what another would have left.
    async fn write_batch<S: Session>(
        &self,
        session: &mut S,
        known: &mut Admission<'_>,
        batch: &mut Batch,
        outcomes: &mut BTreeMap<usize, Outcome>,
    ) -> Result<(), CtldbError> {
        let (indexes, mut plans): (Vec<usize>, Vec<MutationPlan>) = std::mem::take(batch).into_iter().unzip();
        if plans.is_empty() {
            return Ok(());
        }
        let since = indexes[0]..outcomes.len() + indexes.len();
        session.savepoint().await?;
        let bucket = known.bucket();
        match write(session, bucket, &mut plans).await {
            Ok(written) => outcomes.extend(indexes.into_iter().zip(written.into_iter().map(Ok))),
            Err(CtldbError::Refused(_)) => {
                session.rollback_to_savepoint().await?;
                known.forget();
                for index in since {
                    outcomes.insert(index, self.write_alone(session, known, &self.requests[index]).await?);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Judges a request by what is stored now, and writes it or leaves nothing.
    async fn write_alone<S: Session>(
        &self,
        session: &mut S,
        known: &mut Admission<'_>,
        request: &MutationRequest,
    ) -> Result<Outcome, CtldbError> {
        let mut plan = match refused(known.plan(session, request).await)? {
            Ok(plan) => plan,
            Err(refusal) => return Ok(Err(refusal)),
        };
        session.savepoint().await?;
        let bucket = known.bucket();
        let written = if plan.may_merge() {
            write_comparing_keys(session, bucket, &mut plan).await
        } else {
            write(session, bucket, std::slice::from_mut(&mut plan)).await.map_err(ExecutiveError::from)
        };
        match refused(written.map(|mut written| written.remove(0)))? {
            Ok(written) => {
                known.adopt(&plan);
                Ok(Ok(written))
            }
            Err(refusal) => {
                session.rollback_to_savepoint().await?;
                Ok(Err(refusal))
            }
        }
    }
}

/// Splits what is the client's to mend, what the ctldb can't hold included, from
/// what ends the transaction.
fn refused<T>(outcome: Result<T, ExecutiveError>) -> Result<Result<T, Refusal>, CtldbError> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(ExecutiveError::Refused(refusal)) => Ok(Err(refusal)),
        Err(ExecutiveError::Ctldb(CtldbError::Refused(reason))) => Ok(Err(Refusal::ByCtldb(reason))),
        Err(ExecutiveError::Ctldb(error)) => Err(error),
        Err(other) => Err(CtldbError::Failed(other.to_string())),
    }
}

/// Writes rows, cookies, usage and ledger of all plans.
async fn write<S: Session>(
    session: &mut S,
    bucket: i64,
    plans: &mut [MutationPlan],
) -> Result<Vec<Written>, CtldbError> {
    session.apply(&changes_of(plans)).await?;
    record(session, bucket, plans).await
}

fn changes_of(plans: &mut [MutationPlan]) -> Vec<RowChange> {
    plans.iter_mut().flat_map(|plan| std::mem::take(&mut plan.changes)).collect()
}

/// Writes cookies, usage and ledger of all plans; their rows are written already.
async fn record<S: Session>(
    session: &mut S,
    bucket: i64,
    plans: &mut [MutationPlan],
) -> Result<Vec<Written>, CtldbError> {
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
    // All were appended in a row, so each plan's last seq follows from the last of all.
    let mut seq = last.0 - statements.len() as i64;
    let written = plans.iter_mut().zip(counts).map(|(plan, statements)| {
        seq += statements as i64;
        let over_warn = std::mem::take(&mut plan.over_warn);
        Written { seq: Seq(seq), rows: plan.rows, statements, over_warn }
    });
    Ok(written.collect())
}

/// Writes a plan row by row where the ctldb might take one key for another: each
/// key is compared with the stored one first, after what comes before it is written.
async fn write_comparing_keys<S: Session>(
    session: &mut S,
    bucket: i64,
    plan: &mut MutationPlan,
) -> Result<Vec<Written>, ExecutiveError> {
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
fn key_of(change: &RowChange) -> Vec<Value> {
    match change {
        RowChange::Upsert { table, values } => {
            table.schema.key_in_column_order().into_iter().map(|index| values[index].clone()).collect()
        }
        RowChange::Delete { key, .. } => key.clone(),
    }
}

/// Bytewise. A boolean is stored as the integer that it stands for.
fn same_key(a: &[Value], b: &[Value]) -> bool {
    fn stored(value: &Value) -> Value {
        match value {
            Value::Boolean(boolean) => Value::Integer(i64::from(*boolean)),
            other => other.clone(),
        }
    }
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| stored(a) == stored(b))
}

fn merged(table: &StoredTable, given: &[Value], stored: &[Value]) -> Refusal {
    let shown = |key: &[Value]| {
        let mut out = String::new();
        for (i, value) in key.iter().enumerate() {
            out.push_str(if i > 0 { "," } else { "(" });
            sql::push_literal(&mut out, value);
        }
        out + ")"
    };
    Refusal::MergedKeys { table: table.schema.table().clone(), given: shown(given), stored: shown(stored) }
}
