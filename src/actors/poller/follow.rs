//! The poller's task: follows the ledger until something fails, waits, and begins again. Entry point:
//! [`run`].

use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::actors::failures::failed;
use crate::actors::task::Stopping;
use crate::backoff::{Backoff, jittered};
use crate::messages::ledger::{
    AdoptLedger, ApplyBatch, ApplyFailed, Bootstrap, CaughtUp, FollowedLedger, GetPosition, HasLdb,
};
use crate::messages::status::RoleState;
use crate::metrics::{ErrorKind, Queue};
use ctlstore_core::ledger::{
    AssembleError, Assembler, Batch, CannotFollow, LedgerInfo, LedgerSource, Replication, Seq, SourceError,
};
use ctlstore_core::schema::Timestamp;
use ctlstore_ctldb::tail::{NewRows, Tail, TailError};
use ctlstore_ctldb::{answer_while, questions};

use super::Shared;

/// The first and the longest pause after a failure. The longest one is short, so that a ledger that
/// comes back is followed again soon.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Tail(#[from] TailError),
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    #[error(transparent)]
    Apply(#[from] ApplyFailed),
    #[error(
        "the ledger transaction that stands at the ledger's end, up to row {last}, has no \"--- COMMIT\"; add that row \
         to the ledger, or delete its \"--- BEGIN\""
    )]
    NeverEnds { last: Seq },
    #[error("the applier does not answer")]
    ApplierGone,
    #[error("the ldb is damaged")]
    LdbGone,
}

impl Failure {
    /// Whether the ctldb could not be read. Such a failure says nothing about the LDB's data.
    fn is_of_the_ctldb(&self) -> bool {
        use SourceError::{Failed, NoLedger, Unavailable};
        matches!(self, Self::Tail(TailError::Source(Unavailable(_) | Failed(_) | NoLedger(_))))
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Tail(TailError::Source(SourceError::BadRow { .. } | SourceError::NoLedger(_)))
            | Self::Assemble(_)
            | Self::NeverEnds { .. } => ErrorKind::Ledger,
            Self::Tail(TailError::Source(SourceError::Failed(_))) => ErrorKind::Storage,
            Self::Tail(
                TailError::Source(SourceError::Unavailable(_))
                | TailError::CannotFollow(CannotFollow::LaggingReplica { .. }),
            ) => ErrorKind::Unavailable,
            Self::Tail(_) => ErrorKind::Ledger,
            Self::Apply(failed) => failed.kind,
            Self::ApplierGone => ErrorKind::Internal,
            Self::LdbGone => ErrorKind::Storage,
        }
    }
}

/// The answer of the applier to the batch that is being applied.
type InFlight = tokio::task::JoinHandle<Result<Seq, Failure>>;

/// How long the ledger must have ended before the LDB's position until the LDB is given up. A replica
/// that lags looks like a ctldb that was restored.
const AHEAD_GRACE: Duration = Duration::from_secs(60);

/// How long the ledger may end within a ledger transaction. Executives commit all of its rows
/// together.
const OPEN_GRACE: Duration = Duration::from_secs(10);

/// Since when the LDB has been ahead of the ledger.
#[derive(Debug, Default)]
struct Patience {
    ahead_since: Option<Instant>,
    /// The end of a ledger that ends before the LDB's position, and when it last grew.
    grew: Option<(Seq, Instant)>,
}

impl Patience {
    /// Tells a replica that lags from a ctldb that was restored, by the state that the server reports.
    /// A server that is only read-only counts as a replica for as long as its ledger grows.
    fn explain(&mut self, failure: Failure, replication: Option<Replication>, now: Instant) -> Failure {
        let Failure::Tail(TailError::CannotFollow(CannotFollow::AheadOfLedger { ldb, last })) = failure else {
            return failure;
        };
        if self.grew.is_none_or(|(before, _)| last > before) {
            self.grew = Some((last, now));
        }
        let grows = self.grew.is_some_and(|(_, at)| now.duration_since(at) < AHEAD_GRACE);
        let state = match replication {
            Some(Replication::Behind) => "it is behind",
            Some(Replication::Stopped) => "its replication is stopped",
            Some(Replication::Unknown) if grows => "it is read-only",
            _ => return failure,
        };
        TailError::from(CannotFollow::LaggingReplica { ldb, state }).into()
    }

    /// Whether the LDB has to be given up because of `failure`, which happened at `now`.
    fn is_over(&mut self, failure: &Failure, now: Instant) -> bool {
        match failure {
            Failure::Tail(TailError::CannotFollow(CannotFollow::AheadOfLedger { .. })) => {
                now.duration_since(*self.ahead_since.get_or_insert(now)) >= AHEAD_GRACE
            }
            // The LDB is good, and newer than an LDB made from this replica would be.
            Failure::Tail(TailError::CannotFollow(CannotFollow::LaggingReplica { .. })) => {
                self.ahead_since = None;
                false
            }
            Failure::Tail(TailError::CannotFollow(_)) => {
                self.ahead_since = None;
                true
            }
            // A ctldb that can't be reached says nothing about its ledger.
            _ => false,
        }
    }
}

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

fn is_ahead(failure: &Failure) -> bool {
    matches!(failure, Failure::Tail(TailError::CannotFollow(CannotFollow::AheadOfLedger { .. })))
}

pub(super) async fn run<S: LedgerSource>(shared: Rc<Shared>, mut source: S, mut stopping: Stopping) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut patience = Patience::default();
    loop {
        let mut follower = Follower { shared: &shared, backoff: &mut backoff, has_followed: false };
        let Some(failure) = stopping.unless(follower.follow(&mut source)).await else { break };
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
    backoff: &'a mut Backoff,
    /// Whether the LDB could follow the ledger this time.
    has_followed: bool,
}

impl Follower<'_> {
    /// Asks the applier to replace an LDB that can't follow the ledger. Returns whether it did; if
    /// not, the applier reports why.
    async fn bootstrap<S: LedgerSource>(&mut self, source: &mut S) -> bool {
        let Some(applier) = &self.shared.peers.bootstrap else { return false };
        // The ledger may have changed since it was last described.
        let Ok(info) = source.describe().await else { return false };
        let (history, questions) = questions();
        let answer = applier.send(Bootstrap(FollowedLedger { info, history }));
        matches!(answer_while(source, questions, answer).await, Ok(Ok(_)))
    }

    /// Reads the ledger and sends its batches until something fails.
    async fn follow<S: LedgerSource>(&mut self, source: &mut S) -> Failure {
        match self.try_follow(source).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    async fn try_follow<S: LedgerSource>(&mut self, source: &mut S) -> Result<Infallible, Failure> {
        let shared = self.shared;
        shared.view.borrow_mut().details.starts += 1;
        // If a host starts while the ctldb can't be reached, any snapshot of the sources will do.
        let (history, questions) = questions();
        let ledger = source.describe().await.ok().map(|info| FollowedLedger { info, history });
        let answer = shared.peers.position.send(GetPosition(ledger));
        let position = answer_while(source, questions, answer).await.map_err(|_| Failure::ApplierGone)??;
        shared.view.borrow_mut().has_data = position.seq > Seq::ZERO;
        let (mut tail, info) = Tail::open(source, &position).await?;
        self.has_followed = true;
        if let (None, Some(id)) = (&position.ledger_id, &info.ledger_id) {
            self.adopt(id).await?;
        }
        let mut search = IdSearch::begin(&info);
        shared.saw_ledger(info.ledger_id, info.last.unwrap_or_default());

        let mut assembler = Assembler::after(position.seq);
        let mut in_flight: Option<InFlight> = None;
        let mut open_since: Option<Instant> = None;
        loop {
            let read_at = Timestamp::now();
            let found = tail.next(shared.options.block).await?;
            shared.count(&found);
            let (at_end, is_idle) = (found.at_end, found.rows.is_empty());
            let fault = found.rows.into_iter().find_map(|row| assembler.push(row).err());
            if let Some(batch) = assembler.take_complete() {
                self.settle(&mut in_flight).await?;
                in_flight = Some(self.hand_over(batch));
            }
            if let Some(fault) = fault {
                // The rows before it are good, so they are applied first.
                self.settle(&mut in_flight).await?;
                return Err(fault.into());
            }
            if at_end {
                self.settle(&mut in_flight).await?;
                if search.is_due()
                    && let Some(id) = tail.look_for_id().await?
                {
                    self.adopt(&id).await?;
                    shared.view.borrow_mut().details.ledger_id = Some(id);
                    search = IdSearch::default();
                }
                if is_idle && !shared.peers.has_ldb.send(HasLdb).await.map_err(|_| Failure::ApplierGone)? {
                    // The next question for the position fetches another one.
                    return Err(Failure::LdbGone);
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

    /// Has the LDB remember whose ledger it follows. Snapshots of it tell so, and pruning wants to know.
    async fn adopt(&self, id: &str) -> Result<(), Failure> {
        let answer = self.shared.peers.adopt.send(AdoptLedger(id.to_owned()));
        Ok(answer.await.map_err(|_| Failure::ApplierGone)??)
    }

    fn hand_over(&self, batch: Batch) -> InFlight {
        let apply = self.shared.peers.apply.clone();
        let waiting = self.shared.metrics.queue(Queue::ApplierBatches);
        waiting.inc();
        actix::spawn(async move {
            let answer = apply.send(ApplyBatch(batch)).await;
            waiting.dec();
            Ok(answer.map_err(|_| Failure::ApplierGone)??)
        })
    }

    /// Waits until the batch in flight, if there is one, is applied.
    async fn settle(&self, in_flight: &mut Option<InFlight>) -> Result<(), Failure> {
        if let Some(answer) = in_flight.take() {
            let seq = answer.await.map_err(|_| Failure::ApplierGone)??;
            self.shared.view.borrow_mut().has_data = seq > Seq::ZERO;
            self.shared.works();
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_is_shorter_than_the_ldb_is_believed_after_a_while_and_pruning_at_once() {
        let ahead = || Failure::from(TailError::from(CannotFollow::AheadOfLedger { ldb: Seq(9), last: Seq(8) }));
        let pruned = Failure::from(TailError::from(CannotFollow::Pruned { ldb: Seq(1), first: Seq(5) }));
        let away = Failure::from(TailError::from(SourceError::Unavailable("away".to_owned())));
        let start = Instant::now();
        let mut patience = Patience::default();
        assert!(!patience.is_over(&ahead(), start));
        assert!(!patience.is_over(&away, start + AHEAD_GRACE / 2));
        assert!(patience.is_over(&ahead(), start + AHEAD_GRACE));
        assert!(patience.is_over(&pruned, start));
        assert!(!patience.is_over(&ahead(), start + AHEAD_GRACE));
    }

    #[test]
    fn a_replica_is_waited_for_while_it_says_that_it_lags_or_grows_and_a_restored_ctldb_is_not() {
        let ahead = |last| Failure::from(TailError::from(CannotFollow::AheadOfLedger { ldb: Seq(9), last: Seq(last) }));
        let start = Instant::now();
        let mut patience = Patience::default();
        for replication in [Replication::Behind, Replication::Stopped] {
            for at in [start, start + AHEAD_GRACE * 9] {
                let failure = patience.explain(ahead(5), Some(replication), at);
                assert!(!is_ahead(&failure) && !patience.is_over(&failure, at), "{failure}");
            }
        }
        let mut patience = Patience::default();
        for none in [None, Some(Replication::CaughtUp)] {
            assert!(is_ahead(&patience.explain(ahead(5), none, start)));
        }
        assert!(!is_ahead(&patience.explain(ahead(6), Some(Replication::Unknown), start)));
        let later = start + AHEAD_GRACE;
        assert!(is_ahead(&patience.explain(ahead(6), Some(Replication::Unknown), later)));
        assert!(!is_ahead(&patience.explain(ahead(7), Some(Replication::Unknown), later)));
    }
}
