//! The tail of the history that all clients of the change feed share. Entry points: [`Feed`] for the
//! reader's actor, [`SharedFeed`] for clients. One thread follows the history that the applier, in
//! this process or another one, keeps beside the LDB. It holds the last records in memory, and rests
//! while there are no clients.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use crate::http::reader::options::FeedOptions;
use crate::metrics::{Component, ErrorKind, Metrics};
use ctlstore_core::ledger::Seq;
use ctlstore_ldb::changelog::history::{self, Grown, HistoryError, HistoryTail, Record};

/// How many bytes of records are held in memory, for clients that keep up.
const MAX_RING_BYTES: usize = 4 * 1024 * 1024;
/// How many lagging clients read from the disk at one time; the others wait.
const READS: usize = 4;
/// The pause between two looks at the history: the shortest and the longest.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Owns the shared tail and its thread. When it is stopped or dropped, the clients' streams end.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<SharedFeed>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The feed's part of the reader's status.
#[derive(Debug, Clone, Serialize)]
pub struct FeedStatus {
    clients: usize,
    events: u64,
    resyncs: u64,
    /// The LDB's seq up to which changes were read, while there are clients.
    seq: Option<Seq>,
    /// Why the history can't be read, if it can't.
    error: Option<String>,
}

/// The history as the thread has seen it. Clients wait for it to change.
#[derive(Debug, Clone, Default)]
pub struct FeedState {
    /// How often the thread has looked.
    looks: u64,
    /// The id of the history; `None` while there is none.
    pub history: Option<Arc<str>>,
    /// The number of the next record.
    pub next: u64,
    /// The LDB's seq after the last record.
    pub at: Seq,
    pub stopping: bool,
    pub error: Option<String>,
}

/// The state that the thread and all clients share.
#[derive(Debug)]
pub struct SharedFeed {
    pub directory: PathBuf,
    pub options: FeedOptions,
    pub metrics: Arc<Metrics>,
    pub reads: Semaphore,
    control: Mutex<Control>,
    woken: Condvar,
    ring: Mutex<RecordRing>,
    state: watch::Sender<FeedState>,
}

#[derive(Debug, Default)]
struct Control {
    clients: usize,
    /// Whether the thread is to look at once.
    is_woken: bool,
    is_stopping: bool,
}

#[derive(Debug, Default)]
struct RecordRing {
    history: Option<Arc<str>>,
    /// Records with the numbers from `first` on, without gaps.
    records: VecDeque<Arc<Record>>,
    first: u64,
    bytes: usize,
}

/// The records that the memory has for a client.
pub enum Buffered {
    Records(Vec<Arc<Record>>),
    /// The client lags further than the memory goes back.
    TooOld,
}

/// One client's place; there is a bounded number of them.
#[derive(Debug)]
pub struct FeedPlace(Arc<SharedFeed>);

impl Feed {
    pub fn start(ldb_path: &Path, options: FeedOptions, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Arc::new(SharedFeed {
            directory: history::directory_of(ldb_path),
            options,
            metrics,
            reads: Semaphore::new(READS),
            control: Mutex::default(),
            woken: Condvar::new(),
            ring: Mutex::default(),
            state: watch::Sender::default(),
        });
        let follower = Arc::clone(&shared);
        let thread = thread::Builder::new().name("changes-tail".to_owned()).spawn(move || follower.follow())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn shared(&self) -> &Arc<SharedFeed> {
        &self.shared
    }

    /// Lets the thread look at once, since this process knows that the LDB has changed.
    pub fn wake(&self) {
        self.shared.wake();
    }

    /// Ends the streams of all clients, and the thread.
    pub fn stop(&self) {
        self.shared.control().is_stopping = true;
        self.shared.woken.notify_all();
        self.shared.state.send_modify(|state| state.stopping = true);
        let thread = lock(&self.thread).take();
        // A panic there has ended the process already.
        let _ = thread.map(JoinHandle::join);
    }

    pub fn status(&self) -> FeedStatus {
        let clients = self.shared.control().clients;
        let state = self.shared.state.borrow();
        let reader = &self.shared.metrics.reader;
        FeedStatus {
            clients,
            events: reader.changes_events.get(),
            resyncs: reader.changes_resyncs.get(),
            seq: (clients > 0).then_some(state.at),
            error: state.error.clone(),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop();
    }
}

impl SharedFeed {
    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }

    fn wake(&self) {
        self.control().is_woken = true;
        self.woken.notify_all();
    }

    /// A place for one more client; `None` if all are taken.
    pub fn enter(self: &Arc<Self>) -> Option<FeedPlace> {
        let mut control = self.control();
        if control.clients >= self.options.max_clients {
            return None;
        }
        control.clients += 1;
        self.metrics.reader.changes_clients.inc();
        Some(FeedPlace(Arc::clone(self)))
    }

    /// The state after a look that begins now.
    pub async fn refresh(&self) -> watch::Receiver<FeedState> {
        let mut state = self.state.subscribe();
        // A look that is under way may have begun before this call, so the next one counts.
        let looks = state.borrow().looks + 2;
        while !self.state.borrow().stopping && state.borrow_and_update().looks < looks {
            self.wake();
            // The sender lives as long as `self`.
            let _ = state.changed().await;
        }
        state.mark_changed();
        state
    }

    /// Up to `most` records from `next` on.
    pub fn buffered(&self, history: &Arc<str>, next: u64, most: usize) -> Buffered {
        let ring = lock(&self.ring);
        if ring.history.as_ref() != Some(history) {
            return Buffered::Records(Vec::new());
        }
        match next.checked_sub(ring.first).map(usize::try_from) {
            Some(Ok(skip)) => Buffered::Records(ring.records.iter().skip(skip).take(most).cloned().collect()),
            _ => Buffered::TooOld,
        }
    }

    fn follow(&self) {
        let mut tail = HistoryTail::new(&self.directory);
        let mut pause = LOOK.0;
        while let Some(woken) = self.rest(pause) {
            let looked = tail.poll();
            let has_grown = matches!(&looked, Ok(Grown::By(records)) if !records.is_empty());
            pause = if has_grown { LOOK.0 } else { (pause * 2).min(LOOK.1) };
            self.publish(&tail, looked, woken);
        }
    }

    /// Waits for the time of the next look; whether a client waits for it. `None` at the end.
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
                *lock(&self.ring) = RecordRing { history, first: tail.next(), ..RecordRing::default() };
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let history = lock(&self.ring).history.clone();
        self.state.send_if_modified(|state| {
            if state.error != error
                && let Some(error) = &error
            {
                self.metrics.error(Component::Reader, ErrorKind::Storage);
                tracing::error!(role = "reader", error, "can't follow the changes");
            }
            is_news |= state.error != error;
            state.looks += 1;
            // After a failure the tail has no position; clients keep theirs.
            if error.is_none() {
                is_news |= state.at != tail.at();
                state.history = history;
                state.next = tail.next();
                state.at = tail.at();
            }
            state.error = error;
            is_news
        });
    }
}

impl RecordRing {
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

impl Drop for FeedPlace {
    fn drop(&mut self) {
        self.0.control().clients -= 1;
        self.0.metrics.reader.changes_clients.dec();
    }
}

/// Locks also after a panic: no panic leaves these values half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
