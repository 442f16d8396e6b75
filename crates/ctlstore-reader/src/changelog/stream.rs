//! A follower as an async stream, for any runtime: a thread follows, and hands entries
//! over through a bounded queue.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use futures_core::Stream;

use super::{ChangelogPosition, Entry, FollowError, Follower};

/// Entries that wait for the stream's owner.
const QUEUE: usize = 256;
/// How soon the thread notices that its stream was dropped.
const NOTICE: Duration = Duration::from_millis(100);

/// What the thread has found: an entry and the place behind it.
type Item = Result<(Entry, ChangelogPosition), FollowError>;

/// Entries as they come. It never ends.
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
    items: VecDeque<Item>,
    waker: Option<Waker>,
    is_dropped: bool,
}

impl Follower {
    /// Follows on a thread of its own, which ends soon after the stream is dropped. A
    /// [`timeout`](Self::timeout) means nothing to a stream.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn into_stream(self) -> io::Result<FollowerStream> {
        let queue = Arc::new(Queue::default());
        let position = self.position().cloned();
        let stream = FollowerStream { queue: Arc::clone(&queue), position };
        thread::Builder::new().name("changelog-follower".to_owned()).spawn(move || queue.follow(self))?;
        Ok(stream)
    }
}

impl FollowerStream {
    /// The entry that was given last, for [`Follower::resume`].
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
        // Plain values, which no panic leaves half-written.
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
                // A file that can't be read is asked for again, and not in a loop.
                thread::sleep(NOTICE);
            }
        }
    }

    /// Waits for room.
    fn push(&self, item: Item) {
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
