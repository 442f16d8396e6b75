//! A follower as an async stream, for any runtime. Entry point: [`Follower::into_stream`]. A thread
//! follows the changelog, and hands the entries over through a bounded queue.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_core::Stream;

use super::entry::{ChangelogPosition, Entry};
use super::follower::{FollowError, Follower};

/// The most entries that wait for the stream's user.
const QUEUE: usize = 256;
/// The thread notices within this time that its stream was dropped.
const NOTICE: Duration = Duration::from_millis(100);

/// An entry and the place after it, or an error.
type QueuedEntry = Result<(Entry, ChangelogPosition), FollowError>;

/// A stream of the changelog's entries. It never ends.
#[derive(Debug)]
pub struct FollowerStream {
    queue: Arc<Queue>,
    position: Option<ChangelogPosition>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    has_room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<QueuedEntry>,
    waker: Option<Waker>,
    is_dropped: bool,
}

impl Follower {
    /// Follows the changelog on a thread of its own, which ends soon after the stream is dropped. A
    /// [`timeout`](Self::timeout) has no effect on a stream.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub fn into_stream(self) -> io::Result<FollowerStream> {
        let queue = Arc::new(Queue::default());
        let position = self.position().cloned();
        let stream = FollowerStream { queue: Arc::clone(&queue), position };
        thread::Builder::new().name("changelog-follower".to_owned()).spawn(move || queue.follow(self))?;
        Ok(stream)
    }
}

impl FollowerStream {
    /// The place after the last entry that the stream has returned, for [`Follower::resume`].
    pub fn position(&self) -> Option<&ChangelogPosition> {
        self.position.as_ref()
    }
}

impl Stream for FollowerStream {
    type Item = Result<Entry, FollowError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = {
            let mut state = self.queue.state();
            let Some(item) = state.items.pop_front() else {
                state.waker = Some(context.waker().clone());
                return Poll::Pending;
            };
            item
        };
        self.queue.has_room.notify_one();
        Poll::Ready(Some(item.map(|(entry, position)| {
            self.position = Some(position);
            entry
        })))
    }
}

impl Drop for FollowerStream {
    fn drop(&mut self) {
        self.queue.state().is_dropped = true;
        self.queue.has_room.notify_one();
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic can't leave these plain values half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, mut follower: Follower) {
        while !self.state().is_dropped {
            let item = match follower.next_within(NOTICE) {
                Ok(None) => continue,
                Ok(Some(entry)) => follower.position().cloned().map(|position| Ok((entry, position))),
                Err(error) => Some(Err(error)),
            };
            let is_broken = matches!(item, Some(Err(FollowError::Io { .. })));
            item.into_iter().for_each(|item| self.push(item));
            if is_broken {
                // A file that can't be read is tried again after a pause.
                thread::sleep(NOTICE);
            }
        }
    }

    /// Appends an item. Waits while the queue is full.
    fn push(&self, item: QueuedEntry) {
        let full = |state: &mut State| state.items.len() >= QUEUE && !state.is_dropped;
        let mut state = self.has_room.wait_while(self.state(), full).unwrap_or_else(PoisonError::into_inner);
        state.items.push_back(item);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
