//! Opens, names and locks files for the other modules. Only regular files are opened, links of
//! strangers are refused, and each data file has one owner. This room uses no other module.

mod database;
mod file_id;
mod files;
mod filesystem;
mod lines;
mod lock;
mod own;
mod regular;
mod secret;
mod temporary;

pub use database::{IMMUTABLE, check_database, file_uri, is_too_many_open_files, too_many_open_files};
pub use file_id::FileId;
pub use files::{
    DIRECTORY_MODE, FILE_MODE, beside, create_directory, directory_mode, directory_of, file_mode, flush, set_modes,
};
pub use filesystem::{free_bytes, network_filesystem, usable_bytes};
pub use lines::LineReader;
pub use lock::{LockError, ProcessLock};
pub use own::{
    create_anew, create_new_directory, create_own_directory, has_other_names, is_open_to_all, is_trusted, open_own,
    open_unlinked, refuse_strangers_link, remove_if_there,
};
pub use regular::{NotRegular, check_regular, open_regular, read_given_text, read_regular_text};
pub use secret::{MAX_SECRET_FILE_BYTES, read_secret, secret_from};
pub use temporary::TemporaryName;
