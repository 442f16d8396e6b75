//! The reader's HTTP API: rows of the LDB, its change feed, and how old the LDB is. Entry point:
//! [`serve()`]. Each worker thread reads through a connection of its own (`worker`); a read that may
//! take long goes to the threads of `scan_pool` or `queries`. The actor `actors::reader` owns the
//! server's life.

mod about;
pub mod changes;
pub mod corruption;
pub mod freshness;
mod options;
mod queries;
mod read_pool;
mod request;
mod rows;
mod scan_pool;
mod v1;
mod worker;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::web::Data;

use crate::metrics::{Metrics, Server as ServerLabel};

use super::instrument::Observer;
use super::openapi::{Documented, Operation};
use super::serve::{self, ServerOptions};

use changes::{Feed, Turns};
use corruption::CorruptionReports;
use freshness::Freshness;
use worker::WorkerParts;

pub use options::{FeedOptions, QueryOptions, ReaderOptions};

const ABOUT: &str = "Reads rows of the local database. Outside /v1 members of JSON bodies match in any letter case, \
and unknown ones are ignored.";

/// Starts the server on a bound socket. The LDB need not exist yet. The streams of changes end with
/// `feed`; stop it before the server.
pub fn serve(
    listener: TcpListener,
    options: &ReaderOptions,
    feed: &Arc<Feed>,
    freshness: &Arc<Freshness>,
    corruption: &Arc<CorruptionReports>,
    metrics: &Arc<Metrics>,
) -> io::Result<Server> {
    let parts = WorkerParts::start(options, freshness, corruption, metrics)?;
    let feed: Data<Feed> = Data::from(Arc::clone(feed));
    let documented = documented();
    let observer = Observer::new(ServerLabel::Reader, Arc::clone(metrics));
    // A read changes nothing. If its client may have left, the read is not worth its time.
    let server = ServerOptions { answers_half_closed: false, ..options.server.clone() };
    serve::serve(listener, &server, observer, move |config| {
        let worker = parts.worker();
        config.app_data(worker.clone()).app_data(feed.clone()).app_data(Data::new(Turns::default()));
        documented.configure(config);
        rows::fast_paths(&worker)
    })
}

/// All that the reader serves, with its description.
pub fn documented() -> Documented {
    Documented::new("ctlstore reader", ABOUT, operations)
}

fn operations() -> Vec<Operation> {
    let mut all = rows::operations();
    all.push(changes::operation());
    all.extend(about::operations());
    all.extend(v1::operations());
    all
}
