//! Lets a write assume that the ctldb is still as the last write left it. Entry points:
//! [`CommittedState::assume`] makes the precondition, [`LastCommit`] keeps the state from one
//! write to the next. The module sends nothing.
//!
//! Such a write is judged before the server is asked anything. It then goes to the server as one
//! batch, which takes the ledger lock, checks the precondition, writes and commits. If the
//! precondition does not hold, its check fails, and the server runs nothing after it.
//!
//! Every executive that follows these rules moves the lock row's clock. Writers, limits and ledger
//! rows may also be changed by hand, without the lock; the precondition compares their values.
//! Usage is not compared: a change by hand is noticed when the next bucket begins, or when a
//! writer is refused.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use crate::ctldb::own_tables::LedgerTable;
use crate::ctldb::session::{ReadSet, TableLimit};
use ctlstore_core::ledger::Seq;

use super::prefetch::Prefetched;
use super::rows::{blob, quote};
use super::statement_batch::StatementBatch;

/// Takes the ledger lock first, as any transaction does. The server locks the row even if its clock differs.
const LOCK: &str = "UPDATE locks SET clock = clock + 1 WHERE id = 'ledger' AND clock = {clock}";
/// The check of the precondition. If it fails, the server evaluates a subquery of two rows, which is an error.
const QUESTION: &str = "SELECT IF({all}, 1, (SELECT 1 UNION SELECT 2))";
/// The same check in a block, without an answer. It is a SELECT of its own, because other statements lock
/// the rows that they read. Its result goes into a variable of the session, because a variable of the
/// block would hide columns of its name.
const IN_BLOCK: [&str; 2] = [
    "SELECT ({all}) IS TRUE INTO @ctlstore_holds",
    "IF NOT @ctlstore_holds THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {mistaken};END IF",
];
const STATE: &str = "ROW_COUNT() = 1 AND (SELECT MAX(seq) FROM {ledger}) = {last} \
    AND NOT EXISTS (SELECT 1 FROM ctlstore_ddl_intent)";
const BUCKET: &str = "UNIX_TIMESTAMP() - UNIX_TIMESTAMP() % {period} = {bucket}";

/// The error of a failed precondition, ER_SUBQUERY_NO_1_ROW: that of [`QUESTION`], and a block signals the same.
pub(super) const PRECONDITION_FAILED: u16 = 1242;

/// Nothing is assumed after this time. On a connection that was idle for longer the server may have
/// hung up. Only the commit would show that, and a write that did not happen would have to be looked up.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Nothing is assumed if the request has less time than this. The server reports a lock wait that is too
/// long after 10 s. With less time the request could end first, and its outcome would be unknown.
const TIME_TO_WAIT: Duration = Duration::from_secs(15);

/// The most writes that assume nothing after a wrong assumption. The number doubles each time, up to this.
const MOST_ASKED: u32 = 64;

/// The state in which a commit left the ctldb.
#[derive(Debug)]
pub(super) struct CommittedState {
    /// The lock row's clock.
    pub clock: i64,
    pub last: Seq,
    pub low_water: Option<Seq>,
    /// The server's clock when it was last read, in seconds since 1970, and when that was by this process's clock.
    pub read_at: (i64, Instant),
    /// The time of the commit.
    pub at: Instant,
    pub ahead: Prefetched,
}

impl CommittedState {
    /// The server's present time, as this process estimates it.
    pub fn now(&self) -> i64 {
        let (now, read_at) = self.read_at;
        now.saturating_add(i64::try_from(read_at.elapsed().as_secs()).unwrap_or(i64::MAX))
    }

    /// The batch that begins the transaction (lock and precondition), and the known answers to the read
    /// set. `None` unless all of those answers are known. If the server knows blocks, lock and
    /// precondition must be in one block.
    pub fn assume(
        &self,
        ledger: &LedgerTable,
        blocks: bool,
        read_set: &ReadSet<'_>,
    ) -> Option<(StatementBatch, Prefetched)> {
        let period = read_set.usage_period.max(1);
        let bucket = self.now() - self.now() % period;
        let known = self.ahead.only(read_set, bucket)?;
        let mut all = vec![ledger.fill(STATE).replace("{last}", &self.last.to_string())];
        all.push(BUCKET.replace("{period}", &period.to_string()).replace("{bucket}", &bucket.to_string()));
        all.extend(same_writers(&known));
        all.extend(same_limits(&known));
        let all = all.join(" AND ");
        let lock = LOCK.replace("{clock}", &self.clock.to_string());
        let begin = if blocks {
            let [question, stop] = IN_BLOCK;
            let stop = stop.replace("{mistaken}", &PRECONDITION_FAILED.to_string());
            StatementBatch::block(&["START TRANSACTION", &lock, &question.replace("{all}", &all), &stop])
        } else {
            StatementBatch::of(&["START TRANSACTION", &lock, &QUESTION.replace("{all}", &all)])
        };
        Some((begin, known))
    }
}

fn same_writers(known: &Prefetched) -> Vec<String> {
    let (mut names, mut writers, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for (name, row) in &known.writers {
        let name = quote(name.as_str());
        let Some(row) = row else { continue };
        // A hash of the hash: the server shows its statements to every user who may list its processes.
        let secret = hex::encode(Sha1::digest(&row.secret_hash));
        let cookie = blob(&row.cookie);
        writers.push(format!("(writer = {name} AND SHA1(secret) = '{secret}' AND cookie = {cookie})"));
        rates
            .extend(row.rows_per_minute.map(|rows| format!("(writer_name = {name} AND max_rows_per_minute = {rows})")));
        names.push(name);
    }
    let of_these = format!("writer_name IN ({})", names.join(","));
    let mut all = vec![count("mutators", &writers.join(" OR "), writers.len())];
    all.extend(exactly("max_writer_rates", &of_these, &rates));
    all
}

fn same_limits(known: &Prefetched) -> Vec<String> {
    let (mut keys, mut limits) = (Vec::new(), Vec::new());
    for (table, limit) in &known.limits {
        let family = quote(table.family.as_str());
        let name = quote(table.table.as_str());
        let key = format!("family_name = {family} AND table_name = {name}");
        if let Some(TableLimit { warn_bytes, max_bytes }) = limit {
            limits.push(format!("({key} AND warn_size_bytes = {warn_bytes} AND max_size_bytes = {max_bytes})"));
        }
        keys.push(format!("({key})"));
    }
    if keys.is_empty() { Vec::new() } else { exactly("max_table_sizes", &keys.join(" OR "), &limits) }
}

/// The condition that `these` selects the rows in `rows` and no others.
fn exactly(table: &str, these: &str, rows: &[String]) -> Vec<String> {
    let mut all = vec![count(table, these, rows.len())];
    all.extend((!rows.is_empty()).then(|| count(table, &rows.join(" OR "), rows.len())));
    all
}

fn count(table: &str, which: &str, rows: usize) -> String {
    format!("(SELECT COUNT(*) FROM {table} WHERE {which}) = {rows}")
}

/// The state that the last commit left, until the next write takes it.
#[derive(Default)]
pub(super) struct LastCommit(Mutex<State>);

#[derive(Default)]
struct State {
    left: Option<CommittedState>,
    /// The number of wrong assumptions in a row.
    wrong: u32,
    /// The number of next writes that assume nothing.
    asked: u32,
}

impl LastCommit {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each value is put and taken whole, so a panic leaves nothing half-written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the state for the next write, which has time until `deadline`, and says whether that write may
    /// assume it.
    pub fn take(&self, deadline: Instant) -> (Option<CommittedState>, bool) {
        let mut state = self.lock();
        let left = state.left.take();
        let waits = state.asked > 0;
        state.asked = state.asked.saturating_sub(1);
        let fresh = left.as_ref().is_some_and(|left| left.at.elapsed() < GOOD_FOR);
        let in_time = deadline.saturating_duration_since(Instant::now()) > TIME_TO_WAIT;
        (left, fresh && in_time && !waits)
    }

    pub fn keep(&self, left: CommittedState) {
        self.lock().left = Some(left);
    }

    /// Records whether an assumption was right.
    pub fn assumed(&self, right: bool) {
        let mut state = self.lock();
        state.wrong = if right { 0 } else { (state.wrong + 1).min(MOST_ASKED.ilog2() + 1) };
        state.asked = if right { 0 } else { 1 << (state.wrong - 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_wrong_asks_first_ever_more_often() {
        let last_commit = LastCommit::default();
        let soon = Instant::now() + 4 * TIME_TO_WAIT;
        let left = || {
            let now = Instant::now();
            let last = Seq(1);
            let low_water = None;
            let ahead = Prefetched::default();
            CommittedState { clock: 1, last, low_water, read_at: (0, now), at: now, ahead }
        };
        let mut asked = Vec::new();
        for _ in 0..10 {
            last_commit.assumed(false);
            let mut writes = 0;
            while {
                last_commit.keep(left());
                !last_commit.take(soon).1
            } {
                writes += 1;
            }
            asked.push(writes);
        }
        assert_eq!(asked, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
        last_commit.assumed(true);
        last_commit.keep(left());
        assert!(last_commit.take(soon).1);
        assert!(!last_commit.take(soon).1, "taken already");
    }
}
