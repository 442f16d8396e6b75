//! How fresh an HTTP read must be, and what its answer says about its age. Entry points:
//! `Freshness::enforce` waits for the seq of `ctlstore-min-seq` and refuses data that is older than
//! `ctlstore-max-lag`; `AnswerAge::on` writes an answer's headers. The seq is read in the
//! transaction that reads the rows, so an answer holds everything up to that seq. Only a large scan,
//! which another thread reads, may hold more. The library's counterpart is `reader/freshness.rs` of
//! `ctlstore-reader`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::http::error::HttpError;
use crate::http::executive::SEQ_HEADER;
use crate::http::openapi::{Operation, shapes};
use ctlstore_core::disk::{self, beside};
use ctlstore_core::ledger::{CaughtUpAt, Seq, lag_of_rows};
use ctlstore_core::schema::Timestamp;
use ctlstore_reader::read::{CaughtUpMark, LastApplied, written_at};

/// A bound on what is read of a seq file, in bytes; it holds less.
const SEQ_FILE_BYTES: u64 = 64;

/// The beginning of all these headers' names.
const OURS: &str = "ctlstore-";
const MIN_SEQ: &str = "ctlstore-min-seq";
const WAIT: &str = "ctlstore-wait";
const MAX_LAG: &str = "ctlstore-max-lag";
const LAG_HEADER: &str = "ctlstore-lag-ms";
const LAG: HeaderName = HeaderName::from_static(LAG_HEADER);
const SEQ: HeaderName = HeaderName::from_static(SEQ_HEADER);

/// How long a request waits for a seq if it does not say, and at most.
const DEFAULT_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Requests that wait at one time.
const MAX_WAITING: usize = 1024;
/// How long an answer of the LDB's files about its age holds, at one seq.
const FILES_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at an LDB that another process writes.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Describes the headers of every read.
pub(super) fn described(operation: Operation) -> Operation {
    operation
        .header::<shapes::Seq>(MIN_SEQ, "waits until the local database has this ledger seq", 0)
        .header::<shapes::Wait>(WAIT, "how long to wait for it, at most 30s", "500ms")
        .header::<shapes::Duration>(MAX_LAG, "refuses to answer from older data", "10s")
        .says::<i64>(200, SEQ_HEADER, "the ledger seq that the answer holds, at least")
        .says::<u64>(200, LAG_HEADER, "how far the local database lagged, in milliseconds; absent if that is unknown")
        .refuses(400, "a header that makes no sense")
        .refuses(412, "the ledger seq did not come in time")
        .says::<i64>(412, SEQ_HEADER, "the ledger seq at which the local database is")
        .refuses(503, "the local database is older than allowed, or not there yet; or too much is asked at one time")
        .says::<u64>(503, "retry-after", "seconds")
}

/// The LDB's age, as far as this process knows it besides the LDB itself.
#[derive(Debug)]
pub struct Freshness {
    ldb: PathBuf,
    /// `<ldb.path>.seq`, which the applier writes after each commit.
    seq_file: PathBuf,
    news: watch::Sender<News>,
    /// The marks of the LDB's files when they were last read.
    files: Mutex<Option<FileMarks>>,
    waiting: Semaphore,
}

/// The age that the LDB's files tell. It counts if the applier is in another process, or has not
/// reached the ledger's end yet.
#[derive(Debug, Clone, Copy)]
struct FileMarks {
    read_at: Instant,
    /// The LDB's seq at that time.
    seq: Seq,
    mark: Option<(CaughtUpMark, CaughtUpAt)>,
    written: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Default)]
struct News {
    /// The last commit that this process knows of.
    committed: Seq,
    /// The seq of the ledger's end, and when that was known.
    caught_up: Option<(Seq, CaughtUpAt)>,
    is_stopping: bool,
}

/// The freshness that a request's headers ask for.
#[derive(Debug, Default)]
struct FreshnessRequirement {
    min_seq: Option<Seq>,
    wait: Duration,
    max_lag: Option<Duration>,
}

/// How old an answer is: the seq that it holds, and how far the LDB lagged at that moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerAge {
    pub seq: Seq,
    lag: Option<Duration>,
}

impl Freshness {
    pub fn new(ldb_path: &std::path::Path) -> Self {
        Self {
            ldb: ldb_path.to_owned(),
            seq_file: beside(ldb_path, ".seq"),
            news: watch::Sender::default(),
            files: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Records that the ledger ended at `seq` at the time `at`. An LDB that is at `seq` has all of it.
    pub fn caught_up(&self, seq: Seq, at: Timestamp) {
        self.news.send_if_modified(|news| {
            news.caught_up = Some((seq, CaughtUpAt::new(at)));
            // Requests that wait for a commit need not wake.
            false
        });
    }

    /// Records that the LDB is at `seq`, and wakes the requests that wait.
    pub fn committed(&self, seq: Seq) {
        self.news.send_modify(|news| news.committed = seq);
    }

    /// Refuses the requests that wait.
    pub fn stop(&self) {
        self.news.send_modify(|news| news.is_stopping = true);
    }

    pub fn is_stopping(&self) -> bool {
        self.news.borrow().is_stopping
    }

    /// How far an LDB at `seq`, whose last row was written at `leader_ts`, lags at `now`. It is the time
    /// since this node last knew the ledger's end. If it never did, the LDB's files tell.
    pub fn lag(&self, seq: Seq, leader_ts: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
        let caught_up = self.news.borrow().caught_up;
        // Of several LDBs one may lack what the others have.
        if let Some((_, caught_up)) = caught_up.filter(|(end, _)| *end <= seq) {
            return Some(caught_up.age(now));
        }
        let files = self.file_marks(seq);
        match files.mark.filter(|(mark, _)| mark.is_of(seq)) {
            Some((mark, _)) if mark.is_to_come(now) => None,
            Some((_, caught_up)) => Some(caught_up.age(now)),
            None => lag_of_rows(leader_ts, files.written, now),
        }
    }

    fn file_marks(&self, seq: Seq) -> FileMarks {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = files.filter(|files| files.seq == seq && files.read_at.elapsed() < FILES_EVERY) {
            return files;
        }
        let before = files.and_then(|files| files.mark);
        // The age of a mark that was known before counts by this process's own clock.
        let known = |mark: CaughtUpMark| match before {
            Some((old, caught_up)) if old == mark => (mark, caught_up),
            _ => (mark, CaughtUpAt::new(mark.at)),
        };
        let mark = CaughtUpMark::read(&self.ldb).map(known);
        // The file's own time is needed only if there is no mark.
        let written = if mark.is_none_or(|(mark, _)| !mark.is_of(seq)) { written_at(&self.ldb) } else { None };
        *files.insert(FileMarks { read_at: Instant::now(), seq, mark, written })
    }

    /// How old an answer is that was read from an LDB with this progress.
    pub(super) fn age_of(&self, progress: LastApplied) -> AnswerAge {
        let lag = self.lag(progress.seq, progress.last_update, Timestamp::now());
        AnswerAge { seq: progress.seq, lag }
    }

    /// Waits until the LDB is as fresh as a request's headers ask for. 412 if it does not come to the
    /// seq in time, 503 if it is older than allowed. `age` tells how old the LDB is now.
    pub(super) async fn enforce(
        &self,
        headers: &HeaderMap,
        age: impl Fn() -> Result<AnswerAge, HttpError>,
    ) -> Result<(), HttpError> {
        if !headers.keys().any(|name| name.as_str().starts_with(OURS)) {
            return Ok(());
        }
        let required = FreshnessRequirement::of(headers)?;
        let found = match required.min_seq {
            Some(seq) => self.wait_for(seq, required.wait, age).await?,
            None => age()?,
        };
        match (required.max_lag, found.lag) {
            (Some(max), lag) if lag.is_none_or(|lag| lag > max) => {
                let lag = lag.map_or("of unknown age".to_owned(), |lag| format!("{} ms behind", lag.as_millis()));
                let message = format!("ldb is {lag}, at most {} ms are allowed", max.as_millis());
                Err(HttpError::unavailable(message).with_header(SEQ_HEADER, found.seq))
            }
            _ => Ok(()),
        }
    }

    async fn wait_for(
        &self,
        seq: Seq,
        wait: Duration,
        age: impl Fn() -> Result<AnswerAge, HttpError>,
    ) -> Result<AnswerAge, HttpError> {
        // Subscribe before the first read, so that no commit between the two is missed.
        let mut news = self.news.subscribe();
        news.mark_unchanged();
        let mut found = age();
        if found.as_ref().is_ok_and(|found| found.seq >= seq) {
            return found;
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(HttpError::unavailable("too many reads wait for a seq"));
        };
        let began = Instant::now();
        while self.pause(&mut news, seq, began, began + wait).await {
            if news.borrow().is_stopping {
                return Err(HttpError::unavailable("the reader is stopping"));
            }
            found = age();
            if found.as_ref().is_ok_and(|found| found.seq >= seq) {
                return found;
            }
        }
        let at = found?.seq;
        let message = format!("ldb is at seq {at}, {seq} did not come within {} ms", wait.as_millis());
        Err(HttpError::new(StatusCode::PRECONDITION_FAILED, message).with_header(SEQ_HEADER, at))
    }

    /// The seq that the applier has announced; `None` if there is no such file.
    fn announced(&self) -> Option<Seq> {
        disk::read_regular_text(&self.seq_file, SEQ_FILE_BYTES).ok()?.trim().parse().ok().map(Seq)
    }

    /// Waits until the LDB may have come to `seq`; false if the time is over.
    async fn pause(&self, news: &mut watch::Receiver<News>, seq: Seq, began: Instant, deadline: Instant) -> bool {
        let last_look = Instant::now();
        loop {
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            // The pause grows with the wait: a short wait is not prolonged, and a long one costs little.
            let until = now + (now.duration_since(began) / 4).clamp(PAUSE.0, PAUSE.1);
            if timeout_at(until.min(deadline), news.changed()).await.is_ok() {
                let news = *news.borrow_and_update();
                if news.is_stopping || news.committed >= seq {
                    return true;
                }
            }
            // The file is only a hint: the original's LDB has none, and a stopped applier leaves an old one.
            let is_due = last_look.elapsed() >= PAUSE.1;
            if is_due || self.announced().is_none_or(|announced| announced >= seq) {
                return true;
            }
        }
    }
}

impl FreshnessRequirement {
    fn of(headers: &HeaderMap) -> Result<Self, HttpError> {
        let text = |name| headers.get(name).map(|value| value.to_str().map(str::trim).unwrap_or_default());
        let bad = |name, wanted| HttpError::bad_request(format!("{name} is not {wanted}"));
        let duration = |name| {
            let parse = |text| humantime::parse_duration(text).map_err(|_| bad(name, "a duration such as 500ms"));
            text(name).map(parse).transpose()
        };
        let parse = |text: &str| text.parse().ok().filter(|seq| *seq >= 0).map(Seq);
        let min_seq = text(MIN_SEQ).map(|text| parse(text).ok_or_else(|| bad(MIN_SEQ, "a seq"))).transpose()?;
        let wait = duration(WAIT)?.unwrap_or(DEFAULT_WAIT);
        if wait > MAX_WAIT {
            return Err(bad(WAIT, "at most 30s"));
        }
        Ok(Self { min_seq, wait, max_lag: duration(MAX_LAG)? })
    }
}

impl AnswerAge {
    /// How long ago the last row was written, but no less than the LDB lags.
    pub fn latency(self, last_update: Timestamp) -> Duration {
        last_update.age_at(Timestamp::now()).max(self.lag.unwrap_or_default())
    }

    /// Adds the headers that say how old the answer is.
    pub fn on(self, mut answer: HttpResponse) -> HttpResponse {
        let headers = answer.headers_mut();
        headers.insert(SEQ, HeaderValue::from(self.seq.0));
        if let Some(lag) = self.lag {
            let millis = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
            headers.insert(LAG, HeaderValue::from(millis));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn demands(headers: &[(&'static str, &'static str)]) -> Result<FreshnessRequirement, String> {
        let request = headers.iter().fold(TestRequest::default(), |request, header| request.insert_header(*header));
        FreshnessRequirement::of(request.to_http_request().headers()).map_err(|error| error.to_string())
    }

    #[test]
    fn demands_are_seqs_and_durations_with_units() {
        let asked = demands(&[(MIN_SEQ, "4711"), (WAIT, "2s 500ms"), (MAX_LAG, "1m")]).unwrap();
        assert_eq!((asked.min_seq, asked.wait), (Some(Seq(4711)), Duration::from_millis(2500)));
        assert_eq!(asked.max_lag, Some(Duration::from_secs(60)));
        assert_eq!(demands(&[(MIN_SEQ, "1")]).unwrap().wait, DEFAULT_WAIT);
        for (header, value, reason) in [
            (MIN_SEQ, "-1", "ctlstore-min-seq is not a seq"),
            (MIN_SEQ, "", "ctlstore-min-seq is not a seq"),
            (WAIT, "500", "ctlstore-wait is not a duration such as 500ms"),
            (WAIT, "31s", "ctlstore-wait is not at most 30s"),
            (MAX_LAG, "soon", "ctlstore-max-lag is not a duration such as 500ms"),
        ] {
            assert_eq!(demands(&[(header, value)]).unwrap_err(), reason);
        }
    }
}
