//! The node: what starts, in which order, and how it stops. The wiring is in
//! `start`, and reads like the data flow.

mod listeners;
mod open_files;
mod options;
mod panics;
mod secret;
mod start;
mod stop;
mod welcome;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Settings;
use crate::signals::{Ending, StopSignal};
use crate::telemetry;
use ctlstore_core::schema::NameError;
use ctlstore_ctldb::CtldbError;
use ctlstore_ldb::LdbError;
use ctlstore_reader::read::query::memory::NotBounded;

use self::listeners::Listeners;
use self::open_files::OpenFiles;
pub use self::options::{location, verifier};
use self::start::Node;

/// The exit code when a second signal cuts a stop short.
const CUT_SHORT: i32 = 130;
/// The exit code when a stop takes longer than `node.shutdown_timeout`.
const NOT_IN_TIME: i32 = 1;
/// How much longer the signals' thread waits than the stop itself, which says what is late.
const LATE_GRACE: Duration = Duration::from_millis(500);

/// Why the node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{key}: can't listen on {address}: {source}")]
    Bind { key: &'static str, address: SocketAddr, source: io::Error },
    #[error("can't make {path}: {source}")]
    DataDirectory { path: PathBuf, source: io::Error },
    #[error("heartbeat secret in {path}: {source}")]
    Secret { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Ctldb(#[from] CtldbError),
    #[error(transparent)]
    Ldb(#[from] LdbError),
    #[error("reader.query: {0}")]
    Queries(#[from] NotBounded),
    #[error("{what}: {source}")]
    Server { what: &'static str, source: io::Error },
    #[error("heartbeat: {0}")]
    Heartbeat(#[from] reqwest::Error),
    /// Loading the settings has made sure of one.
    #[error("heartbeat.executive_url is missing")]
    NoExecutive,
    #[error("heartbeat.table: {0}")]
    HeartbeatTable(NameError),
    #[error("{setting}needs {needed} open files, the limit is {limit}; raise it (ulimit -n, LimitNOFILE)")]
    OpenFiles { setting: String, needed: usize, limit: usize },
    #[error("the limit of open files can't be read: {0}")]
    OpenFilesUnknown(io::Error),
    #[error("signals: {0}")]
    Signals(io::Error),
}

/// Plays the roles of `settings` until the process is told to stop, and returns
/// when everything has stopped in order. A stop that takes longer than
/// `node.shutdown_timeout` ends the process.
pub async fn run(settings: Settings) -> Result<(), NodeError> {
    panics::end_the_process();
    let limit = open_files::raise().map_err(NodeError::OpenFilesUnknown)?;
    let open_files = OpenFiles::of(&settings, limit)?;
    let listeners = Listeners::bind(&settings)?;
    let timeout = settings.node.shutdown_timeout;
    let ending = Ending { at_second: CUT_SHORT, late: Some((timeout + LATE_GRACE, NOT_IN_TIME)) };
    let mut signal = StopSignal::listen(ending).map_err(NodeError::Signals)?;
    let welcome = welcome::Welcome::new(&settings, &listeners);
    let node = Node::start(&settings, listeners, open_files).await?;
    welcome.print();
    let signal = signal.wait().await;
    tracing::info!(signal, "stopping");
    if !node.stop(timeout).await {
        // A thread that is stuck would keep the process from ending by itself.
        tracing::error!(seconds = timeout.as_secs_f64(), "the stop took too long, ending the process");
        telemetry::end_process(NOT_IN_TIME);
    }
    Ok(())
}
