//! Applies ledger batches. Each batch is one SQLite transaction with the rows, the seq that
//! covers them and the changelog's numbering: all or nothing. Entry point: [`Ldb::apply`].
//! Readers never see a part of a ledger transaction, because batches end where transactions end.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use ctlstore_core::failpoint;
use ctlstore_core::ledger::{Batch, LedgerRow, Seq};
use ctlstore_core::schema::Timestamp;
use ctlstore_core::sql::{self, Statement};

use crate::changelog::ChangelogCounts;

use super::bookkeeping;
use super::bound_statements::{NotRun, Runner};
use super::error::{LdbError, is_statements_fault};
use super::statement_authorizer::Ended;
use super::statement_reason::statement_reason;
use super::writer::Ldb;

const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";

/// The advice about a ledger row that no LDB can apply.
const ADVICE: &str = "correct or delete that row in the ctldb; every reflector waits at it";

/// The result of a batch. All of it is committed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The LDB's seq after it.
    pub seq: Seq,
    /// When the last of the rows was written, by the ctldb's clock.
    pub leader_ts: Option<Timestamp>,
    /// Ledger rows that were applied, with the markers.
    pub ledger_rows: u64,
    /// Ledger rows that the LDB had already.
    pub skipped: u64,
    /// Ledger rows that were applied, without the markers.
    pub statements: u64,
    /// Statements that ran with bound values, and not as text.
    pub bound: u64,
    /// Ledger transactions. A statement outside of one counts as one.
    pub transactions: u64,
    /// Rows that were inserted, replaced, changed or deleted.
    pub rows_changed: u64,
    /// Bytes of the statements.
    pub bytes: u64,
    pub changelog: ChangelogCounts,
    /// How long the statements ran.
    pub execute: Duration,
    /// How long the commit took, with the disk's flush.
    pub commit: Duration,
}

/// Why a batch was not applied, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The ledger holds a statement that no LDB can apply. Everything before its ledger
    /// transaction has been applied, as `applied` says.
    #[error(
        "ledger row {seq} ({form}{}) failed: {reason}{}",
        .table.as_deref().map(|t| format!(" {t}")).unwrap_or_default(),
        advice.map(|advice| format!("; {advice}")).unwrap_or_default(),
    )]
    Statement {
        seq: Seq,
        table: Option<String>,
        form: &'static str,
        reason: String,
        /// Advice for the operator.
        advice: Option<&'static str>,
        applied: Option<Box<Applied>>,
    },
    #[error(transparent)]
    Ldb(#[from] LdbError),
}

/// Why a transaction was rolled back.
enum Stop {
    Ldb(LdbError),
    Statement(Fault),
}

/// A ledger row that can't be applied.
struct Fault {
    /// The index of the row with which its ledger transaction begins.
    transaction: usize,
    seq: Seq,
    table: Option<String>,
    form: &'static str,
    reason: String,
    advice: Option<&'static str>,
}

impl Ldb {
    /// Applies and commits `batch`, without the rows at or below the LDB's seq.
    ///
    /// # Errors
    /// No row of the batch is applied then, with one exception. With [`ApplyError::Statement`]
    /// everything before the ledger transaction at fault is applied.
    pub fn apply(&mut self, batch: &Batch) -> Result<Applied, ApplyError> {
        let fault = match self.commit_rows(batch.follows(), batch.rows()) {
            Ok(applied) => return Ok(applied),
            Err(Stop::Ldb(error)) => return Err(error.into()),
            Err(Stop::Statement(fault)) => fault,
        };
        let (fault, applied) = match self.commit_rows(batch.follows(), &batch.rows()[..fault.transaction]) {
            Ok(applied) => (fault, (applied.ledger_rows > 0).then(|| Box::new(applied))),
            Err(Stop::Ldb(error)) => return Err(error.into()),
            Err(Stop::Statement(earlier)) => (earlier, None),
        };
        let Fault { seq, table, form, reason, advice, .. } = fault;
        Err(ApplyError::Statement { seq, table, form, reason, advice, applied })
    }

    /// Applies `rows` in one transaction.
    fn commit_rows(&mut self, follows: Seq, rows: &[LedgerRow]) -> Result<Applied, Stop> {
        run(&self.connection, BEGIN).map_err(|error| self.stop("beginning a transaction", &error))?;
        failpoint::hit("apply-after-begin");
        if let Some(changelog) = &mut self.changelog {
            changelog.begin();
        }
        self.guard.watch().batch_begins();
        let result = self.write_rows(follows, rows);
        self.guard.watch().batch_ends();
        match result {
            Ok(applied) if applied.ledger_rows > 0 => self.committed(applied),
            other => {
                self.roll_back()?;
                other
            }
        }
    }

    /// Writes `rows` and commits, or stops at the first error.
    fn write_rows(&mut self, follows: Seq, rows: &[LedgerRow]) -> Result<Applied, Stop> {
        let started = Instant::now();
        // Read within the transaction, so it is the seq that the transaction changes.
        let stored = bookkeeping::seq(&self.connection).map_err(|error| self.stop("reading its seq", &error))?;
        if stored < follows {
            return Err(Stop::Ldb(LdbError::Behind { path: self.path.clone(), at: stored, follows }));
        }
        let skipped = rows.partition_point(|row| row.seq <= stored);
        let mut applied = Applied { seq: stored, skipped: skipped as u64, ..Applied::default() };
        if skipped == rows.len() {
            return Ok(applied);
        }
        if let Some(marker) = rows[..skipped].iter().rev().find(|row| is_marker(row))
            && marker.statement == sql::BEGIN
        {
            let reason = format!("the ldb stands at {stored}, within its ledger transaction");
            return Err(Fault::stop(0, &rows[skipped], &sql::parse(&rows[skipped].statement), reason, None));
        }
        self.execute(rows, skipped, &mut applied)?;
        failpoint::hit("apply-after-statements");
        self.keep_books(&applied).map_err(|error| self.stop("writing its seq", &error))?;
        failpoint::hit("apply-after-seq");
        applied.execute = started.elapsed();
        self.check_present().map_err(Stop::Ldb)?;
        let started = Instant::now();
        if let Some(changelog) = &mut self.changelog {
            changelog.prepare(stored, applied.seq);
            failpoint::hit("apply-after-history");
        }
        run(&self.connection, COMMIT).map_err(|error| self.stop("committing a transaction", &error))?;
        applied.commit = started.elapsed();
        Ok(applied)
    }

    /// Runs the statements of `rows` from `first` on.
    fn execute(&mut self, rows: &[LedgerRow], first: usize, applied: &mut Applied) -> Result<(), Stop> {
        let Self { connection, guard, changelog, path, .. } = self;
        let changes_before = connection.total_changes();
        let mut parser = sql::StatementParser::default();
        let mut runner = Runner::new(connection, guard);
        let mut begun = None;
        for (index, row) in rows.iter().enumerate().skip(first) {
            guard.watch().row_begins(row.seq);
            let statement = parser.parse(&row.statement);
            let fault = |reason| Fault::stop(begun.unwrap_or(index), row, &statement, reason, Some(ADVICE));
            let failed = |error: rusqlite::Error| match guard.take_ended() {
                Some(Ended::Stopped) => Stop::Ldb(LdbError::Stopped { seq: row.seq }),
                Some(Ended::Refused(why)) => fault(format!("it {why}")),
                None if is_statements_fault(&error) => fault(statement_reason(&row.statement, &statement, &error)),
                None => Stop::Ldb(LdbError::sqlite(path, "running a statement", &error)),
            };
            if guard.watch().must_stop() {
                return Err(Stop::Ldb(LdbError::Stopped { seq: row.seq }));
            }
            match &statement {
                // A batch holds whole transactions; that was checked when it was made.
                Statement::Begin => begun = Some(index),
                Statement::Commit => begun = None,
                // SQLite would run the part before the NUL and ignore the rest.
                _ if !statement.is_row() && row.statement.contains('\0') => {
                    return Err(fault("it holds a NUL character".to_owned()));
                }
                Statement::Other if row.statement.len() > guard.limits().max_bytes => {
                    return Err(fault(format!(
                        "it is longer than reflector.statement_max_bytes, {} bytes",
                        guard.limits().max_bytes
                    )));
                }
                _ => {
                    if let Some(changelog) = changelog {
                        changelog.before(connection, &statement).map_err(failed)?;
                    }
                    let bound = match runner.run(&row.statement, &statement) {
                        Ok(bound) => bound,
                        Err(NotRun::Sqlite(error)) => return Err(failed(error)),
                        Err(NotRun::NotAllowed(why)) => return Err(fault(format!("it {why}"))),
                    };
                    applied.bound += u64::from(bound);
                    if let Some(changelog) = changelog {
                        changelog.after(connection, row.seq).map_err(failed)?;
                    }
                    applied.statements += 1;
                }
            }
            applied.transactions += u64::from(begun.is_none());
            applied.ledger_rows += 1;
            applied.bytes += row.statement.len() as u64;
            applied.seq = row.seq;
            applied.leader_ts = row.leader_ts.or(applied.leader_ts);
            parser.reuse(statement);
        }
        applied.rows_changed = connection.total_changes() - changes_before;
        Ok(())
    }

    fn keep_books(&self, applied: &Applied) -> rusqlite::Result<()> {
        bookkeeping::set_seq(&self.connection, applied.seq)?;
        if let Some(leader_ts) = applied.leader_ts {
            bookkeeping::set_last_update(&self.connection, leader_ts)?;
        }
        match &self.changelog {
            Some(changelog) if changelog.has_file() => {
                bookkeeping::set_next_number(&self.connection, changelog.next_number(), applied.seq)
            }
            _ => Ok(()),
        }
    }

    /// Makes a commit known: to followers, and to processes that wait for a seq.
    fn committed(&mut self, mut applied: Applied) -> Result<Applied, Stop> {
        failpoint::hit("apply-after-commit");
        if let Some(changelog) = &mut self.changelog {
            applied.changelog = changelog.committed();
        }
        failpoint::hit("apply-after-changelog");
        self.touch(applied.seq);
        Ok(applied)
    }

    fn roll_back(&mut self) -> Result<(), Stop> {
        if let Some(changelog) = &mut self.changelog {
            changelog.rolled_back();
        }
        // After some errors SQLite has rolled back already.
        if self.connection.is_autocommit() {
            return Ok(());
        }
        run(&self.connection, ROLLBACK).map_err(|error| self.stop("rolling back a transaction", &error))
    }

    fn stop(&self, action: &'static str, error: &rusqlite::Error) -> Stop {
        Stop::Ldb(LdbError::sqlite(&self.path, action, error))
    }
}

impl Fault {
    /// The stop that a fault in `row` causes.
    fn stop(
        transaction: usize,
        row: &LedgerRow,
        statement: &Statement<'_>,
        reason: String,
        advice: Option<&'static str>,
    ) -> Stop {
        let table = statement.table().map(str::to_owned);
        Stop::Statement(Self { transaction, seq: row.seq, table, form: statement.form(), reason, advice })
    }
}

fn is_marker(row: &LedgerRow) -> bool {
    row.statement == sql::BEGIN || row.statement == sql::COMMIT
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
