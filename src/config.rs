//! The settings of a node: typed, checked as a whole, and loaded from built-in
//! defaults, a file, the environment and flags, each over the one before. This
//! room reads settings and the secret files they name; it opens nothing else
//! and knows no other room.

mod ctldb_url;
mod defaults;
mod form;
mod keys;
mod load;
mod names;
mod problem;
mod resolve;
mod settings;
mod validate;

pub use ctldb_url::{CtldbUrl, MysqlUrl};
pub use load::{Sources, load};
pub use problem::{Origin, Problem, Problems, shown_url};
pub use settings::{
    AllowEmpty, Bootstrap, Changelog, Ctldb, Executive, Heartbeat, Ldb, Log, LogFormat, Node, Ops, Reader, ReaderQuery,
    Reflector, Role, Settings, Snapshotter, TableLimit, WriterLimit,
};
