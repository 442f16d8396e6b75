//! The memory that large bodies may take, over all servers of the process. A body that does
//! not come keeps none of it when another one needs it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use crate::http::error::HttpError;

/// What all of them together may hold, in bytes.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Bodies that wait for memory. Each has what the server's library reads ahead, up to
/// half a MiB; when these are as many, the next one is refused.
static WAITING: Semaphore = Semaphore::const_new(128);

/// How long a body may go without a byte, and how much of it must come in a second, before
/// others may have its memory.
const STALLED: Duration = Duration::from_millis(250);
const SLOW_BYTES_PER_SECOND: u64 = 64 * 1024;
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// Between two looks of one that waits: what others hold may stall meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::default);

#[derive(Debug, Default)]
struct Memory {
    state: Mutex<State>,
    /// Told whenever some is given back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    next: u64,
    holders: HashMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    bytes: usize,
    began: Instant,
    shared: Arc<Shared>,
}

/// What the one that reads a body and those that need its memory both see.
#[derive(Debug)]
struct Shared {
    began: Instant,
    /// Of the body, so far.
    received: AtomicU64,
    /// When it grew last, in milliseconds from `began`; [`COMPLETE`] when it is whole.
    grew: AtomicU64,
    revoked: Notify,
}

const COMPLETE: u64 = u64::MAX;

/// Memory that one body holds, until it is dropped.
#[derive(Debug)]
pub struct Held {
    id: u64,
    bytes: usize,
    shared: Arc<Shared>,
}

impl Held {
    /// `bytes`, if nobody has to wait for them.
    pub fn now(bytes: usize) -> Option<Self> {
        MEMORY.take(bytes, &Shared::new(0))
    }

    /// `bytes` in all, instead of what `held` has, which is given back first: bodies that
    /// wait for one another would wait for ever. Waits beside a bounded number of others.
    pub async fn more(held: Option<Self>, bytes: usize) -> Result<Self, HttpError> {
        let (received, shared) = match held {
            Some(held) => (held.shared.received.load(Ordering::Relaxed), Some(Arc::clone(&held.shared))),
            None => (0, None),
        };
        let shared = shared.unwrap_or_else(|| Shared::new(received));
        if let Some(held) = MEMORY.take(bytes, &shared) {
            return Ok(held);
        }
        let too_many = || HttpError::unavailable("too many large requests at one time");
        let _waiting = WAITING.try_acquire().map_err(|_| too_many())?;
        loop {
            let freed = MEMORY.freed.notified();
            if let Some(held) = MEMORY.take(bytes, &shared) {
                return Ok(held);
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// So much of the body has come.
    pub fn progress(&self, received: usize) {
        self.shared.received.store(received as u64, Ordering::Relaxed);
        let now = self.shared.began.elapsed().as_millis();
        self.shared.grew.store(u64::try_from(now).unwrap_or(COMPLETE - 1), Ordering::Relaxed);
    }

    /// The body is whole; what it holds is not taken from it any more.
    pub fn complete(&self) {
        self.shared.grew.store(COMPLETE, Ordering::Relaxed);
    }

    /// Returns when others need the memory.
    pub async fn revoked(&self) {
        self.shared.revoked.notified().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        MEMORY.give_back(self.id);
    }
}

impl Shared {
    fn new(received: u64) -> Arc<Self> {
        let (began, revoked) = (Instant::now(), Notify::new());
        Arc::new(Self { began, received: received.into(), grew: AtomicU64::new(0), revoked })
    }

    /// How many bytes a second it has brought, if others may have its memory.
    fn spare(&self) -> Option<u64> {
        let grew = self.grew.load(Ordering::Relaxed);
        if grew == COMPLETE {
            return None;
        }
        let age = self.began.elapsed();
        let is_stalled = age.saturating_sub(Duration::from_millis(grew)) >= STALLED;
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = self.received.load(Ordering::Relaxed).saturating_mul(1000) / millis;
        (is_stalled || (age >= SLOW_AFTER && rate < SLOW_BYTES_PER_SECOND)).then_some(rate)
    }
}

impl Memory {
    /// Takes `bytes`, from the slowest of others where there are no more.
    fn take(&self, bytes: usize, shared: &Arc<Shared>) -> Option<Held> {
        let mut state = self.state();
        let missing = (state.used + bytes).saturating_sub(MAX_BYTES);
        if missing > 0 {
            state.revoke(missing);
        }
        if state.used + bytes > MAX_BYTES {
            return None;
        }
        state.used += bytes;
        let id = state.next;
        state.next += 1;
        state.holders.insert(id, Holder { bytes, began: Instant::now(), shared: Arc::clone(shared) });
        Some(Held { id, bytes, shared: Arc::clone(shared) })
    }

    fn give_back(&self, id: u64) {
        let mut state = self.state();
        // What was revoked is given back already.
        if let Some(holder) = state.holders.remove(&id) {
            state.used -= holder.bytes;
            drop(state);
            self.freed.notify_waiters();
        }
    }

    /// No panic leaves it half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes `bytes` from those whose bodies do not come, the slowest first, if they have as many.
    fn revoke(&mut self, bytes: usize) {
        let mut spare: Vec<(u64, Instant, u64, usize)> = self
            .holders
            .iter()
            .filter_map(|(id, holder)| Some((holder.shared.spare()?, holder.began, *id, holder.bytes)))
            .collect();
        if spare.iter().map(|(.., bytes)| bytes).sum::<usize>() < bytes {
            return;
        }
        spare.sort_unstable();
        let mut left = bytes;
        for (_, _, id, bytes) in spare {
            if left == 0 {
                break;
            }
            if let Some(holder) = self.holders.remove(&id) {
                holder.shared.revoked.notify_one();
                self.used -= holder.bytes;
                left = left.saturating_sub(bytes);
            }
        }
    }
}
