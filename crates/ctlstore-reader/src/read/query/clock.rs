//! When a query must end: at its deadline, or when nobody waits for it any more. SQLite's
//! progress handler and the functions of ours look here; [`Clock::watch`] interrupts what
//! SQLite does without either, such as counting a table's rows on a slow disk.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Error, ffi};

use super::Cancelled;

/// How often a watched query's client is asked after, and an interrupt is repeated: one
/// that comes before SQLite has begun is forgotten by it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const NOT_ENDED: u8 = 0;
const OUT_OF_TIME: u8 = 1;
const CANCELLED: u8 = 2;

/// Why SQLite was made to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::read) enum EndReason {
    OutOfTime,
    Cancelled,
}

/// One for each connection that runs queries, one after the other.
#[derive(Default)]
pub(in crate::read) struct Clock {
    running: Mutex<Option<(Instant, Cancelled)>>,
    ended: AtomicU8,
}

impl Clock {
    /// From here on the connection's next query is meant.
    pub(super) fn begin(&self, deadline: Instant, cancelled: Cancelled) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some((deadline, cancelled));
        self.ended.store(NOT_ENDED, Ordering::Relaxed);
    }

    /// Why the query was ended, if it was.
    pub(super) fn ended(&self) -> Option<EndReason> {
        match self.ended.load(Ordering::Relaxed) {
            OUT_OF_TIME => Some(EndReason::OutOfTime),
            CANCELLED => Some(EndReason::Cancelled),
            _ => None,
        }
    }

    /// Whether the query must end now. Once it must, it stays so.
    pub(super) fn is_over(&self) -> bool {
        if self.ended().is_some() {
            return true;
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = match &*running {
            Some((_, cancelled)) if cancelled() => CANCELLED,
            Some((deadline, _)) if Instant::now() >= *deadline => OUT_OF_TIME,
            _ => NOT_ENDED,
        };
        self.ended.store(ended, Ordering::Relaxed);
        ended != NOT_ENDED
    }

    /// The same for a function, whose error ends the query.
    pub(super) fn check(&self) -> rusqlite::Result<()> {
        match self.is_over() {
            true => Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_INTERRUPT), None)),
            false => Ok(()),
        }
    }

    /// Runs `work` while a thread interrupts the connection as soon as the query must end.
    /// The thread has ended when this returns.
    pub(super) fn watch<T>(&self, connection: &Connection, work: impl FnOnce() -> T) -> T {
        let interrupt = connection.get_interrupt_handle();
        thread::scope(|scope| {
            let (over, is_over) = mpsc::channel::<()>();
            let watch = move || {
                while is_over.recv_timeout(LOOK_AGAIN) == Err(mpsc::RecvTimeoutError::Timeout) {
                    if self.is_over() {
                        interrupt.interrupt();
                    }
                }
            };
            // Without the thread the other looks at the clock are still there.
            let _ = thread::Builder::new().name("query-watch".to_owned()).spawn_scoped(scope, watch);
            let result = work();
            drop(over);
            result
        })
    }
}
