//! Why a node does not start. Each text names the setting, the path or the address at fault.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ctlstore_core::schema::NameError;
use ctlstore_ctldb::CtldbError;
use ctlstore_ldb::LdbError;
use ctlstore_reader::read::query::memory::NotBounded;

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
    /// The settings' checks refuse such a node before.
    #[error("heartbeat.executive_url is missing")]
    NoExecutive,
    /// The settings' checks refuse such a node before.
    #[error("heartbeat.table: {0}")]
    HeartbeatTable(NameError),
    #[error("{setting}needs {needed} open files, the limit is {limit}; raise it (ulimit -n, LimitNOFILE)")]
    OpenFiles { setting: String, needed: usize, limit: usize },
    #[error("the limit of open files can't be read: {0}")]
    OpenFilesUnknown(io::Error),
    #[error("signals: {0}")]
    Signals(io::Error),
}
