//! Files of other programs at the paths of the LDB, the ctldb and the changelog, and links that another
//! user plants under names that a node uses. No file is written, moved or removed.

mod databases;
mod planted;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use support::Node;

const DEADLINE: Duration = Duration::from_secs(60);

/// The content of another program's database.
const NOTES: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes VALUES (1, 'theirs');";

/// Everything below `directory`: the targets of links, the content of files, and the times of their last
/// change.
fn all_of(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("list") {
        let path = entry.expect("an entry").path();
        let metadata = fs::symlink_metadata(&path).expect("look at it");
        if metadata.is_dir() {
            all.extend(all_of(&path));
        } else {
            let bytes = if metadata.is_symlink() {
                fs::read_link(&path).expect("read a link").into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).expect("read a file")
            };
            all.insert(path, (bytes, metadata.modified().expect("its time")));
        }
    }
    all
}

/// Makes a database at `path` as another program does, and closes it.
fn make_database(path: &Path, sql: &str) {
    Connection::open(path).and_then(|connection| connection.execute_batch(sql)).expect("make a database");
}

/// A directory beside the node's, for another user's files.
fn their_directory(node: &Node) -> PathBuf {
    let directory = node.data_dir().with_file_name("theirs");
    fs::create_dir_all(&directory).expect("make a directory");
    directory
}

/// Starts the node. It must end with `reason` in its log and leave everything below `theirs` unchanged.
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
