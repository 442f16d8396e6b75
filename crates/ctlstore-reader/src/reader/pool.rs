//! Gives each thread a connection of its own, so that reads of different threads share no lock. Entry
//! point: [`Pool::with`]. `threads` numbers the threads.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError, Weak};

use crate::read::LdbReader;

use super::threads::{self, OnThreadEnd};

/// The number of connections at once. If more threads read at once, some share one.
const SLOTS: usize = 128;

/// The place of one connection. Each is on cache lines of its own; processors fetch two together.
#[repr(align(128))]
#[derive(Default)]
struct Slot(Mutex<MaybeReader>);

/// The reader is boxed, so that a slot without one is small.
type MaybeReader = Option<Box<LdbReader>>;

/// The connections to one LDB. Each is closed when its thread ends, and all of them with the pool.
pub(super) struct Pool {
    make: Box<dyn Fn() -> LdbReader + Send + Sync>,
    slots: Box<[Slot]>,
}

impl Pool {
    pub(super) fn new(make: impl Fn() -> LdbReader + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), slots: std::iter::repeat_with(Slot::default).take(SLOTS).collect() }
    }

    /// Runs `read` with a connection that no other thread uses at the same time.
    pub(super) fn with<T>(self: &Arc<Self>, read: impl FnOnce(&mut LdbReader) -> T) -> T {
        let number = threads::number();
        let mut held = number.and_then(|number| self.hold(number));
        let Some(slot) = &mut held else {
            // All slots are in use, for example by reads inside reads of very many threads. A wait
            // could be a wait for this thread itself.
            return read(&mut (self.make)());
        };
        let reader = slot.get_or_insert_with(|| {
            let pool: Weak<Self> = Arc::downgrade(self);
            threads::at_end(pool);
            Box::new((self.make)())
        });
        let outcome = read(reader);
        let has_switched = reader.take_switched();
        drop(held);
        if has_switched {
            self.let_go_of_replaced();
        }
        outcome
    }

    /// The thread's own slot, or the next free one. The own slot is in use if this read runs inside
    /// another one, or if there are more threads than slots. A connection that is made in the slot of
    /// another thread stays there for that thread.
    fn hold(&self, number: usize) -> Option<MutexGuard<'_, MaybeReader>> {
        (0..SLOTS).find_map(|i| try_hold(&self.slots[(number + i) % SLOTS]))
    }

    /// Closes the idle connections to a file that was replaced. Their threads don't read, so they
    /// don't look at the path, and the connections would keep the old file's space in use.
    fn let_go_of_replaced(&self) {
        for mut slot in self.slots.iter().filter_map(try_hold) {
            if let Some(reader) = &mut *slot {
                reader.let_go_of_replaced();
            }
        }
    }
}

/// Closes the thread's connection.
impl OnThreadEnd for Pool {
    fn on_thread_end(&self, number: usize) {
        if let Some(mut slot) = try_hold(&self.slots[number % SLOTS]) {
            *slot = None;
        }
    }
}

fn try_hold(slot: &Slot) -> Option<MutexGuard<'_, MaybeReader>> {
    match slot.0.try_lock() {
        Ok(held) => Some(held),
        Err(TryLockError::Poisoned(poisoned)) => {
            // A read has panicked. Its transaction is over, and the next read opens another connection.
            let mut held = poisoned.into_inner();
            *held = None;
            slot.0.clear_poison();
            Some(held)
        }
        Err(TryLockError::WouldBlock) => None,
    }
}
