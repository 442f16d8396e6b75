//! What every room that keeps files asks of the disk: names and modes, one owner per
//! file, whether a write-ahead log can live there. Knows no other room.

mod files;
mod lock;
#[cfg(feature = "node")]
mod network;
mod regular;
#[cfg(feature = "node")]
mod secret;
#[cfg(feature = "node")]
mod space;

pub use files::{DIRECTORY_MODE, FILE_MODE, FileId, beside, create_directory, directory_of, flush};
pub use lock::{LockError, ProcessLock};
#[cfg(feature = "node")]
pub use network::network_filesystem;
pub use regular::{NotRegular, check_database, check_regular, open_regular, read_given_text, read_regular_text};
#[cfg(feature = "node")]
pub use secret::{MAX_SECRET_FILE_BYTES, read_secret, secret_from};
#[cfg(feature = "node")]
pub use space::free_bytes;
