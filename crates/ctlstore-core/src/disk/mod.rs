//! Files, as the other modules need them: names and modes, regular files only, links that are not
//! followed, one owner per file, free space, and whether a write-ahead log can live in a place. It
//! uses no other module.

mod files;
mod limit;
mod lines;
mod lock;
mod network;
mod own;
mod regular;
mod secret;
mod space;
mod temporary;
mod uri;

pub use files::{DIRECTORY_MODE, FILE_MODE, FileId, beside, create_directory, directory_of, flush};
pub use limit::{is_too_many_open_files, too_many_open_files};
pub use lines::LineReader;
pub use lock::{LockError, ProcessLock};
pub use network::network_filesystem;
pub use own::{
    create_anew, create_new_directory, create_own_directory, has_other_names, is_open_to_all, is_trusted, open_own,
    open_unlinked, refuse_strangers_link, remove_if_there,
};
pub use regular::{NotRegular, check_database, check_regular, open_regular, read_given_text, read_regular_text};
pub use secret::{MAX_SECRET_FILE_BYTES, read_secret, secret_from};
pub use space::{free_bytes, usable_bytes};
pub use temporary::TemporaryName;
pub use uri::{IMMUTABLE, file_uri};
