//! What the last write left behind. The next one is judged by it before the server was
//! asked anything, and goes there as one text: that takes the ledger lock, asks whether
//! all that was assumed still holds, writes and commits. Where something does not hold,
//! the question fails, or what follows it in a block, so that the server runs nothing behind it.
//!
//! Whoever writes by these rules moves the lock row's clock. What may be changed without
//! the lock (writers, limits, rows put into the ledger by hand) is compared by value, but for
//! usage: who changes that by hand is noticed when a bucket begins, or somebody is refused.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use crate::ctldb::{LedgerTable, ReadSet, TableLimit};
use ctlstore_core::ledger::Seq;

use super::prefetch::Prefetched;
use super::rows::{blob, quote};
use super::statement_batch::StatementBatch;

/// The lock first, as in any transaction: the row is locked where its clock is another one, too.
const LOCK: &str = "UPDATE locks SET clock = clock + 1 WHERE id = 'ledger' AND clock = {clock}";
/// A subquery of two rows is an error where it is evaluated.
const QUESTION: &str = "SELECT IF({all}, 1, (SELECT 1 UNION SELECT 2))";
/// The same in a block, without an answer. The question stands in a SELECT, since others lock what they
/// read; what it finds in a variable of the session, since one of the block would hide columns of its name.
const IN_BLOCK: [&str; 2] = [
    "SELECT ({all}) IS TRUE INTO @ctlstore_holds",
    "IF NOT @ctlstore_holds THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {mistaken};END IF",
];
const STATE: &str = "ROW_COUNT() = 1 AND (SELECT MAX(seq) FROM {ledger}) = {last} \
    AND NOT EXISTS (SELECT 1 FROM ctlstore_ddl_intent)";
const BUCKET: &str = "UNIX_TIMESTAMP() - UNIX_TIMESTAMP() % {period} = {bucket}";

/// The error of [`QUESTION`] where something does not hold, ER_SUBQUERY_NO_1_ROW; a block gives the same one.
pub(super) const PRECONDITION_FAILED: u16 = 1242;

/// After this nothing is assumed. On a connection that has idled for longer the server may have
/// hung up, which only the commit would tell: a write that did not happen would have to be looked up.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Nor where there is less time than this: who waits for the lock should be told by the server that it
/// waited too long, which is after 10 s, and not have to wonder whether it was still written.
const TIME_TO_WAIT: Duration = Duration::from_secs(15);

/// Writes that ask first after an assumption was wrong: doubled each time, up to this.
const MOST_ASKED: u32 = 64;

/// How a write left the ctldb.
#[derive(Debug)]
pub(super) struct CommittedState {
    /// The lock row's clock.
    pub clock: i64,
    pub last: Seq,
    pub low_water: Option<Seq>,
    /// The server's clock when it was last read, seconds since 1970, and when that was.
    pub read_at: (i64, Instant),
    /// When it was committed.
    pub at: Instant,
    pub ahead: Prefetched,
}

impl CommittedState {
    /// The server's clock by now, as far as this process can tell.
    pub fn now(&self) -> i64 {
        let (now, read_at) = self.read_at;
        now.saturating_add(i64::try_from(read_at.elapsed().as_secs()).unwrap_or(i64::MAX))
    }

    /// Lock and question, if the answers to the whole read set are known; and those.
    /// On a server that knows blocks the two have to be in one.
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
        let (all, lock) = (all.join(" AND "), LOCK.replace("{clock}", &self.clock.to_string()));
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
        // A hash of the hash: texts are shown by the server to whoever may see its processes.
        let (secret, cookie) = (hex::encode(Sha1::digest(&row.secret_hash)), blob(&row.cookie));
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
        let (family, name) = (quote(table.family.as_str()), quote(table.table.as_str()));
        let key = format!("family_name = {family} AND table_name = {name}");
        if let Some(TableLimit { warn_bytes, max_bytes }) = limit {
            limits.push(format!("({key} AND warn_size_bytes = {warn_bytes} AND max_size_bytes = {max_bytes})"));
        }
        keys.push(format!("({key})"));
    }
    if keys.is_empty() { Vec::new() } else { exactly("max_table_sizes", &keys.join(" OR "), &limits) }
}

/// Of the rows that `these` selects there are those in `rows`, and no others.
fn exactly(table: &str, these: &str, rows: &[String]) -> Vec<String> {
    let mut all = vec![count(table, these, rows.len())];
    all.extend((!rows.is_empty()).then(|| count(table, &rows.join(" OR "), rows.len())));
    all
}

fn count(table: &str, which: &str, rows: usize) -> String {
    format!("(SELECT COUNT(*) FROM {table} WHERE {which}) = {rows}")
}

/// What the last write left, until the next one takes it.
#[derive(Default)]
pub(super) struct LastCommit(Mutex<State>);

#[derive(Default)]
struct State {
    left: Option<CommittedState>,
    /// Assumptions that were wrong, one after the other.
    wrong: u32,
    /// Writes that still ask first for that.
    asked: u32,
}

impl LastCommit {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is in it is put and taken whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left goes with whoever writes next; and whether that may assume it, until `deadline`.
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

    /// Whether what was assumed held.
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
        let memory = LastCommit::default();
        let soon = Instant::now() + 4 * TIME_TO_WAIT;
        let left = || {
            let now = Instant::now();
            let (last, low_water, ahead) = (Seq(1), None, Prefetched::default());
            CommittedState { clock: 1, last, low_water, read_at: (0, now), at: now, ahead }
        };
        let mut asked = Vec::new();
        for _ in 0..10 {
            memory.assumed(false);
            let mut writes = 0;
            while {
                memory.keep(left());
                !memory.take(soon).1
            } {
                writes += 1;
            }
            asked.push(writes);
        }
        assert_eq!(asked, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
        memory.assumed(true);
        memory.keep(left());
        assert!(memory.take(soon).1);
        assert!(!memory.take(soon).1, "taken already");
    }
}
