//! What every room that keeps files asks of the disk: names and modes, one owner per
//! file, whether a write-ahead log can live there. Knows no other room.

mod files;
mod lines;
mod lock;
mod network;
mod space;

pub use files::{FILE_MODE, FileId, beside, create_directory, directory_of, flush};
pub use lines::Lines;
pub use lock::{LockError, ProcessLock};
pub use network::network_filesystem;
pub use space::free_bytes;
