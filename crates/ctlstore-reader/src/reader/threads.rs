//! Numbers the threads that read, and tells pools when a thread ends. Entry points: [`number`] and
//! [`at_end`]. A thread gets the smallest free number, and gives it back at its end. So no two
//! running threads share a number, and the numbers stay small.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError, Weak};

/// Something that wants to know when a thread ends that has used it.
pub(super) trait OnThreadEnd: Send + Sync {
    /// `number` is the ending thread's.
    fn on_thread_end(&self, number: usize);
}

/// The numbers that no thread has. It is locked when a thread first reads and when it ends, and never
/// by a later read.
static FREE: Mutex<Free> = Mutex::new(Free { next: 0, given_back: BTreeSet::new() });

struct Free {
    /// The smallest number that no thread has had.
    next: usize,
    given_back: BTreeSet<usize>,
}

thread_local! {
    static THIS: ThisThread = ThisThread::new();
}

struct ThisThread {
    number: usize,
    /// The pools in which this thread has connections.
    pools: RefCell<Vec<Weak<dyn OnThreadEnd>>>,
}

impl ThisThread {
    fn new() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let number = free.given_back.pop_first().unwrap_or_else(|| {
            free.next += 1;
            free.next - 1
        });
        Self { number, pools: RefCell::default() }
    }
}

impl Drop for ThisThread {
    fn drop(&mut self) {
        for pool in self.pools.borrow().iter().filter_map(Weak::upgrade) {
            pool.on_thread_end(self.number);
        }
        FREE.lock().unwrap_or_else(PoisonError::into_inner).given_back.insert(self.number);
    }
}

/// The number of this thread; `None` while it is ending.
pub(super) fn number() -> Option<usize> {
    THIS.try_with(|this| this.number).ok()
}

/// Tells `pool` when this thread ends.
pub(super) fn at_end(pool: Weak<dyn OnThreadEnd>) {
    // An ending thread has no number, so it has no connection in a pool.
    let _ = THIS.try_with(|this| {
        let mut pools = this.pools.borrow_mut();
        pools.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&pool));
        pools.push(pool);
    });
}
