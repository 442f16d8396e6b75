//! The reader's server inside the test process, on a real socket. Its LDB is a file as the original's
//! reflector makes it: 4 KiB pages, without our own tables.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use ctlstore::http::reader::changes::Feed;
use ctlstore::http::reader::freshness::Freshness;
use ctlstore::http::reader::{FeedOptions, ReaderOptions, serve};
use ctlstore::http::serve::ServerOptions;
use ctlstore::metrics::Metrics;
use rusqlite::Connection;

const SCHEMA: &str = "
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
CREATE TABLE _ldb_seq (id INTEGER PRIMARY KEY NOT NULL, seq BIGINT NOT NULL);
INSERT INTO _ldb_seq VALUES (1, 0);
CREATE TABLE _ldb_last_update (name STRING PRIMARY KEY NOT NULL, timestamp DATETIME NOT NULL);
";
const TOUCH: &str = "
REPLACE INTO _ldb_seq (id, seq) SELECT 1, seq + 1 FROM _ldb_seq WHERE id = 1;
REPLACE INTO _ldb_last_update (name, timestamp) VALUES ('ledger', '2026-01-02 03:04:05.123+00:00');
";

/// The writer's connection to an LDB file.
pub struct OriginalLdb(pub Connection);

impl OriginalLdb {
    pub fn create(path: &Path) -> Self {
        let connection = Connection::open(path).expect("create the ldb");
        connection.execute_batch(SCHEMA).expect("make the ldb's own tables");
        Self(connection)
    }

    /// Applies ledger statements, each with its seq in a transaction of its own.
    pub fn apply<S: AsRef<str>>(&self, statements: impl IntoIterator<Item = S>) {
        for statement in statements {
            let statement = statement.as_ref();
            // The semicolon is on a line of its own, because transaction markers are comments to SQLite.
            let transaction = format!("BEGIN;\n{statement}\n;{TOUCH}COMMIT;");
            self.0.execute_batch(&transaction).unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }
}

/// A running server. Dropping it stops it in order.
pub struct ReaderServer {
    pub url: String,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

pub fn options(ldb_path: impl Into<PathBuf>) -> ReaderOptions {
    ReaderOptions {
        rotation: None,
        ldb_path: ldb_path.into(),
        versioned: false,
        max_rows: 0,
        max_response_bytes: 64 * 1024 * 1024,
        query: None,
        feed: FeedOptions { max_clients: 16, heartbeat: Duration::from_secs(15) },
        server: ServerOptions { workers: 2, shutdown_timeout: Duration::from_secs(5), ..ServerOptions::default() },
    }
}

impl ReaderServer {
    pub fn start(options: ReaderOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the reader");
        let url = format!("http://{}", listener.local_addr().expect("the reader's address"));
        let (started, handle) = mpsc::channel();
        let thread = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let metrics = Metrics::new();
                let feed = options.feed.clone();
                let feed = Arc::new(Feed::start(&options.ldb_path, feed, metrics.clone()).expect("start the feed"));
                let age = Arc::new(Freshness::new(&options.ldb_path));
                let server =
                    serve(listener, &options, &feed, &age, &Arc::default(), &metrics).expect("start the reader");
                started.send(server.handle()).expect("hand over the server's handle");
                server.await.expect("the reader's server ends in good order");
            });
        });
        Self { url, handle: handle.recv().expect("the reader's handle"), thread: Some(thread) }
    }

    pub fn row(&self, table: &str) -> String {
        format!("{}/get-row-by-key/{table}", self.url)
    }

    pub fn rows(&self, table: &str) -> String {
        format!("{}/get-rows-by-key-prefix/{table}", self.url)
    }

    pub fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // The call itself starts the stop; the server's own thread does it.
            drop(self.handle.stop(true));
            thread.join().expect("the reader's thread");
        }
    }
}

impl Drop for ReaderServer {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}
