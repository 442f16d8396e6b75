//! One client of the change feed. Entry point: [`FeedClient::piece`], the next piece of its stream. It
//! takes records from the memory that all clients share or, if it lags, from the disk, as fast as its
//! connection takes events. Only the piece that is being sent is kept for it, so a slow client costs
//! no more than its place in the history.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::http::reader::worker::Worker;
use crate::metrics::{Component, ErrorKind};
use ctlstore_core::ledger::Seq;
use ctlstore_ldb::changelog::history::{HistoryCursor, HistoryError, Record, TooOld, What};
use ctlstore_reader::read::ReadError;

use super::event::{EventRow, FeedEvents};
use super::request::FeedRequest;
use super::rows;
use super::shared_feed::{Buffered, FeedPlace, FeedState, SharedFeed};
use super::turns::Turns;

/// How many bytes of events are made at a time; the last event may go beyond.
const PIECE: usize = 16 * 1024;
/// How much of the history is read at a time, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// How long events of one client are made before it is another's turn.
const TURN: Duration = Duration::from_micros(100);
/// Records without rows between two looks at the clock of a turn. With rows each record is followed by
/// one, because a row may have to come from the disk.
const TURN_RECORDS: usize = 8;
/// How many records are taken from the shared memory at a time.
const BATCH: usize = 512;

const TOO_OLD: &str = "changes since the position are no longer kept";
const OTHER_HISTORY: &str = "the position is not one of this history";

/// Why a client's stream ends early. The client connects again and goes on where it was.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the reader is stopping")]
    Stopping,
}

/// A client, with its position in the history.
pub struct FeedClient {
    pub feed: Arc<SharedFeed>,
    pub _place: FeedPlace,
    pub state: watch::Receiver<FeedState>,
    pub worker: Data<Worker>,
    pub turns: Turns,
    pub asked: Rc<FeedRequest>,
    pub history: Arc<str>,
    /// The number of the next record.
    pub next: u64,
    /// Why the client must start over, if it must.
    pub resync: Option<&'static str>,
    pub is_greeted: bool,
    pub cursor: Option<HistoryCursor>,
    /// Records that are taken and not sent yet.
    pub backlog: VecDeque<Arc<Record>>,
    /// The seq that the LDB needs for the rows of the backlog, until the LDB is known to have it.
    pub awaited: Option<Seq>,
}

impl FeedClient {
    /// The next piece of the stream; `None` at its end.
    pub async fn piece(&mut self) -> Option<Bytes> {
        match self.try_piece().await {
            Ok(piece) => Some(Bytes::from(piece)),
            Err(StreamEnd::Stopping) => None,
            Err(error) => {
                self.feed.metrics.error(Component::Reader, ErrorKind::Storage);
                tracing::warn!(role = "reader", %error, "a client of the change feed is cut off");
                None
            }
        }
    }

    async fn try_piece(&mut self) -> Result<Vec<u8>, StreamEnd> {
        let heartbeat = Instant::now() + self.feed.options.heartbeat;
        loop {
            let state = self.state.borrow_and_update().clone();
            if state.stopping {
                return Err(StreamEnd::Stopping);
            }
            if let Some(history) = state.history.as_ref().filter(|history| **history != self.history) {
                self.history = Arc::clone(history);
                self.resync = Some(OTHER_HISTORY);
            }
            if let Some(reason) = self.resync.take() {
                return Ok(self.start_over(&state, reason));
            }
            if !self.is_greeted {
                return Ok(self.greeting(&state));
            }
            if self.backlog.is_empty() {
                if self.fill(&state).await?.is_err() {
                    self.resync = Some(TOO_OLD);
                    continue;
                }
                self.awaited = self.seq_of_rows();
            }
            if !self.backlog.is_empty() {
                let piece = self.events().await?;
                // An empty piece: no record of it was for this client.
                if !piece.is_empty() {
                    return Ok(piece);
                }
            } else if timeout_at(heartbeat, self.state.changed()).await.is_err() {
                let mut events = FeedEvents::new(&self.history);
                events.heartbeat(self.next - 1);
                return Ok(events.out);
            }
        }
    }

    fn greeting(&mut self, state: &FeedState) -> Vec<u8> {
        self.is_greeted = true;
        let mut events = FeedEvents::new(&self.history);
        events.start(self.next - 1, state.at);
        events.out
    }

    fn start_over(&mut self, state: &FeedState, reason: &str) -> Vec<u8> {
        self.next = state.next;
        self.cursor = None;
        self.backlog.clear();
        let mut events = FeedEvents::new(&self.history);
        if !self.is_greeted {
            self.is_greeted = true;
            events.start(self.next - 1, state.at);
        }
        events.resync(self.next - 1, reason, state.at);
        self.feed.metrics.reader.changes_resyncs.inc();
        events.out
    }

    /// Takes the next records, if there are any.
    async fn fill(&mut self, state: &FeedState) -> Result<Result<(), TooOld>, HistoryError> {
        if let Buffered::Records(records) = self.feed.buffered(&self.history, self.next, BATCH) {
            self.cursor = None;
            self.backlog.extend(records);
            return Ok(Ok(()));
        }
        let cursor = self.cursor.take();
        let next = self.next;
        let until = state.next;
        let directory = self.feed.directory.clone();
        // The semaphore is never closed.
        let _turn = self.feed.reads.acquire().await;
        let read = actix_rt::task::spawn_blocking(move || {
            let cursor = match cursor.filter(|cursor| cursor.number() == next) {
                Some(cursor) => Ok(cursor),
                None => HistoryCursor::seek(&directory, next)?,
            };
            let Ok(mut cursor) = cursor else { return Ok(Err(TooOld)) };
            let records = cursor.read(until, READ_BYTES)?;
            // Hundreds of allocations, which this thread does instead of the worker's loop.
            Ok(records.map(|records| (cursor, records.into_iter().map(Arc::new).collect::<Vec<_>>())))
        });
        // A panic there has ended the process already.
        match read.await.unwrap_or(Ok(Err(TooOld)))? {
            Ok((cursor, records)) => {
                self.cursor = Some(cursor);
                self.backlog.extend(records);
                Ok(Ok(()))
            }
            Err(TooOld) => Ok(Err(TooOld)),
        }
    }

    /// The seq that the LDB needs for the rows of the backlog.
    fn seq_of_rows(&self) -> Option<Seq> {
        let filter = &self.asked.filter;
        let of_client = self.backlog.iter().filter(|record| filter.takes(record) && self.asked.with_rows);
        of_client.map(|record| record.ledger_seq).max()
    }

    /// Makes events of the backlog, up to one piece, when it is this client's turn.
    async fn events(&mut self) -> Result<Vec<u8>, StreamEnd> {
        if let Some(seq) = self.awaited {
            rows::reached(&self.worker, seq).await?;
            self.awaited = None;
        }
        let mut maker = EventMaker {
            feed: Arc::clone(&self.feed),
            worker: self.worker.clone(),
            asked: Rc::clone(&self.asked),
            history: Arc::clone(&self.history),
            next: self.next,
            backlog: std::mem::take(&mut self.backlog),
        };
        let made = self.turns.take(move || (maker.events(), maker)).await;
        let (events, maker) = made.ok_or(StreamEnd::Stopping)?;
        self.next = maker.next;
        self.backlog = maker.backlog;
        events
    }
}

/// The parts of a client that it lends to the task that makes its events.
struct EventMaker {
    feed: Arc<SharedFeed>,
    worker: Data<Worker>,
    asked: Rc<FeedRequest>,
    history: Arc<str>,
    next: u64,
    backlog: VecDeque<Arc<Record>>,
}

impl EventMaker {
    /// Makes one piece of events, or less if the time is over.
    fn events(&mut self) -> Result<Vec<u8>, StreamEnd> {
        let mut events = FeedEvents::new(&self.history);
        let metrics = &self.feed.metrics.reader;
        let began = Instant::now();
        let look_every = if self.asked.with_rows { 1 } else { TURN_RECORDS };
        for count in 1.. {
            let Some(record) = self.backlog.pop_front() else { break };
            self.next = record.number + 1;
            if !self.asked.filter.takes(&record) {
                continue;
            }
            let row = if self.asked.with_rows { rows::read(&self.worker, &record)? } else { EventRow::Unknown };
            events.record(&record, &row);
            match record.what {
                What::Resync { .. } => metrics.changes_resyncs.inc(),
                _ => metrics.changes_events.inc(),
            };
            if events.out.len() >= PIECE || (count % look_every == 0 && began.elapsed() >= TURN) {
                break;
            }
        }
        Ok(events.out)
    }
}
