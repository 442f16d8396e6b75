//! One unit of work on one connection: a transaction under the ledger lock, or a read
//! outside it. Statements that change something and can't fail for a client's reasons
//! are held back and sent in front of the next one that has to be answered, the COMMIT
//! among them: that saves most round trips. When one of them does fail, what comes next
//! must not be blamed for it, so the whole unit is given up.

use std::collections::HashMap;
use std::time::Instant;

use mysql_async::prelude::FromRow;

use crate::ctldb::CtldbError;
use ctlstore_core::failpoint;
use ctlstore_core::ledger::Seq;
use ctlstore_core::schema::WriterName;

use super::Shared;
use super::ddl::Intent;
use super::error::{PACKET_TOO_LARGE, SqlError};
use super::optimistic::{CommittedState, PRECONDITION_FAILED};
use super::pooled_connection::{PooledConnection, ResultSets, read_row};
use super::prefetch::Prefetched;
use super::prepare::Server;
use super::statement_batch::StatementBatch;

pub(super) struct OpenTransaction<'a> {
    pub shared: &'a Shared,
    pub server: Server,
    pub link: PooledConnection,
    pub deadline: Instant,
    /// There for a transaction under the ledger lock.
    pub locked: Option<Locked>,
    /// What was read before it is asked for, until something is written.
    pub ahead: Prefetched,
    /// What will be so after the commit; none where that is not known.
    pub after: StateAfter,
    /// Statements not yet sent.
    pending: StatementBatch,
    /// Whether what is pending, or was, begins with what is assumed.
    assumed: bool,
    /// Whether that was wrong. Nothing behind it has been run.
    pub mistaken: bool,
    /// The error after which nothing of this unit may be committed any more.
    doomed: Option<CtldbError>,
}

/// What a transaction leaves to the next one.
#[derive(Debug, Default)]
pub(super) enum StateAfter {
    /// It has not written yet; what was known before of what it did not ask for.
    Unwritten(Prefetched),
    Known(Prefetched),
    #[default]
    Unknown,
}

/// What a transaction has done, to find it again if the answer to its commit is lost.
#[derive(Debug, Default)]
pub(super) struct Locked {
    /// The lock row's clock as this transaction has set it.
    pub clock: i64,
    /// The server's clock when it had the lock, seconds since 1970.
    pub now: i64,
    /// The server's clock when it was last read, and when that was by this process's.
    pub read_at: Option<(i64, Instant)>,
    /// The ledger's last seq, with what this transaction has appended.
    pub last: Seq,
    /// The ledger's last seq when the lock was taken.
    pub found: Seq,
    /// The low-water mark when the lock was taken.
    pub low_water: Option<Seq>,
    pub appended: Vec<(Seq, String)>,
    /// Whether it was begun on what the last one left: then it may not even have begun on the server.
    pub assumed: bool,
    /// Whether it wrote anything but ledger rows and intents.
    pub wrote_rows: bool,
    /// The cookies that it gave to writers, the last one to each.
    pub cookies: HashMap<WriterName, Vec<u8>>,
    /// Schema changes that it began.
    pub begun: Vec<Intent>,
    /// `last` and the length of `appended` at the savepoint.
    pub savepoint: Option<(Seq, usize)>,
}

/// How a commit went.
pub(super) enum Commit {
    Done,
    /// What was assumed does not hold: nothing is committed.
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
        link: PooledConnection,
        deadline: Instant,
        locked: Option<Locked>,
    ) -> Self {
        Self {
            shared,
            server,
            link,
            deadline,
            locked,
            ahead: Prefetched::default(),
            after: StateAfter::default(),
            pending: StatementBatch::default(),
            assumed: false,
            mistaken: false,
            doomed: None,
        }
    }

    /// A transaction on what the last one left: `begin` begins it when it is sent, and fails
    /// where something is not as it was left. `ahead` is what is known by that.
    pub fn assuming(
        shared: &'a Shared,
        server: Server,
        link: PooledConnection,
        deadline: Instant,
        left: &CommittedState,
        begin: StatementBatch,
        ahead: Prefetched,
    ) -> Self {
        let (last, low_water, clock) = (left.last, left.low_water, left.clock.saturating_add(1));
        let (now, read_at) = (left.now(), Some(left.read_at));
        let locked = Locked { clock, now, read_at, last, found: last, low_water, assumed: true, ..Locked::default() };
        let unit = Self::new(shared, server, link, deadline, Some(locked));
        Self { ahead, after: StateAfter::Unwritten(left.ahead.clone()), pending: begin, assumed: true, ..unit }
    }

    /// Takes what the last transaction left for known where it is this one that came next.
    pub fn follow(&mut self, left: Option<CommittedState>) {
        let next = |locked: &Locked, left: &CommittedState| {
            locked.clock == left.clock.saturating_add(1) && locked.found == left.last
        };
        let left = left.filter(|left| self.locked.as_ref().is_some_and(|locked| next(locked, left)));
        self.after = StateAfter::Unwritten(left.map(|left| left.ahead).unwrap_or_default());
    }

    /// Sends `sql` with what was held back, and gives the rows of its last statement.
    pub async fn ask<T: FromRow>(&mut self, sql: &str) -> Result<Vec<T>, SqlError> {
        let holds_back = !self.pending.is_empty();
        let sql = self.pending.take_with(self.server.blocks, sql);
        let rows = |mut sets: ResultSets| sets.pop().unwrap_or_default().into_iter().map(read_row).collect();
        let result = self.send(&sql).await.and_then(rows);
        self.doom_if_over(&result, holds_back);
        result
    }

    /// Sends `sql` with what was held back, and gives the number of rows it changed.
    pub async fn change(&mut self, sql: &str) -> Result<u64, SqlError> {
        self.note_write()?;
        let holds_back = !self.pending.is_empty();
        let sql = self.pending.take_with(self.server.blocks, sql);
        let result = self.send(&sql).await;
        self.doom_if_over(&result, holds_back);
        result.map(|_| self.link.affected_rows())
    }

    /// Holds `sql`, a change of rows, back until something has to be answered.
    pub async fn defer(&mut self, sql: &str) -> Result<(), CtldbError> {
        self.note_write()?;
        self.hold_back(sql).await
    }

    /// As [`OpenTransaction::defer`], for changes of which it is known what they leave of what was read ahead.
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

    /// Sends what was held back by those who are done, before another one begins. They
    /// were told that it is written: if it fails, nothing of this unit may be committed.
    pub async fn flush_deferred(&mut self) -> Result<(), CtldbError> {
        self.flush().await.inspect_err(|error| self.doom(error))
    }

    /// Sends what was held back, all of it by whoever asks for this.
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
        // The driver would hang up for it, and that would look like a server that is away.
        if sql.len() >= self.server.packet_bytes {
            return Err(SqlError::Server { code: PACKET_TOO_LARGE, message: "packet too large".to_owned() });
        }
        self.link.query(sql, self.deadline).await
    }

    /// Makes sure that the connection still has the ledger lock.
    pub async fn check_lock(&mut self) -> Result<(), CtldbError> {
        let result = self.ask::<i64>("SELECT 1").await;
        Ok(result.map(drop)?)
    }

    /// The lock's state; an error outside the ledger lock, where nothing may be written.
    pub fn locked(&mut self) -> Result<&mut Locked, CtldbError> {
        self.locked.as_mut().ok_or_else(|| outside_lock().into())
    }

    /// An error after which the transaction can't go on, whatever the operation made of it.
    pub fn check(&self) -> Result<(), CtldbError> {
        self.doomed.clone().map_or(Ok(()), Err)
    }

    pub fn doom(&mut self, error: &CtldbError) {
        self.doomed.get_or_insert_with(|| error.clone());
    }

    /// `in_any_case`: the text had statements of others in it.
    fn doom_if_over<T>(&mut self, result: &Result<T, SqlError>, in_any_case: bool) {
        if let Err(error) = result {
            self.mistaken |= self.assumed && error.code() == Some(PRECONDITION_FAILED);
            let error = if in_any_case { error.clone().of_changes() } else { error.clone().into() };
            if in_any_case
                || self.mistaken
                || self.link.is_broken()
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

    /// Commits what was done, or just ends the transaction when that is nothing.
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
                self.link.give_back();
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

    /// Ends a transaction that has nothing to commit. What it decided by what was only
    /// assumed holds when that does.
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

    /// Leaves to the next write what is known after this one's commit.
    fn remember(&mut self, locked: &Locked) {
        let (StateAfter::Known(ahead), Some(read_at)) = (std::mem::take(&mut self.after), locked.read_at) else {
            return;
        };
        // None of these ledger rows is a schema change's.
        self.shared.catalog.catch_up(Some(locked.found), locked.last, false);
        let Locked { clock, last, low_water, .. } = *locked;
        self.shared.memory.keep(CommittedState { clock, last, low_water, read_at, at: Instant::now(), ahead });
    }

    /// Commits the lock row's clock and nothing else, so that nothing which assumed another
    /// one can still be committed.
    pub async fn commit_lock(mut self) -> Result<(), CtldbError> {
        self.send("COMMIT").await?;
        self.link.give_back();
        Ok(())
    }

    /// Undoes everything, and gives what had been done.
    pub async fn abandon(mut self) -> Locked {
        let locked = self.locked.take().unwrap_or_default();
        self.roll_back().await;
        locked
    }

    async fn roll_back(mut self) {
        // A connection on which that fails is closed, which rolls back as well.
        if self.link.query("ROLLBACK", self.deadline).await.is_ok() {
            self.link.give_back();
        }
    }
}

fn outside_lock() -> SqlError {
    SqlError::Server { code: 0, message: "a write outside the ledger lock".to_owned() }
}
