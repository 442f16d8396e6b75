//! Mutation requests that wait for the ledger lock: bounded, in order, and taken
//! out in groups that share a commit. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::messages::executive::AnswerTo;
use ctlstore_ctldb::executive::MutationRequest;

/// Bounds of the queue: requests, and bytes of their values.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// Bounds of one commit.
pub const MAX_GROUP: usize = 64;
const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A request and who waits for its answer.
#[derive(Debug)]
pub struct Waiting {
    pub request: Arc<MutationRequest>,
    pub deadline: Instant,
    pub answer_to: AnswerTo,
    bytes: usize,
    /// Whether it shares its commit with nobody.
    alone: bool,
}

impl Waiting {
    pub fn new(request: MutationRequest, answer_to: AnswerTo, deadline: Instant) -> Self {
        let bytes = request.weight();
        Self { request: Arc::new(request), deadline, answer_to, bytes, alone: false }
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

    /// Takes out what has waited past its deadline. All wait equally long, so
    /// those are at the front.
    pub fn expired(&mut self, now: Instant) -> Vec<Waiting> {
        let mut expired = Vec::new();
        while self.waiting.front().is_some_and(|waiting| waiting.deadline <= now) {
            expired.extend(self.waiting.pop_front());
        }
        self.bytes -= expired.iter().map(|waiting| waiting.bytes).sum::<usize>();
        expired
    }

    pub fn next_is_alone(&self) -> bool {
        self.waiting.front().is_some_and(|next| next.alone)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::RawValue;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use ctlstore_core::schema::{FamilyName, WriterName};
    use ctlstore_ctldb::executive::{Credentials, Mutation, Secret};

    /// A request whose one value has so many bytes, and whose deadline is so many seconds ahead.
    fn waiting(bytes: usize, seconds: u64) -> Waiting {
        let family = FamilyName::new("fam").unwrap();
        let value = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
        let mutation = Mutation::new(&family, "tab", false, vec![("v".to_owned(), value)]).unwrap();
        let credentials = Credentials { writer: WriterName::new("writer").unwrap(), secret: Secret::shown(b"") };
        let request = MutationRequest::new(credentials, vec![], None, vec![mutation]).unwrap();
        let answer_to = AnswerTo { waiter: oneshot::channel().0, batches: mpsc::unbounded_channel().0 };
        Waiting::new(request, answer_to, Instant::now() + Duration::from_secs(seconds))
    }

    fn sizes(group: &[Waiting]) -> Vec<usize> {
        group.iter().map(|waiting| waiting.bytes).collect()
    }

    #[test]
    fn groups_are_bounded_in_number_and_bytes_and_keep_the_order() {
        let mut queue = Queue::default();
        for bytes in [10, MAX_GROUP_BYTES, 20, 30, MAX_GROUP_BYTES - 50, 40] {
            queue.push(waiting(bytes, 9)).unwrap();
        }
        assert_eq!(sizes(&queue.next_group()), [10]);
        assert_eq!(sizes(&queue.next_group()), [MAX_GROUP_BYTES]);
        let group = queue.next_group();
        assert_eq!(sizes(&group), [20, 30, MAX_GROUP_BYTES - 50]);
        queue.put_back(group);
        assert_eq!(sizes(&queue.next_group()), [20, 30, MAX_GROUP_BYTES - 50]);
        assert_eq!(sizes(&queue.next_group()), [40]);
        assert!(queue.is_empty() && queue.next_group().is_empty());
        for _ in 0..=MAX_GROUP {
            queue.push(waiting(10, 9)).unwrap();
        }
        assert_eq!(queue.next_group().len(), MAX_GROUP);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_full_queue_gives_the_request_back() {
        let mut queue = Queue::default();
        for _ in 0..MAX_WAITING {
            queue.push(waiting(10, 9)).unwrap();
        }
        assert_eq!(queue.push(waiting(10, 9)).unwrap_err().bytes, 10);
        queue.next_group();
        queue.push(waiting(10, 9)).unwrap();
        assert!(queue.push(waiting(MAX_WAITING_BYTES, 9)).is_err());
    }

    #[test]
    fn what_has_waited_too_long_is_taken_out() {
        let mut queue = Queue::default();
        for seconds in [0, 0, 60] {
            queue.push(waiting(10, seconds)).unwrap();
        }
        assert_eq!(queue.expired(Instant::now()).len(), 2);
        assert_eq!(queue.expired(Instant::now()).len(), 0);
        assert_eq!((queue.len(), queue.bytes), (1, 10));
    }
}
