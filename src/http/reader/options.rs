//! The options of the reader's server: the path of its LDB, and the bounds of its answers, of the
//! change feed and of queries. They are only data; `reader::serve` starts the server.

use std::path::PathBuf;
use std::time::Duration;

use crate::http::serve::ServerOptions;
use ctlstore_reader::read::query::QueryLimits;
use ctlstore_reader::read::{AnswerLimits, LdbReader, Rotation};

/// The reader's server.
#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// Where the LDB is, or will be. If it is versioned, the directory of its versions.
    pub ldb_path: PathBuf,
    pub versioned: bool,
    /// Several LDBs that are read in turn; `ldb_path` is the first of them.
    pub rotation: Option<Rotation>,
    /// The most rows that one answer holds; 0 is no limit.
    pub max_rows: u64,
    /// The most bytes that the rows of one answer have.
    pub max_response_bytes: usize,
    pub feed: FeedOptions,
    /// `None`: queries are off.
    pub query: Option<QueryOptions>,
    pub server: ServerOptions,
}

/// The bounds of the change feed.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// The most clients at one time.
    pub max_clients: usize,
    /// The longest time that a client waits for a sign of life.
    pub heartbeat: Duration,
}

/// The bounds of queries.
#[derive(Debug, Clone)]
pub struct QueryOptions {
    pub limits: QueryLimits,
    /// The most queries that run at one time. Their answers, until they are sent, hold at most
    /// twice as many times the largest answer.
    pub max_running: usize,
    pub max_waiting: usize,
}

impl ReaderOptions {
    /// A new reader of the LDB. Each thread has its own.
    pub fn ldb_reader(&self) -> LdbReader {
        match &self.rotation {
            Some(rotation) => LdbReader::rotating(rotation.clone()),
            None if self.versioned => LdbReader::versioned(&self.ldb_path),
            None => LdbReader::new(&self.ldb_path),
        }
    }

    /// The bounds of one answer.
    pub(super) fn limits(&self) -> AnswerLimits {
        AnswerLimits { max_rows: (self.max_rows > 0).then_some(self.max_rows), max_bytes: self.max_response_bytes }
    }
}
