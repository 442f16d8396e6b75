//! `GET /changes`: the changes of the LDB as server-sent events, from where the client was. This file
//! decides where a client begins; `client_stream` makes its events from what `shared_feed` holds. No
//! read transaction lives while events are sent. docs/changes.md says what clients may rely on.

mod client_stream;
mod event;
mod request;
mod rows;
mod shared_feed;
mod turns;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use futures::stream;
use tokio::time::timeout;

use crate::http::error::HttpError;
use crate::http::openapi::{EVENTS, Operation, get, shapes};
use ctlstore_core::ledger::Seq;
use ctlstore_ldb::changelog::history::{self, HistoryError, TooOld};

use super::worker::Worker;

use client_stream::FeedClient;
use request::{FeedRequest, Since};
use shared_feed::{FeedState, SharedFeed};

pub use shared_feed::{Feed, FeedStatus};
pub(super) use turns::Turns;

/// How long a client waits for the LDB to come to the ledger seq that it asks for.
const MAX_AHEAD: Duration = Duration::from_secs(5);
/// How long a client waits before it tries again if all places are taken, in seconds.
const RETRY_AFTER_SECONDS: u64 = 5;
const GIVEN_AGAIN: &str = "the local database went back behind this ledger seq since, which may be that of another row";

pub fn operation() -> Operation {
    get("/changes", "Changes as they come", changes)
        .describe("Server-sent events, from now on or from where the client was; docs/changes.md describes them.")
        .query::<shapes::Family>("family", "only its changes", "shop")
        .query::<shapes::Table>("table", "only its changes; family has to be given too", "prices")
        .query::<bool>("rows", "whether events carry the row as it is now", true)
        .query::<shapes::Since>("since", "an event's id, or a ledger seq", "1")
        .header::<String>(request::LAST_EVENT_ID, "the id of the last event that the client got; goes before since", "")
        .gives_events("events without end", &["start", "change", "table", "resync"])
        .refuses(400, "a parameter that makes no sense, is unknown or is given twice")
        .refuses(503, "no changes are kept, too many clients, or the reader is stopping")
        .says::<u64>(503, "retry-after", "seconds")
        .tag("rows")
}

async fn changes(
    worker: Data<Worker>,
    feed: Data<Feed>,
    turns: Data<Turns>,
    request: HttpRequest,
) -> Result<HttpResponse, HttpError> {
    let asked = FeedRequest::of(&request)?;
    let feed = Arc::clone(feed.shared());
    let Some(place) = feed.enter() else {
        return Err(HttpError::unavailable("too many clients follow the changes").retry_after(RETRY_AFTER_SECONDS));
    };
    let mut state = feed.refresh().await;
    if let Since::LedgerSeq(seq) = asked.since {
        // A client that has just written, or read from another host, may be ahead of this LDB.
        let reached = state.wait_for(|state| state.at >= seq || state.stopping || state.history.is_none());
        // If the seq does not come, `begin` decides what that means.
        let _ = timeout(MAX_AHEAD, reached).await;
    }
    let now = state.borrow().clone();
    if now.stopping {
        return Err(HttpError::unavailable("the reader is stopping"));
    }
    let Some(history) = now.history.clone() else {
        let reason = now.error.unwrap_or_else(|| "no changes are kept beside the ldb".to_owned());
        return Err(HttpError::unavailable(reason));
    };
    let (next, resync) = match begin(&feed, &asked.since, &now).await? {
        Ok(next) => (next, None),
        Err(reason) => (now.next, Some(reason)),
    };
    let client = FeedClient {
        feed,
        _place: place,
        state,
        worker,
        turns: turns.get_ref().clone(),
        asked: Rc::new(asked),
        history,
        next,
        resync,
        is_greeted: false,
        cursor: None,
        backlog: Default::default(),
        awaited: None,
    };
    let pieces = stream::unfold(client, |mut client| async move {
        let piece = client.piece().await?;
        Some((Ok::<_, actix_web::Error>(piece), client))
    });
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, EVENTS)).insert_header((CACHE_CONTROL, "no-store"));
    // Some proxies collect an answer before they pass it on; this asks them not to.
    answer.insert_header(("x-accel-buffering", "no"));
    Ok(answer.streaming(pieces))
}

/// The number of the first record that the client gets, or why it must start over.
async fn begin(feed: &Arc<SharedFeed>, since: &Since, now: &FeedState) -> Result<Result<u64, &'static str>, HttpError> {
    let is_ours = |history: &str| now.history.as_deref() == Some(history);
    match since {
        Since::Now => Ok(Ok(now.next)),
        Since::Event(position) if is_ours(&position.history) && position.number < now.next => {
            Ok(Ok(position.number + 1))
        }
        Since::Event(_) | Since::Unknown => Ok(Err("the position is not one of this history")),
        Since::LedgerSeq(seq) if *seq > now.at => Ok(Err("the position is ahead of this local database")),
        Since::LedgerSeq(seq) => from_ledger_seq(feed, *seq, now.next).await,
    }
}

async fn from_ledger_seq(feed: &SharedFeed, seq: Seq, until: u64) -> Result<Result<u64, &'static str>, HttpError> {
    let directory = feed.directory.clone();
    let _turn = feed.reads.acquire().await;
    let find = move || {
        // A bare seq does not tell which history of the ledger it belongs to, or when it was read.
        let given_again = history::given_again(&directory)?;
        if given_again > Seq::ZERO && given_again >= seq {
            return Ok(Err(GIVEN_AGAIN));
        }
        let found = history::at_ledger_seq(&directory, seq, until)?;
        Ok::<_, HistoryError>(found.map_err(|TooOld| "changes since the position are no longer kept"))
    };
    let found = actix_rt::task::spawn_blocking(find).await;
    found.map_err(HttpError::unavailable)?.map_err(HttpError::unavailable)
}
