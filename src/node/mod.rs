//! The node: what starts, in which order, and how it stops. The wiring is in
//! `start`, and reads like the data flow.

mod listeners;
mod options;
mod panics;
mod secret;
mod signals;
mod start;
mod stop;
mod welcome;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::Settings;
use ctlstore_core::schema::NameError;
use ctlstore_ctldb::CtldbError;
use ctlstore_ldb::LdbError;
use ctlstore_reader::read::query::memory::NotBounded;

use self::listeners::Listeners;
pub use self::options::{location, verifier};
use self::signals::Signals;
use self::start::Node;

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
    #[error("signals: {0}")]
    Signals(io::Error),
}

/// Plays the roles of `settings` until the process is told to stop, and returns
/// when everything has stopped in order or `node.shutdown_timeout` has passed.
pub async fn run(settings: Settings) -> Result<(), NodeError> {
    panics::end_the_process();
    let listeners = Listeners::bind(&settings)?;
    let mut signals = Signals::listen().map_err(NodeError::Signals)?;
    let welcome = welcome::Welcome::new(&settings, &listeners);
    let node = Node::start(&settings, listeners).await?;
    welcome.print();
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    signals.end_at_the_next();
    node.stop(settings.node.shutdown_timeout).await;
    Ok(())
}
