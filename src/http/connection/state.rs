//! The state of one connection, which its stream, its answers and its pool share. Entry points:
//! [`ConnectionState`], and its method `spare`, which tells whether another connection may have its
//! place. The pool decides which connection is closed.

use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::{Duration, Instant};

/// How long a connection must be without a request before another one may have its place. A new
/// connection is about to be used, and one that is in use is not idle.
const QUIET: Duration = Duration::from_millis(100);

/// How long a client may leave a head unfinished, or send nothing of a body, before another
/// connection may have its place.
const STALLED: Duration = Duration::from_millis(500);

/// The same for a body that comes byte by byte.
const LONGEST_BODY: Duration = Duration::from_secs(10);

/// One connection. Its stream, its answers and its pool are on one thread.
#[derive(Debug)]
pub struct ConnectionState {
    /// Its place in the pool.
    pub index: Cell<usize>,
    /// Between a request's head and the end of its answer.
    is_answering: Cell<bool>,
    /// Between a request's head and the end of its body.
    is_receiving: Cell<bool>,
    has_part_of_head: Cell<bool>,
    /// Whether the socket had no more bytes when it was read last.
    pub is_starving: Cell<bool>,
    /// Since when it is in its present state; while a body comes, when its last part came.
    since: Cell<Instant>,
    /// When the present request began to arrive.
    began: Cell<Instant>,
    /// Whether its stream ends, as if the client had closed it.
    pub is_cut: Cell<bool>,
    /// Whether writing to it fails too.
    pub is_aborted: Cell<bool>,
    /// Since when its client has taken nothing of what is sent.
    pub blocked: Cell<Option<Instant>>,
    /// Whether bytes that have arrived wait for the present answer.
    pub is_waiting: Cell<bool>,
    /// Wakes the task that reads.
    waker: RefCell<Option<Waker>>,
}

/// Why a connection may be closed in favour of another one, the best reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spare {
    /// It has no request.
    Idle,
    /// The head of its request does not arrive.
    Head,
    /// The body of its request does not arrive.
    Body,
}

impl ConnectionState {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
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

    /// Records that the head of a request is handed on.
    pub fn begin(&self) {
        self.has_part_of_head.set(false);
        self.is_answering.set(true);
        self.is_receiving.set(true);
        self.began.set(self.since.get());
    }

    /// Records that a part of a head has arrived, the first one at `now`.
    pub fn begin_head(&self, now: Instant) {
        if !self.has_part_of_head.replace(true) {
            self.since.set(now);
        }
    }

    /// Records that a part of the body has arrived.
    pub fn progress(&self) {
        self.since.set(Instant::now());
    }

    /// Records that the whole request has arrived.
    pub fn received(&self) {
        self.is_receiving.set(false);
        if !self.is_answering.get() {
            self.rest();
        }
    }

    /// Records that the HTTP library needs nothing more of the answer. Bytes that waited for it are
    /// read then.
    pub fn answered(&self) {
        self.is_answering.set(false);
        if !self.is_receiving.get() {
            self.rest();
        }
        if self.is_waiting.take() {
            self.wake();
        }
    }

    /// Records that the connection has no request now.
    fn rest(&self) {
        self.since.set(Instant::now());
    }

    /// Whether a request is being answered, so that the next one has to wait.
    pub fn is_answering(&self) -> bool {
        self.is_answering.get()
    }

    /// Whether another connection may have its place, why, and since when.
    pub fn spare(&self, now: Instant) -> Option<(Spare, Instant)> {
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

    /// Whether a part of a request has arrived, and the rest has not.
    pub fn is_unfinished(&self) -> bool {
        self.is_receiving.get() || self.has_part_of_head.get()
    }

    /// Ends the stream. To the HTTP library it looks as if the client had closed it.
    pub fn cut(&self) {
        self.is_cut.set(true);
        self.wake();
    }

    /// Fails the stream, so that the rest of an answer is dropped.
    pub fn abort(&self) {
        self.is_aborted.set(true);
        self.cut();
    }

    /// Whether the client has taken nothing for this long.
    pub fn is_blocked_for(&self, time: Duration) -> bool {
        self.blocked.get().is_some_and(|since| since.elapsed() >= time)
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Keeps the waker of the task that reads.
    pub fn woken_by(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        match &*kept {
            Some(kept) if kept.will_wake(waker) => {}
            _ => *kept = Some(waker.clone()),
        }
    }
}
