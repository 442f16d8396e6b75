//! The settings of a node: typed, checked as a whole, and loaded from built-in
//! defaults, a file, the environment and flags, each over the one before. This
//! room reads settings and the secret files they name; it opens nothing else
//! and knows no other room.

mod codec;
mod ctldb_url;
mod defaults;
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
    AllowEmpty, BootstrapSettings, ChangelogSettings, CtldbSettings, ExecutiveSettings, HeartbeatSettings, LdbSettings,
    LogFormat, LogSettings, NodeSettings, OpsSettings, ReaderQuerySettings, ReaderSettings, ReflectorSettings, Role,
    Settings, SnapshotterSettings, TableLimitSettings, WriterLimitSettings,
};
