//! One client of the change feed: takes records from the memory that all share, or,
//! when it is behind, from the disk, as fast as its connection takes events. Nothing
//! is kept for it but the piece that is on its way, so a slow client costs nothing but
//! its own place in the history.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::http::reader::Worker;
use crate::metrics::{Component, ErrorKind};
use ctlstore_core::ledger::Seq;
use ctlstore_ldb::changelog::history::{HistoryCursor, HistoryError, Record, TooOld, What};
use ctlstore_reader::read::ReadError;

use super::event::{Events, Row};
use super::request::FeedRequest;
use super::rows;
use super::shared_feed::{Held, Place, Seen, Shared};

/// The events that are made at a time, in bytes; one may go beyond.
const PIECE: usize = 16 * 1024;
/// What is read of the history at a time, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// How long one client has its events made, before others have their turn.
const TURN: Duration = Duration::from_micros(100);
/// Records of one turn between two looks at the clock.
const TURN_RECORDS: usize = 8;
/// Records that are taken from the shared memory at a time.
const BATCH: usize = 512;

const TOO_OLD: &str = "changes since the position are no longer kept";
const OTHER_HISTORY: &str = "the position is not one of this history";

/// Why a client's stream ends early. It connects again and goes on where it was.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the reader is stopping")]
    Stopping,
}

pub struct FeedClient {
    pub feed: Arc<Shared>,
    pub _place: Place,
    pub seen: watch::Receiver<Seen>,
    pub worker: Data<Worker>,
    pub asked: Rc<FeedRequest>,
    pub history: Arc<str>,
    /// The number of the record that comes next.
    pub next: u64,
    /// Why the client must start over, where that is known from the beginning.
    pub resync: Option<&'static str>,
    pub is_greeted: bool,
    pub cursor: Option<HistoryCursor>,
    /// Taken and not sent yet.
    pub backlog: VecDeque<Arc<Record>>,
    /// Where the LDB has to be for the rows of what was taken, until it is seen to be there.
    pub awaited: Option<Seq>,
}

impl FeedClient {
    /// The next piece of the stream; `None` at its end.
    pub async fn piece(&mut self) -> Option<Bytes> {
        match self.try_piece().await {
            Ok(piece) => Some(Bytes::from(piece)),
            Err(Broken::Stopping) => None,
            Err(error) => {
                self.feed.metrics.error(Component::Reader, ErrorKind::Storage);
                tracing::warn!(role = "reader", %error, "a client of the change feed is cut off");
                None
            }
        }
    }

    async fn try_piece(&mut self) -> Result<Vec<u8>, Broken> {
        let heartbeat = Instant::now() + self.feed.options.heartbeat;
        loop {
            let seen = self.seen.borrow_and_update().clone();
            if seen.stopping {
                return Err(Broken::Stopping);
            }
            if let Some(history) = seen.history.as_ref().filter(|history| **history != self.history) {
                self.history = Arc::clone(history);
                self.resync = Some(OTHER_HISTORY);
            }
            if let Some(reason) = self.resync.take() {
                return Ok(self.start_over(&seen, reason));
            }
            if !self.is_greeted {
                return Ok(self.greeting(&seen));
            }
            if self.backlog.is_empty() {
                if self.fill(&seen).await?.is_err() {
                    self.resync = Some(TOO_OLD);
                    continue;
                }
                self.awaited = self.seq_of_rows();
            }
            if !self.backlog.is_empty() {
                let piece = self.events().await?;
                // Otherwise nothing of it was for this client.
                if !piece.is_empty() {
                    return Ok(piece);
                }
            } else if timeout_at(heartbeat, self.seen.changed()).await.is_err() {
                let mut events = Events::new(&self.history);
                events.heartbeat(self.next - 1);
                return Ok(events.out);
            }
        }
    }

    fn greeting(&mut self, seen: &Seen) -> Vec<u8> {
        self.is_greeted = true;
        let mut events = Events::new(&self.history);
        events.start(self.next - 1, seen.at);
        events.out
    }

    fn start_over(&mut self, seen: &Seen, reason: &str) -> Vec<u8> {
        self.next = seen.next;
        self.cursor = None;
        self.backlog.clear();
        let mut events = Events::new(&self.history);
        if !self.is_greeted {
            self.is_greeted = true;
            events.start(self.next - 1, seen.at);
        }
        events.resync(self.next - 1, reason, seen.at);
        self.feed.metrics.reader.changes_resyncs.inc();
        events.out
    }

    /// Takes the records that come next, if there are any.
    async fn fill(&mut self, seen: &Seen) -> Result<Result<(), TooOld>, HistoryError> {
        if let Held::Records(records) = self.feed.held(&self.history, self.next, BATCH) {
            self.cursor = None;
            self.backlog.extend(records);
            return Ok(Ok(()));
        }
        let (cursor, next, until) = (self.cursor.take(), self.next, seen.next);
        let directory = self.feed.directory.clone();
        // It is never closed.
        let _turn = self.feed.reads.acquire().await;
        let read = actix_rt::task::spawn_blocking(move || {
            let cursor = match cursor.filter(|cursor| cursor.number() == next) {
                Some(cursor) => Ok(cursor),
                None => HistoryCursor::seek(&directory, next)?,
            };
            let Ok(mut cursor) = cursor else { return Ok(Err(TooOld)) };
            Ok(cursor.read(until, READ_BYTES)?.map(|records| (cursor, records)))
        });
        // A panic there has ended the process already.
        match read.await.unwrap_or(Ok(Err(TooOld)))? {
            Ok((cursor, records)) => {
                self.cursor = Some(cursor);
                self.backlog.extend(records.into_iter().map(Arc::new));
                Ok(Ok(()))
            }
            Err(TooOld) => Ok(Err(TooOld)),
        }
    }

    /// Where the LDB has to be for the rows of the backlog.
    fn seq_of_rows(&self) -> Option<Seq> {
        let filter = &self.asked.filter;
        let of_client = self.backlog.iter().filter(|record| filter.takes(record) && self.asked.with_rows);
        of_client.map(|record| record.ledger_seq).max()
    }

    /// Events of the backlog, as many as make a piece.
    async fn events(&mut self) -> Result<Vec<u8>, Broken> {
        if let Some(seq) = self.awaited {
            rows::reached(&self.worker, seq).await?;
            self.awaited = None;
        }
        let mut making = Making {
            feed: Arc::clone(&self.feed),
            worker: self.worker.clone(),
            asked: Rc::clone(&self.asked),
            history: Arc::clone(&self.history),
            next: self.next,
            backlog: std::mem::take(&mut self.backlog),
        };
        let turns = self.worker.feed_turns.clone();
        let made = turns.take(move || (making.events(), making)).await;
        let (events, making) = made.ok_or(Broken::Stopping)?;
        (self.next, self.backlog) = (making.next, making.backlog);
        events
    }
}

/// What a client lends to the one who makes its events.
struct Making {
    feed: Arc<Shared>,
    worker: Data<Worker>,
    asked: Rc<FeedRequest>,
    history: Arc<str>,
    next: u64,
    backlog: VecDeque<Arc<Record>>,
}

impl Making {
    /// As many as make a piece, or as there is time for.
    fn events(&mut self) -> Result<Vec<u8>, Broken> {
        let mut events = Events::new(&self.history);
        let metrics = &self.feed.metrics.reader;
        let began = Instant::now();
        for count in 1.. {
            let Some(record) = self.backlog.pop_front() else { break };
            self.next = record.number + 1;
            if !self.asked.filter.takes(&record) {
                continue;
            }
            let row = if self.asked.with_rows { rows::read(&self.worker, &record)? } else { Row::Unknown };
            events.record(&record, &row);
            match record.what {
                What::Resync { .. } => metrics.changes_resyncs.inc(),
                _ => metrics.changes_events.inc(),
            };
            if events.out.len() >= PIECE || (count % TURN_RECORDS == 0 && began.elapsed() >= TURN) {
                break;
            }
        }
        Ok(events.out)
    }
}
