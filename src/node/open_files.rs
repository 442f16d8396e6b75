//! Shares out the files that this process may have open. Entry points: [`raise`] and
//! [`OpenFiles::of`]. The node reserves a part for its threads, LDBs, the ctldb and stores. The
//! servers share the rest as places for connections. So clients can't take files that the node needs.

use std::io;

use crate::config::{Role, Settings};
use crate::http::ops::{Bounds, ConnectionBounds};

use super::error::NodeError;

/// Files of any node: standard streams, listening sockets, the log, locks, and files that are read
/// or written for a moment.
const BASE: usize = 96;
/// Files of an actor's thread, or of a server with one worker.
const THREAD: usize = 8;
/// Files of one worker of the reader: its loop, and an LDB with its -wal and -shm. While an LDB is
/// replaced, two are open.
const WORKER: usize = 12;
/// Files of one further thread that reads an LDB.
const READING_THREAD: usize = 6;
/// Threads for long reads, and for reads of the change history.
const READING_THREADS: usize = 8;
/// Files of the applier: two generations, the changelog, the history, a download.
const REFLECTOR: usize = 40;
/// Connections to a ctldb, or the files of an embedded one.
const CTLDB: usize = 48;
/// Files of a snapshotter's copy.
const SNAPSHOTTER: usize = 16;
/// Files of one destination or source.
const DESTINATION: usize = 16;

/// The fewest connections of each server. The most are below. The reader gets more if its change
/// feed may have more clients.
const LEAST: usize = 16;
const EXECUTIVE: usize = 1024;
const READER: usize = 4096;
const OPS: usize = 256;

/// The limit, and the shares.
#[derive(Debug, Clone, Copy)]
pub struct OpenFiles {
    /// Files that the process may have open.
    pub limit: usize,
    /// Files that the node keeps for itself.
    pub reserve: usize,
    /// Connections of each server; 0 if the node does not have the server.
    pub executive: usize,
    pub reader: usize,
    pub ops: usize,
}

/// Raises the limit as far as this process is allowed to, and returns it.
pub fn raise() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to `limit`, which has the right type and outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: the call reads `raised`, which has the right type and outlives the call.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } {
            0 => {
                let from = limit.rlim_cur;
                let to = raised.rlim_cur;
                tracing::info!(from, to, "the limit of open files was raised");
                limit = raised;
            }
            _ => tracing::warn!(error = %io::Error::last_os_error(), "the limit of open files can't be raised"),
        }
    }
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

impl OpenFiles {
    /// Shares out `limit` on a node with these settings.
    pub fn of(settings: &Settings, limit: usize) -> Result<Self, NodeError> {
        let plays = |role, want: usize| if settings.plays(role) { want } else { 0 };
        let wanted = [
            plays(Role::Executive, EXECUTIVE),
            plays(Role::Reader, READER.max(settings.changes.max_clients.saturating_add(EXECUTIVE))),
            OPS,
        ];
        let reserve = reserve(settings, settings.reader.worker_threads());
        let least = LEAST * wanted.iter().filter(|wanted| **wanted > 0).count();
        let Some(rest) = limit.checked_sub(reserve).filter(|rest| *rest >= least) else {
            return Err(too_few(settings, reserve + least, limit));
        };
        let all = wanted.iter().fold(0_usize, |all, one| all.saturating_add(*one));
        let share = |wanted: usize| match wanted {
            0 => 0,
            wanted if all <= rest => wanted,
            wanted => LEAST + ((rest - least) as f64 * (wanted as f64 / all as f64)) as usize,
        };
        let [executive, reader, ops] = wanted.map(share);
        let this = Self { limit, reserve, executive, reader, ops };
        this.log(all > rest);
        Ok(this)
    }

    fn log(&self, is_short: bool) {
        let Self { limit, reserve, executive, reader, ops } = self;
        if is_short {
            tracing::warn!(limit, reserve, executive, reader, ops, "few open files: clients get fewer connections");
        } else {
            tracing::info!(limit, reserve, executive, reader, ops, "open files: so many connections may be open");
        }
    }
}

impl From<OpenFiles> for Bounds {
    fn from(files: OpenFiles) -> Self {
        let OpenFiles { limit, reserve, executive, reader, ops } = files;
        Self { open_files: limit, reserved_files: reserve, connections: ConnectionBounds { executive, reader, ops } }
    }
}

/// The files that the node needs for itself.
fn reserve(settings: &Settings, workers: usize) -> usize {
    let mut all = BASE + 2 * THREAD;
    if settings.plays(Role::Executive) {
        all += 2 * THREAD + CTLDB;
    }
    if settings.plays(Role::Reflector) {
        all += THREAD + CTLDB + REFLECTOR + DESTINATION * settings.bootstrap.urls.len().min(4);
    }
    if settings.plays(Role::Reader) {
        let query = &settings.reader.query;
        let queries = if query.enabled { query.max_running } else { 0 };
        all += workers * WORKER + (READING_THREADS + queries) * READING_THREAD;
    }
    if settings.plays(Role::Snapshotter) {
        all += SNAPSHOTTER + DESTINATION * settings.snapshotter.urls.len();
    }
    all
}

/// The error for a limit that is too low. If `reader.workers` is the cause, it names that setting.
fn too_few(settings: &Settings, needed: usize, limit: usize) -> NodeError {
    let mut few = settings.clone();
    few.reader.query.enabled = false;
    let is_for_workers = settings.plays(Role::Reader) && reserve(&few, 1) + 3 * LEAST <= limit;
    let workers = settings.reader.worker_threads();
    let setting = if is_for_workers { format!("reader.workers = {workers}: ") } else { String::new() };
    NodeError::OpenFiles { setting, needed, limit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_needs_is_never_given_to_clients() {
        for workers in [1, 2, 16, 64] {
            let mut settings = Settings::default();
            settings.reader.workers = workers;
            for limit in [1024, 4096, 65_536, usize::MAX] {
                let Ok(files) = OpenFiles::of(&settings, limit) else {
                    assert_eq!((workers, limit), (64, 1024));
                    continue;
                };
                assert!(files.reserve + files.executive + files.reader + files.ops <= limit, "{files:?}");
                assert!(files.executive >= LEAST && files.reader >= LEAST && files.ops >= LEAST, "{files:?}");
            }
        }
    }

    #[test]
    fn what_asks_for_too_many_is_named() {
        let mut settings = Settings::default();
        settings.reader.workers = 1024;
        let error = OpenFiles::of(&settings, 1024).unwrap_err().to_string();
        assert!(error.starts_with("reader.workers = 1024: needs "), "{error}");
        settings.reader.workers = 1;
        let error = OpenFiles::of(&settings, 64).unwrap_err().to_string();
        assert!(error.starts_with("needs "), "{error}");
    }
}
