//! Ends a query at its deadline, or when its client is gone. Entry points: [`QueryClock::is_over`] for
//! SQLite's progress handler and ctlstore's own SQL functions, and [`QueryClock::watch`]. A watching thread
//! interrupts work in which SQLite calls neither, such as counting a table's rows on a slow disk.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Error, ffi};

/// Says whether the client of a query is gone. The query calls it again and again while it runs.
pub type Cancelled = Arc<dyn Fn() -> bool + Send + Sync>;

/// How often the watching thread looks, and repeats an interrupt. SQLite forgets an interrupt that
/// comes before it has begun.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const NOT_ENDED: u8 = 0;
const OUT_OF_TIME: u8 = 1;
const CANCELLED: u8 = 2;

/// Why a query was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    OutOfTime,
    Cancelled,
}

/// The clock of a connection that runs queries, one after another.
#[derive(Default)]
pub(super) struct QueryClock {
    running: Mutex<Option<(Instant, Cancelled)>>,
    ended: AtomicU8,
}

impl QueryClock {
    /// Starts the clock for the connection's next query.
    pub(super) fn begin(&self, deadline: Instant, cancelled: Cancelled) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some((deadline, cancelled));
        self.ended.store(NOT_ENDED, Ordering::Relaxed);
    }

    /// Why the query was ended; `None` if it was not.
    pub(super) fn ended(&self) -> Option<EndReason> {
        match self.ended.load(Ordering::Relaxed) {
            OUT_OF_TIME => Some(EndReason::OutOfTime),
            CANCELLED => Some(EndReason::Cancelled),
            _ => None,
        }
    }

    /// Whether the query must end now. If it must, it must from then on.
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

    /// The same for an SQL function: an error if the query must end.
    pub(super) fn check(&self) -> rusqlite::Result<()> {
        if self.is_over() {
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_INTERRUPT), None));
        }
        Ok(())
    }

    /// Runs `work`. Meanwhile a thread interrupts the connection as soon as the query must end. The
    /// thread has ended when this returns.
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
            // If no thread can be had, the progress handler still looks at the clock.
            let _ = thread::Builder::new().name("query-watch".to_owned()).spawn_scoped(scope, watch);
            let result = work();
            drop(over);
            result
        })
    }
}
