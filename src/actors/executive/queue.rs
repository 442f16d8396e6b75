//! Mutation requests that wait for the ledger lock: bounded, in order, and taken
//! out in groups that share a commit. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::executive::{ExecutiveError, MutationRequest, Written};

/// Bounds of the queue: requests, and bytes of their values.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// Bounds of one commit.
const MAX_GROUP: usize = 64;
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A request and who waits for its answer.
#[derive(Debug)]
pub struct Waiting {
    pub request: Arc<MutationRequest>,
    pub deadline: Instant,
    answer: oneshot::Sender<Result<Written, ExecutiveError>>,
    bytes: usize,
    /// Whether it shares its commit with nobody.
    alone: bool,
}

impl Waiting {
    pub fn new(
        request: MutationRequest,
        deadline: Instant,
    ) -> (Self, oneshot::Receiver<Result<Written, ExecutiveError>>) {
        let (answer, answered) = oneshot::channel();
        let bytes = request.weight();
        (Self { request: Arc::new(request), deadline, answer, bytes, alone: false }, answered)
    }

    /// Nobody may be waiting any more; the outcome stands all the same.
    pub fn answer(self, outcome: Result<Written, ExecutiveError>) {
        let _ = self.answer.send(outcome);
    }
}

#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Queue {
    /// Gives the request back when the queue is full.
    pub fn push(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        if self.waiting.len() >= MAX_WAITING || self.bytes.saturating_add(waiting.bytes) > MAX_WAITING_BYTES {
            return Err(waiting);
        }
        self.bytes += waiting.bytes;
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Puts requests back that were taken out, before all others, in their order.
    pub fn put_back(&mut self, group: Vec<Waiting>) {
        for waiting in group.into_iter().rev() {
            self.bytes += waiting.bytes;
            self.waiting.push_front(waiting);
        }
    }

    /// As [`Queue::put_back`], and lets each have a commit for itself from now on.
    pub fn put_back_alone(&mut self, mut group: Vec<Waiting>) {
        group.iter_mut().for_each(|waiting| waiting.alone = true);
        self.put_back(group);
    }

    /// Takes out what shares the next commit: at least one request, if there is any.
    pub fn next_group(&mut self) -> Vec<Waiting> {
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.front() {
            bytes += next.bytes;
            let alone = next.alone;
            if !group.is_empty() && (alone || group.len() >= MAX_GROUP || bytes > MAX_GROUP_BYTES) {
                break;
            }
            group.extend(self.waiting.pop_front());
            if alone {
                break;
            }
        }
        self.bytes -= group.iter().map(|waiting| waiting.bytes).sum::<usize>();
        group
    }

    /// Takes out what has waited past its deadline.
    pub fn expired(&mut self, now: Instant) -> Vec<Waiting> {
        let (expired, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|w| w.deadline <= now);
        self.waiting = waiting;
        let expired: Vec<Waiting> = VecDeque::into(expired);
        self.bytes -= expired.iter().map(|waiting| waiting.bytes).sum::<usize>();
        expired
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
