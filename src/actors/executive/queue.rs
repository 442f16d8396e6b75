//! [`MutationQueue`]: the mutation requests that wait for the ledger lock. It is bounded, keeps their
//! order, and gives them out in groups that share a commit. No I/O.

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

/// A request that waits for its commit.
#[derive(Debug)]
pub struct WaitingRequest {
    pub request: Arc<MutationRequest>,
    pub deadline: Instant,
    pub answer_to: AnswerTo,
    bytes: usize,
    /// Whether it must have a commit of its own.
    alone: bool,
}

impl WaitingRequest {
    pub fn new(request: MutationRequest, answer_to: AnswerTo, deadline: Instant) -> Self {
        let bytes = request.weight();
        Self { request: Arc::new(request), deadline, answer_to, bytes, alone: false }
    }
}

#[derive(Debug, Default)]
pub struct MutationQueue {
    waiting: VecDeque<WaitingRequest>,
    bytes: usize,
}

impl MutationQueue {
    /// Adds a request, or returns it if the queue is full.
    pub fn push(&mut self, waiting: WaitingRequest) -> Result<(), WaitingRequest> {
        if self.waiting.len() >= MAX_WAITING || self.bytes.saturating_add(waiting.bytes) > MAX_WAITING_BYTES {
            return Err(waiting);
        }
        self.bytes += waiting.bytes;
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Puts requests back that were taken out, in their order and before all others.
    pub fn put_back(&mut self, group: Vec<WaitingRequest>) {
        for waiting in group.into_iter().rev() {
            self.bytes += waiting.bytes;
            self.waiting.push_front(waiting);
        }
    }

    /// As [`MutationQueue::put_back`], but each request gets a commit of its own from now on.
    pub fn put_back_alone(&mut self, mut group: Vec<WaitingRequest>) {
        group.iter_mut().for_each(|waiting| waiting.alone = true);
        self.put_back(group);
    }

    /// Takes out the requests for the next commit: at least one, if there is any.
    pub fn next_group(&mut self) -> Vec<WaitingRequest> {
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

    /// Takes out the requests whose deadline has passed. All may wait equally long, so these are at the front.
    pub fn expired(&mut self, now: Instant) -> Vec<WaitingRequest> {
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

    /// A request with one value of `bytes` bytes and a deadline in `seconds` seconds.
    fn waiting(bytes: usize, seconds: u64) -> WaitingRequest {
        let family = FamilyName::new("fam").unwrap();
        let value = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes - 2))).unwrap();
        let mutation = Mutation::new(&family, "tab", false, vec![("v".to_owned(), value)]).unwrap();
        let credentials = Credentials { writer: WriterName::new("writer").unwrap(), secret: Secret::shown(b"") };
        let request = MutationRequest::new(credentials, vec![], None, vec![mutation]).unwrap();
        let answer_to = AnswerTo { waiter: oneshot::channel().0, batches: mpsc::unbounded_channel().0 };
        WaitingRequest::new(request, answer_to, Instant::now() + Duration::from_secs(seconds))
    }

    fn sizes(group: &[WaitingRequest]) -> Vec<usize> {
        group.iter().map(|waiting| waiting.bytes).collect()
    }

    #[test]
    fn groups_are_bounded_in_number_and_bytes_and_keep_the_order() {
        let mut queue = MutationQueue::default();
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
        let mut queue = MutationQueue::default();
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
        let mut queue = MutationQueue::default();
        for seconds in [0, 0, 60] {
            queue.push(waiting(10, seconds)).unwrap();
        }
        assert_eq!(queue.expired(Instant::now()).len(), 2);
        assert_eq!(queue.expired(Instant::now()).len(), 0);
        assert_eq!((queue.len(), queue.bytes), (1, 10));
    }
}
