//! What every room that keeps files asks of the disk: names and modes, one owner per
//! file, whether a write-ahead log can live there. Knows no other room.

mod files;
mod limit;
mod lock;
#[cfg(feature = "node")]
mod network;
mod regular;
#[cfg(feature = "node")]
mod space;
#[cfg(feature = "node")]
mod temporary;

pub use files::{DIRECTORY_MODE, FILE_MODE, FileId, beside, create_directory, directory_of, flush};
pub use limit::{is_too_many_open_files, too_many_open_files};
pub use lock::{LockError, ProcessLock};
#[cfg(feature = "node")]
pub use network::network_filesystem;
pub use regular::{NotRegular, check_database, check_regular, open_regular, read_given_text, read_regular_text};
#[cfg(feature = "node")]
pub use space::{free_bytes, usable_bytes};
#[cfg(feature = "node")]
pub use temporary::TemporaryName;
