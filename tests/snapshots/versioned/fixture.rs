//! Hosts that fetch versions, and a watcher of what any program could see of the versions at any moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

pub use support::bootstrap::{DEADLINE, Origin, Published, manifest, metric};

use support::client::role_status;
use support::wait::wait_for;
use support::{Node, NodeProcess};

/// A host that fetches from these URLs, and asks all the time.
pub fn host(urls: &[&str]) -> Node {
    Node::new()
        .roles(&["reflector", "reader"])
        .set("bootstrap.urls", urls.to_vec())
        .set("ldb.versioned", true)
        .set("ldb.versioned_interval", "50ms")
        .set("reader.ready_max_lag", "0s")
}

pub fn versions_of(host: &Node) -> PathBuf {
    host.data_dir().join("versioned")
}

/// The directories of versions, oldest first. Everything that is there must be one.
#[track_caller]
pub fn versions(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    for version in &found {
        let name = version.file_name().expect("a name").to_str().expect("utf-8");
        assert!(name.len() == 13 && name.bytes().all(|b| b.is_ascii_digit()), "{name} is no version");
    }
    found
}

/// The result of reading a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub seq: i64,
    pub rows: i64,
}

/// Reads a version as the original's readers do. `None` if it was removed meanwhile.
#[track_caller]
pub fn look(version: &Path) -> Option<Seen> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:{}?immutable=true", version.join("ldb.db").display());
    let read = || -> rusqlite::Result<Seen> {
        let connection = Connection::open_with_flags(&uri, flags)?;
        let report: String = connection.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
        assert_eq!(report, "ok", "{}", version.display());
        let number = |sql| connection.query_row(sql, [], |row| row.get(0));
        Ok(Seen { seq: number("SELECT seq FROM _ldb_seq")?, rows: number("SELECT count(*) FROM fam___tab")? })
    };
    let names: Vec<_> = match std::fs::read_dir(version) {
        Ok(entries) => entries.map(|e| e.expect("an entry").file_name()).collect(),
        Err(_) => return None,
    };
    match read() {
        Ok(seen) => {
            assert!(names == ["ldb.db"], "{} has {names:?}", version.display());
            let header = std::fs::read(version.join("ldb.db")).ok()?;
            assert_eq!(header[18..20], [2, 2]);
            Some(seen)
        }
        Err(_) if !version.exists() => None,
        Err(error) => panic!("{} is not whole: {error}", version.display()),
    }
}

/// The newest version, which must be whole.
#[track_caller]
pub fn newest(host: &Node) -> Option<Seen> {
    versions(&versions_of(host)).last().and_then(|version| look(version))
}

/// Waits until the newest version is at `seq`.
#[track_caller]
pub fn wait_for_version(host: &Node, seq: i64) {
    wait_for(&format!("a version at seq {seq}"), DEADLINE, || newest(host).filter(|seen| seen.seq == seq));
}

/// The fetcher's status once it satisfies `condition`.
#[track_caller]
pub fn wait_for_fetcher(process: &NodeProcess, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, DEADLINE, || Some(role_status(&process.ops_url(), "fetcher")).filter(|status| condition(status)))
}

/// Opens each version at the moment that it appears, on a thread, until it is asked for what it saw.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<PathBuf, Seen>>,
}

impl Watch {
    pub fn on(host: &Node) -> Self {
        let (stop, directory) = (Arc::new(AtomicBool::new(false)), versions_of(host));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                // Only short waits, because longer ones would miss the moment.
                let mut looks = 0;
                wait_for("the next look", DEADLINE, || {
                    looks += 1;
                    for version in versions(&directory) {
                        if !seen.contains_key(&version)
                            && let Some(found) = look(&version)
                        {
                            seen.insert(version, found);
                        }
                    }
                    (looks == 3).then_some(())
                });
            }
            seen
        });
        Self { stop, thread }
    }

    /// Every version that was seen, oldest first.
    #[track_caller]
    pub fn end(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every version was whole").into_values().collect()
    }
}

/// Replaces the published file at once.
pub fn replace(published: &Published, bytes: &[u8]) {
    let newer = published.path.with_extension("newer");
    std::fs::write(&newer, bytes).expect("write a snapshot");
    std::fs::rename(newer, &published.path).expect("publish it");
}
