//! Whether this process, or the machine, has as many files open as it may. SQLite says only
//! that it can't open a file.

use std::fs::File;
use std::io;

/// Linux's numbers, of the process and of the machine.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// The error of opening a file, if its cause is that too many files are open.
pub fn too_many_open_files() -> Option<io::Error> {
    File::open("/dev/null").err().filter(is_too_many_open_files)
}

pub fn is_too_many_open_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}
