//! The settings of a node: typed, checked as a whole, and loaded from built-in
//! defaults, a file, the environment and flags, each over the one before. This
//! room reads settings and the secret files they name; it opens nothing else
//! and knows no other room.

mod ctldb_url;
mod defaults;
mod form;
mod names;
mod settings;
mod snapshot_url;

pub use ctldb_url::{CtldbUrl, MysqlUrl};
pub use settings::{
    Changelog, Ctldb, Executive, Heartbeat, Ldb, Log, LogFormat, Node, Ops, Reader, Reflector, Role, Settings,
    Snapshotter, TableLimit, WriterLimit,
};
pub use snapshot_url::SnapshotUrl;
