//! Numbers for the threads that read: the smallest that is free, given back when the
//! thread ends. So a number stands for one running thread, and the largest one for
//! how many there have been at once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError, Weak};

use super::pool::Pool;

/// Numbers below `next` that no thread has. Locked when a thread first reads and when
/// it ends, never by a read.
static FREE: Mutex<Free> = Mutex::new(Free { next: 0, given_back: BTreeSet::new() });

struct Free {
    next: usize,
    given_back: BTreeSet<usize>,
}

thread_local! {
    static THIS: ThisThread = ThisThread::new();
}

struct ThisThread {
    number: usize,
    /// Where this thread has connections that are to be closed at its end.
    pools: RefCell<Vec<Weak<Pool>>>,
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
            pool.close(self.number);
        }
        FREE.lock().unwrap_or_else(PoisonError::into_inner).given_back.insert(self.number);
    }
}

/// This thread's number; `None` while the thread is ending.
pub(super) fn number() -> Option<usize> {
    THIS.try_with(|this| this.number).ok()
}

/// Has `pool` told when this thread ends.
pub(super) fn at_end_close(pool: Weak<Pool>) {
    // A thread that is ending has no number, so it opens nothing that it could leave.
    let _ = THIS.try_with(|this| {
        let mut pools = this.pools.borrow_mut();
        pools.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&pool));
        pools.push(pool);
    });
}
