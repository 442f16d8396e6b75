//! One open transaction on one connection: under the ledger lock, or a read without it. Entry
//! points: [`OpenTransaction::ask`] and [`OpenTransaction::change`] send a statement at once,
//! [`OpenTransaction::defer`] holds one back, [`OpenTransaction::commit`] ends the transaction.
//! `session` says which statements; this module only sends them.
//!
//! A statement is held back if it changes something and can't fail because of a client's request.
//! It is sent before the next statement that needs an answer, such as COMMIT. That saves most round
//! trips. If a held-back statement does fail, the request that comes next must not get the blame,
//! so the whole transaction is given up.

use std::collections::HashMap;
use std::time::Instant;

use mysql_async::prelude::FromRow;

use crate::ctldb::error::CtldbError;
use ctlstore_core::failpoint;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::WriterName;

use super::ddl::{self, Intent};
use super::error::{PACKET_TOO_LARGE, SqlError};
use super::optimistic::{CommittedState, PRECONDITION_FAILED};
use super::pooled_connection::{PooledConnection, ResultSets, read_row};
use super::prefetch::Prefetched;
use super::prepare::Server;
use super::shared::Shared;
use super::statement_batch::StatementBatch;

pub(super) struct OpenTransaction<'a> {
    pub shared: &'a Shared,
    pub server: Server,
    pub connection: PooledConnection,
    pub deadline: Instant,
    /// `Some` for a transaction under the ledger lock.
    pub locked: Option<Locked>,
    /// The answers that were read with the lock. Empty after the first write.
    pub ahead: Prefetched,
    /// The state of the ctldb after this transaction's commit, for the next one.
    pub after: StateAfter,
    /// Statements not yet sent.
    pending: StatementBatch,
    /// Whether the transaction begins with a precondition.
    assumed: bool,
    /// Whether the precondition failed. The server ran nothing after it.
    pub mistaken: bool,
    /// The error after which nothing of this transaction may be committed.
    doomed: Option<CtldbError>,
    /// Schema changes that earlier tries of the operation made, by statement, with the seqs of their ledger rows.
    pub done: Vec<(String, Seq)>,
    /// Whether the connection has the named lock of schema changes.
    pub has_named_lock: bool,
}

/// The ctldb's state after a transaction, as far as this executive knows it.
#[derive(Debug, Default)]
pub(super) enum StateAfter {
    /// The transaction has not written yet. Holds older answers that it did not ask for again.
    Unwritten(Prefetched),
    Known(Prefetched),
    #[default]
    Unknown,
}

/// The writes of a transaction. If the answer to its commit is lost, the look-up searches for these.
#[derive(Debug, Default)]
pub(super) struct Locked {
    /// The lock row's clock as this transaction has set it.
    pub clock: i64,
    /// The server's clock when it had the lock, in seconds since 1970.
    pub now: i64,
    /// The server's clock when it was last read, and when that was by this process's clock.
    pub read_at: Option<(i64, Instant)>,
    /// The ledger's last seq, with the rows that this transaction has appended.
    pub last: Seq,
    /// The ledger's last seq when the lock was taken.
    pub found: Seq,
    /// The low-water mark when the lock was taken.
    pub low_water: Option<Seq>,
    pub appended: Vec<(Seq, String)>,
    /// Whether it begins with a precondition. Then even its begin may not have reached the server.
    pub assumed: bool,
    /// Whether it wrote other rows than ledger rows and intents.
    pub wrote_rows: bool,
    /// The last cookie that it gave to each writer.
    pub cookies: HashMap<WriterName, Vec<u8>>,
    /// Schema changes that it began.
    pub begun: Vec<Intent>,
    /// `last` and the length of `appended` at the savepoint.
    pub savepoint: Option<(Seq, usize)>,
}

/// The outcome of a commit.
pub(super) enum Commit {
    Done,
    /// The precondition failed: nothing is committed.
    Mistaken,
    /// The server refused: nothing is committed.
    Failed(CtldbError, Locked),
    /// The answer was lost.
    Lost(String, Locked),
}

impl<'a> OpenTransaction<'a> {
    pub fn new(
        shared: &'a Shared,
        server: Server,
        connection: PooledConnection,
        deadline: Instant,
        locked: Option<Locked>,
    ) -> Self {
        Self {
            shared,
            server,
            connection,
            deadline,
            locked,
            ahead: Prefetched::default(),
            after: StateAfter::default(),
            pending: StatementBatch::default(),
            assumed: false,
            mistaken: false,
            doomed: None,
            done: Vec::new(),
            has_named_lock: false,
        }
    }

    /// A transaction on the state that the last one left. The batch `begin` is not sent yet; it fails if
    /// that state has changed. `ahead` has the answers that this state gives.
    pub fn assuming(
        shared: &'a Shared,
        server: Server,
        connection: PooledConnection,
        deadline: Instant,
        left: &CommittedState,
        begin: StatementBatch,
        ahead: Prefetched,
    ) -> Self {
        let last = left.last;
        let low_water = left.low_water;
        let clock = left.clock.saturating_add(1);
        let now = left.now();
        let read_at = Some(left.read_at);
        let locked = Locked { clock, now, read_at, last, found: last, low_water, assumed: true, ..Locked::default() };
        let transaction = Self::new(shared, server, connection, deadline, Some(locked));
        Self { ahead, after: StateAfter::Unwritten(left.ahead.clone()), pending: begin, assumed: true, ..transaction }
    }

    /// Keeps the answers that the last transaction left, if no other transaction came in between.
    pub fn follow(&mut self, left: Option<CommittedState>) {
        let next = |locked: &Locked, left: &CommittedState| {
            locked.clock == left.clock.saturating_add(1) && locked.found == left.last
        };
        let left = left.filter(|left| self.locked.as_ref().is_some_and(|locked| next(locked, left)));
        self.after = StateAfter::Unwritten(left.map(|left| left.ahead).unwrap_or_default());
    }

    /// Sends the held-back statements and `sql`, and returns the rows of the last statement.
    pub async fn ask<T: FromRow>(&mut self, sql: &str) -> Result<Vec<T>, SqlError> {
        let holds_back = !self.pending.is_empty();
        let sql = self.pending.take_with(self.server.blocks, sql);
        let rows = |mut sets: ResultSets| sets.pop().unwrap_or_default().into_iter().map(read_row).collect();
        let result = self.send(&sql).await.and_then(rows);
        self.doom_if_over(&result, holds_back);
        result
    }

    /// Sends the held-back statements and `sql`, and returns the number of rows that `sql` changed.
    pub async fn change(&mut self, sql: &str) -> Result<u64, SqlError> {
        self.note_write()?;
        let holds_back = !self.pending.is_empty();
        let sql = self.pending.take_with(self.server.blocks, sql);
        let result = self.send(&sql).await;
        self.doom_if_over(&result, holds_back);
        result.map(|_| self.connection.affected_rows())
    }

    /// Holds `sql`, a change of rows, back until another statement needs an answer.
    pub async fn defer(&mut self, sql: &str) -> Result<(), CtldbError> {
        self.note_write()?;
        self.hold_back(sql).await
    }

    /// As [`OpenTransaction::defer`], for a change whose effect on the prefetched answers is known: `marked`
    /// makes the same change in them.
    pub async fn defer_with(&mut self, sql: &str, marked: impl FnOnce(&mut Prefetched)) -> Result<(), CtldbError> {
        let ahead = std::mem::take(&mut self.ahead);
        let after = match std::mem::take(&mut self.after) {
            StateAfter::Unwritten(mut older) => {
                older.extend(ahead);
                Some(older)
            }
            StateAfter::Known(after) => Some(after),
            StateAfter::Unknown => None,
        };
        self.note_write()?;
        if let Some(mut after) = after {
            marked(&mut after);
            self.after = StateAfter::Known(after);
        }
        self.hold_back(sql).await
    }

    /// As [`OpenTransaction::defer`], for statements that are not changes of rows.
    pub async fn hold_back(&mut self, sql: &str) -> Result<(), CtldbError> {
        self.check()?;
        if !self.pending.is_empty() && self.pending.len() + sql.len() > self.server.text_bytes {
            self.flush().await?;
        }
        self.pending.push(sql);
        Ok(())
    }

    /// Sends the statements that earlier requests of the group hold back, before another request begins.
    /// Those requests count as written. So if one of the statements fails, nothing may be committed.
    pub async fn flush_deferred(&mut self) -> Result<(), CtldbError> {
        self.flush().await.inspect_err(|error| self.doom(error))
    }

    /// Sends the held-back statements. All of them belong to the caller.
    pub async fn flush(&mut self) -> Result<(), CtldbError> {
        self.check()?;
        if !self.pending.is_empty() {
            let sql = self.pending.take(self.server.blocks);
            let result = self.send(&sql).await;
            self.doom_if_over(&result, false);
            result.map_err(SqlError::of_changes)?;
        }
        Ok(())
    }

    async fn send(&mut self, sql: &str) -> Result<ResultSets, SqlError> {
        // The driver would close the connection because of it, and that would look like a server that is away.
        if sql.len() >= self.server.packet_bytes {
            return Err(SqlError::Server { code: PACKET_TOO_LARGE, message: "packet too large".to_owned() });
        }
        self.connection.query(sql, self.deadline).await
    }

    /// Makes sure that the connection still has the ledger lock.
    pub async fn check_lock(&mut self) -> Result<(), CtldbError> {
        let result = self.ask::<i64>("SELECT 1").await;
        Ok(result.map(drop)?)
    }

    /// The state under the ledger lock. An error without the lock: nothing may be written then.
    pub fn locked(&mut self) -> Result<&mut Locked, CtldbError> {
        self.locked.as_mut().ok_or_else(|| outside_lock().into())
    }

    /// Fails if the transaction can't go on after an earlier error, even if the operation ignored that error.
    pub fn check(&self) -> Result<(), CtldbError> {
        self.doomed.clone().map_or(Ok(()), Err)
    }

    pub fn doom(&mut self, error: &CtldbError) {
        self.doomed.get_or_insert_with(|| error.clone());
    }

    /// Dooms the transaction if the error leaves it in an unknown state. `in_any_case`: the batch held
    /// statements of other requests, so any error dooms it.
    fn doom_if_over<T>(&mut self, result: &Result<T, SqlError>, in_any_case: bool) {
        if let Err(error) = result {
            self.mistaken |= self.assumed && error.code() == Some(PRECONDITION_FAILED);
            let error = if in_any_case { error.clone().of_changes() } else { error.clone().into() };
            if in_any_case
                || self.mistaken
                || self.connection.is_broken()
                || matches!(error, CtldbError::Contention(_) | CtldbError::Unavailable(_) | CtldbError::NotWritable(_))
            {
                self.doom(&error);
            }
        }
    }

    fn note_write(&mut self) -> Result<(), SqlError> {
        self.locked.as_mut().ok_or_else(outside_lock)?.wrote_rows = true;
        self.ahead = Prefetched::default();
        self.after = StateAfter::Unknown;
        Ok(())
    }

    /// Commits the transaction, or just ends it if it wrote nothing.
    pub async fn commit(mut self) -> Commit {
        let locked = self.locked.take().unwrap_or_default();
        if !locked.wrote_rows && locked.appended.is_empty() {
            return self.end_unwritten(locked).await;
        }
        self.pending.push("COMMIT");
        let sql = self.pending.take(self.server.blocks);
        let result = self.send(&sql).await;
        self.doom_if_over(&result, false);
        match result.map_err(SqlError::of_changes) {
            Ok(_) => {
                if !locked.begun.is_empty() {
                    failpoint::hit("ddl-after-commit");
                }
                self.remember(&locked);
                self.connection.give_back();
                Commit::Done
            }
            // A server that is going away may still have committed.
            Err(CtldbError::Unavailable(reason)) => Commit::Lost(reason, locked),
            Err(error) => {
                let mistaken = self.mistaken;
                self.roll_back().await;
                if mistaken { Commit::Mistaken } else { Commit::Failed(error, locked) }
            }
        }
    }

    /// Ends a transaction that has nothing to commit. If its decisions rest on a precondition, that is
    /// checked first.
    async fn end_unwritten(mut self, locked: Locked) -> Commit {
        let asked = self.assumed && !self.pending.is_empty();
        let answer = if asked { self.flush().await } else { Ok(()) };
        let mistaken = self.mistaken;
        self.roll_back().await;
        match answer {
            Ok(()) => Commit::Done,
            Err(_) if mistaken => Commit::Mistaken,
            Err(error) => Commit::Failed(error, locked),
        }
    }

    /// Keeps the state after this commit for the next write.
    fn remember(&mut self, locked: &Locked) {
        let (StateAfter::Known(ahead), Some(read_at)) = (std::mem::take(&mut self.after), locked.read_at) else {
            return;
        };
        // None of these ledger rows is a schema change's.
        self.shared.catalog.catch_up(Some(locked.found), locked.last, false);
        let Locked { clock, last, low_water, .. } = *locked;
        self.shared.last_commit.keep(CommittedState { clock, last, low_water, read_at, at: Instant::now(), ahead });
    }

    /// Commits the lock row's clock and nothing else. A transaction whose precondition names an older clock
    /// can't commit after that.
    pub async fn commit_lock(mut self) -> Result<(), CtldbError> {
        self.send("COMMIT").await?;
        self.connection.give_back();
        Ok(())
    }

    /// Rolls everything back, and returns what had been done.
    pub async fn abandon(mut self) -> Locked {
        let locked = self.locked.take().unwrap_or_default();
        self.roll_back().await;
        locked
    }

    async fn roll_back(mut self) {
        // If that fails, the connection is closed, and the server rolls back.
        let mut sql = "ROLLBACK".to_owned();
        if self.has_named_lock {
            sql.push(';');
            sql.push_str(ddl::DROP_NAMED_LOCK);
        }
        if self.connection.query(&sql, self.deadline).await.is_ok() {
            self.connection.give_back();
        }
    }
}

fn outside_lock() -> SqlError {
    SqlError::Server { code: 0, message: "a write outside the ledger lock".to_owned() }
}
