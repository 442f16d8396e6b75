//! What every room that keeps files asks of the disk: names and modes, one owner per
//! file, whether a write-ahead log can live there. Knows no other room.

#[cfg(feature = "node")]
mod database;
mod files;
mod limit;
#[cfg(feature = "node")]
mod lock;
#[cfg(feature = "node")]
mod network;
#[cfg(feature = "node")]
mod own;
mod regular;
#[cfg(feature = "node")]
mod secret;
#[cfg(feature = "node")]
mod space;
#[cfg(feature = "node")]
mod temporary;
mod uri;

#[cfg(feature = "node")]
pub use database::{Contents, ExamineError, Examined, examine_database};
pub use files::{DIRECTORY_MODE, FILE_MODE, FileId, beside, create_directory, directory_of, flush};
pub use limit::{is_too_many_open_files, too_many_open_files};
#[cfg(feature = "node")]
pub use lock::{LockError, ProcessLock};
#[cfg(feature = "node")]
pub use network::network_filesystem;
#[cfg(feature = "node")]
pub use own::{
    create_anew, create_new_directory, create_own_directory, has_other_names, is_open_to_all, is_trusted, open_own,
    open_unlinked, refuse_strangers_link, remove_if_there,
};
pub use regular::{NotRegular, check_database, check_regular, open_regular, read_given_text, read_regular_text};
#[cfg(feature = "node")]
pub use secret::{MAX_SECRET_FILE_BYTES, read_secret, secret_from};
#[cfg(feature = "node")]
pub use space::{free_bytes, usable_bytes};
#[cfg(feature = "node")]
pub use temporary::TemporaryName;
pub use uri::{IMMUTABLE, file_uri};
