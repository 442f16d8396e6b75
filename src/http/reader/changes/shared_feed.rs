//! The tail that all clients of the change feed share: one thread follows the history
//! that the applier keeps beside the LDB, in this process or another one, and holds
//! what came last in memory. It rests while there are no clients.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::ledger::Seq;
use ctlstore_ldb::changelog::history::{self, Grown, HistoryError, HistoryTail, Record};

/// What is held in memory for clients that keep up, in bytes.
const MAX_RING_BYTES: usize = 4 * 1024 * 1024;
/// Clients that are behind and read from the disk at one time; the others wait.
const READS: usize = 4;
/// How often the history is looked at: at first, and at the least.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// The feed's bounds.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// Clients at one time; the next one is sent away.
    pub max_clients: usize,
    /// How long a client waits for a sign of life at most.
    pub heartbeat: Duration,
}

/// The shared tail. Clients end when it is stopped or dropped.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the reader's status shows of the feed.
#[derive(Debug, Clone, Serialize)]
pub struct FeedStatus {
    clients: usize,
    events: u64,
    resyncs: u64,
    /// The LDB's seq up to which changes were read, while there are clients.
    seq: Option<Seq>,
    /// Why the history can't be read, while it can't.
    error: Option<String>,
}

/// What clients wait on.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Looks so far.
    looks: u64,
    /// Which history there is; `None` while there is none.
    pub history: Option<Arc<str>>,
    /// The number behind the last record.
    pub next: u64,
    /// The LDB's seq behind the last record.
    pub at: Seq,
    pub stopping: bool,
    pub error: Option<String>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub directory: PathBuf,
    pub options: FeedOptions,
    pub metrics: Arc<Metrics>,
    pub reads: Semaphore,
    control: Mutex<Control>,
    woken: Condvar,
    ring: Mutex<Ring>,
    seen: watch::Sender<Seen>,
}

#[derive(Debug, Default)]
struct Control {
    clients: usize,
    /// Whether to look at once.
    is_woken: bool,
    is_stopping: bool,
}

#[derive(Debug, Default)]
struct Ring {
    history: Option<Arc<str>>,
    /// Numbered by one from `first` on.
    records: VecDeque<Arc<Record>>,
    first: u64,
    bytes: usize,
}

/// What the memory has for a client.
pub(super) enum Held {
    Records(Vec<Arc<Record>>),
    /// It is further behind than the memory goes back.
    Behind,
}

/// A client's place among those that there may be.
#[derive(Debug)]
pub(super) struct Place(Arc<Shared>);

impl Feed {
    pub fn start(ldb_path: &Path, options: FeedOptions, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            directory: history::directory_of(ldb_path),
            options,
            metrics,
            reads: Semaphore::new(READS),
            control: Mutex::default(),
            woken: Condvar::new(),
            ring: Mutex::default(),
            seen: watch::Sender::default(),
        });
        let follower = Arc::clone(&shared);
        let thread = thread::Builder::new().name("changes-tail".to_owned()).spawn(move || follower.follow())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The LDB has changed, as far as this process knows: look at once.
    pub fn wake(&self) {
        self.shared.wake();
    }

    /// Ends the streams of all clients, and the thread.
    pub fn stop(&self) {
        self.shared.control().is_stopping = true;
        self.shared.woken.notify_all();
        self.shared.seen.send_modify(|seen| seen.stopping = true);
        let thread = lock(&self.thread).take();
        // A panic there has ended the process already.
        let _ = thread.map(JoinHandle::join);
    }

    pub fn status(&self) -> FeedStatus {
        let clients = self.shared.control().clients;
        let seen = self.shared.seen.borrow();
        let reader = &self.shared.metrics.reader;
        FeedStatus {
            clients,
            events: reader.changes_events.get(),
            resyncs: reader.changes_resyncs.get(),
            seq: (clients > 0).then_some(seen.at),
            error: seen.error.clone(),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }

    fn wake(&self) {
        self.control().is_woken = true;
        self.woken.notify_all();
    }

    /// A place for one more client; `None` when all are taken.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut control = self.control();
        if control.clients >= self.options.max_clients {
            return None;
        }
        control.clients += 1;
        self.metrics.reader.changes_clients.inc();
        Some(Place(Arc::clone(self)))
    }

    /// What there is now, and not when somebody looked last.
    pub async fn look(&self) -> watch::Receiver<Seen> {
        let mut seen = self.seen.subscribe();
        // The look that may be going on began before this one was asked for.
        let looks = seen.borrow().looks + 2;
        while !self.seen.borrow().stopping && seen.borrow_and_update().looks < looks {
            self.wake();
            // The sender lives as long as this.
            let _ = seen.changed().await;
        }
        seen.mark_changed();
        seen
    }

    /// Up to `most` records from `next` on.
    pub fn held(&self, history: &Arc<str>, next: u64, most: usize) -> Held {
        let ring = lock(&self.ring);
        if ring.history.as_ref() != Some(history) {
            return Held::Records(Vec::new());
        }
        match next.checked_sub(ring.first).map(usize::try_from) {
            Some(Ok(skip)) => Held::Records(ring.records.iter().skip(skip).take(most).cloned().collect()),
            _ => Held::Behind,
        }
    }

    fn follow(&self) {
        let mut tail = HistoryTail::new(&self.directory);
        let mut pause = LOOK.0;
        while let Some(woken) = self.rest(pause) {
            let looked = tail.look();
            let has_grown = matches!(&looked, Ok(Grown::By(records)) if !records.is_empty());
            pause = if has_grown { LOOK.0 } else { (pause * 2).min(LOOK.1) };
            self.publish(&tail, looked, woken);
        }
    }

    /// Waits for the next look; whether somebody waits for it. `None` at the end.
    fn rest(&self, pause: Duration) -> Option<bool> {
        let mut control = self.control();
        loop {
            if control.is_stopping {
                return None;
            }
            if control.clients == 0 {
                control = self.woken.wait(control).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if std::mem::take(&mut control.is_woken) {
                return Some(true);
            }
            let (back, waited) = self.woken.wait_timeout(control, pause).unwrap_or_else(PoisonError::into_inner);
            control = back;
            if waited.timed_out() && !control.is_stopping {
                return Some(std::mem::take(&mut control.is_woken));
            }
        }
    }

    fn publish(&self, tail: &HistoryTail, looked: Result<Grown, HistoryError>, is_awaited: bool) {
        let mut is_news = is_awaited;
        let error = match looked {
            Ok(Grown::By(records)) => {
                is_news |= !records.is_empty();
                lock(&self.ring).push(records);
                None
            }
            Ok(Grown::Begun | Grown::Missing) => {
                is_news = true;
                let history = tail.history().map(Arc::from);
                *lock(&self.ring) = Ring { history, first: tail.next(), ..Ring::default() };
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let history = lock(&self.ring).history.clone();
        self.seen.send_if_modified(|seen| {
            if seen.error != error
                && let Some(error) = &error
            {
                self.metrics.error(Component::Reader, ErrorKind::Storage);
                tracing::error!(role = "reader", error, "can't follow the changes");
            }
            is_news |= seen.error != error;
            seen.looks += 1;
            // After a failure the tail stands nowhere; clients stay where they are.
            if error.is_none() {
                is_news |= seen.at != tail.at();
                (seen.history, seen.next, seen.at) = (history, tail.next(), tail.at());
            }
            seen.error = error;
            is_news
        });
    }
}

impl Ring {
    fn push(&mut self, records: Vec<Record>) {
        for record in records {
            self.bytes += record.weight();
            self.records.push_back(Arc::new(record));
        }
        while self.bytes > MAX_RING_BYTES
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= oldest.weight();
            self.first += 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.control().clients -= 1;
        self.0.metrics.reader.changes_clients.dec();
    }
}

/// Nothing here is left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
