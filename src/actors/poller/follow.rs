//! The poller's task: follows the ledger until something fails, waits, and begins again. Entry point:
//! [`run`]. `appliers` has the LDBs that it feeds.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::actors::failures::failed;
use crate::actors::task::Stopping;
use crate::backoff::{Backoff, jittered};
use crate::messages::ledger::{CaughtUp, FollowedLedger};
use crate::messages::status::RoleState;
use crate::metrics::Queue;
use ctlstore_core::ledger::{
    Assembler, Batch, CannotFollow, LastRow, LedgerInfo, LedgerSource, Seq, SourceError, may_follow,
};
use ctlstore_core::schema::Timestamp;
use ctlstore_ctldb::tail::{NewRows, Tail, TailError};
use ctlstore_ctldb::{answer_while, last_row, questions};

use super::Shared;
use super::appliers::{Appliers, InFlight};
use super::failure::{Failure, Patience, is_ahead};

/// The first and the longest pause after a failure. The longest one is short, so that a ledger that
/// comes back is followed again soon.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How long the ledger may end within a ledger transaction. Executives commit all of its rows
/// together.
const OPEN_GRACE: Duration = Duration::from_secs(10);

/// How often a ctldb without a ledger id is asked whether it has one by now.
const ID_LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The search for the id of a ledger that has none. Only the original wrote it so far; the first executive of ours
/// makes one, while this node runs.
#[derive(Debug, Default)]
struct IdSearch {
    next: Option<Instant>,
}

impl IdSearch {
    fn begin(info: &LedgerInfo) -> Self {
        Self { next: info.ledger_id.is_none().then(|| Instant::now() + ID_LOOK_INTERVAL) }
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.next.is_some_and(|next| now >= next);
        if is_due {
            self.next = Some(now + ID_LOOK_INTERVAL);
        }
        is_due
    }
}

pub(super) async fn run<S: LedgerSource>(shared: Rc<Shared>, mut source: S, mut stopping: Stopping) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut patience = Patience::default();
    let mut appliers = Appliers::new(&shared.peers.appliers);
    loop {
        let mut follower =
            Follower { shared: &shared, appliers: &mut appliers, backoff: &mut backoff, has_followed: false };
        let Some(ended) = stopping.unless(follower.follow(&mut source)).await else { break };
        // An LDB that was left out is to be fed again.
        let Err(failure) = ended else { continue };
        let failure = match is_ahead(&failure) {
            false => failure,
            true => {
                let Some(replication) = stopping.unless(source.replication()).await else { break };
                patience.explain(failure, replication, Instant::now())
            }
        };
        shared.report(&failure);
        if follower.has_followed {
            patience = Patience::default();
        }
        if patience.is_over(&failure, Instant::now()) {
            match stopping.unless(follower.bootstrap(&mut source)).await {
                Some(true) => continue,
                Some(false) => {}
                None => break,
            }
        }
        if stopping.unless(tokio::time::sleep(backoff.next_pause())).await.is_none() {
            break;
        }
    }
    source.close().await;
}

impl Shared {
    fn saw_ledger(&self, ledger_id: Option<String>, last: Seq) {
        let details = &mut self.view.borrow_mut().details;
        details.ledger_id = ledger_id;
        details.ledger_seq = last;
        self.metrics.poller.ledger_seq.set(last.0);
    }

    fn count(&self, found: &NewRows) {
        let metrics = &self.metrics.poller;
        metrics.polls.inc();
        let Some(last) = found.rows.last() else { return };
        let rows = found.rows.len() as u64;
        metrics.rows.inc_by(rows);
        metrics.bytes.inc_by(found.rows.iter().map(|row| row.statement.len() as u64).sum());
        metrics.block_rows.observe(rows as f64);
        metrics.gaps.inc_by(found.gaps);
        let details = &mut self.view.borrow_mut().details;
        details.rows_read += rows;
        details.gaps += found.gaps;
        if last.seq > details.ledger_seq {
            details.ledger_seq = last.seq;
            metrics.ledger_seq.set(last.seq.0);
        }
    }

    fn report(&self, failure: &Failure) {
        let view = &mut *self.view.borrow_mut();
        let no_ledger = matches!(failure, Failure::Tail(TailError::Source(SourceError::NoLedger(_))));
        if matches!(failure, Failure::Apply(_) | Failure::LdbGone) {
            // The applier has logged and counted it.
            view.failures.show(failure.kind(), failure);
        } else if no_ledger && view.caught_up_at.is_none() {
            // This is normal if all parts of a new fleet start at once.
            if view.failures.add(failure.kind(), failure.to_string()) {
                tracing::info!(role = "poller", reason = %failure, "waiting for a ledger");
            }
        } else if let Failure::Tail(TailError::CannotFollow(CannotFollow::LaggingReplica { .. })) = failure {
            if view.failures.add(failure.kind(), failure.to_string()) {
                tracing::warn!(role = "poller", reason = %failure, "waiting for the ledger");
            }
        } else {
            failed!(view.failures, failure.kind(), failure, "can't follow the ledger, retrying");
        }
        view.is_ctldb_away = failure.is_of_the_ctldb();
        view.state = RoleState::Retrying;
    }

    /// Records a success: rows were applied, or there are none to apply.
    fn works(&self) {
        let view = &mut *self.view.borrow_mut();
        if view.state == RoleState::Retrying {
            tracing::info!(role = "poller", seq = %view.details.ledger_seq, "following the ledger again");
        }
        if view.state != RoleState::Stopping {
            view.state = RoleState::Running;
        }
        view.is_ctldb_away = false;
        view.failures.end();
    }
}

struct Follower<'a> {
    shared: &'a Rc<Shared>,
    appliers: &'a mut Appliers,
    backoff: &'a mut Backoff,
    /// Whether an LDB could follow the ledger this time.
    has_followed: bool,
}

/// The batch that is being applied, and its last row.
type Handed = Option<(InFlight, Seq)>;

impl Follower<'_> {
    /// Asks the appliers to bring their LDBs to a snapshot, because none can follow the ledger. Returns whether one can
    /// now; if not, the appliers report why.
    async fn bootstrap<S: LedgerSource>(&mut self, source: &mut S) -> bool {
        // The ledger may have changed since it was last described.
        let Ok(info) = source.describe().await else { return false };
        let (history, questions) = questions();
        let ledger = FollowedLedger { info, history };
        answer_while(source, questions, self.appliers.bootstrap(&ledger)).await
    }

    /// Reads the ledger and sends its batches until something fails, or an LDB that was left out may be fed again.
    async fn follow<S: LedgerSource>(&mut self, source: &mut S) -> Result<(), Failure> {
        let shared = self.shared;
        shared.view.borrow_mut().details.starts += 1;
        // If a host starts while the ctldb can't be reached, any snapshot of the sources will do.
        let (history, questions) = questions();
        let ledger = source.describe().await.ok().map(|info| FollowedLedger { info, history });
        answer_while(source, questions, self.appliers.gather(ledger)).await?;
        self.leave_out_unfit(source).await?;
        let position = self.appliers.lowest().cloned().ok_or(Failure::ApplierGone)?;
        shared.view.borrow_mut().has_data = position.seq > Seq::ZERO;
        let (mut tail, info) = Tail::open(source, &position).await?;
        self.has_followed = true;
        if let Some(id) = &info.ledger_id {
            self.appliers.adopt(id).await?;
        }
        let search = IdSearch::begin(&info);
        shared.saw_ledger(info.ledger_id, info.last.unwrap_or_default());
        self.read_on(&mut tail, Assembler::after(position.seq), search).await
    }

    async fn read_on<S: LedgerSource>(
        &mut self,
        tail: &mut Tail<'_, S>,
        mut assembler: Assembler,
        mut search: IdSearch,
    ) -> Result<(), Failure> {
        let mut handed: Handed = None;
        let mut open_since: Option<Instant> = None;
        loop {
            let read_at = Timestamp::now();
            let found = tail.next(self.shared.options.block).await?;
            self.shared.count(&found);
            let at_end = found.at_end;
            let is_idle = found.rows.is_empty();
            let fault = found.rows.into_iter().find_map(|row| assembler.push(row).err());
            if let Some(batch) = assembler.take_complete() {
                if self.settle(&mut handed).await? {
                    return Ok(());
                }
                handed = self.hand_over(batch);
            }
            if let Some(fault) = fault {
                // The rows before it are good, so they are applied first.
                self.settle(&mut handed).await?;
                return Err(fault.into());
            }
            if at_end {
                if self.settle(&mut handed).await? {
                    return Ok(());
                }
                if search.is_due()
                    && let Some(id) = tail.look_for_id().await?
                {
                    self.appliers.adopt(&id).await?;
                    self.shared.view.borrow_mut().details.ledger_id = Some(id);
                    search = IdSearch::default();
                }
                if is_idle {
                    self.appliers.check_presence().await?;
                }
                // Until a ledger transaction's end has come, the LDB does not have its beginning either.
                if !assembler.in_transaction() {
                    open_since = None;
                    self.caught_up(assembler.last_seq(), read_at);
                } else if open_since.get_or_insert_with(Instant::now).elapsed() >= OPEN_GRACE {
                    return Err(Failure::NeverEnds { last: assembler.last_seq() });
                }
                self.wait_for_more().await;
            }
        }
    }

    /// Of several LDBs, leaves out those that can't follow the ledger, if others can.
    async fn leave_out_unfit<S: LedgerSource>(&mut self, source: &mut S) -> Result<(), Failure> {
        if !self.appliers.is_one() {
            let info = source.describe().await.map_err(TailError::from)?;
            let positions: Vec<_> = self.appliers.fed().map(|(index, position)| (index, position.clone())).collect();
            let mut unfit = Vec::new();
            for (index, position) in &positions {
                if let Err(reason) = may_follow(&info, position) {
                    unfit.push((*index, Failure::from(TailError::from(reason))));
                } else if last_row(source, position).await.map_err(TailError::from)? == LastRow::Other {
                    unfit.push((*index, TailError::OtherHistory { seq: position.seq }.into()));
                }
            }
            if unfit.len() < positions.len() {
                unfit.iter().for_each(|(index, failure)| self.appliers.give_up(*index, failure, &info));
            }
        }
        self.show_left_out();
        Ok(())
    }

    fn show_left_out(&self) {
        self.shared.view.borrow_mut().left_out = self.appliers.left_out();
    }

    fn hand_over(&self, batch: Batch) -> Handed {
        let last = batch.rows().last().map_or(Seq::ZERO, |row| row.seq);
        Some((self.appliers.apply(batch, self.shared.metrics.queue(Queue::ApplierBatches)), last))
    }

    /// Waits until the batch in flight, if there is one, is applied. Returns whether to begin again with other
    /// LDBs: one that was left out may be fed again, or one that failed was the only one that lacked these rows.
    async fn settle(&mut self, handed: &mut Handed) -> Result<bool, Failure> {
        if let Some((answers, last)) = handed.take() {
            let answers = answers.await.map_err(|_| Failure::ApplierGone)?;
            let before = self.appliers.fed().count();
            self.appliers.record(answers)?;
            let lowest = self.appliers.lowest().map_or(Seq::ZERO, |position| position.seq);
            self.shared.view.borrow_mut().has_data = lowest > Seq::ZERO;
            self.shared.works();
            if self.appliers.fed().count() < before {
                self.show_left_out();
                if lowest > last {
                    return Ok(true);
                }
            }
        }
        Ok(self.appliers.is_any_due())
    }

    fn caught_up(&mut self, seq: Seq, at: Timestamp) {
        self.backoff.reset();
        self.shared.works();
        self.shared.view.borrow_mut().caught_up_at = Some(at);
        for peer in &self.shared.peers.caught_up {
            // If the mailbox is full, the next poll tells it again.
            let _ = peer.try_send(CaughtUp { seq, at });
        }
    }

    async fn wait_for_more(&self) {
        let options = &self.shared.options;
        tokio::select! {
            () = tokio::time::sleep(jittered(options.interval, options.jitter)) => {}
            () = self.shared.grew.notified() => {
                self.shared.metrics.poller.wakeups.inc();
            }
        }
    }
}
