//! The settings of a node. Entry point: [`load`]. Settings come from built-in defaults, a file, the
//! environment and flags, each over the one before; `codec` reads single values and `validate`
//! judges all of them together. Except for files that settings name, this module opens nothing.

mod agent;
mod choices;
mod codec;
mod ctldb_url;
mod defaults;
mod keys;
mod load;
mod permissions;
mod problem;
mod resolve;
mod settings;
mod validate;

pub use choices::{LogFormat, Role};
pub use ctldb_url::{CtldbUrl, MysqlUrl};
pub use load::{Given, GivenValue, Sources, load};
pub use problem::{Origin, Problem, Problems, shown_text, shown_url};
pub use settings::{
    BootstrapSettings, ChangelogSettings, CtldbSettings, ExecutiveSettings, HeartbeatSettings, LdbSettings,
    LogSettings, MetricsSettings, NodeSettings, OpsSettings, ReaderQuerySettings, ReaderSettings, ReflectorSettings,
    Settings, SnapshotterSettings, TableLimitSettings, WriterLimitSettings,
};
