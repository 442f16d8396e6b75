//! Counts the memory of large bodies, over all servers of the process. Entry points:
//! [`BodyMemory::more`] waits for memory, [`BodyMemory::now`] does not. A body that does not arrive
//! loses its memory if another one needs it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use crate::http::error::HttpError;

/// The most bytes that all bodies together hold.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The bodies that wait for memory; one more is refused. Each holds what the HTTP library reads ahead,
/// up to half a MiB.
static WAITING: Semaphore = Semaphore::const_new(128);

/// A body loses its memory to another one if no byte arrives for `STALLED`. After `SLOW_AFTER` it also
/// loses it if fewer bytes than this arrive in a second.
const STALLED: Duration = Duration::from_millis(250);
const SLOW_BYTES_PER_SECOND: u64 = 64 * 1024;
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// The pause between two tries of a body that waits. Another body may have stalled by then.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

static MEMORY: LazyLock<Memory> = LazyLock::new(Memory::default);

#[derive(Debug, Default)]
struct Memory {
    state: Mutex<State>,
    /// Told whenever memory is given back.
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
    arrival: Arc<Arrival>,
}

/// How far a body has arrived, for the task that reads it and for those that need its memory.
#[derive(Debug)]
struct Arrival {
    began: Instant,
    /// Bytes so far.
    received: AtomicU64,
    /// When the last bytes arrived, in milliseconds from `began`; [`COMPLETE`] if all have.
    grew: AtomicU64,
    /// How long the body has waited for memory, in milliseconds. The server reads none of it meanwhile.
    waited: AtomicU64,
    revoked: Notify,
}

const COMPLETE: u64 = u64::MAX;

/// Memory that one body holds, until this is dropped.
#[derive(Debug)]
pub struct BodyMemory {
    id: u64,
    bytes: usize,
    arrival: Arc<Arrival>,
}

impl BodyMemory {
    /// Takes `bytes`, if they are free.
    pub fn now(bytes: usize) -> Option<Self> {
        MEMORY.take(bytes, &Arrival::new())
    }

    /// Takes `bytes` in all, in place of `held`, which is given back first: otherwise bodies could
    /// wait for one another for ever. A bounded number of bodies wait at one time.
    pub async fn more(held: Option<Self>, bytes: usize) -> Result<Self, HttpError> {
        // This drops `held`, and so gives its memory back.
        let arrival = held.map_or_else(Arrival::new, |held| Arc::clone(&held.arrival));
        if let Some(held) = MEMORY.take(bytes, &arrival) {
            return Ok(held);
        }
        let too_many = || HttpError::unavailable("too many large requests at one time");
        let _waiting = WAITING.try_acquire().map_err(|_| too_many())?;
        let began = Instant::now();
        loop {
            let freed = MEMORY.freed.notified();
            if let Some(held) = MEMORY.take_after(began.elapsed(), bytes, &arrival) {
                return Ok(held);
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records how much of the body has arrived.
    pub fn progress(&self, received: usize) {
        self.arrival.received.store(received as u64, Ordering::Relaxed);
        let now = self.arrival.began.elapsed().as_millis();
        self.arrival.grew.store(u64::try_from(now).unwrap_or(COMPLETE - 1), Ordering::Relaxed);
    }

    /// Records that the body is complete, so that its memory is not taken from it any more.
    pub fn complete(&self) {
        self.arrival.grew.store(COMPLETE, Ordering::Relaxed);
    }

    /// Returns when another body gets the memory.
    pub async fn revoked(&self) {
        self.arrival.revoked.notified().await;
    }
}

impl Drop for BodyMemory {
    fn drop(&mut self) {
        MEMORY.give_back(self.id);
    }
}

impl Arrival {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            received: AtomicU64::new(0),
            grew: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            revoked: Notify::new(),
        })
    }

    /// Records that the body has waited for memory, and that its client may send again.
    fn resume(&self, waited: Duration) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(COMPLETE - 1);
        self.waited.fetch_add(millis(waited), Ordering::Relaxed);
        self.grew.store(millis(self.began.elapsed()), Ordering::Relaxed);
    }

    /// How many bytes a second have arrived, if another body may have this one's memory.
    fn spare(&self) -> Option<u64> {
        let grew = self.grew.load(Ordering::Relaxed);
        if grew == COMPLETE {
            return None;
        }
        let age = self.began.elapsed();
        let is_stalled = age.saturating_sub(Duration::from_millis(grew)) >= STALLED;
        // The client can't send while the body waits for memory.
        let age = age.saturating_sub(Duration::from_millis(self.waited.load(Ordering::Relaxed)));
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = self.received.load(Ordering::Relaxed).saturating_mul(1000) / millis;
        (is_stalled || (age >= SLOW_AFTER && rate < SLOW_BYTES_PER_SECOND)).then_some(rate)
    }
}

impl Memory {
    /// Takes `bytes`; if too few are free, from the slowest of the other bodies.
    fn take(&self, bytes: usize, arrival: &Arc<Arrival>) -> Option<BodyMemory> {
        self.take_after(Duration::ZERO, bytes, arrival)
    }

    /// The same for a body that has `waited` for them.
    fn take_after(&self, waited: Duration, bytes: usize, arrival: &Arc<Arrival>) -> Option<BodyMemory> {
        let mut state = self.state();
        let missing = (state.used + bytes).saturating_sub(MAX_BYTES);
        if missing > 0 {
            state.revoke(missing);
        }
        if state.used + bytes > MAX_BYTES {
            return None;
        }
        if waited > Duration::ZERO {
            // Under the lock, so that no other body takes this one for a stalled one first.
            arrival.resume(waited);
        }
        state.used += bytes;
        let id = state.next;
        state.next += 1;
        state.holders.insert(id, Holder { bytes, began: Instant::now(), arrival: Arc::clone(arrival) });
        Some(BodyMemory { id, bytes, arrival: Arc::clone(arrival) })
    }

    fn give_back(&self, id: u64) {
        let mut state = self.state();
        // Memory that was revoked is given back already.
        if let Some(holder) = state.holders.remove(&id) {
            state.used -= holder.bytes;
            drop(state);
            self.freed.notify_waiters();
        }
    }

    /// Locks also after a panic: no panic leaves the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes `bytes` from bodies that do not arrive, the slowest first, if these have so many.
    fn revoke(&mut self, bytes: usize) {
        let mut spare: Vec<(u64, Instant, u64, usize)> = self
            .holders
            .iter()
            .filter_map(|(id, holder)| Some((holder.arrival.spare()?, holder.began, *id, holder.bytes)))
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
                holder.arrival.revoked.notify_one();
                self.used -= holder.bytes;
                left = left.saturating_sub(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_waited_for_memory_does_not_count_as_stalled_or_slow() {
        let waited = Duration::from_secs(10);
        let arrival = Arrival {
            began: Instant::now().checked_sub(waited).expect("the machine has run for longer"),
            received: AtomicU64::new(1),
            grew: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            revoked: Notify::new(),
        };
        assert!(arrival.spare().is_some(), "nothing has arrived for long");
        arrival.resume(waited);
        assert_eq!(arrival.spare(), None, "the server has read nothing meanwhile");
    }
}
