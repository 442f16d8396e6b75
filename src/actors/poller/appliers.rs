//! The appliers that a poller feeds: one for each LDB of this host. Entry point: [`Appliers`].
//!
//! All of them get the same rows. An LDB that is further on than the others skips what it has. An LDB that fails, or that
//! has to be fetched or copied, is left out and does not hold up the others. It is asked again after a pause. A host with
//! one LDB has nothing to leave out: a failure there is the poller's failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use futures::future::{join_all, select_all};
use prometheus_client::metrics::gauge::Gauge;
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::messages::ledger::{AdoptLedger, ApplyBatch, Bootstrap, FollowedLedger, GetPosition, HasLdb};
use ctlstore_core::ledger::{Batch, LdbPosition, LedgerInfo, Seq};
use ctlstore_ctldb::questions;

use super::failure::{Failure, Patience};

/// The first and the longest pause before an LDB that failed is asked again.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long an LDB that takes its time is waited for once another one can be fed.
const WAIT_FOR_OTHERS: Duration = Duration::from_millis(500);

/// One applier.
#[derive(Clone)]
pub struct ApplierPeer {
    /// Its LDB's path, for the log.
    pub ldb: String,
    pub apply: Recipient<ApplyBatch>,
    pub position: Recipient<GetPosition>,
    pub adopt: Recipient<AdoptLedger>,
    pub has_ldb: Recipient<HasLdb>,
    /// Gets another state of the LDB; `None` if there is no source. Without it, an LDB that can't follow the ledger stays
    /// as it is.
    pub bootstrap: Option<Recipient<Bootstrap>>,
}

/// A batch that is being applied: each answer with the number of its applier.
pub(super) type InFlight = JoinHandle<Vec<(usize, Result<Seq, Failure>)>>;

enum State {
    /// Left out until then.
    Out { until: Instant },
    /// It was asked where its LDB stands, or for another state of it.
    Asked(JoinHandle<Result<LdbPosition, Failure>>),
    /// It is fed; its LDB stands here.
    Fed(LdbPosition),
}

struct Member {
    peer: ApplierPeer,
    state: State,
    backoff: Backoff,
    patience: Patience,
    /// Why it is left out.
    reason: Option<String>,
}

/// All appliers of the node.
pub(super) struct Appliers {
    members: Vec<Member>,
}

impl Member {
    fn new(peer: ApplierPeer) -> Self {
        let backoff = Backoff::new(ASK_AGAIN.0, ASK_AGAIN.1);
        Self { peer, state: State::Out { until: Instant::now() }, backoff, patience: Patience::default(), reason: None }
    }

    fn fed(&self) -> Option<&LdbPosition> {
        if let State::Fed(position) = &self.state { Some(position) } else { None }
    }

    /// Whether it was left out and could be fed again.
    fn is_due(&self) -> bool {
        match &self.state {
            State::Out { until } => *until <= Instant::now(),
            State::Asked(asked) => asked.is_finished(),
            State::Fed(_) => false,
        }
    }

    fn ask_position(&mut self, ledger: Option<FollowedLedger>) {
        let peer = self.peer.position.clone();
        self.state = State::Asked(actix::spawn(async move {
            Ok(peer.send(GetPosition(ledger)).await.map_err(|_| Failure::ApplierGone)??)
        }));
    }

    /// False if it can't get a snapshot.
    fn ask_bootstrap(&mut self, ledger: FollowedLedger) -> bool {
        let Some(peer) = self.peer.bootstrap.clone() else { return false };
        self.state = State::Asked(actix::spawn(async move {
            Ok(peer.send(Bootstrap(ledger)).await.map_err(|_| Failure::ApplierGone)??)
        }));
        true
    }

    fn leave_out(&mut self, failure: &Failure) {
        let reason = failure.to_string();
        if self.reason.as_ref() != Some(&reason) {
            tracing::debug!(role = "poller", ldb = self.peer.ldb, reason, "left out");
        }
        self.reason = Some(reason);
        self.state = State::Out { until: Instant::now() + self.backoff.next_pause() };
    }
}

impl Appliers {
    pub(super) fn new(peers: &[ApplierPeer]) -> Self {
        Self { members: peers.iter().cloned().map(Member::new).collect() }
    }

    pub(super) fn is_one(&self) -> bool {
        self.members.len() == 1
    }

    /// Asks where the LDBs stand. Waits for all, but not for long once one can be fed.
    ///
    /// # Errors
    /// If none can be fed: why the first of them can't.
    pub(super) async fn gather(&mut self, ledger: Option<FollowedLedger>) -> Result<(), Failure> {
        let is_one = self.is_one();
        for member in &mut self.members {
            let is_asked = matches!(member.state, State::Asked(_));
            if !is_asked && (is_one || member.fed().is_some() || member.is_due()) {
                member.ask_position(ledger.clone());
            }
        }
        self.wait().await
    }

    /// Has every LDB brought to a snapshot that can follow `ledger`. Whether one can be fed now; why none can, the
    /// appliers say.
    pub(super) async fn bootstrap(&mut self, ledger: &FollowedLedger) -> bool {
        let mut is_any_asked = false;
        for member in &mut self.members {
            is_any_asked |= !matches!(member.state, State::Asked(_)) && member.ask_bootstrap(ledger.clone());
        }
        is_any_asked && self.wait().await.is_ok()
    }

    /// Takes the answers of those that were asked.
    async fn wait(&mut self) -> Result<(), Failure> {
        let mut first_failure = None;
        let others = tokio::time::sleep(WAIT_FOR_OTHERS);
        tokio::pin!(others);
        loop {
            let is_any_fed = self.lowest().is_some();
            let asked = self.members.iter_mut().enumerate().filter_map(|(index, member)| match &mut member.state {
                State::Asked(asked) => Some(Box::pin(async move { (index, asked.await) })),
                _ => None,
            });
            let asked: Vec<_> = asked.collect();
            if asked.is_empty() {
                break;
            }
            let (index, answer) = tokio::select! {
                (answer, ..) = select_all(asked) => answer,
                () = &mut others, if is_any_fed => break,
            };
            let member = &mut self.members[index];
            match answer.unwrap_or(Err(Failure::ApplierGone)) {
                Ok(position) => (member.state, member.reason) = (State::Fed(position), None),
                Err(failure) => {
                    member.leave_out(&failure);
                    first_failure.get_or_insert(failure);
                }
            }
        }
        match self.lowest() {
            Some(_) => Ok(()),
            None => Err(first_failure.unwrap_or(Failure::ApplierGone)),
        }
    }

    /// Where the LDBs stand that are fed, with their numbers.
    pub(super) fn fed(&self) -> impl Iterator<Item = (usize, &LdbPosition)> {
        self.members.iter().enumerate().filter_map(|(index, member)| Some((index, member.fed()?)))
    }

    /// The position from which on rows are to be read.
    pub(super) fn lowest(&self) -> Option<&LdbPosition> {
        self.fed().map(|(_, position)| position).min_by_key(|position| position.seq)
    }

    /// Stops feeding an LDB that can't follow the ledger, and has it brought to a snapshot if waiting is of no use.
    pub(super) fn give_up(&mut self, index: usize, failure: &Failure, info: &LedgerInfo) {
        let member = &mut self.members[index];
        let ldb = &member.peer.ldb;
        let reason = failure.to_string();
        tracing::warn!(role = "poller", ldb, reason, "left out, the other ldbs are fed");
        member.leave_out(failure);
        if member.patience.is_over(failure, Instant::now()) {
            // It copies an LDB of this host, whose last row was checked.
            let (history, _) = questions();
            member.ask_bootstrap(FollowedLedger { info: info.clone(), history });
        }
    }

    /// Whether one that was left out could be fed again.
    pub(super) fn is_any_due(&self) -> bool {
        !self.is_one() && self.members.iter().any(Member::is_due)
    }

    /// The LDBs that are left out, and why.
    pub(super) fn left_out(&self) -> Option<String> {
        let reason = |member: &Member| Some(format!("{} is left out: {}", member.peer.ldb, member.reason.as_ref()?));
        let reasons: Vec<_> = self.members.iter().filter(|member| member.fed().is_none()).filter_map(reason).collect();
        (!self.is_one() && !reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Those that name no ledger follow this one from now on.
    pub(super) async fn adopt(&mut self, id: &str) -> Result<(), Failure> {
        let nameless = self.fed().filter(|(_, position)| position.ledger_id.is_none());
        let asked = nameless.map(|(index, _)| {
            let answer = self.members[index].peer.adopt.send(AdoptLedger(id.to_owned()));
            async move { (index, answer.await.map_err(|_| Failure::ApplierGone).and_then(|done| Ok(done?))) }
        });
        let answers: Vec<(usize, Result<(), Failure>)> = join_all(asked).await;
        for (index, _) in answers.iter().filter(|(_, answer)| answer.is_ok()) {
            if let State::Fed(position) = &mut self.members[*index].state {
                position.ledger_id = Some(id.to_owned());
            }
        }
        self.leave_out_failed(answers.into_iter().filter_map(|(index, answer)| Some((index, answer.err()?))).collect())
    }

    /// Hands a batch to those that are fed. `waiting` counts it until all have answered.
    pub(super) fn apply(&self, batch: Batch, waiting: Gauge) -> InFlight {
        let batch = Arc::new(batch);
        waiting.inc();
        let asked = self.fed().map(|(index, _)| {
            let answer = self.members[index].peer.apply.send(ApplyBatch(Arc::clone(&batch)));
            async move { (index, answer.await.map_err(|_| Failure::ApplierGone).and_then(|done| Ok(done?))) }
        });
        let answers = join_all(asked);
        actix::spawn(async move {
            let answers = answers.await;
            waiting.dec();
            answers
        })
    }

    /// Takes the answers to a batch.
    ///
    /// # Errors
    /// If all failed: why the first did.
    pub(super) fn record(&mut self, answers: Vec<(usize, Result<Seq, Failure>)>) -> Result<(), Failure> {
        let mut failed = Vec::new();
        for (index, answer) in answers {
            let member = &mut self.members[index];
            match (answer, &mut member.state) {
                (Ok(seq), State::Fed(position)) => {
                    position.seq = seq;
                    member.backoff.reset();
                    member.patience = Patience::default();
                }
                (Ok(_), _) => {}
                (Err(failure), _) => failed.push((index, failure)),
            }
        }
        self.leave_out_failed(failed)
    }

    /// Looks whether the LDBs are still there.
    ///
    /// # Errors
    /// [`Failure::LdbGone`] if none is.
    pub(super) async fn check_presence(&mut self) -> Result<(), Failure> {
        let asked = self.fed().map(|(index, _)| {
            let answer = self.members[index].peer.has_ldb.send(HasLdb);
            async move { (index, answer.await) }
        });
        let mut failed = Vec::new();
        for (index, answer) in join_all(asked).await {
            match answer {
                Ok(true) => {}
                Ok(false) => failed.push((index, Failure::LdbGone)),
                Err(_) => failed.push((index, Failure::ApplierGone)),
            }
        }
        let gone: Vec<_> = failed.iter().map(|(index, _)| *index).collect();
        self.leave_out_failed(failed)?;
        // Another one takes its place when it is asked for its position.
        gone.into_iter().for_each(|index| self.members[index].state = State::Out { until: Instant::now() });
        Ok(())
    }

    /// Leaves these out, unless no other one is fed.
    fn leave_out_failed(&mut self, failed: Vec<(usize, Failure)>) -> Result<(), Failure> {
        if failed.len() == self.fed().count() {
            return failed.into_iter().next().map_or(Ok(()), |(_, failure)| Err(failure));
        }
        failed.iter().for_each(|(index, failure)| self.members[*index].leave_out(failure));
        Ok(())
    }
}
