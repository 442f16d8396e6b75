//! Files that are not this program's: at the paths of the LDB, the ctldb and the changelog, and
//! links that somebody plants under names that a node uses. None is written, moved or removed.

mod databases;
mod planted;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use support::Node;

const DEADLINE: Duration = Duration::from_secs(60);

/// What another program keeps.
const NOTES: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes VALUES (1, 'theirs');";

/// Everything below `directory`: where links lead, what files hold and when they changed.
fn all_of(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("list") {
        let path = entry.expect("an entry").path();
        let metadata = fs::symlink_metadata(&path).expect("look at it");
        if metadata.is_dir() {
            all.extend(all_of(&path));
        } else {
            let bytes = match metadata.is_symlink() {
                true => fs::read_link(&path).expect("read a link").into_os_string().into_encoded_bytes(),
                false => fs::read(&path).expect("read a file"),
            };
            all.insert(path, (bytes, metadata.modified().expect("its time")));
        }
    }
    all
}

/// A database at `path`, made by another program that has closed it.
fn make_database(path: &Path, sql: &str) {
    Connection::open(path).and_then(|connection| connection.execute_batch(sql)).expect("make a database");
}

/// A directory beside the node's, for somebody else's files.
fn their_directory(node: &Node) -> PathBuf {
    let directory = node.data_dir().with_file_name("theirs");
    fs::create_dir_all(&directory).expect("make a directory");
    directory
}

/// Starts the node, which must end with `reason` in its log, and leave everything below `theirs` as it is.
#[track_caller]
fn assert_refused(node: &Node, theirs: &Path, reason: &str) {
    let before = all_of(theirs);
    let mut process = node.spawn();
    assert_eq!(process.wait_exit(DEADLINE).code(), Some(1), "{reason}");
    let log = process.log();
    assert!(log.contains(reason), "{reason} is not in {log}");
    let after = all_of(theirs);
    let names = |all: &BTreeMap<PathBuf, _>| Vec::from_iter(all.keys().cloned());
    assert_eq!(names(&after), names(&before), "{reason}");
    assert!(after == before, "{reason}: a file has changed");
}

/// The statements of a whole ctldb, as the program prints them.
fn ctldb_schema() -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ctlstore")).args(["ctldb-schema", "sqlite"]).output();
    String::from_utf8(output.expect("run it").stdout).expect("text")
}
