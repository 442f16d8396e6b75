//! Connections of a server, between the socket and the HTTP library: what each is doing,
//! which one gives its place up when places run short, and what ends at a stop. Entry
//! points: [`Pool`], the connections of one worker, and [`ConnectionStream`], the bytes of
//! one connection, one request at a time. What a request means is not known here.

mod addresses;
mod answer;
mod framing;
mod pool;
mod stream;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};

pub use addresses::{AddressLimit, AddressPlace};
pub use answer::{AskedByHead, WithAnswers};
pub use framing::MAX_TARGET;
pub use pool::{Pool, PoolOptions};
pub use stream::ConnectionStream;

/// How long a connection may be without a request, before others may have its place: one
/// that was just made is about to be used, and one that is in use is not idle.
const QUIET: Duration = Duration::from_millis(100);

/// How long a client may leave a head unfinished, or a body without a byte, before its
/// connection counts as one that others may have, when places run short.
const STALLED: Duration = Duration::from_millis(500);

/// The same for a body that comes byte by byte.
const LONGEST_BODY: Duration = Duration::from_secs(10);

/// One connection, as its stream, its answers and its pool see it. All are on one thread.
#[derive(Debug)]
pub struct Connection {
    pool: Rc<Pool>,
    /// Its place in the pool.
    index: Cell<usize>,
    /// Between a request's head and the end of its answer.
    is_answering: Cell<bool>,
    /// Between a request's head and the end of its body.
    is_receiving: Cell<bool>,
    has_part_of_head: Cell<bool>,
    /// Whether the socket had no more bytes when it was read last.
    is_starving: Cell<bool>,
    /// When it became what it is; while a body comes, when a part of it came.
    since: Cell<Instant>,
    /// When the request under way began to come.
    began: Cell<Instant>,
    /// Whether its stream ends, as if the client had closed it.
    is_cut: Cell<bool>,
    /// Whether nothing more is written to it either.
    is_aborted: Cell<bool>,
    /// Since when its client takes nothing of what is sent.
    blocked: Cell<Option<Instant>>,
    /// Whether what has come waits for the answer under way.
    is_waiting: Cell<bool>,
    /// Wakes the task that reads.
    waker: RefCell<Option<Waker>>,
}

/// Why a connection may be closed for another one, the best reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spare {
    /// No request is under way.
    Idle,
    /// Its head does not come.
    Head,
    /// Its body does not come.
    Body,
}

impl Connection {
    fn new(pool: Rc<Pool>) -> Self {
        let now = Instant::now();
        Self {
            pool,
            index: Cell::new(0),
            is_answering: Cell::new(false),
            is_receiving: Cell::new(false),
            has_part_of_head: Cell::new(false),
            is_starving: Cell::new(false),
            since: Cell::new(now),
            began: Cell::new(now),
            is_cut: Cell::new(false),
            is_aborted: Cell::new(false),
            blocked: Cell::new(None),
            is_waiting: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    /// The head of a request is handed on.
    fn begin(&self) {
        self.has_part_of_head.set(false);
        self.is_answering.set(true);
        self.is_receiving.set(true);
        self.began.set(self.since.get());
    }

    /// A part of the head has come, the first one at `now`.
    fn begin_head(&self, now: Instant) {
        if !self.has_part_of_head.replace(true) {
            self.since.set(now);
        }
    }

    /// A part of the body has come.
    fn progress(&self) {
        self.since.set(Instant::now());
    }

    /// The request is there as a whole.
    fn received(&self) {
        self.is_receiving.set(false);
        if !self.is_answering.get() {
            self.rest();
        }
    }

    /// The answer is made, as far as the library behind needs it.
    fn answered(&self) {
        self.is_answering.set(false);
        if !self.is_receiving.get() {
            self.rest();
        }
        if self.is_waiting.take() {
            self.wake();
        }
    }

    /// Nothing is under way; what waits behind the request may come.
    fn rest(&self) {
        self.since.set(Instant::now());
    }

    /// Whether the next request has to wait.
    fn is_answering(&self) -> bool {
        self.is_answering.get()
    }

    /// Whether, and since when, others may have its place.
    fn spare(&self, now: Instant) -> Option<(Spare, Instant)> {
        let since = self.since.get();
        let is_quiet = now.saturating_duration_since(since) >= QUIET;
        let is_stalled = now.saturating_duration_since(since) >= STALLED;
        let is_slow = now.saturating_duration_since(self.began.get()) >= LONGEST_BODY;
        let spare = match (self.is_receiving.get(), self.is_answering.get()) {
            _ if self.is_cut.get() => return None,
            (true, _) => (self.is_starving.get() && (is_stalled || is_slow)).then_some(Spare::Body),
            (false, true) => None,
            (false, false) if self.has_part_of_head.get() => is_stalled.then_some(Spare::Head),
            (false, false) => (self.is_starving.get() && is_quiet).then_some(Spare::Idle),
        };
        spare.map(|spare| (spare, since))
    }

    /// Whether a part of a request has come and the rest has not.
    fn is_unfinished(&self) -> bool {
        self.is_receiving.get() || self.has_part_of_head.get()
    }

    /// Lets the stream end, for the library behind as if the client had closed it.
    fn cut(&self) {
        self.is_cut.set(true);
        self.wake();
    }

    /// Lets the stream fail, so that what is still to be sent is dropped.
    fn abort(&self) {
        self.is_aborted.set(true);
        self.cut();
    }

    /// Whether the client has taken nothing for so long.
    fn is_blocked_for(&self, time: Duration) -> bool {
        self.blocked.get().is_some_and(|since| since.elapsed() >= time)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Keeps the waker of the task that reads.
    fn woken_by(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        match &*kept {
            Some(kept) if kept.will_wake(waker) => {}
            _ => *kept = Some(waker.clone()),
        }
    }
}
